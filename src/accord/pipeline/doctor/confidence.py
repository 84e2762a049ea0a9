"""How sure the doctor is of a cause: how often one named like it had been planted, in the fault library.

The table is fitted and tested by `python -m tests.faults.calibration`: a logistic regression on how far the
figure is beyond its threshold, and on whether a likelier cause is named in the same run, with an
intercept of each check's own. What it promises is of such runs (docs/doctor.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["chance"]

COMMON = (
    1.31,
    2.57,
    -2.26,
    0.33,
)  # intercept, strength, after a likelier cause, strength after one
CHECKS: dict[str, tuple[float, float]] = {
    "beta_high": (0.02, 0.0),
    "beta_low": (0.02, 0.0),
    "cut_answers": (0.4, 0.9),
    "empty": (0.58, 1.02),
    "giveaway": (0.55, -1.03),
    "kl_runaway": (-0.85, -0.05),
    "label_noise": (0.39, 0.47),
    "leak": (0.45, 0.44),
    "learning_rate_high": (0.08, 0.21),
    "learning_rate_low": (0.08, -0.34),
    "length_only": (0.18, -0.07),
    "memorised": (-2.02, -0.85),
    "not_the_reference": (0.16, 0.11),
    "opposite_labels": (0.57, 1.17),
    "reward_wide": (0.02, 0.0),
    "silent_groups": (0.25, 0.0),
    "step_too_large": (-0.8, -0.4),
    "truncated": (0.09, -1.04),
    "unreadable": (0.0, -0.66),
}
"""Of each check, what is added where it comes first, and where it comes after."""


def chance(
    check: str,
    strength: float,
    after: bool = False,
    common: Sequence[float] = COMMON,
    checks: Mapping[str, tuple[float, float]] = CHECKS,
) -> float:
    """The chance, 0.01 to 0.995, that a cause is one of the run's; `strength`: 0 to 1 beyond its threshold;
    `after`: a likelier one is named in the same run. A check that was not fitted is as the common one."""
    own = checks.get(check, (0.0, 0.0))[after]
    score = common[0] + common[1] * strength + after * (common[2] + common[3] * strength) + own
    return min(0.995, max(0.01, 1 / (1 + math.exp(-score))))
