"""A policy between policies, by their weights: nothing is trained."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from accord.core.artifact import Policy
from accord.pipeline.section import Section
from accord.pipeline.stage import BASE, StageConfig, stage

Shares = Annotated[dict[str, Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=1)]
INTRO = (
    "Between a policy and what trainings made of it lie others, at no cost: so much of each change is added "
    "to its weights. A family of them on the frontier shows whether a goal between two can be had."
)


def report(done: Any) -> Section:
    text = [f"{done.name}: {done.result.headline}."]
    return Section(title="Blends", intro=INTRO, text=text)


@stage(
    "blend", reads={"init": Policy, "of": Policy}, gives=Policy, run=f"{__name__}.run:run",
    work=f"{__name__}.run:work", report=report,
)  # fmt: skip
class Blend(StageConfig):
    """`init`, and so much of what the trainings of `of` have changed of it (policy: share)."""

    init: str = BASE
    of: Shares

    def named(self, key: str) -> list[str]:
        """The stages that one of `reads` names."""
        return list(self.of) if key == "of" else super().named(key)
