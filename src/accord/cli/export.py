"""`accord export` of a policy: RUN:stage, or a model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accord.core.config import apply_sets
from accord.core.errors import ConfigError
from accord.core.rundir import user_path
from accord.pipeline.policies import base_of_run, policy_path

__all__ = ["export_policy", "is_policy"]


def is_policy(name: str) -> bool:
    """Whether it names a run or a model's folder, and no store's snapshot."""
    folder = user_path(name.rpartition(":")[0] if ":" in name and "@" not in name else name)
    return folder.is_dir()


def export_policy(
    name: str,
    out: Path,
    *,
    merged: bool,
    dtype: str,
    base: str | None,
    push_to_hub: str | None,
    format: str | None = None,
    keys: Sequence[str] = (),
) -> None:
    """Write the policy and say what was written."""
    from accord.lm.model.export import export_model
    from accord.pipeline.exporting import about_policy

    run = user_path(name.rpartition(":")[0] if ":" in name else name)
    of_a_run = (run / "manifest.json").is_file()
    if of_a_run and ":" not in name:
        stage, _, _ = policy_path(name)
        raise ConfigError("which stage?", where=name, mend=f"use {name}:{stage}")
    stage, where, _ = policy_path(name)
    config: dict[str, Any] | None = {"name": format} if format else None
    if keys and config is None:
        raise ConfigError("sets a key of no format", where="--set", mend="name one with --format")
    apply_sets(config or {}, keys)
    about = about_policy(run, stage) if of_a_run else {}
    done = export_model(
        where, out, merged=merged, dtype=dtype, base=base or base_of_run(name), about=about,
        push_to_hub=push_to_hub, format=config,
    )  # fmt: skip
    print(
        f"{format or ('plain weights, ' + dtype if merged else 'adapters')} of {name} written to {done}"
    )
    if push_to_hub:
        print(f"  and to the hub: {push_to_hub} (private where it was not there)")
