"""All evaluated policies beside each other."""

from __future__ import annotations

from accord.core.artifact import Answers, Comparison, Policy, RewardModel
from accord.core.measure import Measure
from accord.pipeline.stage import BASE, StageConfig, stage

MEASURES = (
    Measure(
        name="reward", title="learned reward", better="more", role="proxy",
        meaning="the reward model's score; reference answers average 0",
    ),
    Measure(
        name="kl", title="KL", unit="nats", role="distance", compared=False,
        meaning="log-ratio to the reference, nats per answer",
    ),
)  # fmt: skip


@stage(
    "compare", version=5, reads={"eval": Answers, "reward": RewardModel, "baseline": Policy},
    gives=Comparison, run=f"{__name__}.run:run", work=f"{__name__}.run:work", measures=MEASURES,
)  # fmt: skip
class Compare(StageConfig):
    """All evaluated policies beside each other: reward, KL from the reference, paired differences."""

    eval: str
    reward: str | None = None
    baseline: str = BASE  # reference of the KL
