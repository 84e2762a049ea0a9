"""A rater has one say on a thing: asked again, its last answer is the one that is pooled."""

from __future__ import annotations

from typing import Any

import pytest

from accord.core.types import Judgment, Preference, Ranking, Rating, StepLabels, Thumb
from accord.feedback.trust.ballots import ballots
from accord.feedback.trust.card import data_card
from accord.feedback.trust.quality import rater_reports
from accord.feedback.trust.reliability import agreement_rows
from accord.store import Snapshot, Store
from accord.store.io.foreign.out import argilla_rows
from tests.store.words import ANNA, BEN, A, B, C, ask, fill, says

COMPARE, TURNED, RANK = ask("compare", A, B), ask("compare", B, A), ask("rank", A, B, C)
RATE_A, RATE_B, THUMB, STEPS = ask("rate", A), ask("rate", B), ask("thumb", A), ask("steps", A)
QUESTIONS = [COMPARE, TURNED, RANK, RATE_A, RATE_B, THUMB, STEPS]


def rates(x: float, **more: float) -> Rating:
    return Rating(scores={"x": x, **more})


# what was said first and then again; what the last answers alone would be; what others said
CASES: dict[str, tuple[list[Any], list[Any], list[Any]]] = {
    "compare": (
        [(COMPARE, Preference(better=1))] * 2, [(TURNED, Preference(better=1))],
        [(COMPARE, Preference(better=0))],
    ),
    "rank": (
        [(RANK, Ranking(ranks=(3, 2, 1)))], [(RANK, Ranking(ranks=(1, 2, 3)))],
        [(RANK, Ranking(ranks=(2, 1, 3)))],
    ),
    "a comparison, then a ranking": (
        [(COMPARE, Preference(better=1))], [(RANK, Ranking(ranks=(1, 2, 3)))],
        [(COMPARE, Preference(better=1))],
    ),
    "rate": (
        [(RATE_A, rates(1)), (RATE_B, rates(5))], [(RATE_A, rates(5)), (RATE_B, rates(2))],
        [(RATE_A, rates(2)), (RATE_B, rates(4))],
    ),
    "thumb": ([(THUMB, Thumb(up=False))], [(THUMB, Thumb(up=True))], [(THUMB, Thumb(up=True))]),
    "steps": ([(STEPS, StepLabels(labels=(-1,)))], [(STEPS, StepLabels(labels=(1,)))],
              [(STEPS, StepLabels(labels=(-1,)))]),
}  # fmt: skip


def made(store: Store, name: str, *said: tuple[Any, list[Any]]) -> Snapshot:
    """A snapshot of what raters said, each a moment after the other."""
    found: list[Judgment] = []
    for rater, answers in said:
        for question, answer in answers:
            found.append(says(rater, question, answer, seconds=float(len(found))))
    if not store.counts()["judgments"]:
        fill(store, QUESTIONS)
    store.add_judgments(found)
    return store.freeze(name, only=[j.id for j in found])


def votes_of(snapshot: Snapshot) -> Any:
    """Every pooled form, without the ids of judgments."""
    groups = [
        [(e.better, e.worse, e.p, e.weight, e.agreement) for e in g.edges]
        for axis in (None, "x")
        for g in snapshot.groups(even="keep", axis=axis)
    ]
    labelled = [(x.desirable, x.weight) for x in snapshot.labelled()]
    steps = [x.labels for x in snapshot.stepped()]
    cast = ballots(snapshot)
    rows = [(r.kind, r.answers, r.percent, r.alpha, r.kappa) for r in agreement_rows(snapshot)]
    votes = sorted(zip(cast.pair_R, cast.rater_R, cast.value_R, strict=True))
    card = data_card(snapshot)["agreement"]
    exported = [{k: len(v) for k, v in row["responses"].items()} for row in argilla_rows(snapshot)]
    return groups, labelled, steps, votes, rows, card, exported[:1]


@pytest.mark.parametrize("name", [n for n in CASES if "then" not in n])
def test_the_last_answer_is_the_only_one(store: Store, name: str) -> None:
    first, last, other = CASES[name]
    again = made(store, "again", (ANNA, first), (BEN, other), (ANNA, last))
    once = made(store, "once", (BEN, other), (ANNA, last))
    assert votes_of(again)[:6] == votes_of(once)[:6]


def test_a_comparison_and_a_ranking_of_the_same_pair_are_one_vote(store: Store) -> None:
    first, last, other = CASES["a comparison, then a ranking"]
    snapshot = made(store, "v1", (ANNA, first), (BEN, other), (ANNA, last))
    ab = [e for g in snapshot.groups(even="keep") for e in g.edges if e.agreement is not None]
    assert [(e.weight, e.p) for e in ab] == [(2.0, 0.5)]  # Anna for A now, Ben for B


def test_an_axis_not_rated_again_keeps_its_score(store: Store) -> None:
    snapshot = made(
        store, "v1",
        (ANNA, [(RATE_A, rates(1, y=5)), (RATE_B, rates(3, y=3)), (RATE_A, rates(5))]),
    )  # fmt: skip
    for axis in ("x", "y", None):
        (group,) = snapshot.groups(axis=axis)
        (edge,) = group.edges
        assert group.responses[edge.better].text == A.text
        assert edge.weight == 1.0


def test_repeats_still_say_how_consistent_a_rater_is(store: Store) -> None:
    first, last, other = CASES["compare"]
    snapshot = made(
        store,
        "v1",
        (ANNA, first[:1]),
        (BEN, other),
        (ANNA, last),
        (ANNA, [(COMPARE, Preference(better=0))]),
    )
    reports = {r.name: r for r in rater_reports(snapshot)}
    assert (reports["anna"].consistency.value, reports["anna"].consistency.n) == (0.5, 2)
    assert reports["ben"].consistency.value is None
