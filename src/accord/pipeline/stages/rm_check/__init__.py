"""Reward models on the fresh answers of a round."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from accord.core.artifact import Checked, RewardModel, Round
from accord.pipeline.section import Section
from accord.pipeline.stage import StageConfig, stage

INTRO = (
    "A reward model learned from earlier answers. Once the policy has moved it is asked about answers it has "
    "never seen: here, how often it orders fresh answers to held-out prompts as raters do. When the old "
    "model is worse here than on its own held-out comparisons, training on its reward goes astray, and the "
    "one trained again should be better."
)


def report(done: Any) -> Section:
    return Section(
        title="Reward models on the policy's own answers",
        nav="Rounds",
        intro=INTRO,
        subtitle=f"{done.name}: answers of {done.result.facts['policy']}",
        columns=("reward model", "accuracy"),
        rows=[(name, str(m)) for name, m in done.result.metrics.items()],
    )


@stage(
    "rm_check", version=2, reads={"models": RewardModel, "data": Round}, gives=Checked,
    run=f"{__name__}.run:run", work=f"{__name__}.run:work", report=report,
)  # fmt: skip
class RmCheckStage(StageConfig):
    """Reward models on the fresh answers of a round: how far each orders them as the raters do."""

    models: list[str] = Field(min_length=1)
    data: str
