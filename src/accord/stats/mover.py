"""Sums of independent figures, with an interval made of theirs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accord.core.types import Metric

__all__ = ["combination"]


def combination(figures: Sequence[Metric], weights: Sequence[float]) -> Metric:
    """Σ w·figure of independent figures, its interval by squares of the distances to their own limits (MOVER,
    Zou & Donner 2008; of two shares' difference with Wilson's limits Newcombe's tenth method, 1998).

    Undefined where one is; without an interval where one has none. n is that of all together.
    """
    n, level = sum(f.n for f in figures), figures[0].level if figures else 0.95
    if not figures or any(f.value is None for f in figures):
        return Metric(value=None, n=n, level=level, note="one of its figures is undefined")
    value, down, up = 0.0, 0.0, 0.0
    for figure, w in zip(figures, weights, strict=True):
        centre = figure.value or 0.0
        value += w * centre
        low, high = (math.nan if x is None else w * (x - centre) for x in (figure.low, figure.high))
        down += min(low, high) ** 2
        up += max(low, high) ** 2
    if math.isnan(down):
        return Metric(value=value, n=n, level=level, note="one of its figures has no interval")
    return Metric(
        value=value, low=value - math.sqrt(down), high=value + math.sqrt(up), n=n, level=level,
        method="of independent figures",
    )  # fmt: skip
