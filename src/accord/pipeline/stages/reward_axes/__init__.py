"""A reward model with one head for each axis of the ratings."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from accord.core.artifact import Scorer
from accord.pipeline.section import Section
from accord.pipeline.stage import stage
from accord.pipeline.stages.training import READS, Average, Member


def report(done: Any) -> Section:
    from accord.pipeline.report.training import trained

    return trained(done, "reward model by axis")


@stage(
    "reward_axes", version=2, reads=READS, gives=Scorer, run=f"{__name__}.run:run",
    work=f"{__name__}.run:work", report=report,
)  # fmt: skip
class RewardAxes(Member):
    """A reward model with one head for each axis of the snapshot's ratings."""

    axes: list[str] = Field(default=[])  # all there are
    average: Average = "prompt"
