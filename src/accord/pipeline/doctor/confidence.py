"""How sure the doctor is of a cause: how often one named like it had been planted, in the fault library.

The table is fitted and tested by `python -m tests.faults.calibration`: a logistic regression on how far the
figure is beyond its threshold, and on whether a likelier cause is named in the same run, with an
intercept of each check's own. What it promises is of such runs (docs/doctor.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["chance"]

COMMON = (1.0, 1.0, -2.0, 0.0)  # intercept, strength, after a likelier cause, strength after one
CHECKS: dict[str, tuple[float, float]] = {}
"""Of each check, what is added where it comes first, and where it comes after."""


def chance(
    check: str,
    strength: float,
    after: bool = False,
    common: Sequence[float] = COMMON,
    checks: Mapping[str, tuple[float, float]] = CHECKS,
) -> float:
    """The chance, 0.01 to 0.99, that a cause is one of the run's; `strength`: 0 to 1 beyond its threshold;
    `after`: a likelier one is named in the same run. A check that was not fitted is as the common one."""
    own = checks.get(check, (0.0, 0.0))[after]
    score = common[0] + common[1] * strength + after * (common[2] + common[3] * strength) + own
    return min(0.99, max(0.01, 1 / (1 + math.exp(-score))))
