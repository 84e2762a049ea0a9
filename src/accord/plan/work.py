"""What a stage of a recipe will do: its kind says it, the models behind it are counted here."""

from __future__ import annotations

from typing import Any

from accord.pipeline.context import StageContext
from accord.pipeline.stage import StageConfig, kind_of
from accord.pipeline.work import Known, Work

__all__ = ["EVERY", "work_of"]

EVERY = 10**6  # layers


def work_of(ctx: StageContext[Any], known: Known) -> Work | None:
    """The work of a stage whose data are there; None of a kind that does not say it."""
    work: Work | None = kind_of(ctx.config).call("work", ctx, known)
    if work is None:
        return None
    start = [
        str(getattr(ctx.config, key)) for key in ("init", "policy") if hasattr(ctx.config, key)
    ]
    names = work.uses or start
    behind = [_behind(name, known.configs) for name in names]
    work.merged = max((max(layers, default=0) for layers in behind), default=0)
    work.stacked = [n for layers in behind for n in layers]
    work.loads = len(names)
    return work


def _behind(name: str, configs: dict[str, StageConfig]) -> list[int]:
    """Of the adapters that are merged into a policy, the layers that each changes."""
    config = configs.get(name)
    if config is None or not hasattr(config, "tune"):
        return []
    if config.tune == "full":
        return []
    return [*_behind(config.init, configs), config.tune.last_layers or EVERY]  # type: ignore[attr-defined]
