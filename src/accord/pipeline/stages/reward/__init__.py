"""A reward model of whole answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import Field

from accord.core.artifact import RewardModel
from accord.core.measure import Measure
from accord.core.types import Metric
from accord.pipeline.section import Section
from accord.pipeline.stage import stage
from accord.pipeline.stages.training import READS, Average, Comparing, Member


def report(done: Any) -> Section:
    from accord.pipeline.report.training import trained

    section = trained(done, "reward model")
    section.came_out = [_sentence(name, m) for name, m in done.result.metrics.items()]
    if (done.folder / PROBE).exists():
        from accord.pipeline.stages.reward import probed

        probed.tell(section, done)
    return section


PROBE = "probe.json"  # what it pays for
TRUE = "accuracy against the true order"
MEASURES = (
    Measure(
        name="accuracy", title="accuracy", kind="share", better="more", role="fidelity",
        meaning="share of held-out comparisons ordered as the raters did; 0.5 is a coin",
    ),
    Measure(
        name=TRUE, title=TRUE, kind="share", better="more",
        meaning="share of held-out comparisons ordered as the truth does; 0.5 is a coin",
    ),
)  # fmt: skip


def _sentence(name: str, m: Metric) -> dict[str, str]:
    against = "the true order" if name == TRUE else "the raters' labels"
    good = m.low is not None and m.low > 0.5
    return {
        "tone": "better" if good else "unclear",
        "text": f"The reward model orders held-out pairs like {against} with accuracy {m}"
        + (" (0.5 is a coin)." if not good else "."),
    }


@stage(
    "reward", version=8, reads=READS, gives=RewardModel, run=f"{__name__}.run:run",
    work=f"{__name__}.run:work", report=report, measures=MEASURES,
)  # fmt: skip
class RewardStage(Comparing, Member):
    """A reward model fitted to the snapshot's comparisons. `probe`: see what it pays for, in the report."""

    later: ClassVar[tuple[str, ...]] = (*Member.later, "probe")
    probe: bool | None = None

    loss: dict[str, Any] = Field(default={"name": "bradley_terry"})
    average: Average = "prompt"
    margin: Annotated[float, Field(ge=0.0)] = 0.0  # logits per point of strength above 1

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.losses.reward import reward_losses

        super().check_names(place)
        reward_losses.configured(self.loss, place("loss"))
