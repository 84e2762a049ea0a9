"""GRPO: group-relative policy optimisation (Shao et al. 2024, section 4.1).

The score centred and scaled within its group; the KL is in the loss, as k2: the k3 of the paper has the
gradient of the other KL. Named variants of the mean: `sequence` (GRPO's paper), `token` (DAPO), `constant`
with `scale: false` (Dr. GRPO); `ratio: sequence` is GSPO.

Legend: G prompts, K answers to each.
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

__all__ = ["Grpo"]


@method("grpo", "GRPO")
class Grpo(Method):
    """Group-relative policy optimisation."""

    n: Several = 4
    ratio: Ratio = "token"
    average: TokenAverage = "sequence"
    scale: bool = True
    """Divide by the group's standard deviation."""

    def surrogate(self) -> Surrogate:
        return replace(super().surrogate(), average=self.average, ratio=self.ratio, kl=True)

    def advantages(self, experience: Experience, beta: float) -> Advantages:
        from accord.losses import group_normalised
        from accord.train.online.groups import by_answer, groups, noises

        score_GK, there_GK = groups(experience.score_C, experience)
        noise_G = noises(experience)
        a_GK = group_normalised(score_GK, scale=self.scale, within=noise_G)
        return by_answer(a_GK[there_GK], score_GK, experience, noise_G)
