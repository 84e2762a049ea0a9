"""RLOO: REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, eq. 7).

An answer's advantage is its score less the mean of its siblings'. The KL to the reference is taken off the
score, summed over the answer. The loss sums an answer's tokens (`average: sum`), as REINFORCE does of a whole
sequence. Deviations: ratios are PPO's, clipped, for more than one pass over the answers (in the first
minibatch they are 1 and the gradient is REINFORCE's); a difference that rounding or noise of the
rewards explains is none.

Legend: C continuations, G prompts, K answers to each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from accord.train.online.method import (
    Advantages,
    Method,
    Ratio,
    Several,
    Surrogate,
    TokenAverage,
    method,
)

if TYPE_CHECKING:
    from accord.train.online.experience import Experience

__all__ = ["Rloo"]


@method("rloo", "RLOO")
class Rloo(Method):
    """REINFORCE with a leave-one-out baseline."""

    n: Several = 4
    ratio: Ratio = "token"
    average: TokenAverage = "sum"

    def surrogate(self) -> Surrogate:
        return replace(super().surrogate(), average=self.average, ratio=self.ratio)

    def advantages(self, experience: Experience, beta: float) -> Advantages:
        from accord.losses import leave_one_out, rounding
        from accord.train.online.groups import by_answer, groups, noises

        paid_C = experience.score_C - beta * experience.kl_C(self.kl.estimator)
        sums = [
            experience.summed_C(beta * x_S) for x_S in (experience.old_S, experience.reference_S)
        ]
        noise = rounding(experience.score_C, *sums) + noises(
            experience
        )  # the KL is a small difference of sums
        score_GK, there_GK = groups(paid_C, experience)
        a_GK = leave_one_out(score_GK, within=noise)
        return by_answer(a_GK[there_GK], score_GK, experience, noise)
