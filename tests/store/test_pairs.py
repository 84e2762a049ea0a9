"""From judgments to pairs: values by hand, and properties over any votes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.core.errors import ConfigError
from accord.core.types import (
    Judgment,
    Pair,
    Preference,
    Prompt,
    Question,
    Ranking,
    Rater,
    Rating,
    Response,
    StepLabels,
    Thumb,
    Writing,
)
from accord.losses import soft
from accord.losses.preference import PairLogps, get_preference_loss
from accord.store import Items, Snapshot, Store, split_of
from accord.store.snapshot.pairs import Tables, groups
from tests.store.words import ANNA, BEN, BOOT, COMPARE, RANK, TENT, A, B, C, D, ask, fill, says

CLEO, DORA = Rater(name="cleo", kind="model"), Rater(name="dora", kind="human")
ABC = (A, B, C)
ID = {r.id_for(TENT): r.text for r in ABC}


def read(answers: Sequence[Judgment], *questions: Question, **options: Any) -> Items[Pair]:
    """Pairs of a store that holds these judgments."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.db") as store:
        fill(store, [COMPARE, RANK, *questions])
        store.add_raters([CLEO, DORA])
        store.add_judgments(answers)
        return store.freeze("v1").pairs(**options)


def table(pairs: Sequence[Pair]) -> dict[tuple[str, str], tuple[float, float, float | None]]:
    return {(p.chosen.text, p.rejected.text): (p.p, p.weight, p.agreement) for p in pairs}


def test_two_rankings_of_three_by_hand() -> None:
    one = says(ANNA, RANK, Ranking(ranks=(1, 2, 3)))  # A > B > C
    two = says(BEN, RANK, Ranking(ranks=(1, 2, 2)))  # A > B = C
    pairs = read([one, two])
    assert table(pairs) == {
        ("no", "it may"): (1.0, 2.0, 1.0),
        ("no", "never at all"): (1.0, 2.0, 1.0),
        ("it may", "never at all"): (0.75, 2.0, 0.75),
    }
    assert all(p.sources == (one.id, two.id) and p.prompt == TENT for p in pairs)


def test_strength_becomes_a_margin_when_asked() -> None:
    """Mean points above 1 of the votes for the better side; the other side's strength says nothing."""
    said = [(0, 3), (0, 2), (1, 3)]
    answers = [
        says(r, COMPARE, Preference(better=b, strength=s))  # type: ignore[arg-type]
        for r, (b, s) in zip((ANNA, BEN, CLEO), said, strict=True)
    ]
    (plain,), (pair,) = read(answers), read(answers, margin=0.5)
    assert plain.margin == 0.0
    assert pair.margin == pytest.approx(0.5 * (2 + 1) / 2)
    assert pair.model_copy(update={"margin": 0.0}) == plain
    turned = [says(r, COMPARE, Preference(better=1, strength=2)) for r in (ANNA, BEN)]
    assert [p.margin for p in read(turned, margin=1.0)] == [1.0]


