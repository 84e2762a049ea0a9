"""Agreement among raters: percent, Cohen's and Fleiss' κ, Krippendorff's α on three scales.

A unit is what was judged: its answers in any order, None and NaN are missing. All is computed from how
often each value was given to each unit, never from pairs of answers. The answers to one unit hang together,
so intervals are over units: a coefficient is 1 - D/E, D the disagreement seen, and its interval that of D
as a share (stats.intervals) with the variance of the whole by leaving out each unit once (Gwet 2021 on
inference by jackknife); they stay within what the coefficient can be.

Which of two responses is "first" is chance. `mirror` says what a value is when they change places: what is
expected by chance is then that of both orders, and no figure depends on the order.

Legend: U units, K distinct rows of counts, V values, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.stats.intervals import cluster_mean
from accord.stats.resampling import Floats, by_jackknife

__all__ = [
    "Scale",
    "Units",
    "agreement_by_difficulty",
    "cohen_kappa",
    "fleiss_kappa",
    "krippendorff_alpha",
    "percent_agreement",
]

Units = Sequence[Sequence[Hashable]]
Scale = Literal["nominal", "ordinal", "interval"]
Mirror = Callable[[Any], Hashable] | None
TWICE = "nothing was judged twice"
SAME = "all answers are the same"


@dataclass(frozen=True)
class Table:
    """Answers by distinct row and value, sparse [K, V]; units with that row [K]; answers in it [K]."""

    counts_KV: Any
    times_K: NDArray[np.int64]
    n_K: Floats
    values: list[Any]
    mirror_V: NDArray[np.int64] | None = None

    @property
    def squares_K(self) -> Floats:
        return np.asarray(self.counts_KV.multiply(self.counts_KV).sum(1), float).ravel()

    def totals(self, weights_BK: Floats) -> Floats:
        """How often each value was given, in resamples: [B, V]; of mirrored values the mean of both ways."""
        return self.both_ways(np.asarray((self.counts_KV.T @ weights_BK.T).T))

    def both_ways(self, totals_BV: Floats) -> Floats:
        if self.mirror_V is None:
            return totals_BV
        return np.asarray((totals_BV + totals_BV[:, self.mirror_V]) / 2)


def _table(
    units: Units, order: Sequence[Hashable] | None = None, *, ordered: bool, mirror: Mirror = None
) -> Table:
    """The counts of units with two answers or more; values sorted (or as `order` says) if `ordered`."""
    rows: Iterable[Any] = units.tolist() if isinstance(units, np.ndarray) else units
    kept = [u for u in ([x for x in u if x is not None and x == x] for u in rows) if len(u) > 1]
    values = list(dict.fromkeys(chain.from_iterable(kept)))
    if mirror:
        values = list(dict.fromkeys([*values, *map(mirror, values)]))
    if ordered:
        values = _sorted(values, order)
    index = {v: i for i, v in enumerate(values)}
    n_U = np.fromiter(map(len, kept), np.int64, len(kept))
    codes = np.fromiter((index[x] for x in chain.from_iterable(kept)), np.int64, int(n_U.sum()))
    unit = np.repeat(np.arange(len(kept)), n_U)
    codes = codes[np.lexsort((codes, unit))]  # equal answers make equal rows in any order
    n_of_answer = n_U[unit]
    row_of, code_of, sizes, times = [], [], [], []
    k = 0
    for n in np.unique(n_U):
        patterns, count = np.unique(
            codes[n_of_answer == n].reshape(-1, n), axis=0, return_counts=True
        )
        row_of.append(np.repeat(np.arange(k, k + len(patterns)), n))
        code_of.append(patterns.ravel())
        times.append(count)
        sizes.append(np.full(len(patterns), float(n)))
        k += len(patterns)
    if not k:
        return Table(sparse.csr_array((0, 0)), np.zeros(0, np.int64), np.zeros(0), [])
    place = (np.concatenate(row_of), np.concatenate(code_of))
    counts_KV = sparse.coo_array((np.ones(len(place[0])), place), shape=(k, len(values))).tocsr()
    mirror_V = np.array([index[mirror(v)] for v in values]) if mirror else None
    return Table(counts_KV, np.concatenate(times), np.concatenate(sizes), values, mirror_V)


def _sorted(values: list[Any], order: Sequence[Hashable] | None) -> list[Any]:
    if order is not None:
        strange = sorted(map(repr, set(values) - set(order)))
        if strange:
            allowed = ", ".join(map(str, order))
            raise DataError(f"answer {strange[0]} is not on the scale", allowed=allowed)
        return list(order)
    try:
        return sorted(values)
    except TypeError:
        raise DataError("the answers have no order", mend="name the values in order") from None


def _coefficient(
    table: Table, parts: Callable[[Floats], tuple[Floats, Floats]], most: float, level: float
) -> Metric:
    """1 - D/E of `parts` (weights [B, K] -> D [B], E [B]); D is at most `most`."""
    if not len(table.times_K):
        return Metric(value=None, n=0, level=level, note=TWICE)
    return by_jackknife(table.times_K, parts, most=most, level=level, undefined=SAME)


def percent_agreement(units: Units, *, level: float = 0.95, seed: int = 0) -> Metric:
    """Share of pairs of answers to the same unit that agree, in [0, 1]; each unit weighs the same.
    (`seed`: as everywhere in this file nothing is drawn.)"""
    table = _table(units, ordered=False)
    if not len(table.times_K):
        return Metric(value=None, n=0, level=level, note=TWICE)
    return _share(np.repeat(_agree(table), table.times_K), level)


def _share(agree_U: Floats, level: float) -> Metric:
    metric = cluster_mean(agree_U, range(len(agree_U)), level=level, share=True)
    if metric.low is None:
        return metric.model_copy(update={"note": "judged twice only once: no interval"})
    return metric


def _agree(table: Table) -> Floats:
    return np.asarray((table.squares_K - table.n_K) / (table.n_K * (table.n_K - 1)), dtype=float)


def fleiss_kappa(
    units: Units, *, mirror: Mirror = None, level: float = 0.95, seed: int = 0
) -> Metric:
    """Fleiss' κ = (P - E) / (1 - E), P percent agreement, E = Σ share(value)² (Fleiss 1971). Defined for
    units judged equally often; undefined when every answer is the same."""
    table = _table(units, ordered=False, mirror=mirror)
    if len(table.n_K) and table.n_K.min() != table.n_K.max():
        low, high = table.n_K.min(), table.n_K.max()
        note = f"units have {low:g} to {high:g} answers, Fleiss' κ needs one number; see Krippendorff's α"
        return Metric(value=None, n=int(table.times_K.sum()), level=level, note=note)
    agree_K = _agree(table)

    def parts(w_BK: Floats) -> tuple[Floats, Floats]:
        totals_BV = table.totals(w_BK)
        chance_B = (totals_BV**2).sum(1) / totals_BV.sum(1) ** 2
        return 1 - (w_BK @ agree_K) / w_BK.sum(1), 1 - chance_B

    return _coefficient(table, parts, 1.0, level)


def krippendorff_alpha(
    units: Units,
    *,
    scale: Scale = "nominal",
    order: Sequence[Hashable] | None = None,
    mirror: Mirror = None,
    level: float = 0.95,
    seed: int = 0,
) -> Metric:
    """α = 1 - observed / expected disagreement (Krippendorff 2011, "Computing Krippendorff's
    alpha-reliability"). Two values differ by 0 or 1 (nominal), by their squared distance (interval), or by
    that of their mid-ranks among all answers (ordinal, which is his definition rewritten). `order` names
    the values of an ordinal scale from low to high; else they are sorted. Undefined when every answer is
    the same: nothing could have disagreed. DataError for answers without the order or distance needed."""
    table = _table(units, order, ordered=scale != "nominal", mirror=mirror)
    parts = {"nominal": _nominal, "ordinal": _ordinal, "interval": _interval}[scale](table)
    return _coefficient(table, parts, _most(table, scale), level)


def _most(table: Table, scale: Scale) -> float:
    """The most that answers can differ by on average: the distance of the outermost values."""
    if scale == "nominal" or not len(table.times_K):
        return 1.0
    if scale == "interval":
        return float(max(table.values) - min(table.values)) ** 2
    totals_V = table.totals(table.times_K[None].astype(float))[0]
    used = totals_V[totals_V > 0]
    return float(used.sum() - (used[0] + used[-1]) / 2) ** 2


Parts = Callable[[Floats], tuple[Floats, Floats]]


def _nominal(table: Table) -> Parts:
    unlike_K = (table.n_K**2 - table.squares_K) / (table.n_K - 1)

    def parts(w_BK: Floats) -> tuple[Floats, Floats]:
        n_B, totals_BV = w_BK @ table.n_K, table.totals(w_BK)
        expected_B = (n_B**2 - (totals_BV**2).sum(1)) / (n_B - 1)
        return (w_BK @ unlike_K) / n_B, expected_B / n_B

    return parts


def _interval(table: Table) -> Parts:
    try:
        x_V = np.asarray(table.values, dtype=float)
    except (TypeError, ValueError):
        raise DataError("an interval scale needs numbers", mend="use scale='ordinal'") from None
    x_V = x_V - (x_V.mean() if len(x_V) else 0.0)  # what is squared stays small
    sums_KF = np.column_stack([table.n_K, table.counts_KV @ x_V, table.counts_KV @ x_V**2])
    apart_K = (table.n_K * sums_KF[:, 2] - sums_KF[:, 1] ** 2) / (table.n_K - 1)

    def parts(w_BK: Floats) -> tuple[Floats, Floats]:
        n_B, first_B, second_B = (w_BK @ sums_KF).T
        expected_B = (n_B * second_B - first_B**2) / (n_B - 1)
        return 2 * (w_BK @ apart_K) / n_B, 2 * expected_B / n_B  # mean squared distances

    return parts


def _ordinal(table: Table) -> Parts:
    share_K = table.n_K / (table.n_K - 1)

    def parts(w_BK: Floats) -> tuple[Floats, Floats]:
        w_KB, n_B = np.ascontiguousarray(w_BK.T), w_BK @ table.n_K
        totals_VB = np.ascontiguousarray(table.totals(w_BK).T)
        rank_VB = totals_VB.cumsum(0) - totals_VB / 2 - n_B / 2  # Σ totals·rank = 0
        first_KB = np.asarray(table.counts_KV @ rank_VB)
        rank_VB **= 2
        second_KB = np.asarray(table.counts_KV @ rank_VB)
        observed_KB = share_K[:, None] * (second_KB - first_KB**2 / table.n_K[:, None])
        expected_B = n_B * (totals_VB * rank_VB).sum(0) / (n_B - 1)
        return 2 * (w_KB * observed_KB).sum(0) / n_B, 2 * expected_B / n_B

    return parts


def cohen_kappa(
    pairs: Sequence[tuple[Hashable, Hashable]],
    *,
    weights: Literal["none", "linear", "quadratic"] = "none",
    order: Sequence[Hashable] | None = None,
    mirror: Mirror = None,
    clusters: Sequence[Hashable] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Metric:
    """Cohen's κ of two raters' answers to the same units: 1 - disagreement seen / expected from their own
    shares of values (Cohen 1960). A disagreement weighs 1, the number of steps between the values, or its
    square (Cohen 1968); steps are counted in `order`, else among the sorted values. Units that one of the
    two left out don't count. Units of one of the `clusters` (prompts) hang together: the interval is then
    over these. Undefined when both gave one and the same answer throughout."""
    known = [not any(x is None or x != x for x in p) for p in pairs]
    kept = list(compress(pairs, known))
    if not kept:
        return Metric(value=None, n=0, level=level, note="nothing was judged by both")
    seen = list(dict.fromkeys(chain.from_iterable(kept)))
    if mirror:
        seen = list(dict.fromkeys([*seen, *map(mirror, seen)]))
    values = seen if weights == "none" else _sorted(seen, order)
    index = {v: i for i, v in enumerate(values)}
    codes = np.array([(index[a], index[b]) for a, b in kept])
    cells, cell_U, times = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
    one_KV, two_KV = (
        sparse.coo_array(
            (np.ones(len(cells)), (np.arange(len(cells)), side)), shape=(len(cells), len(values))
        ).tocsr()
        for side in cells.T
    )
    steps_K = np.abs(cells[:, 0] - cells[:, 1])
    seen_K = {"none": (steps_K > 0), "linear": steps_K, "quadratic": steps_K**2}[weights]
    expected = {"none": _unlike, "linear": _steps, "quadratic": _squares}[weights]

    mirror_V = np.array([index[mirror(v)] for v in values]) if mirror else None

    def parts(w_BK: Floats) -> tuple[Floats, Floats]:
        shares = [np.asarray((side.T @ w_BK.T).T) for side in (one_KV, two_KV)]
        if mirror_V is not None:
            shares = [(x + x[:, mirror_V]) / 2 for x in shares]
        n_B = w_BK.sum(1)
        return (w_BK @ seen_K) / n_B, expected(*shares) / n_B**2

    steps = len(values) - 1
    most = {"none": 1, "linear": steps, "quadratic": steps**2}[weights]
    same = "both raters gave one and the same answer throughout"
    of_CK = None
    if clusters is not None:
        of = list(compress(clusters, known))
        at = {c: i for i, c in enumerate(dict.fromkeys(of))}
        where = ([at[c] for c in of], cell_U.ravel())
        of_CK = sparse.coo_array((np.ones(len(kept)), where)).tocsr()
    return by_jackknife(
        times, parts, most=float(max(most, 1)), level=level, undefined=same, clusters=of_CK
    )


def _unlike(a_BV: Floats, b_BV: Floats) -> Floats:
    """Σ_ij a_i b_j [i != j]."""
    return np.asarray(a_BV.sum(1) * b_BV.sum(1) - (a_BV * b_BV).sum(1))


def _steps(a_BV: Floats, b_BV: Floats) -> Floats:
    """Σ_ij a_i b_j |i - j|: at each step between values, what lies below it in one and above in the other."""
    n_B1, a_BV, b_BV = a_BV.sum(1, keepdims=True), a_BV.cumsum(1), b_BV.cumsum(1)
    return np.asarray((a_BV * (n_B1 - b_BV) + b_BV * (n_B1 - a_BV)).sum(1))


def _squares(a_BV: Floats, b_BV: Floats) -> Floats:
    """Σ_ij a_i b_j (i - j)²."""
    i_V, n_B = np.arange(a_BV.shape[1], dtype=float), a_BV.sum(1)
    return np.asarray(
        n_B * (a_BV @ i_V**2) + n_B * (b_BV @ i_V**2) - 2 * (a_BV @ i_V) * (b_BV @ i_V)
    )


def agreement_by_difficulty(
    units: Units, *, level: float = 0.95, seed: int = 0
) -> dict[Literal["easy", "hard"], Metric]:
    """Percent agreement of two answers on easy and on hard units. A unit is easy for a pair of answers when
    all the *other* answers to it are the same, hard when they are not: the pair has no say in it, so the
    split doesn't make the difference it shows. Needs units with four answers or more; each unit weighs the
    same over its pairs."""
    table = _table([u for u in units if _n_given(u) > 3], ordered=False)
    n_K = table.n_K
    pairs_K, agree_K = n_K * (n_K - 1) / 2, _agree(table)
    all_K, lone_K, two_K, same_two_K = (np.zeros(len(n_K)) for _ in range(4))
    for row in range(len(n_K)):
        counts = table.counts_KV.data[slice(*table.counts_KV.indptr[row : row + 2])]
        n = n_K[row]
        all_K[row], lone_K[row] = (counts == n).any(), (counts == n - 1).any()
        two_K[row] = (counts == n - 2).sum()
        same_two_K[row] = ((counts == n - 2).any() and len(counts) == 2) * two_K[row]
    easy_K = all_K + (lone_K * (n_K - 1) + two_K) / pairs_K
    easy_agree_K = all_K + same_two_K / pairs_K
    if not len(n_K):
        none = Metric(value=None, n=0, level=level, note="no unit has four answers")
        return {"easy": none, "hard": none}
    hard_K, apart_K = np.round(1 - easy_K, 12), agree_K - easy_agree_K
    return {
        "easy": _among(table.times_K, easy_agree_K, easy_K, level, "the others never agreed"),
        "hard": _among(table.times_K, apart_K, hard_K, level, "the others always agreed"),
    }


def _among(
    times_K: NDArray[np.int64], agree_K: Floats, of_K: Floats, level: float, why: str
) -> Metric:
    """Σ agree / Σ of, by units."""
    if not (times_K @ of_K) > 0:
        return Metric(value=None, n=int(times_K.sum()), level=level, note=why)

    def parts(w_BK: Floats) -> tuple[Floats, Floats]:
        of_B = w_BK @ of_K
        return (of_B - w_BK @ agree_K) / of_B, np.ones(len(w_BK))

    used = of_K > 0
    return by_jackknife(
        times_K[used], lambda w: parts(_spread(w, used)), most=1.0, level=level, undefined=why
    ).model_copy(update={"n": int(times_K.sum())})


def _spread(w_BK: Floats, used: NDArray[np.bool_]) -> Floats:
    whole = np.zeros((len(w_BK), len(used)))
    whole[:, used] = w_BK
    return whole


def _n_given(unit: Sequence[Hashable]) -> int:
    return sum(x is not None and x == x for x in unit)
