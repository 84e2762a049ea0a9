"""DPO and its family on a snapshot's comparisons."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field

from accord.core.artifact import Policy
from accord.core.measure import Measure
from accord.pipeline.section import Section
from accord.pipeline.stage import stage
from accord.pipeline.stages.training import READS, Average, Comparing

MEASURES = (  # of a preference stage, and of a sweep's points
    Measure(
        name="accuracy", title="accuracy", kind="share", better="more",
        meaning="share of held-out comparisons ordered as the raters did by the loss's own margin, or of "
        "answers on the right side of the midpoint (KTO, BCO); 0.5 is a coin",
    ),
    Measure(
        name="margin", title="margin", better="more",
        meaning="as the loss compares: nats of log-ratio or (no reference) log-prob; per token where it "
        "takes means",
    ),
    Measure(
        name="chosen_shift", title="chosen shift", unit="nats", kind="difference",
        meaning="change of the chosen answers' log-prob since the start, nats",
    ),
    Measure(
        name="rejected_shift", title="rejected shift", unit="nats", kind="difference",
        meaning="the same of the rejected ones; both below 0 is displacement",
    ),
    Measure(
        name="kl", title="kl", unit="nats", role="distance",
        meaning="k3 per token on the given answers: how far the policy moved",
    ),
    Measure(
        name="chosen_tokens", title="chosen tokens", unit="tokens",
        meaning="length of the preferred answers",
    ),
    Measure(
        name="rejected_tokens", title="rejected tokens", unit="tokens",
        meaning="length of the others",
    ),
)  # fmt: skip


def report(done: Any) -> Section:
    from accord.pipeline.report.training import implicit, trained

    section = trained(done, "preferences")
    section.came_out = implicit(done)
    return section


@stage(
    "preference", version=7, reads=READS, gives=Policy, run=f"{__name__}.run:run",
    work=f"{__name__}.run:work", report=report, measures=MEASURES,
)  # fmt: skip
class PreferenceStage(Comparing):
    """DPO and its family on the snapshot's comparisons."""

    loss: dict[str, Any] = Field(default={"name": "dpo"})
    pairs: Literal["all", "best"] = "all"  # "best": a prompt's best response against each other
    average: Average = "pair"
    share: Literal["prompt", "pair"] = "prompt"

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.losses.families import choose_loss

        choose_loss(self.loss, place("loss"))
