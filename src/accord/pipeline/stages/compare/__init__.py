"""All evaluated policies beside each other."""

from __future__ import annotations

from accord.core.artifact import Answers, Comparison, Policy, RewardModel
from accord.pipeline.stage import BASE, StageConfig, stage


@stage(
    "compare", version=5, reads={"eval": Answers, "reward": RewardModel, "baseline": Policy},
    gives=Comparison, run=f"{__name__}.run:run", work=f"{__name__}.run:work",
)  # fmt: skip
class Compare(StageConfig):
    """All evaluated policies beside each other: reward, KL from the reference, paired differences."""

    eval: str
    reward: str | None = None
    baseline: str = BASE  # reference of the KL
