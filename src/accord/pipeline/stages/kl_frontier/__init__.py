"""What policies gained for the KL they spent, beside best-of-n of the policy they are held against."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import Field

from accord.core.artifact import Data, Policy, RewardModel
from accord.core.errors import ConfigError
from accord.core.measure import Measure, by_name
from accord.pipeline.stage import Count, StageConfig, stage
from accord.pipeline.stages.compare import MEASURES as COMPARED

REWARD = by_name(COMPARED)["reward"]
KL = Measure(
    name="kl", title="KL", unit="nats", role="distance", compared=False,
    meaning="KL from the reference, nats per answer: at each token of all that may stand there, summed",
)  # fmt: skip
RATIO = Measure(
    name="log_ratio", title="log-ratio", unit="nats", role="distance", compared=False,
    meaning="log π - log π_ref of the sampled answers: the same KL, with more noise",
)  # fmt: skip
RIGHT = Measure(
    name="right_orders", title="right orders", kind="share", better="more", role="fidelity",
    meaning="of two of its answers to a prompt, one truly better, how often the reward model says which",
)  # fmt: skip
SURE = Measure(
    name="confidence", title="its confidence", bounded=True, compared=False,
    meaning="how often the reward model expects to be right there: the mean of σ(|difference|)",
)  # fmt: skip
ERROR = Measure(
    name="calibration_error", title="calibration error", better="less", bounded=True,
    meaning="how far its probabilities are there from how often they come true (ECE)",
)  # fmt: skip
POINTS = "points.json"  # a figure of each policy and of best-of-n


@stage(
    "kl_frontier",
    reads={"policies": Policy, "reference": Policy, "reward": RewardModel, "data": Data},
    run=f"{__name__}.run:run", work=f"{__name__}.work:work", report=f"{__name__}.report:report",
    measures=(REWARD, KL, RATIO, RIGHT, SURE, ERROR),
)  # fmt: skip
class KlFrontierStage(StageConfig):
    """Gold and learned reward of policies against their KL from `reference`, beside best-of-n drawn from it
    by the same reward model; and how far that model is right on the policies' own answers. Prompts are those
    of an `eval` stage with as many; answers are sampled."""

    policies: list[str] = Field(min_length=1)
    reference: str
    reward: str
    data: str
    prompts: Count = 64  # held-out prompts
    n: Annotated[int, Field(ge=2)] = 4  # answers of each policy to each
    max_new_tokens: Count = 64
    max_prompt: Count | None = (
        None  # longer ones (tokens) are left out; always those without room to answer
    )
    temperature: Annotated[float, Field(gt=0.0)] = 1.0  # all is said of the policies at this one
    batch_size: Count = 32

    @property
    def sampled(self) -> list[str]:
        """Whose answers are needed: the reference's, then the others'."""
        return list(dict.fromkeys([self.reference, *self.policies]))

    def check_names(self, place: Callable[[str], str]) -> None:
        if len(set(self.policies)) < len(self.policies):
            raise ConfigError("names one twice", where=place("policies"), mend="name each once")
        if self.policies == [self.reference]:
            raise ConfigError(
                "names the reference alone",
                where=place("policies"),
                mend="name one trained from it",
            )
