"""From many votes to one word: soft labels that know who voted, and how noisy labels are.

A soft label is p = P(the response is better | its votes and who cast them), from the model of raters' skill
and bias (stats.raters). An even split of a careful and a careless rater is then no even split, and a vote for
the left by one who likes the left says little. The votes are in p already, so each pair weighs 1. A soft vote
counts as the side it names: how much a rater's word is worth is measured, not taken from the rater.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accord.core.errors import ConfigError, DataError
from accord.core.types import Edge, Frozen, Group, Metric
from accord.feedback.trust.ballots import Ballots, ballots
from accord.feedback.trust.quality import fit_skills
from accord.stats.agreement import percent_agreement
from accord.stats.intervals import robust_mean
from accord.stats.raters import Skills
from accord.stats.resampling import Floats
from accord.store import Items, Snapshot
from accord.store.snapshot.pairs import Ties

__all__ = [
    "Noise",
    "flip_rate",
    "majority_noise",
    "noise",
    "soft_groups",
]


Ints = NDArray[np.int64]


class Noise(Frozen):
    """Shares of wrong labels. `vote`: a single vote, from how often two raters agree. `majority`: the side
    with most votes, from the raters' model. `smoothing` is what to set on hard labels, and for which."""

    vote: Metric
    majority: Metric
    judged_once: Metric  # share of pairs with a single vote
    smoothing: Metric


def soft_groups(
    snapshot: Snapshot,
    *,
    ties: Ties = "half",
    min_agreement: float = 0.0,
    min_confidence: float = 0.5,
    margin: float = 0.0,
    skills: Skills | None = None,
    cast: Ballots | None = None,
) -> Items[Group]:
    """The snapshot's groups with soft labels: p from rater-weighted posteriors, weight 1, `sources` kept.
    Pairs with max(p, 1-p) under `min_confidence` are left out and counted. A pair known only from an edit
    keeps the label it has; weights of raters that the snapshot records don't enter. DataError where nothing
    was judged twice: who is right can't be told then."""
    if not 0.5 <= min_confidence <= 1.0:
        where = f"min_confidence={min_confidence}"
        raise ConfigError("is out of range", where=where, allowed="[0.5, 1]")
    cast = cast or ballots(snapshot)
    skills = skills or fit_skills(cast)
    if skills is not None and not skills.judged_twice:
        what = "soft labels need pairs that two raters judged, and there are none"
        raise DataError(what, where=f"snapshot {snapshot.name}", mend="use labels: votes")
    better = {} if skills is None else dict(zip(cast.pairs, skills.better_P.tolist(), strict=True))
    plain = snapshot.groups(ties=ties, even="keep", min_agreement=min_agreement, margin=margin)
    notes = Counter(plain.notes)
    groups: list[Group] = []
    for group in plain:
        ids = [r.id_for(group.prompt) for r in group.responses]
        edges = [_soft(e, ids, better) for e in group.edges]
        kept = tuple(e for e in edges if e.p >= min_confidence and e.p > 0.5)
        unsure = len(edges) - len(kept)
        if unsure:
            notes[f"pairs under confidence {min_confidence:g}"] += unsure
        if kept:
            groups.append(group.model_copy(update={"edges": kept}))
    return Items(groups, dict(notes))


def _soft(edge: Edge, ids: Sequence[str], better: dict[tuple[str, str], float]) -> Edge:
    a, b = ids[edge.better], ids[edge.worse]
    first, second = (a, b) if a < b else (b, a)
    if (first, second) not in better:
        return edge
    p = better[first, second] if a == first else 1 - better[first, second]
    if p >= 0.5:
        return edge.model_copy(update={"p": p, "weight": 1.0})
    turned = {"better": edge.worse, "worse": edge.better, "p": 1 - p, "weight": 1.0, "margin": 0.0}
    return edge.model_copy(update=turned)


