"""How far each rater can be trusted: gold questions, a model of skill and bias, and tests of what sways them.

Every figure is a Metric with its interval. Comparisons with *the other raters on the same pairs* need no
truth and no model: a pair is as hard, and its responses as long, for all who judged it. What is seen without
a model (agreement, left, longer, consistency, seconds) is of feedback.trust.observed.

    reliability   sides with the better response of a random pair   (stats.raters)
    right         of thumbs, step labels and ratings: how often it says the true one  (stats.dawid_skene)
    gold          share of gold questions answered as expected
    side, length  logits for the left, and per ten words            (stats.raters)
    style         how much oftener it prefers the response with more lists, bold, … than others do, less
                  the median rater's figure (one rater's taste shifts all the others' figures)
    speed         agreement with others on its fastest third, less the rest (easy pairs are fast: if anything
                  that hides the harm of haste)
    drift         change of agreement with others from its first judgment to its last

Nothing is deleted: a quarantine, or weights, is a snapshot that leaves judgments out or counts them less,
with the reason in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from scipy import stats

from accord.core.errors import DataError
from accord.core.types import Metric
from accord.feedback.trust.ballots import STYLES, Ballots, ballots
from accord.feedback.trust.gold_questions import GoldQuestions, gold_shares
from accord.feedback.trust.observed import Observed, observed
from accord.feedback.trust.reliability import Answered, answered
from accord.stats.dawid_skene import dawid_skene
from accord.stats.intervals import robust_mean, robust_slope
from accord.stats.raters import Skills, rater_skills
from accord.store import Snapshot
from accord.store.snapshot.frozen import NOW

__all__ = [
    "RaterReport",
    "fit_skills",
    "quarantine",
    "rater_reports",
    "reweight",
]

FEW = 20  # ballots a bias test needs
LEAST = 8  # prompts they are on: below, a t interval far out in the tail is not what it says
MOST_VALUES = 10  # of a scale on which a true value can be told


class RaterReport(Observed):
    """One rater. `concerns` names what is clear even among all tests that were made."""

    name: str
    kind: str
    reliability: Metric
    skill: Metric
    right: dict[str, Metric]
    gold: Metric
    side: Metric
    length: Metric
    style: dict[str, Metric]
    speed: Metric
    drift: Metric
    concerns: tuple[str, ...] = ()


def fit_skills(cast: Ballots, *, level: float = 0.95) -> Skills | None:
    """Skill and bias of every rater (stats.raters) by the sides they name, prompts as clusters; None without
    ballots."""
    if not len(cast):
        return None
    return rater_skills(
        cast.pair_R,
        cast.rater_R,
        cast.category_R,
        side=cast.side_R,
        longer=cast.longer_R,
        pairs=len(cast.pairs),
        raters=len(cast.raters),
        clusters=cast.prompt_P.tolist(),
        level=level,
    )


def rater_reports(
    snapshot: Snapshot,
    gold: GoldQuestions | None = None,
    *,
    cast: Ballots | None = None,
    skills: Skills | None = None,
    level: float = 0.95,
) -> list[RaterReport]:
    """One report for each rater with a judgment in the snapshot, the most reliable first."""
    cast = cast or ballots(snapshot)
    skills = skills or fit_skills(cast, level=level)
    shares = gold_shares(snapshot, gold or {}, level=level)
    right = _right(snapshot, level)
    met = _prompts(snapshot, cast)

    def reports(
        shares: Mapping[str, Metric], fit: Skills | None, level: float
    ) -> list[RaterReport]:
        seen = observed(snapshot, cast=cast, level=level)
        return _recentred([
            _report(number, cast, fit, seen[r.id], shares.get(r.id), right[r.id], level)
            for number, r in enumerate(cast.raters)
            if r.id in seen
        ])  # fmt: skip

    plain = reports(shares, skills, level)
    asked = [_questions(r, *n) for r, n in zip(plain, met, strict=True)]
    tests = sum(metric.low is not None for questions in asked for metric, *_ in questions)
    if tests:  # what is clear at 95% over all tests of all raters together (Bonferroni)
        one = 1 - 0.05 / tests
        fit = skills and replace(skills, level=one)
        strict = reports(gold_shares(snapshot, gold or {}, level=one), fit, one)
        plain = [
            r.model_copy(update={"concerns": _concerns(_questions(wide, *n))})
            for r, wide, n in zip(plain, strict, met, strict=True)
        ]
    return sorted(plain, key=lambda r: -(r.reliability.value or -1.0))


def _prompts(snapshot: Snapshot, cast: Ballots) -> list[tuple[int, int]]:
    """Of each rater with a judgment, in the order of `cast`: prompts it judged, and with comparisons."""
    questions = snapshot.tables.questions
    met: dict[str, set[str]] = defaultdict(set)
    for j in snapshot.judgments:
        met[j.rater].add(questions[j.question].prompt)
    return [
        (len(met[r.id]), len(np.unique(cast.prompt_R[cast.rater_R == number])))
        for number, r in enumerate(cast.raters)
        if r.id in met
    ]


def _recentred(reports: Sequence[RaterReport]) -> list[RaterReport]:
    """Tastes for style less the median rater's, where three or more are known. The interval holds that with
    and without: the median is as uncertain as a figure of its own, and a concern needs both."""
    middle = {}
    for name in STYLES:
        values = [v for r in reports if (v := r.style[name].value) is not None]
        middle[name] = float(np.median(values)) if len(values) > 2 else 0.0
    return [
        r.model_copy(update={"style": {n: _less(m, middle[n]) for n, m in r.style.items()}})
        for r in reports
    ]


def _less(metric: Metric, by: float) -> Metric:
    if metric.value is None or metric.low is None or metric.high is None:
        return metric
    moved = {"low": metric.low - max(by, 0.0), "high": metric.high - min(by, 0.0)}
    return metric.model_copy(update={"value": metric.value - by, **moved})


def _report(
    number: int,
    cast: Ballots,
    skills: Skills | None,
    seen: Observed,
    gold: Metric | None,
    right: dict[str, Metric],
    level: float,
) -> RaterReport:
    rater, mine = cast.raters[number], cast.rater_R == number
    none = Metric(value=None, n=0, level=level, note="compared nothing")
    known = skills is not None and mine.any()
    fitted = {
        name: getattr(skills, name)(number) if known else none
        for name in ("reliability", "skill", "side", "length")
    }
    if known and not cast.side_R[mine].any():
        fitted["side"] = Metric(value=None, n=0, level=level, note="the order shown is not known")
    return RaterReport(
        name=rater.name,
        kind=rater.kind,
        right=right,
        gold=gold or Metric(value=None, n=0, level=level, note="no gold question answered"),
        style=_style(cast, mine, level),
        speed=_speed(cast, mine, level),
        drift=_drift(cast, mine, level),
        **fitted,
        **dict(seen),
    )


def _right(snapshot: Snapshot, level: float) -> dict[str, dict[str, Metric]]:
    """By rater id and kind (with the axis of a rating): how often the answer is the true one. For kinds with
    three raters or more and a value that is not one of many."""
    kinds: dict[str, list[Answered]] = defaultdict(list)
    for a in answered(snapshot):
        if a.kind not in ("compare", "rank"):
            kinds[f"{a.kind} {a.axis}".strip()].append(a)
    reliability: dict[str, dict[str, Metric]] = defaultdict(dict)
    for kind, answers in kinds.items():
        values = {v: i for i, v in enumerate(sorted({a.value for a in answers}))}
        units = {u: i for i, u in enumerate(dict.fromkeys(a.unit for a in answers))}
        raters = {r: i for i, r in enumerate(dict.fromkeys(a.rater for a in answers))}
        if len(raters) < 3 or not 1 < len(values) <= MOST_VALUES:
            continue
        fit = dawid_skene(
            [units[a.unit] for a in answers],
            [raters[a.rater] for a in answers],
            [values[a.value] for a in answers],
            units=len(units),
            raters=len(raters),
            values=len(values),
            level=level,
        )
        for rater, i in raters.items():
            reliability[rater][kind] = fit.reliability[i]
    return reliability


def _style(cast: Ballots, mine: Any, level: float) -> dict[str, Metric]:
    """Votes for the response with more of it, less what the others gave the same response: points."""
    by_style = {}
    for column, name in enumerate(STYLES, 1):
        more_R = np.sign(cast.style_PF[cast.pair_R, column])
        rows = np.flatnonzero(mine & (more_R != 0) & (cast.n_others_R > 0))
        excess = (more_R * (cast.category_R - cast.others_R))[rows]
        by_style[name] = _enough(len(rows), "pairs that differ in it", level) or robust_mean(
            excess, cast.prompt_R[rows], level=level
        )
    return by_style


def _speed(cast: Ballots, mine: Any, level: float) -> Metric:
    rows = np.flatnonzero(mine & (cast.n_others_R > 0) & np.isfinite(cast.seconds_R))
    few = _enough(len(rows), "timed answers that others gave too", level)
    if few:
        return few
    seconds = cast.seconds_R[rows]
    fast = (seconds <= np.quantile(seconds, 1 / 3)).astype(float)
    return robust_slope(cast.agree_R[rows], fast, cast.prompt_R[rows], level=level, share=True)


def _drift(cast: Ballots, mine: Any, level: float) -> Metric:
    rows = np.flatnonzero(mine & (cast.n_others_R > 0))
    few = _enough(len(rows), "answers that others gave too", level)
    if few:
        return few
    rank = stats.rankdata(cast.time_R[rows])
    if np.ptp(rank) == 0:
        return Metric(value=None, n=len(rows), level=level, note="all at one time")
    along = (rank - rank.min()) / np.ptp(rank)
    return robust_slope(cast.agree_R[rows], along, cast.prompt_R[rows], level=level, share=True)


def _enough(n: int, of: str, level: float) -> Metric | None:
    if n >= FEW:
        return None
    return Metric(value=None, n=n, level=level, note=f"fewer than {FEW} {of}")


Check = tuple[Metric, float, str, str]


def _questions(r: RaterReport, prompts: int, compared: int) -> list[Check]:
    """What is asked of a rater of enough prompts, and of enough with comparisons: the figure, what it should
    be, and what it means to be above or below."""
    of_comparisons = [
        (r.left, 0.5, "prefers the left side", "prefers the right side"),
        (r.side, 0.0, "prefers the left side", "prefers the right side"),
        (r.length, 0.0, "prefers longer answers", "prefers shorter answers"),
        (r.speed, 0.0, "", "less reliable when fast"),
        (r.drift, 0.0, "", "less reliable over time"),
        *((m, 0.0, f"prefers {name}", f"dislikes {name}") for name, m in r.style.items()),
        (r.reliability, 0.6, "", "close to answering at random"),
    ]
    of_any = [
        (r.consistency, 0.7, "", "contradicts itself"),
        (r.gold, 0.7, "", "misses gold questions"),
    ]
    return [*(of_comparisons if compared >= LEAST else []), *(of_any if prompts >= LEAST else [])]


def _concerns(asked: Sequence[Check]) -> tuple[str, ...]:
    """What the figures' intervals are clear of."""
    concerns = []
    for metric, norm, above, below in asked:
        if metric.low is None or metric.high is None:
            continue
        concern = above if metric.low > norm else below if metric.high < norm else ""
        if concern:
            concerns.append(concern)
    return tuple(dict.fromkeys(concerns))


