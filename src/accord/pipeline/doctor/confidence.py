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
    1.23,
    3.42,
    -2.07,
    -1.09,
)  # intercept, strength, after a likelier cause, strength after one
CHECKS: dict[str, tuple[float, float]] = {
    "beta_high": (0.01, 0.0),
    "beta_low": (0.01, 0.0),
    "cut_answers": (0.35, 0.94),
    "empty": (0.54, 1.03),
    "giveaway": (0.45, -1.01),
    "kl_runaway": (0.02, -0.52),
    "label_noise": (0.29, 0.52),
    "leak": (0.38, 0.49),
    "learning_rate_high": (0.04, 0.29),
    "learning_rate_low": (0.04, -0.34),
    "length_only": (0.1, 0.08),
    "memorised": (-2.09, -0.83),
    "not_the_reference": (0.13, 0.0),
    "opposite_labels": (0.5, 1.15),
    "reward_wide": (0.01, 0.0),
    "silent_groups": (0.18, 0.0),
    "step_too_large": (-0.83, -0.43),
    "truncated": (0.05, -0.84),
    "unreadable": (0.0, -0.64),
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
