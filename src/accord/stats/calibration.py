"""Calibration: do predicted probabilities come true as often as they say?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accord.core.types import Frozen, Metric
from accord.stats.intervals import proportion

__all__ = ["Bin", "expected_calibration_error", "reliability"]


class Bin(Frozen):
    """Predictions between `low` and `high`: their mean, and how often the event happened."""

    low: float
    high: float
    predicted: float
    observed: Metric


def reliability(
    predicted: Sequence[float], happened: Sequence[float], *, bins: int = 8
) -> list[Bin]:
    """Reliability diagram with equally wide bins over [0, 1]; empty bins are left out."""
    p, y = np.asarray(predicted, float), np.asarray(happened, float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    return [
        Bin(
            low=b / bins,
            high=(b + 1) / bins,
            predicted=float(p[place == b].mean()),
            observed=proportion(float(y[place == b].sum()), int((place == b).sum())),
        )
        for b in range(bins)
        if (place == b).any()
    ]


def expected_calibration_error(found: Sequence[Bin]) -> float:
    """ECE: mean |predicted - observed| weighted by bin size (Naeini et al. 2015); 0 is perfect."""
    n = sum(b.observed.n for b in found)
    return sum(b.observed.n * abs(b.predicted - (b.observed.value or 0.0)) for b in found) / n
