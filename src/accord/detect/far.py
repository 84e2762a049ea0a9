"""Answers far from all that the reward model learned from: its score of them is a guess."""

from __future__ import annotations

from accord.detect.base import READING, Detector, DetectorContext, detector
from accord.detect.measured import by_measured

__all__ = ["far"]


@detector("far", panel=True, needs=READING)
def far(context: DetectorContext, *, smallest: float = 0.1, large: float = 0.3) -> Detector:
    """The share of answers that lie farther from their fifth nearest training answer than 95% of what the
    reward model was held out on (`rewards/neighbours.py`)."""
    return by_measured(
        "far", clear="distance", smallest=smallest, large=large,
        says="answers went where the reward model has read nothing",
    )  # fmt: skip
