"""What a judge with measured errors is worth: its win rate corrected, and where it may decide alone.

corrected   θ = (p + q0 - 1) / (q0 + q1 - 1)      (Rogan & Gladen 1978; Lee et al. 2025, arXiv 2511.21140)
    p the share of wins the judge reports, q1 = P(it says win | people say win), q0 the same of losses.
    Interval: delta method over all three, each share with z²/2 successes and z² trials added
    (Agresti & Coull 1998), so that a share of 0 or 1 has an error too.
pooled      θ = (m·h + k·(p + q0 - 1) / (q0 + q1 - 1)) / (m + k)
    h people's own share of the m pairs they judged, p the judge's of the k others. Interval: delta method
    over all four with their covariance by prompts (CR2, `stats.clustered`), two yes and two no added to each
    share, every one a prompt of its own (Agresti & Caffo 2000), by t with Satterthwaite's degrees of freedom.
alone       the lowest confidence from which the judge's error rate is at most `risk` with probability
    `level`: thresholds are tested from the highest down and the first that fails ends it (fixed-sequence
    testing, no correction needed), each by Clopper & Pearson's upper bound (1934).
lean        P(judge is drawn to a feature | the answer without it is better)
    - P(judge is drawn away from it | the answer with it is better):
    0 for a judge whose errors don't depend on the feature, however many it makes and however often the
    answers with the feature are the better ones. Interval by square-and-add (Newcombe 1998).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.clustered import standard_error
from accord.stats.intervals import cluster_mean
from accord.stats.resampling import Floats, quantile

__all__ = [
    "DecidesAlone", "corrected_share", "corrected_win_rate", "decides_alone", "lean", "lean_grown",
    "shares_apart",
]  # fmt: skip

TELLS_NOTHING = "the judge tells nothing: it says win as often where people say loss"
ALL_BY_PEOPLE = "people judged every pair: their own share, nothing to correct"


def corrected_share(
    wins: int,
    n: int,
    right_wins: int,
    n_wins: int,
    right_losses: int,
    n_losses: int,
    *,
    level: float = 0.95,
) -> Metric:
    """Share of wins, from what a judge says of n comparisons and how often it was right on `n_wins` that
    people call wins and `n_losses` that they call losses, all of them independent. Undefined where
    q0 + q1 - 1 may be 0 or less."""
    if not (0 <= wins <= n and 0 <= right_wins <= n_wins and 0 <= right_losses <= n_losses):
        raise DataError("more successes than trials", where="corrected_share")
    whole = n + n_wins + n_losses
    if not min(n, n_wins, n_losses):
        return Metric(
            value=None, n=whole, level=level, note="needs wins and losses that people judged too"
        )
    q1, q0 = right_wins / n_wins, right_losses / n_losses
    z = quantile(level)
    p_, q1_, q0_ = (
        (x + z * z / 2) / (m + z * z)
        for x, m in ((wins, n), (right_wins, n_wins), (right_losses, n_losses))
    )
    tells = q0_ + q1_ - 1
    var_p, var_1, var_0 = (
        s * (1 - s) / (m + z * z) for s, m in ((p_, n), (q1_, n_wins), (q0_, n_losses))
    )
    if q0 + q1 - 1 <= z * math.sqrt(var_1 + var_0):
        return Metric(value=None, n=whole, level=level, note=TELLS_NOTHING)
    centre = (p_ + q0_ - 1) / tells
    error = math.sqrt(var_p + (1 - centre) ** 2 * var_0 + centre**2 * var_1) / tells
    value = min(1.0, max(0.0, (wins / n + q0 - 1) / (q0 + q1 - 1)))
    low, high = max(0.0, centre - z * error), min(1.0, centre + z * error)
    return Metric(
        value=value, low=min(low, value), high=max(high, value), n=whole, level=level,
        method=f"corrected for errors on {n_wins + n_losses} judged by both",
    )  # fmt: skip


def corrected_win_rate(
    says: Sequence[bool],
    people: Sequence[float | None],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
) -> Metric:
    """Share of wins over all pairs: of those that people judged by their own word (`people`: 1, 0, 1/2 where
    they split evenly, None where they weren't asked), of the others by the judge's, corrected for its errors.

    Assumed: the judge errs on wins, and on losses, as often where people weren't asked as where they were,
    and is midway on pairs that they split evenly. So people's pairs may be drawn at random, or by who wins;
    not by what the judge says, how sure it is or how hard they are. Undefined where q0 + q1 - 1 may be 0 or
    less."""
    judge_N = np.asarray(says, float)
    people_N = np.array([math.nan if x is None else x for x in people], float)
    own_N = np.unique([str(c) for c in clusters], return_inverse=True)[1]
    asked_N = ~np.isnan(people_N)
    n, m = len(judge_N), int(asked_N.sum())
    theirs = cluster_mean(people_N[asked_N], own_N[asked_N].tolist(), level=level, share=True)
    if 0 < n == m:
        notes = filter(None, (ALL_BY_PEOPLE, theirs.note))
        return theirs.model_copy(update={"note": "; ".join(notes)})

    def undefined(why: str) -> Metric:
        own = f"; people's own share of what they judged: {theirs}" if m else ""
        return Metric(value=None, n=n, level=level, note=why + own)

    of_N4 = np.column_stack([~asked_N, people_N == 1, people_N == 0, asked_N])
    left, *tried = (len(set(own_N[of_N].tolist())) for of_N in of_N4.T[:3])
    if min(tried) < 2:
        return undefined("needs wins and losses that people judged too, each on two prompts")
    row_R, of_R = np.nonzero(of_N4)
    seen = _Shares(np.where(of_R == 3, people_N[row_R], judge_N[row_R]), of_R, own_N[row_R])
    added = seen.with_four_more()

    def half(gradient: list[float]) -> float:
        df = min(seen.error(gradient)[1], float(own_N.max()))
        return quantile(level, df) * added.error(gradient)[0]

    p, q1, false, h = seen.means()
    if q1 - false <= half([0, 1, -1, 0]):
        return undefined(TELLS_NOTHING)
    w = (n - m) / n
    value = float(w * min(1.0, max(0.0, (p - false) / (q1 - false))) + (1 - w) * h)
    if left < 2:
        note = "one prompt is left to the judge: no interval"
        return Metric(value=value, n=n, level=level, note=note)
    p, q1, false, h = added.means()
    tells = q1 - false
    rest = (p - false) / tells
    centre = w * rest + (1 - w) * h
    away = half([w / tells, -w * rest / tells, -w * (1 - rest) / tells, 1 - w])
    return Metric(
        value=value, low=min(max(0.0, centre - away), value), high=max(min(1.0, centre + away), value),
        n=n, level=level, method=f"people's word on {m}, the judge's corrected on {n - m}, "
        f"robust over {own_N.max() + 1} prompts",
    )  # fmt: skip


@dataclass(frozen=True)
class _Shares:
    """p, q1, 1 - q0 and h as means of rows; a pair that people judged is a row of two of them."""

    value_R: Floats
    of_R: NDArray[np.int64]
    own_R: NDArray[np.int64]

    def means(self) -> Floats:
        return np.asarray(np.bincount(self.of_R, self.value_R) / np.bincount(self.of_R))

    def error(self, gradient: list[float]) -> tuple[float, float]:
        """Standard error of the means' sum by these weights, and its degrees of freedom."""
        root = np.sqrt(np.bincount(self.of_R))
        design_R4 = (self.of_R[:, None] == np.arange(4)) / root
        left_R = self.value_R - self.means()[self.of_R]
        return standard_error(design_R4, np.asarray(gradient) / root, left_R, self.own_R)

    def with_four_more(self) -> _Shares:
        """Two yes and two no to each, every one a prompt of its own."""
        new = np.arange(16)
        return _Shares(
            np.append(self.value_R, new % 2), np.append(self.of_R, new // 4),
            np.append(self.own_R, self.own_R.max() + 1 + new),
        )  # fmt: skip


@dataclass(frozen=True)
class DecidesAlone:
    """From which confidence on a judge decides alone: its error rate there is at most `risk`, with
    probability `level` over calibration sets of this kind. None where no threshold could be shown to hold."""

    confidence: float | None
    risk: float
    level: float
    n: int
    errors: int
    share: float
    """Of the calibration set, decided by the judge."""


def decides_alone(
    confidence: Sequence[float], right: Sequence[bool], *, risk: float = 0.1, level: float = 0.95
) -> DecidesAlone:
    """`DecidesAlone` by calibration questions that are independent of each other (one a prompt)."""
    if not 0 < risk < 1 or not 0 < level < 1:
        raise DataError("must lie between 0 and 1", where="risk, level")
    c, ok = np.asarray(confidence, float), np.asarray(right, bool)
    enough = math.ceil(
        math.log(1 - level) / math.log(1 - risk)
    )  # with fewer, no errors show nothing
    decides = DecidesAlone(None, risk, level, 0, 0, 0.0)
    for threshold in sorted(set(np.round(c, 3).tolist()), reverse=True):
        kept = c >= threshold - 5e-4
        n, errors = int(kept.sum()), int((~ok[kept]).sum())
        if n < enough:
            continue
        if stats.beta.ppf(level, errors + 1, n - errors) > risk:
            break
        decides = DecidesAlone(float(threshold), risk, level, n, errors, n / len(c))
    return decides


def lean(
    drawn: Sequence[float],
    deserved: Sequence[bool],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
) -> Metric:
    """How far a judge is drawn to a feature: `drawn` its P(the answer with more of it), `deserved` whether
    that answer is the better one."""
    toward, true = np.asarray(drawn, float), np.asarray(deserved, bool)
    own = np.asarray([str(c) for c in clusters])
    n = len(toward)
    if true.all() or not true.any():
        return Metric(
            value=None, n=n, level=level, note="the feature is always right or always wrong"
        )
    return shares_apart(
        toward[~true].tolist(), own[~true].tolist(),
        (1 - toward[true]).tolist(), own[true].tolist(), level=level,
    )  # fmt: skip


def shares_apart(
    one: Sequence[float],
    one_clusters: Sequence[Hashable],
    two: Sequence[float],
    two_clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
) -> Metric:
    """Mean of the first less that of the second, each of values between 0 and 1. The interval is that of
    independent sides, wider where clusters on both pull them apart, never narrower."""
    first = cluster_mean(one, one_clusters, level=level, share=True)
    second = cluster_mean(two, two_clusters, level=level, share=True)
    n = len(one) + len(two)
    assert first.value is not None
    assert second.value is not None
    value = first.value - second.value
    if None in (first.low, first.high, second.low, second.high):
        return Metric(value=value, n=n, level=level, note="one prompt on a side: no interval")
    wider = _pulled_apart(one, one_clusters, two, two_clusters)
    down = math.hypot(first.value - float(first.low or 0), float(second.high or 0) - second.value)
    up = math.hypot(float(first.high or 0) - first.value, second.value - float(second.low or 0))
    down, up = wider * down, wider * up
    return Metric(
        value=value, low=max(-1.0, value - down), high=min(1.0, value + up), n=n, level=level,
        method="difference of two shares, square-and-add",
    )  # fmt: skip


def _pulled_apart(
    one: Sequence[float], one_clusters: Sequence[Hashable],
    two: Sequence[float], two_clusters: Sequence[Hashable],
) -> float:  # fmt: skip
    """The standard error of a difference of means beside that of independent ones, at least 1: it is larger
    where a cluster with more on one side has less on the other."""
    parts: list[dict[Hashable, float]] = []
    for values, clusters in ((one, one_clusters), (two, two_clusters)):
        centre, sums = sum(values) / len(values), dict.fromkeys(clusters, 0.0)
        for x, c in zip(values, clusters, strict=True):
            sums[c] += (x - centre) / len(values)
        parts.append(sums)
    first, second = parts
    alone = sum(s * s for sums in parts for s in sums.values())
    both = sum(first[c] * second[c] for c in first.keys() & second.keys())
    return math.sqrt(max(1.0, 1 - 2 * both / alone)) if alone > 0 else 1.0


def lean_grown(
    before: Sequence[float],
    after: Sequence[float],
    deserved: Sequence[bool],
    clusters: Sequence[Hashable],
    *,
    level: float = 0.95,
) -> Metric:
    """By how much `lean` is greater of one judge (`after`) than of another (`before`) on the same pairs: what
    each pair's worth adds to both cancels, so little changes are seen."""
    grown, true = np.asarray(after, float) - np.asarray(before, float), np.asarray(deserved, bool)
    own = np.asarray([str(c) for c in clusters])
    n = len(grown)
    if true.all() or not true.any():
        return Metric(
            value=None, n=n, level=level, note="the feature is always right or always wrong"
        )
    side = np.where(true, grown[true].mean(), grown[~true].mean())
    weight = np.where(true, n / true.sum(), n / (~true).sum())
    value = float(grown[true].mean() + grown[~true].mean())
    # linearised: one mean whose rows vary as the sum of both sides' means does, prompts on both sides too
    rows = value + weight * (grown - side)
    mean = cluster_mean(rows, own.tolist(), level=level, share=False)
    return mean.model_copy(update={"method": f"paired, {mean.method}"})
