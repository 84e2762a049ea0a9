"""Which source of responses is better, and which response: Bradley-Terry with style control, and Elo.

A soft vote is p of a win and 1 - p of a loss. Elo is of games, which end: there it is the side it names.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accord.core.types import Frozen, Metric
from accord.feedback.trust.ballots import STYLES, Ballots, ballots
from accord.feedback.trust.quality import fit_skills
from accord.stats.elo import elo
from accord.stats.intervals import robust_mean
from accord.stats.outcomes import TieModel
from accord.stats.ranking import Strengths, bradley_terry
from accord.stats.raters import Skills
from accord.store import Snapshot

__all__ = ["ModelRanking", "RankedModel", "rank_models", "rank_responses"]

PRIOR = 1.0  # logits⁻²: responses have few votes each, so their strengths lean on a normal prior of sd 1
WEAK = 1 / 9  # logits⁻²: of a source's strength, sd 3, where comparisons alone don't tell it
WIDE = 12.0  # logits: an interval under that prior alone is shorter
MOST_GAMES = 200_000  # Elo plays games one by one


class RankedModel(Frozen):
    """A source of responses: strength in logits above the mean of all, Elo, how often it beats another (mean
    vote). Only sources of one `group` were compared, if by way of others."""

    name: str
    group: int = 0
    strength: Metric
    elo: Metric
    wins: Metric


class ModelRanking(Frozen):
    """Sources, the strongest first; what style is worth, in logits by unit; ν or κ of ties; what to know."""

    models: list[RankedModel]
    style: dict[str, Metric]
    tie: Metric
    notes: tuple[str, ...] = ()


def rank_models(
    snapshot: Snapshot,
    *,
    ties: TieModel = "davidson",
    style: bool = True,
    weighted: bool = True,
    cast: Ballots | None = None,
    skills: Skills | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> ModelRanking:
    """Rank the sources of responses by all comparisons between two of them, prompts as clusters. `style`
    controls for length and markdown: strengths are then those at equal style. `weighted` counts a vote as
    much as its rater is better than chance. A weak prior (sd 3 logits) steps in where the comparisons alone
    leave a strength infinite (or soft votes, all but certain, nearly so), and a note says so."""
    cast = cast or ballots(snapshot)
    skills = skills or fit_skills(cast, level=level)
    source = {i: snapshot.tables.responses[i].source for pair in cast.pairs for i in pair}
    names = sorted(set(source.values()))
    number = {n: k for k, n in enumerate(names)}
    sides_P2 = np.array([[number[source[i]] for i in pair] for pair in cast.pairs]).reshape(-1, 2)
    apart_P = sides_P2[:, 0] != sides_P2[:, 1]
    rows: NDArray[Any] = np.flatnonzero(apart_P[cast.pair_R])
    if not len(rows) or skills is None:
        tie = Metric(value=None, n=0, level=level, note="no comparison of two sources")
        return ModelRanking(models=[], style={}, tie=tie, notes=(tie.note,))
    first, second = sides_P2[cast.pair_R[rows]].T
    value = cast.value_R[rows]
    columns, kept, bound = _style_columns(cast, rows, first, second, len(names), style)
    fit = _fit_models(
        cast, skills, rows, (first, second, value), columns, len(names), ties, weighted, level
    )
    elos = _elo(first, second, cast.category_R[rows], len(names), cast.prompt_R[rows], level, seed)
    played = np.bincount(np.append(first, second), minlength=len(names))
    strengths = [
        m.model_copy(update={"n": int(n)}) for m, n in zip(fit.strengths(), played, strict=True)
    ]
    models = [
        RankedModel(
            name=n,
            group=int(fit.joined_N[i]),
            strength=strengths[i],
            elo=elos[i],
            wins=_wins(first, second, value, cast.prompt_R[rows], i, level),
        )
        for i, n in enumerate(names)
        if fit.compared_N[i] > 0
    ]
    groups = {g: k for k, g in enumerate(dict.fromkeys(m.group for m in models), 1)}
    models = [m.model_copy(update={"group": groups[m.group]}) for m in models]
    models.sort(
        key=lambda m: (m.group, -(m.strength.value if m.strength.value is not None else -1e9))
    )
    notes = [*_separate(models), *fit.notes]
    if bound:
        note = "go with the source or with other style and can't be told apart: not controlled"
        notes.append(f"{', '.join(bound)} {note}")
    worth = dict(zip(kept, fit.covariates(), strict=True))
    return ModelRanking(models=models, style=worth, tie=fit.tie, notes=tuple(notes))


def _separate(models: list[RankedModel]) -> list[str]:
    """That nothing was compared across groups, where there are several."""
    groups: dict[int, list[str]] = {}
    for m in models:
        groups.setdefault(m.group, []).append(m.name)
    if len(groups) < 2:
        return []
    named = "; ".join(f"{g}: {', '.join(names[:8])}" for g, names in list(groups.items())[:8])
    return [
        f"{len(groups)} groups never compared with one another ({named}): only the prior places them"
    ]


def _style_columns(
    cast: Ballots,
    rows: NDArray[np.int64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    items: int,
    style: bool,
) -> tuple[NDArray[np.float64], list[str], list[str]]:
    """Differences of style in these ballots, by name; and the names of those that follow from the sources
    and the style before them. What differs in fewer than twenty is left out."""
    apart = cast.style_PF[cast.pair_R[rows]]
    names = ["10 words", *STYLES]
    kept: list[int] = []
    bound: list[str] = []
    incidence = np.zeros((len(rows), items))
    incidence[np.arange(len(rows)), first] += 1
    incidence[np.arange(len(rows)), second] -= 1
    for i in range(len(names) if style else 0):
        if np.count_nonzero(apart[:, i]) < 20:
            continue
        known = np.column_stack([incidence, apart[:, kept]])
        left = apart[:, i] - known @ np.linalg.lstsq(known, apart[:, i], rcond=None)[0]
        if left @ left > 1e-3 * (apart[:, i] @ apart[:, i]):
            kept.append(i)
        else:
            bound.append(names[i])
    return apart[:, kept], [names[i] for i in kept], bound


def _fit_models(
    cast: Ballots,
    skills: Skills,
    rows: NDArray[np.int64],
    games: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]],
    columns: NDArray[np.float64],
    items: int,
    ties: TieModel,
    weighted: bool,
    level: float,
) -> Strengths:
    weight = np.ones(len(rows))
    if weighted:
        shares = [skills.reliability(j).value for j in range(len(cast.raters))]
        reliable = [0.5 if share is None else share for share in shares]
        weight = np.clip(2 * np.array(reliable) - 1, 0.01, 1.0)[cast.rater_R[rows]]
        weight /= weight.mean()
    first, second, value = games
    at, outcome, share = _outcomes(value)

    def fit(ridge: float) -> Strengths:
        return bradley_terry(
            first[at],
            second[at],
            outcome,
            items=items,
            weight=weight[at] * share,
            covariates=columns[at],
            clusters=cast.prompt_R[rows][at].tolist(),
            ties=ties,
            ridge=ridge,
            level=level,
        )

    strengths = fit(0.0)
    if strengths.why_N or strengths.component_N.max(initial=0) > 0:
        return fit(WEAK)
    soft = len(at) > len(value)
    return fit(WEAK) if soft and any(map(_wide, strengths.strengths())) else strengths


def _wide(strength: Metric) -> bool:
    if strength.low is None or strength.high is None:
        return False
    return strength.high - strength.low > WIDE


def _outcomes(
    value_R: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Votes as wins, losses and ties: which vote each is of, the outcome, and how much of the vote it is."""
    soft_R = ~np.isin(value_R, (0.0, 0.5, 1.0))
    soft = np.flatnonzero(soft_R)
    at = np.append(np.arange(len(value_R)), soft)
    outcome = np.append(np.where(soft_R, 1.0, value_R), np.zeros(len(soft)))
    share = np.append(np.where(soft_R, value_R, 1.0), 1 - value_R[soft])
    return at, outcome, share