ANSWERS = {  # answers on COMPARE (0: A is better) -> what is read
    "judged once": ([0], {}, {("no", "it may"): (1.0, 1.0, None)}, {}),
    "two to one": ([0, 1, 0], {}, {("no", "it may"): (2 / 3, 3.0, 2 / 3)}, {}),
    "one to two": ([0, 1, 1], {}, {("it may", "no"): (2 / 3, 3.0, 2 / 3)}, {}),
    "a tie is half": ([0, None], {}, {("no", "it may"): (0.75, 2.0, 0.75)}, {}),
    "a tie dropped": (
        [0, None],
        {"ties": "drop"},
        {("no", "it may"): (1.0, 1.0, None)},
        {"tied votes dropped": 1},
    ),
    "only ties dropped": ([None, None], {"ties": "drop"}, {}, {"tied votes dropped": 2}),
    "only ties": ([None], {}, {}, {"pairs split evenly": 1}),
    "even": ([0, 1], {}, {}, {"pairs split evenly": 1}),
    "agreement met": ([0, 1, 0], {"min_agreement": 2 / 3}, {("no", "it may"): (2 / 3, 3, 2 / 3)}, {}),
    "agreement missed": (
        [0, 1, 0],
        {"min_agreement": 0.7},
        {},
        {"pairs under agreement 0.7": 1},
    ),
    "judged once is not under agreement": (
        [1],
        {"min_agreement": 1.0},
        {("it may", "no"): (1.0, 1.0, None)},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_a_pair_by_hand(name: str) -> None:
    better, options, expected, notes = ANSWERS[name]
    raters = (ANNA, BEN, CLEO)
    answers = [
        says(r, COMPARE, Preference(better=b))  # type: ignore[arg-type]
        for r, b in zip(raters, better, strict=False)
    ]
    pairs = read(answers, **options)  # type: ignore[arg-type]
    assert table(pairs) == expected
    assert {k: n for k, n in pairs.notes.items() if n} == notes


def test_an_even_pair_is_kept_when_asked() -> None:
    answers = [says(ANNA, COMPARE, Preference(better=0)), says(BEN, COMPARE, Preference(better=1))]
    (pair,) = read(answers, even="keep")
    assert {pair.chosen.text, pair.rejected.text} == {"no", "it may"}
    assert (pair.p, pair.weight, pair.agreement) == (0.5, 2.0, 0.5)


def test_ratings_of_one_rater_are_compared() -> None:
    qa, qb, other = ask("rate", A), ask("rate", B), ask("rate", C, guideline="v2")
    answers = [
        says(ANNA, qa, Rating(scores={"help": 5.0, "tone": 1.0})),  # mean 0.5 of [0, 1]
        says(ANNA, qb, Rating(scores={"help": 9.0, "tone": 8.0}, lowest=0, highest=10)),
        says(ANNA, other, Rating(scores={"help": 1.0})),  # another guideline: not comparable
        says(BEN, qa, Rating(scores={"help": 5.0})),  # one rating alone says nothing
    ]
    (pair,) = read(answers, qa, qb, other)
    assert (pair.chosen, pair.rejected, pair.p, pair.weight) == (B, A, 1.0, 1.0)
    assert set(pair.sources) == {answers[0].id, answers[1].id}


def by_axis(rater: Rater, scores: Sequence[tuple[Response, str, float]]) -> Items[Pair]:
    """Pairs of single scores, each asked in a question of its axis, as a judge is."""
    asked = [(ask("rate", r, guideline=f"rating@2 {axis}"), axis, x) for r, axis, x in scores]
    cast = [
        says(rater, q, Rating(scores={axis: x}), seconds=float(n))
        for n, (q, axis, x) in enumerate(asked)
    ]
    return read(cast, *dict.fromkeys(q for q, _, _ in asked))


def test_a_judge_s_axes_are_one_vote_by_their_mean() -> None:
    """A is 5 right and 2 kind, B 1 and 3: asked one by one they are what one rating of both would be."""
    scores = [(A, "right", 5.0), (A, "kind", 2.0), (B, "right", 1.0), (B, "kind", 3.0)]
    (pair,) = by_axis(CLEO, scores)
    assert (pair.chosen, pair.rejected, pair.p, pair.weight) == (A, B, 1.0, 1.0)
    assert len(pair.sources) == 4
    qa, qb = ask("rate", A), ask("rate", B)
    whole = [
        says(ANNA, qa, Rating(scores={"right": 5.0, "kind": 2.0})),
        says(ANNA, qb, Rating(scores={"right": 1.0, "kind": 3.0})),
    ]
    assert table(read(whole, qa, qb)) == table([pair])
    (last,) = by_axis(ANNA, scores)  # a person's guidelines stay apart: the last one counts
    assert last.chosen == B


def test_a_judge_compares_on_the_axes_it_rated_both_on() -> None:
    """A verdict on B's kindness is missing: A's says nothing of which is better."""
    scores = [(A, "right", 3.0), (A, "kind", 1.0), (B, "right", 2.0)]
    (pair,) = by_axis(CLEO, scores)
    assert (pair.chosen, len(pair.sources)) == (A, 2)
    assert by_axis(CLEO, [(A, "kind", 1.0), (B, "right", 2.0)]) == []


def test_a_judge_s_other_guidelines_stay_apart() -> None:
    """Scores of another template are on another question: they are in no mean with these."""
    qa, qb = ask("rate", A, guideline="rating@2 x"), ask("rate", B, guideline="rating@1 x")
    one = Rating(scores={"x": 5.0})
    assert read([says(CLEO, qa, one), says(CLEO, qb, one)], qa, qb, even="keep") == []


def test_an_edit_is_better_than_what_it_edits_and_a_demonstration() -> None:
    edit, alone = ask("write", A, B), ask("write", prompt=BOOT)
    answers = [
        says(ANNA, edit, Writing(text="No, never.", edits=1)),
        says(ANNA, alone, Writing(text="Warm.")),
    ]
    (pair,) = read(answers, edit, alone)
    written = Response(text="No, never.", source="person:anna", finish="stop")
    assert (pair.chosen, pair.rejected, pair.sources) == (written, B, (answers[0].id,))
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "s.db") as store:
        fill(store, [edit, alone]).add_judgments(answers)
        shown = store.freeze("v1").demonstrations()
    assert [(d.prompt, d.response.text, d.sources) for d in shown] == [
        (TENT, "No, never.", (answers[0].id,)),
        (BOOT, "Warm.", (answers[1].id,)),
    ]


def test_thumbs_are_counted(store: Store) -> None:
    a, d = ask("thumb", A), ask("thumb", D, prompt=BOOT)
    fill(store, [a, d]).add_raters([CLEO])
    cast = [says(r, a, Thumb(up=False)) for r in (ANNA, BEN, CLEO)]
    even = [says(ANNA, d, Thumb(up=True)), says(BEN, d, Thumb(up=False))]
    store.add_judgments([*cast, *even])
    found = store.freeze("v1").labelled()
    ((label),) = found
    assert (label.prompt, label.response, label.desirable, label.weight) == (TENT, A, False, 3.0)
    assert label.sources == tuple(j.id for j in cast)
    assert found.notes == {"responses with as many thumbs up as down": 1}


def test_thumbs_and_steps_count_as_their_raters_do(store: Store) -> None:
    """Anna counts three times: her thumb outweighs two, her labels are three of five."""
    a, d, steps = ask("thumb", A), ask("thumb", D, prompt=BOOT), ask("steps", A)
    fill(store, [a, d, steps]).add_raters([CLEO])
    others = [says(r, a, Thumb(up=False)) for r in (BEN, CLEO)]
    even = [says(r, d, Thumb(up=up)) for r, up in ((ANNA, True), (BEN, False), (CLEO, False))]
    label = [says(r, steps, StepLabels(labels=(x,))) for r, x in ((ANNA, 1), (BEN, -1), (CLEO, 0))]
    store.add_judgments([says(ANNA, a, Thumb(up=True)), *others, *even, *label])
    plain = store.freeze("v1")
    assert [(x.desirable, x.weight) for x in plain.labelled()] == [(False, 1.0)] * 2
    assert [x.labels for x in plain.stepped()] == [(0.0,)]
    weighed = store.freeze("v2", weights={"anna": 3.0})
    assert [(x.desirable, x.weight) for x in weighed.labelled()] == [(True, 1.0)] * 2
    assert [x.labels for x in weighed.stepped()] == [pytest.approx((0.4,))]
    split = store.freeze("v3", weights={"anna": 0.3, "ben": 0.1, "cleo": 0.2})  # 0.1 + 0.2 > 0.3
    assert split.labelled() == []
    assert split.labelled().notes == {"responses with as many thumbs up as down": 2}


def test_a_response_shown_twice_is_no_pair() -> None:
    twice = ask("compare", A, A)
    assert read([says(ANNA, twice, Preference(better=0))], twice) == []


def test_a_group_holds_every_response_compared(store: Store) -> None:
    fill(store).add_judgments([says(ANNA, RANK, Ranking(ranks=(3, 1, 2)))])
    (group,) = store.freeze("v1").groups()
    assert group.prompt == TENT
    assert {r.text for r in group.responses} == {"no", "it may", "never at all"}
    assert len(group.edges) == 3
    assert [r.id_for(TENT) for r in group.responses] == sorted(ID)
    assert group.pairs() == list(store.snapshot("v1").pairs())


# -- properties -----------------------------------------------------------------------------------

RATERS = [Rater(name=f"r{i}", kind="human") for i in range(20)]
Cast = list[tuple[int, tuple[int, ...], tuple[int, ...]]]
CASTS: st.SearchStrategy[Cast] = st.lists(  # (rater, order shown, ranks by response)
    st.tuples(
        st.integers(0, 9),
        st.permutations(range(3)).map(tuple),
        st.tuples(*[st.integers(1, 3)] * 3),
    ),
    min_size=1,
    unique_by=lambda vote: vote[0],  # a rater has one vote on a pair
    max_size=8,
)


def judged(cast: Cast) -> tuple[list[Judgment], Tables]:
    """Rankings of A, B and C as they would lie in a store, without one."""
    questions, judgments = {}, []
    for i, (rater, order, ranks) in enumerate(cast):
        q = ask("rank", *(ABC[k] for k in order))
        questions[q.id] = q
        answer = Ranking(ranks=tuple(ranks[k] for k in order))
        judgments.append(says(RATERS[rater], q, answer, seconds=float(i)))
    return judgments, Tables(
        prompts={TENT.id: TENT},
        responses={r.id_for(TENT): r for r in ABC},
        questions=questions,
        raters={r.id: r for r in RATERS},
    )


def edges(cast: Cast, **options: Any) -> dict[tuple[str, str], tuple[float, float]]:
    judgments, tables = judged(cast)
    made, _ = groups(judgments, tables, **options)
    return {
        (p.chosen.text, p.rejected.text): (p.p, p.weight) for g in made for p in g.pairs()
    }  # fmt: skip


def points(cast: Cast, a: int, b: int) -> float:
    """Votes for a over b, a tie is half."""
    return sum(1.0 if r[a] < r[b] else 0.5 if r[a] == r[b] else 0.0 for _, _, r in cast)


@given(CASTS)
def test_weight_times_p_is_the_number_of_votes(cast: Cast) -> None:
    found = edges(cast, even="keep")
    assert len(found) == 3
    for (chosen, rejected), (p, weight) in found.items():
        a, b = ([r.text for r in ABC].index(t) for t in (chosen, rejected))
        assert weight == len(cast)
        assert weight * p == pytest.approx(points(cast, a, b), abs=1e-12)
        assert weight * (1 - p) == pytest.approx(points(cast, b, a), abs=1e-12)
        assert p >= 0.5


@given(CASTS, st.permutations(range(3)), st.randoms())
def test_neither_the_order_shown_nor_that_of_judgments_matters(
    cast: Cast, order: list[int], random: Any
) -> None:
    turned = [(rater, tuple(shown[k] for k in order), ranks) for rater, shown, ranks in cast]
    random.shuffle(turned)
    assert edges(turned) == edges(cast)


@given(CASTS)
def test_the_opposite_votes_make_every_pair_even(cast: Cast) -> None:
    opposite = [(rater + 10, shown, tuple(4 - r for r in ranks)) for rater, shown, ranks in cast]
    assert edges(cast + opposite) == {}
    assert {p for p, _ in edges(cast + opposite, even="keep").values()} == {0.5}


@given(CASTS, st.floats(-5, 5), st.floats(0.01, 2))
@settings(deadline=None, max_examples=50)
def test_the_edge_s_soft_loss_is_the_sum_over_single_votes(
    cast: Cast, margin: float, beta: float
) -> None:
    loss = get_preference_loss("dpo", beta=beta)
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)

    def of(chosen: float, p: float) -> float:
        logps = PairLogps(chosen * one, zero, zero, zero, one, one)
        return float(soft(loss, logps, p * one))

    judgments, tables = judged(cast)
    made, _ = groups(judgments, tables, even="keep")
    for pair in made[0].pairs():
        a, b = ([r.text for r in ABC].index(x.text) for x in (pair.chosen, pair.rejected))
        single = [points([vote], a, b) for vote in cast]
        assert pair.weight * of(margin, pair.p) == pytest.approx(
            sum(of(margin, value) for value in single), rel=1e-12
        )


