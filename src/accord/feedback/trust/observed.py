"""What is seen of each rater without a model: the one place where the data card, `accord trust` and the pages
have these figures from.

    agreement     with the other raters on the same thing: of a comparison 1 - |side - mean of the others|, of
                  a rating (each axis), thumb or step the share of the others who said the same
    left          share of decided comparisons that went to the left side
    longer        share of decided comparisons that went to the response with more words
    consistency   share of what was asked again that was answered as before (a rating: within one point)

A soft vote is the side it names, 1, 0 or 1/2 (`ballots.category`). Shares are clustered by prompt.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from accord.core.types import Frozen, Judgment, Metric, Question, Rating, StepLabels, Thumb
from accord.feedback.study.assignment import agrees, categories
from accord.feedback.trust.ballots import Ballots, ballots
from accord.feedback.trust.reliability import answered
from accord.stats.intervals import cluster_mean
from accord.store import Snapshot

__all__ = ["Observed", "longer_preferred", "observed"]

Hits = Sequence[tuple[float, str]]  # a share's rows: how far it is so, and the prompt


class Observed(Frozen):
    """Figures of one rater, by name."""

    judgments: int
    seconds: Metric
    agreement: Metric
    left: Metric
    longer: Metric
    consistency: Metric


def observed(
    snapshot: Snapshot, *, cast: Ballots | None = None, level: float = 0.95
) -> dict[str, Observed]:
    """By id of each rater with a judgment in the snapshot."""
    cast = cast or ballots(snapshot)
    own: dict[str, list[Judgment]] = defaultdict(list)
    for j in snapshot.judgments:
        own[j.rater].append(j)
    others = _others(snapshot)
    questions = snapshot.tables.questions
    by_rater = {}
    for number, rater in enumerate(cast.raters):
        mine, judged = cast.rater_R == number, own.get(rater.id, [])
        if not judged:
            continue
        decided = mine & (cast.value_R != 0.5)
        known = mine & (cast.n_others_R > 0)
        won_left = (cast.category_R == 1.0) == (cast.side_R == 1.0)
        agree = [*_rows(cast, known, cast.agree_R), *others[rater.id]]
        again = [(float(x), cast.prompts[at]) for at, x in cast.again_J[number]]
        by_rater[rater.id] = Observed(
            judgments=len(judged),
            seconds=_median([j.seconds for j in judged if j.seconds is not None], level),
            agreement=_share(agree, "nobody else judged the same", level),
            left=_share(
                _rows(cast, decided & (cast.side_R != 0), won_left), "no side is known", level
            ),
            longer=_longer(cast, decided, level),
            consistency=_share(
                [*again, *_again(judged, questions)], "nothing was asked twice", level
            ),
        )
    return by_rater


def longer_preferred(cast: Ballots, *, level: float = 0.95) -> Metric:
    """Share of all decided comparisons that went to the response with more words."""
    return _longer(cast, cast.value_R != 0.5, level)


def _longer(cast: Ballots, of_R: np.ndarray, level: float) -> Metric:
    won_longer = (cast.category_R == 1.0) == (cast.longer_R > 0)
    rows = _rows(cast, of_R & (cast.longer_R != 0), won_longer)
    return _share(rows, "no decided comparison of unlike lengths", level)


def _rows(cast: Ballots, of_R: np.ndarray, hit_R: np.ndarray) -> list[tuple[float, str]]:
    at = [cast.prompts[i] for i in cast.prompt_R[of_R]]
    return list(zip(hit_R[of_R].astype(float).tolist(), at, strict=True))


def _share(rows: Hits, none: str, level: float) -> Metric:
    if not rows:
        return Metric(value=None, n=0, level=level, note=none)
    return cluster_mean([x for x, _ in rows], [at for _, at in rows], level=level, share=True)


def _others(snapshot: Snapshot) -> dict[str, list[tuple[float, str]]]:
    """By rater, of each answer that is no comparison and that others gave too: how many said the same."""
    units = defaultdict(list)
    for a in answered(snapshot):
        if a.kind not in ("compare", "rank"):
            units[a.kind, a.axis, a.unit].append(a)
    shares: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for answers in units.values():
        if len(answers) > 1:
            same = Counter(a.value for a in answers)
            for a in answers:
                share = (same[a.value] - 1) / (len(answers) - 1)
                shares[a.rater].append((share, a.prompt.id))
    return shares


def _again(own: Sequence[Judgment], questions: Mapping[str, Question]) -> list[tuple[float, str]]:
    """Of ratings, thumbs and steps: whether each answer to a question asked again is the one before."""
    last: dict[str, Judgment] = {}
    same: list[tuple[float, str]] = []
    for j in own:
        if isinstance(j.answer, Rating | Thumb | StepLabels):
            before = last.get(j.question)
            if before is not None:
                now, then = (categories(x.answer, (0,)) for x in (j, before))
                same.append((float(agrees(now, then)), questions[j.question].prompt))
            last[j.question] = j
    return same


def _median(values: Sequence[float], level: float) -> Metric:
    """Median with the interval of its order statistics."""
    n = len(values)
    if n == 0:
        return Metric(value=None, n=0, level=level, note="no times")
    x = np.sort(values)
    if 2 * 0.5**n > 1 - level:  # the whole range holds the median less often
        note = f"{n} times: no interval"
        return Metric(value=float(np.median(x)), n=n, level=level, note=note)
    low, high = stats.binom.interval(level, n, 0.5)
    return Metric(
        value=float(np.median(x)),
        low=float(x[max(int(low) - 1, 0)]),
        high=float(x[min(int(high), n - 1)]),
        n=n,
        level=level,
        method="order statistics",
    )
