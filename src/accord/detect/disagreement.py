"""Reward models that disagree more about the answers than before: what an ensemble is asked for."""

from __future__ import annotations

from accord.detect.base import READING, Detector, DetectorContext, detector
from accord.detect.measured import by_measured

__all__ = ["disagreement"]


@detector("disagreement", panel=True, needs=READING)
def disagreement(
    context: DetectorContext, *, smallest: float = 0.25, large: float = 1.0
) -> Detector:
    """The standard deviation of several reward models' scores of an answer, each in its own spread, as a
    multiple of what it is on answers that they were held out on (Coste et al. 2023): there it is 1."""
    return by_measured(
        "disagreement", smallest=smallest, large=large,
        lacks="fewer than two reward models have read the answers (--reward STAGE, twice)",
        says="reward models disagree more about the answers",
    )  # fmt: skip
