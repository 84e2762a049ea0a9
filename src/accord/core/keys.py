"""What `**how` and `**sampling` take, for editors and type checkers: names and types, nothing else.

What a key means, its range and default stand with the settings it belongs to (docs/api.md lists them all);
a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

__all__ = ["KlKeys", "LoraKeys", "MissingEosKeys", "OnPolicyKeys", "OptimiseKeys", "SamplingKeys"]


class OptimiseKeys(TypedDict, total=False):
    """Of every training on data: `Optimise` and `Limits`."""

    lr: float
    schedule: Literal["constant", "linear", "cosine"]
    warmup: float
    epochs: float
    max_steps: int | None
    batch_size: int
    tokens: int | Literal["auto"]
    weight_decay: float
    max_grad_norm: float
    precision: Literal["fp32", "bf16", "auto"]
    save_every: int
    eval_every: int | None
    max_prompt: int
    max_completion: int
    skip_bad: bool


class LoraKeys(TypedDict, total=False):
    """Of an adapter: `Lora`."""

    r: int
    alpha: float
    dropout: float
    targets: str
    last_layers: int | None


class SamplingKeys(TypedDict, total=False):
    """Of sampling: `Sampling`, but for `n`."""

    max_new_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stop: list[str]
    seed: int


class KlKeys(TypedDict, total=False):
    """How a policy is held near its reference: `Kl`."""

    beta: float
    control: Literal["fixed", "adaptive"]
    target: float
    horizon: float
    estimator: Literal["k1", "k2", "k3"]
    budget: float | None


class MissingEosKeys(TypedDict, total=False):
    """What a cut-off answer costs: `MissingEos`."""

    treatment: Literal["leave", "penalty", "score", "bootstrap"]
    value: float


class OnPolicyKeys(TypedDict, total=False):
    """Of training on a policy's own answers: `OnPolicy`, then the keys of single methods."""

    steps: int
    batch_size: int
    n: int
    epochs: int
    minibatch: int
    lr: float
    schedule: Literal["constant", "linear", "cosine"]
    warmup: float
    weight_decay: float
    max_grad_norm: float
    tokens: int
    precision: Literal["fp32", "bf16", "auto"] | None
    temperature: float
    max_new_tokens: int
    max_prompt: int | None
    stop: list[str]
    rollout_batch: int
    kl: KlKeys
    missing_eos: MissingEosKeys
    scale_rewards: bool
    entropy: float
    clip_ratio: float
    clip_ratio_high: float | None
    stop_kl: float | None
    save_every: int
    eval_every: int | None
    gamma: float  # ppo
    lam: float  # ppo
    dual_clip: float | None  # ppo
    clip_value: float | None  # ppo
    value_lr: float | None  # ppo
    value_trunk: Literal["own", "policy"] | None  # ppo
    whiten: bool  # ppo
    relative: bool | None  # ppo
    ratio: Literal["token", "sequence"]  # rloo, grpo
    average: Literal["token", "sequence", "sum", "constant"]  # rloo, grpo
    scale: bool  # grpo
    loss: Mapping[str, Any]  # online_dpo
