"""Proximal policy optimisation under a KL constraint (Schulman et al. 2017; Ziegler et al. 2019).

Reward of a token: -β·(log π - log π_ref); the score is added to the *last action* of the answer (TRL puts it
on the slot after it: with λ < 1 that discounts it once more). Where a score is paid the episode is over,
cut off or not: a value after it would pay for the same answer again. It stands for the rest only where
`missing_eos: bootstrap` leaves the score of a cut-off answer out.

With `relative` an answer is paid what it scores above the mean of its siblings (`losses.leave_one_out`). The
expected gradient stays what it is. Scores of a Bradley-Terry model have no zero that two prompts share, and
until the value model knows each prompt's own, its error is most of an advantage.

Legend: C continuations, S their tokens, contiguous; T the longest continuation; G prompts, K answers to each.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from accord.core.registry import Positive, UnitInterval
from accord.train.online.method import Advantages, Method, Surrogate, method

if TYPE_CHECKING:
    from torch import Tensor

    from accord.losses.kl import KLEstimator
    from accord.train.online.experience import Experience

__all__ = ["Ppo", "token_rewards"]

Passes = Annotated[int, Field(ge=1)]


@method("ppo", "PPO")
class Ppo(Method):
    """PPO's own keys."""

    valued: ClassVar = True
    later: ClassVar = (*Method.later, "relative", "value_trunk")
    epochs: Passes = 4
    gamma: UnitInterval = 1.0
    lam: UnitInterval = 0.95
    dual_clip: Annotated[float, Field(gt=1.0)] | None = None
    clip_value: Positive | None = 0.2
    """In units of the reward."""
    value_lr: Positive | None = None
    """The policy's by default."""
    value_trunk: Literal["own", "policy"] | None = None
    """What the value's head stands on: a model of its own (default), which starts at the reward model, or
    the policy's last hidden states, which it does not move: no model and no pass more. They are kept for the
    step: H numbers a token."""
    whiten: bool = True
    relative: bool | None = None
    """Pay an answer what it scores above the mean of the prompt's others; needs n of 2 and more."""

    @model_validator(mode="after")
    def _siblings_are_there(self) -> Self:
        if self.relative and self.n < 2:
            raise ValueError("relative compares a prompt's answers; allowed: n: 2 and more")
        return self

    def values_are_scores(self) -> bool:
        """Beside its siblings an answer is worth 0 until something is known of it."""
        return not self.relative

    def value_shares(self) -> bool:
        return self.value_trunk == "policy"

    def surrogate(self) -> Surrogate:
        from accord.losses import ppo_clip

        low, high = self.clip_ratio, self.clip_ratio_high
        return Surrogate(partial(ppo_clip, clip=low, clip_high=high, dual_clip=self.dual_clip))

    def value_loss(self, values_S: Tensor, old_S: Tensor, returns_S: Tensor) -> Tensor:
        from accord.losses import value_clip

        return value_clip(values_S, old_S, returns_S, clip=self.clip_value)

    def value_rate(self) -> float:
        return self.value_lr or self.lr

    def advantages(self, experience: Experience, beta: float) -> Advantages:
        """GAE of each answer, whitened over all tokens that count; returns are unwhitened A + V. An advantage
        that rounding or noise of rewards explains is none: whitening and Adam would make a step of it."""
        from accord.losses import rounding, whiten
        from accord.train.loop import dist

        facts = {}
        if self.relative:
            experience, facts["silent_groups"] = _beside_siblings(experience)
        assert experience.values_S is not None
        a_S = self._gae(experience, beta)
        noise = rounding(
            experience.score_C,
            experience.values_S,
            beta * experience.old_S,
            beta * experience.reference_S,
        )
        a_S = a_S.where(a_S.abs() > noise + dist.values_of_all(experience.noise_C).amax(), 0.0)
        returns_S, kept_S = a_S + experience.values_S, experience.kept_S
        facts |= _fit(
            *(dist.values_of_all(x_S[kept_S]) for x_S in (experience.values_S, returns_S))
        )
        even = (
            _unit if self.relative else whiten
        )  # an answer alike its siblings stays worth nothing
        worth_S = dist.as_one(even, a_S, kept_S) if self.whiten else a_S
        return Advantages(worth_S, returns_S, facts)

    def _gae(self, experience: Experience, beta: float) -> Tensor:
        from accord.losses import gae
        from accord.train.online.experience import padded, unpadded

        assert experience.values_S is not None
        assert experience.after_C is not None
        rewards_CT, mask_CT = padded(
            token_rewards(experience, beta, self.kl.estimator), experience.lengths
        )
        values_CT, _ = padded(experience.values_S, experience.lengths)
        a_CT = gae(
            rewards_CT, values_CT, gamma=self.gamma, lam=self.lam, mask=mask_CT,
            terminated=experience.paid_C, bootstrap_value=experience.after_C,
        )  # fmt: skip
        return unpadded(a_CT, mask_CT)


def _beside_siblings(experience: Experience) -> tuple[Experience, float]:
    """The same answers, each with its score less the mean of its siblings'; the share of prompts whose
    answers are alike, and paid nothing."""
    from accord.losses import alike, leave_one_out
    from accord.train.loop import dist
    from accord.train.online.groups import groups, noises

    noise_G = noises(experience)
    score_GK, there_GK = groups(experience.score_C, experience)
    paid_C = leave_one_out(score_GK, within=noise_G)[there_GK]
    size_C = experience.score_C if experience.size_C is None else experience.size_C
    silent_G = dist.values_of_all(alike(score_GK, within=noise_G).float())
    kept_C = paid_C.where(experience.kept_C, float("nan"))
    return replace(experience, score_C=kept_C, size_C=size_C), float(silent_G.mean())


def _unit(a_S: Tensor, kept_S: Tensor) -> Tensor:
    """Divided by the root of the mean square of what counts."""
    size = a_S[kept_S].square().mean()
    return (a_S * (size + 1e-8).rsqrt()).where(kept_S, 0.0)


def token_rewards(experience: Experience, beta: float, estimator: KLEstimator) -> Tensor:
    """Rewards [S]: the KL penalty at every token, the score at the last of each answer."""
    import torch

    from accord.losses import kl_estimate

    kl_S = kl_estimate(experience.old_S, experience.reference_S, estimator=estimator)
    last_C = torch.tensor(experience.lengths).cumsum(0) - 1
    return (-beta * kl_S).index_add(0, last_C, experience.score_C.nan_to_num(0.0))


def _fit(values_S: Tensor, returns_S: Tensor) -> dict[str, float]:
    """How well the value model foretells the returns of the tokens that count."""
    unexplained = (returns_S - values_S).var(correction=0)
    spread = returns_S.var(correction=0)
    return {
        "explained_variance": float(1 - unexplained / spread.clamp(min=1e-12)),
        "value": float(values_S.mean()),
        "returns": float(returns_S.mean()),
    }