# -- splits ---------------------------------------------------------------------------------------


def split_study(n: int) -> Items[Pair]:
    prompts = [Prompt.user(f"question {i}") for i in range(n)]
    return Items(
        Pair(prompt=p, chosen=Response(text=str(k)), rejected=B) for p in prompts for k in range(3)
    )


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5])
def test_a_split_goes_by_prompt_and_has_roughly_the_share_asked(share: float) -> None:
    pairs = split_study(2000)
    train, test = pairs.split(test=share, seed=3)
    held = {p.prompt.id for p in test}
    assert not held & {p.prompt.id for p in train}
    assert sorted([*train, *test], key=repr) == sorted(pairs, key=repr)
    assert len(held) / 2000 == pytest.approx(share, abs=4 * (share * (1 - share) / 2000) ** 0.5)


def test_a_split_stays_when_the_store_grows_and_moves_with_the_seed() -> None:
    small, large = split_study(200).split(test=0.3), split_study(400).split(test=0.3)
    assert list(small[1]) == [p for p in large[1] if p in small[1]]
    assert {p.prompt.id for p in small[1]} <= {p.prompt.id for p in large[1]}
    assert {p.prompt.id for p in small[0]} <= {p.prompt.id for p in large[0]}
    assert list(small[1]) != list(split_study(200).split(test=0.3, seed=18)[1])
    assert split_study(20).split(test=0.0)[1] == []


@given(st.text(), st.integers(), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_only_adds_to_the_held_out(id: str, seed: int, a: float, b: float) -> None:
    if split_of(id, min(a, b), seed) == "test":
        assert split_of(id, max(a, b), seed) == "test"


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_a_share_out_of_range_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=r"test=.*allowed: \[0, 1\)"):
        split_study(2).split(test=share)


def test_a_snapshot_reads_only_its_own_judgments(store: Store) -> None:
    first = says(ANNA, COMPARE, Preference(better=0))
    fill(store).add_judgments([first])
    frozen: Snapshot = store.freeze("v1")
    store.add_judgments([says(BEN, COMPARE, Preference(better=0))])
    assert [p.weight for p in frozen.pairs()] == [1.0]
    assert [p.weight for p in store.snapshot("v1").pairs()] == [1.0]
    assert [p.weight for p in store.freeze("v2").pairs()] == [2.0]
