"""How far an answer lies from all that a reward model learned from, and whether it is paid more than what it
lies next to there.

Where a reward model has read nothing like an answer its score is a guess, and what optimises the score finds
such answers. Far is told by its own representation, the mean of the hidden states over an answer (that at the
last token, which the head reads, says how good most answers are and little else): the distance of its
direction to the k-th nearest of the training answers' (Sun et al. 2022), beyond that of 95% of answers which
the model was held out on. Overpaid is a score further above the mean of those neighbours' than that of 95% of
these.

Legend: E exchanges, T training answers, H hidden size, K neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accord.core.errors import DataError
from accord.core.types import Exchange
from accord.rewards.learned import RewardModel

__all__ = ["LEAST", "Neighbours", "Reading"]

K = 5
EXPECTED = 0.95  # of held-out answers are neither far nor overpaid
LEAST = 20  # held-out answers without which nothing is known of what is usual
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reading:
    """An answer's score; its distance (0 to 2) and what it is paid above its neighbours (score units),
    whether each is unusual; and these neighbours, nearest first: prompt, response, reward."""

    reward: float
    distance: float
    above: float
    far: bool
    overpaid: bool
    near: tuple[dict[str, Any], ...]


class Neighbours:
    """The answers that a reward model learned from, as it sees them."""

    def __init__(
        self,
        model: RewardModel,
        training: Sequence[Exchange],
        held_out: Sequence[Exchange],
        on_progress: OnProgress | None = None,
    ) -> None:
        """
        Args:
            training: answers it learned from, to more prompts than one.
            held_out: answers of the same kind that it did not: what is usual.

        Raises:
            DataError: fewer than 20 of either.
        """
        for what, some in (("training", training), ("held-out", held_out)):
            if len(some) < LEAST:
                raise DataError(
                    f"{len(some)} {what} answers of a reward model tell little of what is usual",
                    allowed=f"at least {LEAST}",
                )
        self.model, self.training = model, training
        n = len(training)
        mean, last = model.states([*training, *held_out], on_progress=on_progress)
        self._unit_TH = _units(mean[:n])
        self._reward_T = self._rewards(last[:n])
        distance, above, _, self.held_out_reward = self._places(mean[n:], last[n:])
        self.usual = _beyond(distance), _beyond(above)

    def __call__(
        self, exchanges: Sequence[Exchange], on_progress: OnProgress | None = None
    ) -> list[Reading]:
        """What is to be said of each."""
        if not exchanges:
            return []
        states = self.model.states(exchanges, on_progress=on_progress)
        distance_E, above_E, near_EK, reward_E = self._places(*states)
        columns = (reward_E, distance_E, above_E, near_EK)
        return [
            Reading(reward, distance, above, distance > self.usual[0], above > self.usual[1], self._near(k))
            for reward, distance, above, k in zip(*(c.tolist() for c in columns), strict=True)
        ]  # fmt: skip

    def _places(self, mean_EH: Tensor, last_EH: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Distance, what is paid above the neighbours, their numbers [E, K], and the score."""
        cosine_ET = _units(mean_EH) @ self._unit_TH.mT
        cosine_EK, near_EK = cosine_ET.topk(K, dim=1)
        reward_E = self._rewards(last_EH)
        distance_E = (2 - 2 * cosine_EK[:, -1]).clamp(min=0).sqrt()
        return distance_E, reward_E - self._reward_T[near_EK].mean(1), near_EK, reward_E

    @torch.no_grad()
    def _rewards(self, last_EH: Tensor) -> Tensor:
        scores_E: Tensor = self.model.head(last_EH.to(self.model.head.weight.device)).cpu()
        return scores_E

    def _near(self, numbers: Sequence[int]) -> tuple[dict[str, Any], ...]:
        return tuple(
            {
                "prompt": self.training[t].prompt.last,
                "response": self.training[t].response.text,
                "reward": round(float(self._reward_T[t]), 3),
            }
            for t in numbers
        )


def _beyond(values: Tensor) -> float:
    """What a new value of their kind exceeds once in twenty at most, however few they are (conformal)."""
    rank = min(len(values), math.ceil(EXPECTED * (len(values) + 1)))
    return float(values.sort().values[rank - 1])


def _units(mean_EH: Tensor) -> Tensor:
    """Directions, in fp64, for equal states must lie at distance 0."""
    units_EH: Tensor = torch.nn.functional.normalize(mean_EH.double(), dim=1)
    return units_EH


def _beyond(values: Tensor) -> float:
    """What a new value of their kind exceeds once in twenty at most, however few they are (conformal)."""
    rank = min(len(values), math.ceil(EXPECTED * (len(values) + 1)))
    return float(values.sort().values[rank - 1])
