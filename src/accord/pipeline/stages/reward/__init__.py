"""A reward model of whole answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field

from accord.core.artifact import RewardModel
from accord.pipeline.section import Section
from accord.pipeline.stage import stage
from accord.pipeline.stages.training import READS, Average, Comparing, Member


def report(done: Any) -> Section:
    from accord.pipeline.report.training import trained

    return trained(done, "reward model")


@stage(
    "reward", version=8, reads=READS, gives=RewardModel, run=f"{__name__}.run:run",
    work=f"{__name__}.run:work", report=report,
)  # fmt: skip
class Reward(Comparing, Member):
    """A reward model fitted to the snapshot's comparisons."""

    loss: dict[str, Any] = Field(default={"name": "bradley_terry"})
    average: Average = "prompt"
    margin: Annotated[float, Field(ge=0.0)] = 0.0  # logits per point of strength above 1

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.losses.reward import reward_losses

        super().check_names(place)
        reward_losses.configured(self.loss, place("loss"))
