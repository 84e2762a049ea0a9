"""Families of comparisons: tests, and p-values adjusted for how many of them were looked at."""

from __future__ import annotations

from collections.abc import Sequence

from scipy import stats

__all__ = ["holm", "sign_test"]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted by Holm's step-down (1979), in their order."""
    adjusted, most = [0.0] * len(p_values), 0.0
    for rank, (p, i) in enumerate(sorted((p, i) for i, p in enumerate(p_values))):
        most = max(most, min(1.0, p * (len(p_values) - rank)))
        adjusted[i] = most
    return adjusted


def sign_test(up: int, down: int) -> float:
    """p of as many ups or more among those that moved, where up and down are alike (one-sided, exact)."""
    return float(stats.binom.sf(up - 1, up + down, 0.5)) if up + down else 1.0
