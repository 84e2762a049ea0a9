"""Answers paid more than those that the reward model learned from and that lie nearest to them."""

from __future__ import annotations

from accord.detect.base import READING, Detector, DetectorContext, detector
from accord.detect.measured import by_measured

__all__ = ["overpaid"]


@detector("overpaid", panel=True, needs=READING)
def overpaid(context: DetectorContext, *, smallest: float = 0.1, large: float = 0.3) -> Detector:
    """The share of answers whose score is further above that of the five nearest training answers than it is
    of 95% of what the reward model was held out on (`rewards/neighbours.py`)."""
    return by_measured(
        "overpaid", clear="above", smallest=smallest, large=large,
        says="answers are paid more than the training answers nearest to them",
    )  # fmt: skip
