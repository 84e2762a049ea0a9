"""How far an answer lies from all that a reward model learned from, and whether it is paid more than what it
lies next to there.

Where a reward model has read nothing like an answer its score is a guess, and what optimises the score finds
such answers. Its own representation tells, in two ways: the hidden state at the last token, which the head
reads, and the mean of those over the answer, for the former says how an answer ends and how good it is, and
little of what it is about. Either way the distance of its direction to the k-th nearest of the training
answers' (Sun et al. 2022) is taken in units of what held-out answers seldom exceed; far is an answer whose
larger one is beyond that of 95% of these. Overpaid is a score further above the mean of its neighbours' (by
the mean state) than that of 95%.

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
EXPECTED = 0.95  # of held-out answers are not far, and as many not overpaid
EITHER = 0.975  # of them are not far by one of the two states
TINY = 1e-9
LEAST = 20  # held-out answers without which nothing is known of what is usual
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Reading:
    """An answer's score; its distance (1 is seldom exceeded) and what it is paid above its neighbours (score
    units), whether each is unusual; and these neighbours, nearest first: prompt, response, reward."""

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
        self._known = [_units(x[:n]) for x in (mean, last)]
        self._reward_T = self._rewards(last[:n])
        each = [
            _nearest(x[n:], known)[0] for x, known in zip((mean, last), self._known, strict=True)
        ]
        self._usual = [max(_beyond(d, EITHER), TINY) for d in each]
        distance, above, _, self.held_out_reward = self._places(mean[n:], last[n:])
        self.usual = _beyond(distance, EXPECTED), _beyond(above, EXPECTED)

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
        each, near = zip(*map(_nearest, (mean_EH, last_EH), self._known), strict=True)
        distance_E = torch.maximum(each[0] / self._usual[0], each[1] / self._usual[1])
        reward_E = self._rewards(last_EH)
        return distance_E, reward_E - self._reward_T[near[0]].mean(1), near[0], reward_E

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


def _nearest(states_EH: Tensor, known_TH: Tensor) -> tuple[Tensor, Tensor]:
    """The distance of each direction to the k-th nearest (0 to 2), and the numbers of these k [E, K]."""
    cosine_EK, near_EK = (_units(states_EH) @ known_TH.mT).topk(K, dim=1)
    return (2 - 2 * cosine_EK[:, -1]).clamp(min=0).sqrt(), near_EK


def _units(states_EH: Tensor) -> Tensor:
    """Directions, in fp64, for equal states must lie at distance 0."""
    units_EH: Tensor = torch.nn.functional.normalize(states_EH.double(), dim=1)
    return units_EH


def _beyond(values: Tensor, share: float) -> float:
    """What that share of new values of their kind is below at least, however few they are (conformal)."""
    rank = min(len(values), math.ceil(share * (len(values) + 1)))
    return float(values.sort().values[rank - 1])
