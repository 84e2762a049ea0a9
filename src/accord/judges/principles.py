"""Which principle of a constitution said what: labels by principle, and labels without some of them.

A principle is a rater of its own (`Judge.rater`), so that each label knows it. Of a principle:

    share of pairs   on how many of all labelled pairs it was asked
    sure             mean of max(p, 1 - p)
    wins             a policy's win rate by it: mean p of its answer against one that no model wrote
    disagrees        share of other principles' labels of the same pairs that name the other side
    without          share of the pairs it labelled whose label is gone or names the other side without it
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from accord.constitution.principles import Constitution, chosen
from accord.core.errors import ConfigError, DataError
from accord.core.types import Frozen, Metric, Question
from accord.judges.templates import JudgedItem, versioned
from accord.stats.intervals import cluster_mean
from accord.store import Snapshot
from accord.store.snapshot.pairs import Vote, by_pair, groups, votes

__all__ = [
    "Ablation", "PrincipleExample", "PrincipleRow", "ablated", "by_principle", "principle_examples",
    "principle_rows",
]  # fmt: skip
Rows = list[tuple[float, str]]  # a figure, and its prompt

TEMPLATE = "principle"


class PrincipleRow(Frozen):
    """What a principle labelled."""

    principle: str
    labels: int
    share: Metric
    sure: Metric
    wins: Metric
    disagrees: Metric
    without: Metric


class PrincipleExample(Frozen):
    """A pair as a principle labelled it: p of the better answer."""

    principle: str
    prompt: str
    better: str
    worse: str
    p: float


@dataclass(frozen=True)
class Ablation:
    """Labels without some principles: how many pairs have none left, how many name the other side, and how
    far p of those that stay moved (mean of absolute differences)."""

    pairs: int
    lost: int
    turned: int
    moved: Metric


def by_principle(
    items: Mapping[Question, JudgedItem], constitution: Constitution, n: int, seed: int
) -> dict[Question, JudgedItem]:
    """Each comparison asked by n principles drawn for it by weight."""
    asked_by: dict[Question, JudgedItem] = {}
    for q, item in items.items():
        key = f"{seed}/{q.prompt}/{'/'.join(sorted(q.responses))}"
        for p in chosen(constitution, key, n):
            guideline = f"{versioned(TEMPLATE)} {constitution.label(p)}"
            asked = Question(
                prompt=q.prompt, responses=q.responses, kind=q.kind, guideline=guideline
            )
            asked_by[asked] = replace(item, axis=p.question, principle=p.id)
    return asked_by


def _cast(snapshot: Snapshot) -> tuple[dict[str, str], list[list[Vote]]]:
    """The principle of each rater that has one, and the votes of such raters on each pair."""
    who = {
        i: str(r.facts["principle"])
        for i, r in snapshot.tables.raters.items()
        if r.kind == "model" and r.facts.get("principle")
    }
    cast = votes([j for j in snapshot.judgments if j.rater in who], snapshot.tables)[0]
    if not cast:
        raise DataError("no label of it was given by a principle", where=snapshot.name,
                        mend="label with a constitution: a stage of kind judge")  # fmt: skip
    return who, [some for pairs in by_pair(cast).values() for some in pairs.values()]


def principle_rows(snapshot: Snapshot) -> list[PrincipleRow]:
    """Every principle that labelled something, the most asked first."""
    who, pairs = _cast(snapshot)
    responses = snapshot.tables.responses
    sure: dict[str, Rows] = defaultdict(list)
    wins: dict[str, Rows] = defaultdict(list)
    other: dict[str, Rows] = defaultdict(list)
    without: dict[str, Rows] = defaultdict(list)
    for some in pairs:
        models = [responses[i].source.startswith("model:") for i in (some[0].first, some[0].second)]
        label = sum(v.value for v in some) / len(some)
        for vote in some:
            mine = who[vote.rater]
            sure[mine].append((max(vote.value, 1 - vote.value), vote.prompt))
            if models[0] != models[1]:
                wins[mine].append((vote.value if models[0] else 1 - vote.value, vote.prompt))
            left = [v.value for v in some if who[v.rater] != mine]
            stays = left and (label > 0.5) == (sum(left) / len(left) > 0.5)
            without[mine].append((float(not stays), vote.prompt))
        for a, b in itertools.permutations(some, 2):
            if who[a.rater] != who[b.rater] and 0.5 not in (a.value, b.value):
                turned = (a.value > 0.5) != (b.value > 0.5)
                other[who[a.rater]].append((float(turned), a.prompt))
    prompts = [some[0].prompt for some in pairs]
    return [
        PrincipleRow(
            principle=id, labels=len(rows), sure=_mean(rows), disagrees=_mean(other[id], "asked alone"),
            wins=_mean(wins[id], "no pair of a model's and another's"), without=_mean(without[id]),
            share=cluster_mean(
                [float(any(who[v.rater] == id for v in some)) for some in pairs], prompts, share=True
            ),
        )
        for id, rows in sorted(sure.items(), key=lambda row: (-len(row[1]), row[0]))
    ]  # fmt: skip


def principle_examples(snapshot: Snapshot) -> list[PrincipleExample]:
    """Of each principle the label it is surest of among those that another principle contradicts, where there
    are such."""
    who, pairs = _cast(snapshot)
    best: dict[str, tuple[tuple[bool, float], Vote]] = {}
    for some in pairs:
        for vote in some:
            straight = vote if vote.value >= 0.5 else vote.turned()
            against = any((v.value - 0.5) * (vote.value - 0.5) < 0 for v in some)
            rank = (against, straight.value)
            if who[vote.rater] not in best or rank > best[who[vote.rater]][0]:
                best[who[vote.rater]] = rank, straight
    tables = snapshot.tables
    return [
        PrincipleExample(
            principle=id, prompt=tables.prompts[v.prompt].last, better=tables.responses[v.first].shown,
            worse=tables.responses[v.second].shown, p=v.value,
        )
        for id, (_, v) in sorted(best.items())
    ]  # fmt: skip


def ablated(snapshot: Snapshot, without: Collection[str]) -> Ablation:
    """The labels of a snapshot's pairs beside those without these principles."""
    who, _ = _cast(snapshot)
    unknown = sorted(set(without) - set(who.values()))
    if unknown:
        allowed = ", ".join(sorted(set(who.values())))
        raise ConfigError(
            f"{unknown[0]!r} labelled nothing there", where="--without", allowed=allowed
        )
    gone = {i for i, id in who.items() if id in without}
    mine = [j for j in snapshot.judgments if j.rater in who]
    before = _labels(snapshot, mine)
    after = _labels(snapshot, [j for j in mine if j.rater not in gone])
    moved = [(abs(after[pair] - p), pair[0]) for pair, p in before.items() if pair in after]
    turned = sum((after[pair] > 0.5) != (p > 0.5) for pair, p in before.items() if pair in after)
    return Ablation(len(before), len(before) - len(moved), turned, _mean(moved, "no pair is left"))


def _labels(snapshot: Snapshot, judgments: Sequence[object]) -> dict[tuple[str, str, str], float]:
    """p of the response whose id comes first, by prompt and pair."""
    asked_by = {}
    for group in groups(judgments, snapshot.tables, even="keep")[0]:  # type: ignore[arg-type]
        ids = [r.id_for(group.prompt) for r in group.responses]
        for e in group.edges:
            a, b = ids[e.better], ids[e.worse]
            asked_by[group.prompt.id, min(a, b), max(a, b)] = e.p if a < b else 1 - e.p
    return asked_by


def _mean(rows: Sequence[tuple[float, str]], why: str = "") -> Metric:
    if not rows:
        return Metric(value=None, n=0, note=why)
    return cluster_mean([x for x, _ in rows], [prompt for _, prompt in rows], share=False)