def noise(cast: Ballots, skills: Skills | None, *, level: float = 0.95) -> Noise:
    """How often labels are wrong.

    Two raters who err with the same rate ε, each for himself, agree with probability a = (1-ε)² + ε², so
    ε = (1 - √(2a - 1)) / 2; raters of unlike skill and pairs of unlike difficulty make that a little high.
    A majority is wrong with probability 1 - P(it is better | votes), averaged over pairs; its interval
    allows for prompts, for what the fit of the raters owes to them, and where γ can't be told for both
    that all of what raters like is quality and that none is. `smoothing` is the first where most pairs
    have one vote, else the second.
    """
    one = Metric(value=None, n=0, level=level, note="no comparisons")
    if skills is None or not skills.judged_twice:
        note = "no comparisons" if skills is None else "nothing was judged twice"
        one = one.model_copy(update={"note": note})
        return Noise(vote=one, majority=one, judged_once=one, smoothing=one)
    vote = flip_rate(percent_agreement(_decided_by_pair(cast), level=level))
    share_P = np.bincount(cast.pair_R, cast.value_R) / np.bincount(cast.pair_R)
    majority = majority_noise(share_P, cast.prompt_P, skills, level)
    once_P = (np.bincount(cast.pair_R) == 1).astype(float)
    judged_once = robust_mean(once_P, cast.prompt_P, level=level)
    mostly_once = once_P.mean() > 0.5
    chosen = vote if mostly_once and vote.value is not None else majority
    note = "of single votes" if chosen is vote else "of the majority's labels"
    note = note if chosen.value is not None else chosen.note
    return Noise(
        vote=vote,
        majority=majority,
        judged_once=judged_once,
        smoothing=chosen.model_copy(update={"note": note}),
    )


def majority_noise(share_P: Floats, prompt_P: Ints, skills: Skills, level: float) -> Metric:
    """How often the side with most votes is wrong, of pairs whose first response had a share of the votes."""
    side_P = np.sign(share_P - 0.5)
    decided = side_P != 0
    if not decided.any():
        return Metric(value=None, n=0, level=level, note="no majority")
    wrong_P = np.where(side_P > 0, 1 - skills.better_P, skills.better_P)
    value = float(wrong_P[decided].mean())
    by_fit_P, untold = skills.moved(-side_P / decided.sum())
    by_itself_P = np.where(decided, wrong_P - value, 0.0) / decided.sum()
    moved_P = (by_itself_P + by_fit_P) * len(side_P)
    metric = robust_mean(value + moved_P - moved_P.mean(), prompt_P, level=level, share=True)
    if metric.low is None or metric.high is None:
        return metric
    low, high = max(metric.low + min(untold, 0.0), 0.0), min(metric.high + max(untold, 0.0), 1.0)
    return metric.model_copy(update={"low": low, "high": high, "n": int(decided.sum())})


def _decided_by_pair(cast: Ballots) -> list[list[float]]:
    """The sides named, by pair, ties left out: a tie is no wrong word."""
    rows = np.flatnonzero(cast.value_R != 0.5)
    rows = rows[np.argsort(cast.pair_R[rows], kind="stable")]
    ends = np.cumsum(np.bincount(cast.pair_R[rows], minlength=len(cast.pairs)))[:-1]
    return [v.tolist() for v in np.split(cast.category_R[rows], ends)]


def flip_rate(agreement: Metric) -> Metric:
    """ε = (1 - √(2a - 1)) / 2 of an agreement and of the ends of its interval; 1/2 where a <= 1/2."""
    if agreement.value is None:
        return agreement

    def rate(a: float) -> float:
        return (1 - math.sqrt(max(2 * a - 1, 0.0))) / 2

    low = None if agreement.high is None else rate(agreement.high)
    high = None if agreement.low is None else rate(agreement.low)
    value = rate(agreement.value)
    return agreement.model_copy(update={"value": value, "low": low, "high": high})
