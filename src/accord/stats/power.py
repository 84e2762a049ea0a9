"""How many prompts it takes to see a difference of two policies that answer the same prompts.

Seen is what `paired_difference` shows: its interval lies on the true side of 0. Of yes and no the power is
exact: the sum over all numbers of prompts that changed up and down (a trinomial). Of values it is that of a
paired t test (noncentral t).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import special, stats

from accord.core.errors import ConfigError
from accord.stats.resampling import Floats, quantile

__all__ = ["changed", "mean_power", "prompts_needed", "seen_from", "share_power"]

MOST = 100_000  # prompts looked at
TAIL = 8.0  # standard deviations beyond which nothing is summed


def changed(share: float, difference: float, correlation: float = 0.0) -> tuple[float, float]:
    """P(no → yes), P(yes → no) of a prompt, where the second share is the first plus the difference and the
    two outcomes correlate; ConfigError where there are no such outcomes."""
    other = share + difference
    if not 0 <= other <= 1:
        what = f"{share:g} and a difference of {difference:g} are no two shares"
        raise ConfigError(what, where="--share", allowed="both in [0, 1]")
    spread = math.sqrt(share * (1 - share) * other * (1 - other))
    both = share * other + correlation * spread
    up, down = other - both, share - both
    if min(up, down) < -1e-9:
        most = (min(share, other) - share * other) / spread if spread else 0.0
        raise ConfigError(
            f"shares of {share:g} and {other:g} can't correlate by {correlation:g}",
            where="--correlation", allowed=f"at most {math.floor(100 * most) / 100:g}",
        )  # fmt: skip
    return max(up, 0.0), max(down, 0.0)


def share_power(n: int, up: float, down: float, level: float = 0.95) -> float:
    """P(the interval of the paired difference of n yes and no lies above 0; below where down is likelier)."""
    if down > up:
        up, down = down, up
    rate = up + down
    if n < 2 or rate == 0:
        return 0.0
    reach = TAIL * math.sqrt(n * rate * (1 - rate)) + 10
    ends = max(0, int(n * rate - reach)), min(n, int(n * rate + reach)) + 1
    moved_M = np.arange(*ends, dtype=float)
    p_M = _binomial(moved_M, n, rate)
    total = 0.0
    z = quantile(level, n - 1)
    for moved, p in zip(moved_M.tolist(), p_M.tolist(), strict=True):
        first = _least(int(moved), n, z)
        if first <= moved:
            total += p * float(special.bdtrc(first - 1, int(moved), up / rate)) if first else p
    return min(1.0, total)


def _least(moved: int, n: int, z: float) -> int:
    """Of so many prompts that changed, the fewest that must have changed up for the interval to lie above 0:
    x - (m - x) > z·√((n + 2)·(m + 2)/(n + 2) - …) solved for the difference (Bonett & Price 2012)."""
    sum_ = (moved + 2) / (n + 2)
    least = z * math.sqrt(sum_ / (n + 2 + z * z)) * (n + 2)  # up - down, in prompts
    return max(0, math.floor((moved + least) / 2 + 1e-12) + 1)


def _binomial(x: Floats, n: int, p: float) -> Floats:
    logs: Floats = (
        special.gammaln(n + 1) - special.gammaln(x + 1) - special.gammaln(n - x + 1)
        + special.xlogy(x, p) + special.xlog1py(n - x, -p)
    )  # fmt: skip
    return np.exp(logs)


def mean_power(n: int, difference: float, sd: float, level: float = 0.95) -> float:
    """The same of n differences of values with standard deviation `sd`."""
    if n < 2:
        return 0.0
    away = abs(difference) / sd * math.sqrt(n)
    return float(stats.nct.sf(quantile(level, n - 1), n - 1, away))


def prompts_needed(power: Callable[[int], float], target: float) -> int:
    """The fewest prompts from which on the power is reached (of yes and no it rises in steps that fall back a
    little); ConfigError where 100,000 don't do."""
    high = 2
    while power(high) < target:
        high *= 2
        if high > MOST:
            what = f"more than {MOST:,} prompts"
            raise ConfigError(
                what, where="--difference", mend="ask for a larger one, or less power"
            )
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle) >= target else (middle, high)
    while short := [n for n in range(high + 1, high + 2 + high // 20) if power(n) < target]:
        high = short[-1] + 1
    return high


def seen_from(power: Callable[[float], float], most: float, target: float) -> float | None:
    """The smallest difference in (0, most] that is seen with this power; None where none is."""
    if power(most) < target:
        return None
    low, high = 0.0, most
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= target else (middle, high)
    return high
