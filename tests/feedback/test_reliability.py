"""Agreement in its parts, by hand: kinds, axes, categories, guidelines; last answers count."""

from __future__ import annotations

import pytest

from accord.core.types import Preference, Rater, Rating, StepLabels, Thumb
from accord.feedback.trust.reliability import agreement_rows, answered
from accord.stats.agreement import krippendorff_alpha
from accord.store import Snapshot, Store
from tests.feedback.study import simulate
from tests.store.words import ANNA, BEN, BOOT, COMPARE, A, B, C, D, E, ask, fill, says

CARL = Rater(name="carl", kind="human")


def test_kinds_and_axes_by_hand(store: Store) -> None:
    flipped, steps = ask("compare", B, A), ask("steps", C)
    rate, thumb = [ask("rate", r) for r in (A, B, C)], ask("thumb", A)
    fill(store, [COMPARE, flipped, steps, *rate, thumb])
    store.add_judgments(
        [
            says(ANNA, COMPARE, Preference(better=0)),
            says(BEN, flipped, Preference(better=1)),  # the same response, on the other side
            says(ANNA, steps, StepLabels(labels=(1, 0, -1))),
            says(BEN, steps, StepLabels(labels=(1, 1, -1))),
            says(ANNA, thumb, Thumb(up=True)),
        ]
    )
    for q, one, other in zip(rate, (1.0, 3.0, 5.0), (2.0, 3.0, 5.0), strict=True):
        store.add_judgments(
            [
                says(ANNA, q, Rating(scores={"help": one, "tone": 3.0})),
                says(BEN, q, Rating(scores={"help": other})),
            ]
        )
    rows = {(r.kind, r.axis): r for r in agreement_rows(Snapshot.now(store)) if r.within == "all"}
    assert set(rows) == {
        ("compare", ""),
        ("rate", "help"),
        ("rate", "tone"),
        ("steps", ""),
        ("thumb", ""),
    }
    assert (rows["compare", ""].percent.value, rows["compare", ""].units) == (1.0, 1)
    assert rows["compare", ""].alpha.note == "judged twice only once: no interval"
    help_ = rows["rate", "help"]
    units = [[1.0, 2.0], [3.0, 3.0], [5.0, 5.0]]
    assert help_.alpha.value == krippendorff_alpha(units, scale="ordinal").value
    assert (help_.ordinal, help_.scale, help_.kappa_of) == (None, "ordinal", "cohen")
    assert rows["rate", "tone"].percent.note == "nothing was judged twice"
    assert rows["steps", ""].percent.value == pytest.approx(2 / 3)
    assert rows["thumb", ""].answers == 1


def test_a_rater_counts_once_and_a_guideline_keeps_apart(store: Store) -> None:
    flipped, newer = ask("compare", B, A), ask("compare", A, B, guideline="v2")
    fill(store, [COMPARE, flipped, newer]).add_raters([CARL])
    store.add_judgments(
        [
            says(ANNA, COMPARE, Preference(better=0)),
            says(ANNA, flipped, Preference(better=0)),  # now the other one: this counts
            says(BEN, COMPARE, Preference(better=0)),
            says(ANNA, newer, Preference(better=1)),
            says(CARL, newer, Preference(better=1)),
        ]
    )
    said = answered(Snapshot.now(store))
    assert len(said) == 4
    rows = {r.within: r for r in agreement_rows(Snapshot.now(store))}
    assert set(rows) == {"all", "guideline v1", "guideline v2"}
    assert (rows["guideline v1"].percent.value, rows["guideline v2"].percent.value) == (0.0, 1.0)
    assert rows["all"].percent.value == 0.5
    assert (rows["all"].units, rows["all"].raters) == (2, 3)


def test_categories_are_the_prompts_tags(store: Store) -> None:
    simulate(store, prompts=30)
    rows = {r.within: r for r in agreement_rows(Snapshot.now(store))}
    assert set(rows) == {"all", "topic=tents", "topic=boots", "topic=maps"}
    assert sum(rows[f"topic={t}"].units for t in ("tents", "boots", "maps")) == 30
    assert rows["all"].kappa_of == "fleiss"
    assert rows["all"].easy is not None
    assert rows["topic=maps"].easy is None


def test_an_identifier_is_no_category(store: Store) -> None:
    q = ask("compare", D, E, prompt=BOOT)  # the boots have no tag, the tent has one value only
    fill(store, [COMPARE, q])
    store.add_judgments(
        [says(r, x, Preference(better=0)) for r in (ANNA, BEN) for x in (COMPARE, q)]
    )
    assert [r.within for r in agreement_rows(Snapshot.now(store))] == ["all"]
    assert agreement_rows(store.freeze("none", kinds=["thumb"])) == []


def test_strengths_are_graded_on_an_ordinal_scale(store: Store) -> None:
    pairs = [ask("compare", A, B), ask("compare", A, C), ask("compare", B, C)]
    fill(store, pairs)
    for q, one, other in zip(pairs, (3, 2, 1), (3, 1, 2), strict=True):
        store.add_judgments(
            [
                says(ANNA, q, Preference(better=0, strength=one)),
                says(BEN, q, Preference(better=1 if other == 2 else 0, strength=other)),
            ]
        )
    (row,) = agreement_rows(Snapshot.now(store))
    flip = [1 if q.responses[0] < q.responses[1] else -1 for q in pairs]
    graded = [[3 * flip[0], 3 * flip[0]], [2 * flip[1], 1 * flip[1]], [1 * flip[2], -2 * flip[2]]]
    assert row.ordinal is not None
    mirrored = krippendorff_alpha(graded, scale="ordinal", mirror=lambda v: -v)
    assert row.ordinal.value == mirrored.value
    turned = [[-x for x in unit] for unit in graded]
    other = krippendorff_alpha(turned, scale="ordinal", mirror=lambda v: -v)
    assert other.value == pytest.approx(mirrored.value)  # whichever response is called the first
