"""DPO and its family on a snapshot's comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from accord.core.artifact import Policy
from accord.pipeline.section import Section
from accord.pipeline.stage import stage
from accord.pipeline.stages.training import READS, Average, Comparing


def report(done: Any) -> Section:
    from accord.pipeline.report.training import implicit, trained

    section = trained(done, "preferences")
    section.came_out = implicit(done)
    return section


@stage(
    "preference", version=7, reads=READS, gives=Policy, run=f"{__name__}.run:run",
    work=f"{__name__}.run:work", report=report,
)  # fmt: skip
class Preference(Comparing):
    """DPO and its family on the snapshot's comparisons."""

    loss: dict[str, Any] = Field(default={"name": "dpo"})
    pairs: Literal["all", "best"] = "all"  # "best": a prompt's best response against each other
    average: Average = "pair"
    share: Literal["prompt", "pair"] = "prompt"

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.losses.families import choose_loss

        choose_loss(self.loss, place("loss"))
