"""The process reward: a score for each step, and one of them all."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accord.core.types import Exchange
from accord.rewards.base import Context, Reward, reward
from accord.rewards.process_model import Aggregate, aggregated

__all__: list[str] = []


@reward("process")
def process(context: Context, *, model: str, aggregate: Aggregate = "min") -> Reward:
    """P(right) of an answer's steps (lines) as one number in [0, 1]: `min` its weakest step, `product` all
    right if steps were independent (Lightman et al. 2023), `last` the final one, `mean`. NaN for an answer
    without a step."""
    process_model = context.process_model(model)

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        return [aggregated(x, aggregate) if x else math.nan for x in process_model(exchanges)]

    return score