def _elo(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    value: NDArray[np.float64],
    items: int,
    prompt: NDArray[np.int64],
    level: float,
    seed: int,
) -> list[Metric]:
    if len(value) > MOST_GAMES:
        note = f"more than {MOST_GAMES} games: see the strength"
        return [Metric(value=None, n=len(value), level=level, note=note)] * items
    orders = max(40, min(200, 4_000_000 // len(value)))
    return elo(
        first, second, value, items=items, k=8.0, orders=orders, clusters=prompt.tolist(),
        level=level, seed=seed,
    )  # fmt: skip


def _wins(
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    value: NDArray[np.float64],
    prompt: NDArray[np.int64],
    i: int,
    level: float,
) -> Metric:
    mine = (first == i) | (second == i)
    return robust_mean(
        np.where(first == i, value, 1 - value)[mine], prompt[mine], level=level, share=True
    )


def rank_responses(
    snapshot: Snapshot, *, cast: Ballots | None = None, level: float = 0.95
) -> dict[str, list[tuple[str, Metric]]]:
    """For each prompt id the ids of its compared responses, the best first, with strengths in logits around
    the prior's mean, 0: Bradley-Terry with a normal prior of sd 1, since each has few votes. The intervals
    are the posterior's quantiles; with more than 200 responses they are normal, from the curvature, and so
    too short on the far side of one that never lost. Each metric's `method` says which."""
    cast = cast or ballots(snapshot)
    ids = list(dict.fromkeys(i for pair in cast.pairs for i in pair))
    number = {r: k for k, r in enumerate(ids)}
    sides_P2 = np.array([[number[i] for i in pair] for pair in cast.pairs]).reshape(-1, 2)
    if not ids:
        return {}
    at, outcome, share = _outcomes(cast.value_R)
    first, second = sides_P2[cast.pair_R[at]].T
    fit = bradley_terry(
        first, second, outcome, items=len(ids), weight=share, ridge=PRIOR, level=level
    )
    rankings: dict[str, list[tuple[str, Metric]]] = {}
    prompt_of = {
        i: cast.prompts[cast.prompt_P[k]] for k, pair in enumerate(cast.pairs) for i in pair
    }
    for i, metric in zip(ids, fit.strengths(), strict=True):
        rankings.setdefault(prompt_of[i], []).append((i, metric))
    for ranked in rankings.values():
        ranked.sort(key=lambda pair: -(pair[1].value or 0.0))
    return rankings
