"""Write a blend's adapters."""

from __future__ import annotations

from accord.lm.model.blend import blend
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.blend import Blend
from accord.pipeline.work import Known, Work

__all__ = ["run", "work"]


def run(ctx: StageContext[Blend]) -> StageResult:
    """The policy between `init` and its `of`."""
    config = ctx.config
    parts = {ctx.policy(name): share for name, share in config.of.items()}
    blend(ctx.policy(config.init), parts, ctx.folder / "model")
    shares = ", ".join(f"{share:g} of {name}" for name, share in config.of.items())
    return StageResult(headline=f"{config.init} and {shares}")


def work(ctx: StageContext[Blend], known: Known) -> Work:
    """It copies adapters, and loads no model."""
    return Work([])