def _named(snapshot: Snapshot, names: Sequence[str]) -> None:
    known = sorted(r.name for r in snapshot.tables.raters.values())
    strange = [n for n in names if n not in known]
    if strange:
        where, allowed = snapshot.store.name, ", ".join(known[:20])
        raise DataError(f"no rater {strange[0]!r}", where=where, allowed=allowed)


def _base(snapshot: Snapshot) -> str | None:
    return None if snapshot.name == NOW else snapshot.name


def quarantine(snapshot: Snapshot, raters: Sequence[str], *, because: str, name: str) -> Snapshot:
    """A new snapshot of the same judgments without these raters', who and why recorded in it. The judgments
    stay in the store; the snapshot given stays as it is."""
    _named(snapshot, raters)
    return snapshot.store.freeze(name, of=_base(snapshot), without=raters, because=because)


def reweight(
    snapshot: Snapshot,
    weights: Mapping[str, float] | Literal["reliability"],
    *,
    because: str,
    name: str,
) -> Snapshot:
    """A new snapshot of the same judgments in which a rater's votes count `weights[name]` times.
    "reliability" takes the log odds of each rater's measured reliability, which is what a vote weighs as
    evidence, over their mean; a rater at chance or below should be in quarantine and counts a hundredth."""
    if weights == "reliability":
        reliability = {r.name: r.reliability.value for r in rater_reports(snapshot)}
        odds = {n: np.log(v / (1 - v)) for n, v in reliability.items() if v is not None}
        middle = np.mean([max(o, 0.0) for o in odds.values()]) if odds else 1.0
        weights = {n: round(float(max(o / middle, 0.01)), 4) for n, o in odds.items()}
    _named(snapshot, list(weights))
    return snapshot.store.freeze(name, of=_base(snapshot), weights=dict(weights), because=because)
