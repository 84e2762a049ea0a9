"""How to train, on data and on a policy's own answers: the keys, checked, without torch."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from accord.core.config import Strict
from accord.core.registry import NonNegative, Positive

__all__ = ["Kl", "MissingEos", "OnPolicy", "Optimise", "Ratio", "Several", "TokenAverage"]

Count = Annotated[int, Field(ge=1)]
Several = Annotated[int, Field(ge=2)]
Clip = Annotated[float, Field(gt=0.0, lt=1.0)]
TokenAverage = Literal["token", "sequence", "sum", "constant"]
Ratio = Literal["token", "sequence"]
Precision = Literal["fp32", "bf16", "auto"]


class Optimise(Strict):
    """How to train: the same keys for SFT, reward models and preferences."""

    renamed: ClassVar = {"clip": "max_grad_norm"}
    lr: Positive = 1e-4
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05  # share of the steps
    epochs: Positive = 1.0
    max_steps: Count | None = None
    batch_size: Count = 8  # items (demonstrations, prompts or pairs) a step
    tokens: Annotated[int, Field(ge=16)] | Literal["auto"] = 1024  # of one micro-batch
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    precision: Precision = "fp32"  # of products; see Engine
    save_every: Count = 20  # steps between checkpoints
    eval_every: Count | None = None  # steps; always once at the end


class Kl(Strict):
    """How the policy is held near its reference. KL is per sequence (nats), summed over its tokens."""

    beta: NonNegative = 0.05
    control: Literal["fixed", "adaptive"] = "fixed"
    target: Positive = 6.0
    """Of the adaptive control: nats per sequence."""
    horizon: Positive = 10_000
    """Of the adaptive control: sequences, above a fifth of those of a step."""
    estimator: Literal["k1", "k2", "k3"] = "k1"
    """Of the penalty in the reward."""
    budget: Positive | None = None
    """The run ends when the mean KL of a step's answers reaches this (nats per sequence), before that step's
    update: the policy that is saved is the one that was measured."""

    @model_validator(mode="after")
    def _adaptive_control_can_move(self) -> Self:
        if self.control == "adaptive" and self.beta == 0.0:
            raise ValueError(
                "beta: 0 never moves, control: adaptive multiplies it; give a beta above 0"
            )
        return self


class MissingEos(Strict):
    """What an answer costs that was cut off at the length limit. `leave`: it is paid its score like any
    other. `bootstrap` (PPO): it is paid none, the value model says what the rest would have brought."""

    treatment: Literal["leave", "penalty", "score", "bootstrap"] = "leave"
    value: float = 1.0
    """penalty: taken off the score. score: takes the score's place."""


class OnPolicy(Strict):
    """The keys of every on-policy method."""

    renamed: ClassVar = {
        "clip": "clip_ratio", "clip_high": "clip_ratio_high", "clip_norm": "max_grad_norm",
    }  # fmt: skip
    steps: Count = 100
    batch_size: Count = 16
    """Prompts a step."""
    n: Count = 1
    """Answers to each prompt."""
    epochs: Count = 1
    """Passes over the answers of a step."""
    minibatch: Count = 16
    """Prompts an optimiser step."""
    lr: Positive = 1e-5
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    tokens: Annotated[int, Field(ge=16)] = 1024
    """Of one micro-batch."""
    precision: Precision | None = None
    """Of products, fp32 by default: see Engine."""
    temperature: Positive = 1.0
    max_new_tokens: Count = 64
    max_prompt: Count | None = None
    """Longer prompts (tokens) are left out and counted before the run; always those that leave the model no
    room for max_new_tokens."""
    stop: list[str] = Field(default_factory=list)
    rollout_batch: Count = 32
    """Answers sampled at a time."""
    kl: Kl = Kl()
    missing_eos: MissingEos = MissingEos()
    scale_rewards: bool = False
    """Divide scores by their running standard deviation."""
    entropy: NonNegative = 0.0
    """Weight of the entropy bonus."""
    clip_ratio: Clip = 0.2
    """Ratios beyond 1 ± this earn nothing more."""
    clip_ratio_high: Positive | None = None
    """Another bound upwards (DAPO)."""
    stop_kl: Positive | None = None
    """No further minibatch of a step once the policy has moved so far from where the step began (nats per
    token)."""
    save_every: Count = 5
    eval_every: Count | None = None

    @model_validator(mode="after")
    def _beta_stays_positive(self) -> Self:
        answers = self.batch_size * self.n
        if self.kl.control == "adaptive" and self.kl.horizon <= 0.2 * answers:
            raise ValueError(
                f"kl.horizon {self.kl.horizon:g} lets beta turn negative: with {answers} answers a step "
                f"(batch_size x n) it must be above {0.2 * answers:g}"
            )
        return self


MOVED = {
    "Ppo": "ppo",
    "Rloo": "rloo",
    "Grpo": "grpo",
    "OnlineDpo": "online_dpo",
    "BestOfN": "best_of_n",
}


def __getattr__(name: str) -> Any:
    """The keys of a method stood here until 0.2: they are its class now."""
    if name not in MOVED:
        raise AttributeError(f"accord.train.settings has no {name!r}")
    return getattr(import_module(f"accord.train.online.methods.{MOVED[name]}"), name)
