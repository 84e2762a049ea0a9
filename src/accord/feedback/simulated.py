"""Simulated raters: known skill, known biases, so that what is recovered can be checked.

A rater's utility of a response is skill·quality + length_bias·words/10. A comparison is won by the
left side with probability σ(u_left - u_right + side_bias), a ranking is drawn from Plackett-Luce with
the same utilities, and a careless rater answers at random with probability `careless`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from accord.core.config import Strict
from accord.core.types import Preference, Ranking, Rater

__all__ = ["SimulatedRater", "compare", "rank"]


class SimulatedRater(Strict):
    """Parameters of one simulated rater; all biases are 0 for a fair one."""

    name: str
    skill: Annotated[float, Field(ge=0.0)] = 12.0  # logits per unit of quality
    length_bias: float = 0.0  # logits per 10 words
    side_bias: float = 0.0  # logits for the left side
    careless: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0

    def rater(self) -> Rater:
        """This rater as the store knows it."""
        facts = self.model_dump(exclude={"name"})
        return Rater(name=self.name, kind="rule", facts={"simulated": True, **facts})

    def utility(self, quality: float, text: str) -> float:
        """Logits this rater gives a response of true quality in [0, 1]."""
        return self.skill * quality + self.length_bias * len(text.split()) / 10


def compare(
    rater: SimulatedRater, quality: Sequence[float], texts: Sequence[str], draw: random.Random
) -> Preference:
    """The rater's answer to a comparison of two responses as shown (left first)."""
    left, right = (rater.utility(q, t) for q, t in zip(quality, texts, strict=True))
    careless = draw.random() < rater.careless
    p_left = 0.5 if careless else _sigmoid(left - right + rater.side_bias)
    return Preference(better=0 if draw.random() < p_left else 1)


def rank(
    rater: SimulatedRater, quality: Sequence[float], texts: Sequence[str], draw: random.Random
) -> Ranking:
    """The rater's ranking of K responses: utilities plus Gumbel noise (Plackett-Luce)."""
    careless = draw.random() < rater.careless
    drawn = [
        (0.0 if careless else rater.utility(q, t)) - math.log(-math.log(draw.random() or 1e-300))
        for q, t in zip(quality, texts, strict=True)
    ]
    order = sorted(range(len(drawn)), key=lambda i: -drawn[i])
    return Ranking(ranks=tuple(order.index(i) + 1 for i in range(len(drawn))))


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
