"""Soft votes (`Preference.p`, a judge's) in every figure of trust: by hand, and beside hard ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import pytest

from accord.core.types import Preference, Prompt, Question, Rater, Rating, Response
from accord.feedback.trust.aggregate import soft_groups
from accord.feedback.trust.ballots import ballots
from accord.feedback.trust.card import data_card
from accord.feedback.trust.observed import observed
from accord.feedback.trust.quality import rater_reports
from accord.feedback.trust.ranking import rank_models, rank_responses
from accord.feedback.trust.reliability import Agreement, agreement_rows
from accord.feedback.trust.report import trust_report
from accord.stats.agreement import krippendorff_alpha
from accord.store import Snapshot, Store
from tests.store.words import ANNA, BEN, TENT, A, B, C, ask, fill, says

JUDGE, OTHER = (Rater(name=f"{n} pairwise@2", kind="model") for n in ("small", "large"))
TEMPLATE, PAIRS = "pairwise@2", 60
Says = Callable[[int], float]  # of a pair's number: p of its first response, which is the shorter
Cast = tuple[Rater, Says]


def hard(p: float) -> Preference:
    return Preference(better=None if p == 0.5 else int(p < 0.5))


def soft(p: float) -> Preference:
    return hard(p).model_copy(update={"p": p})


def study(
    store: Store,
    cast: Sequence[Cast],
    *,
    answer: Callable[[float], Preference] = soft,
    pairs: int = PAIRS,
    sources: Sequence[str] = ("model:a", "model:b"),
    texts: Sequence[str] = ("short", "a good deal longer"),
    asked: Mapping[str, str] | None = None,
) -> Snapshot:
    """Every rater judges every pair: people under v1, models under their template, or as `asked`. Every other
    pair is shown turned. People's votes are hard."""
    store.add_raters([r for r, _ in cast])
    for k in range(pairs):
        prompt = Prompt.user(f"Question {k}?")
        responses = [
            Response(text=f"{t} {k}", source=s) for t, s in zip(texts, sources, strict=True)
        ]
        ids = [r.id_for(prompt) for r in responses]
        store.add_prompts([prompt])
        store.add_responses(prompt, responses)
        for rater, p_of in cast:
            people = rater.kind != "model"
            guideline = (asked or {}).get(rater.name, "v1" if people else TEMPLATE)
            shown = tuple(ids[::-1] if k % 2 else ids)
            q = Question(prompt=prompt.id, responses=shown, kind="compare", guideline=guideline)
            p = 1 - p_of(k) if k % 2 else p_of(k)
            store.add_questions([q])
            store.add_judgments([says(rater, q, hard(p) if people else answer(p))])
    return Snapshot.now(store)


def whole(snapshot: Snapshot) -> Agreement:
    (row,) = (r for r in agreement_rows(snapshot) if r.within == "all")
    return row


def unlike(k: int) -> float:
    """Soft votes of every size, for both sides, and ties."""
    return ((7 * k) % 21) / 20


# -- agreement -------------------------------------------------------------------------------------


def test_two_who_name_the_same_side_agree(store: Store) -> None:
    sides = [k % 3 > 0 for k in range(PAIRS)]
    cast: list[Cast] = [
        (JUDGE, lambda k: 0.9 if sides[k] else 0.1),
        (OTHER, lambda k: 0.8 if sides[k] else 0.2),
    ]
    report = trust_report(study(store, cast))
    (row,) = report.agreement
    assert (row.percent.value, row.alpha.value, row.kappa.value) == (1.0, 1.0, 1.0)
    assert row.units == row.percent.n == PAIRS
    assert [r.agreement.value for r in report.raters] == [1.0, 1.0]
    assert report.noise.vote.value == 0.0


def test_half_agreement_by_hand(store: Store) -> None:
    """One takes the first of every pair; the other takes it in half of them, whatever the p."""
    cast: list[Cast] = [
        (JUDGE, lambda k: 0.6 + 0.3 * (k % 5) / 4),
        (OTHER, lambda k: 0.95 if k < PAIRS // 2 else 0.45),
    ]
    snapshot = study(store, cast)
    row = whole(snapshot)
    # which is first is chance: each names either side half of the time, so half agree by chance
    assert (row.percent.value, row.kappa.value) == (0.5, 0.0)
    n = 2 * PAIRS
    assert row.alpha.value == pytest.approx(1 - 0.5 / ((n**2 - 2 * (n / 2) ** 2) / (n - 1) / n))
    assert {o.agreement.value for o in observed(snapshot).values()} == {0.5}


def test_exactly_one_half_is_a_tie(store: Store) -> None:
    cast: list[Cast] = [(JUDGE, lambda k: 0.5 if k < 30 else 0.7), (ANNA, lambda k: 1.0)]
    snapshot = study(store, cast)
    seen = observed(snapshot)[JUDGE.id]
    assert (seen.agreement.value, seen.agreement.n) == (0.75, PAIRS)  # half with a tie
    assert (seen.left.n, seen.longer.n, seen.longer.value) == (30, 30, 0.0)
    assert whole(snapshot).percent.value == 0.5  # a tie is not the same answer


def test_a_judge_and_people_answer_the_same_pairs(store: Store) -> None:
    """They differ on 15 of 60. By chance half of all pairs: κ = 1 - (1/4) / (1/2)."""
    cast: list[Cast] = [
        (JUDGE, lambda k: 0.8 if k % 4 else 0.3),
        (ANNA, lambda k: 1.0),
    ]
    (row,) = agreement_rows(study(store, cast))  # a template is no other guideline
    assert (row.units, row.percent.n, row.raters, row.answers) == (PAIRS, PAIRS, 2, 2 * PAIRS)
    assert row.percent.value == 0.75
    assert row.kappa.value == pytest.approx(0.5)
    assert row.kappa_of == "cohen"


def test_people_s_guidelines_stay_apart_and_a_judge_stands_beside_each(store: Store) -> None:
    """Anna says the first under v1 and Ben the second under v2; the judge sides with Anna."""
    cast: list[Cast] = [(JUDGE, lambda k: 0.9), (ANNA, lambda k: 1.0), (BEN, lambda k: 0.0)]
    snapshot = study(store, cast, asked={"ben": "v2"})
    rows = {r.within: r for r in agreement_rows(snapshot)}
    assert set(rows) == {"all", "guideline v1", "guideline v2"}
    assert (rows["all"].units, rows["all"].percent.value) == (2 * PAIRS, 0.5)
    shares = [rows[f"guideline {g}"].percent.value for g in ("v1", "v2")]
    assert shares == [1.0, 0.0]


def test_a_judge_asked_a_question_of_people_s_answers_that_one(store: Store) -> None:
    cast: list[Cast] = [(JUDGE, lambda k: 0.9), (ANNA, lambda k: 1.0), (BEN, lambda k: 0.0)]
    snapshot = study(store, cast, asked={"ben": "v2", JUDGE.name: "v2"})
    rows = {r.within: r for r in agreement_rows(snapshot)}
    assert rows["guideline v1"].percent.note == "nothing was judged twice"
    assert rows["guideline v2"].percent.value == 0.0


def test_judges_of_two_templates_answer_the_same_pairs(store: Store) -> None:
    cast: list[Cast] = [(JUDGE, lambda k: 0.9), (OTHER, lambda k: 0.6)]
    (row,) = agreement_rows(study(store, cast, asked={OTHER.name: "reference@2"}))
    assert (row.units, row.percent.value, row.percent.n) == (PAIRS, 1.0, PAIRS)


def test_a_strength_and_a_soft_vote_have_one_order(store: Store) -> None:
    """p is how sure a judge is, not how much better one is: a side at strength 1."""
    q = ask("compare", A, B)
    fill(store, [q]).add_raters([JUDGE])
    store.add_judgments(
        [says(ANNA, q, Preference(better=0, strength=3)), says(JUDGE, q, soft(0.8))]
    )
    other = ask("compare", A, C)
    store.add_questions([other])
    store.add_judgments([says(ANNA, other, Preference(better=1)), says(JUDGE, other, soft(0.2))])
    soft_row = whole(Snapshot.now(store)).ordinal
    store.add_judgments([says(JUDGE, q, hard(0.8)), says(JUDGE, other, hard(0.2))])
    assert soft_row == whole(Snapshot.now(store)).ordinal is not None


def test_a_judge_s_mean_of_a_scale_is_the_nearest_point(store: Store) -> None:
    """3.7 and 4 say the same; in the order of α they stay what they are."""
    scores = {A: (4.0, 3.7), B: (2.0, 2.2), C: (5.0, 4.4)}
    people = {r: ask("rate", r) for r in scores}
    judged = {r: ask("rate", r, guideline="rating@2 help") for r in scores}
    fill(store, [*people.values(), *judged.values()]).add_raters([JUDGE])
    for r, (one, mean) in scores.items():
        store.add_judgments([says(ANNA, people[r], Rating(scores={"help": one}))])
        store.add_judgments([says(JUDGE, judged[r], Rating(scores={"help": mean}))])
    row = whole(Snapshot.now(store))
    assert row.units == 3
    assert row.percent.value == pytest.approx(2 / 3)
    assert row.alpha == krippendorff_alpha(list(scores.values()), scale="ordinal")
    seen = observed(Snapshot.now(store))[JUDGE.id].agreement
    assert seen.value == pytest.approx(
        5 / 6
    )  # two scores of three, and which is better of all three pairs


# -- raters ----------------------------------------------------------------------------------------


def test_who_always_takes_the_longer_or_the_left(store: Store) -> None:
    cast: list[Cast] = [
        (JUDGE, lambda k: 0.4 - 0.3 * (k % 3) / 2),  # the second is the longer
        (OTHER, lambda k: 0.2 if k % 2 else 0.8),  # the first is shown left on even pairs
    ]
    snapshot = study(store, cast)
    seen = observed(snapshot)
    assert (seen[JUDGE.id].longer.value, seen[JUDGE.id].longer.n) == (1.0, PAIRS)
    assert (seen[OTHER.id].left.value, seen[OTHER.id].left.n) == (1.0, PAIRS)
    assert (seen[JUDGE.id].left.value, seen[OTHER.id].longer.value) == (0.5, 0.5)
    assert data_card(snapshot)["longer_preferred"].value == 0.75


def test_a_repeat_that_names_the_same_side_repeats_itself(store: Store) -> None:
    one, two = ask("compare", A, B), ask("compare", A, C)
    again = [ask("compare", *shown, guideline="v2") for shown in ((A, B), (A, C))]
    fill(store, [one, two, *again]).add_raters([JUDGE])
    for (q, r), (p, then) in zip(
        zip((one, two), again, strict=True), ((0.71, 0.8), (0.9, 0.3)), strict=True
    ):
        store.add_judgments([says(JUDGE, q, soft(p)), says(JUDGE, r, soft(then))])
    report = observed(Snapshot.now(store))[JUDGE.id]
    assert (report.consistency.value, report.consistency.n) == (0.5, 2)
    assert data_card(store)["problems"]["raters contradicting themselves on a pair"] == 1


def test_raters_are_measured_by_the_sides_they_name(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Soft votes and hard ones for the same sides: the same agreement, raters and noise of a vote."""
    reports = []
    third = Rater(name="third", kind="model")
    cast: list[Cast] = [
        (JUDGE, unlike),
        (OTHER, lambda k: unlike(k + 1) if k % 4 else 0.6),
        (third, lambda k: unlike(k) if k % 5 else 0.35),
        (ANNA, lambda k: float(unlike(k) > 0.4)),
    ]
    for answer in (soft, hard):
        folder = tmp_path_factory.mktemp("soft")
        with Store(folder / "s.db") as store:
            reports.append(trust_report(study(store, cast, answer=answer)))
    one, other = reports
    assert one.agreement == other.agreement
    assert one.raters == other.raters
    assert one.noise.vote == other.noise.vote
    assert one.longer_is_better == other.longer_is_better


def test_a_timid_judge_is_no_guesser_and_dislikes_nothing(store: Store) -> None:
    """It sides with three people on every pair, with p of 0.6 at most, as a clamp holds it."""
    people = [Rater(name=n, kind="human") for n in ("ada", "bo", "cy")]
    cast: list[Cast] = [
        *((r, lambda k: float(k % 5 > 0)) for r in people),
        (JUDGE, lambda k: 0.6 if k % 5 else 0.4),
    ]
    snapshot = study(store, cast, texts=("- listed", "plain"))
    judge = next(r for r in rater_reports(snapshot) if r.name == JUDGE.name)
    assert judge.style["lists"].value == 0.0
    assert judge.reliability.value is not None
    assert judge.reliability.value > 0.8
    assert judge.concerns == ()


def test_soft_labels_of_soft_votes_are_those_of_their_sides(store: Store) -> None:
    cast: list[Cast] = [
        (JUDGE, lambda k: 0.9 if k % 3 else 0.1),
        (OTHER, lambda k: 0.8 if k % 3 else 0.2),
        (ANNA, lambda k: float(k % 3 > 0)),
    ]
    snapshot = study(store, cast)
    edges = [e for g in soft_groups(snapshot) for e in g.edges]
    assert len(edges) == PAIRS
    assert min(e.p for e in edges) > 0.9  # more than the surest of them said


# -- means of votes --------------------------------------------------------------------------------


def test_a_mean_of_votes_keeps_what_is_soft(store: Store) -> None:
    cast: list[Cast] = [(JUDGE, lambda k: 0.9), (OTHER, lambda k: 0.6)]
    snapshot = study(store, cast)
    assert sorted({round(v, 9) for v in ballots(snapshot).value_R if v > 0.5}) == [0.6, 0.9]
    assert {round(e.p, 9) for g in snapshot.groups() for e in g.edges} == {0.75}
    assert {round(math.fsum(e.weight for e in g.edges), 9) for g in snapshot.groups()} == {2.0}


@pytest.mark.parametrize("ties", ["half", "davidson", "rao_kupper"])
def test_sources_are_ranked_by_soft_votes(store: Store, ties: str) -> None:
    """The first wins 3/4 of each of 60 pairs' two votes: log 3 apart, ± half of it around the mean."""
    cast: list[Cast] = [(JUDGE, lambda k: 0.9), (OTHER, lambda k: 0.6)]
    snapshot = study(store, cast)
    got = rank_models(snapshot, ties=ties, style=False, weighted=False)  # type: ignore[arg-type]
    first, second = got.models
    assert first.name == "model:a"
    assert first.wins.value == pytest.approx(0.75)
    assert first.strength.value == pytest.approx(math.log(3) / 2, abs=1e-4)
    assert first.strength.n == first.elo.n == 2 * PAIRS
    assert (first.elo.value or 0) > 1000 > (second.elo.value or 0)


def test_votes_that_are_all_but_certain_are_ranked_by_the_prior(store: Store) -> None:
    """As hard ones of the same sides are, which leave a strength infinite."""
    got = rank_models(study(store, [(JUDGE, lambda k: 1 - 1e-9)]), style=False)
    assert any("prior" in note for note in got.notes)
    assert got.models[0].strength.high is not None
    assert 1 < got.models[0].strength.high < 10


def test_elo_is_of_who_won(tmp_path_factory: pytest.TempPathFactory) -> None:
    elos = []
    for answer in (soft, hard):
        with Store(tmp_path_factory.mktemp("elo") / "s.db") as one:
            got = rank_models(study(one, [(JUDGE, unlike)], answer=answer), style=False)
            elos.append({m.name: m.elo for m in got.models})
    assert elos[0] == elos[1]


def test_responses_are_ranked_by_soft_votes(store: Store) -> None:
    """The prior of sd 1 on each of two strengths ±x: their slopes are 1/2 - σ(2x) + p - 1/2 = x."""
    ab, ac = ask("compare", A, B), ask("compare", A, C)
    fill(store, [ab, ac]).add_raters([JUDGE])
    store.add_judgments([says(JUDGE, ab, soft(0.8))])
    ((first, one), (_, two)) = rank_responses(Snapshot.now(store))[TENT.id]
    assert first == A.id_for(TENT)
    assert one.value is not None
    x = one.value
    assert two.value == pytest.approx(-x)
    assert 0.8 - 1 / (1 + math.exp(-2 * x)) == pytest.approx(x, abs=1e-4)
    assert one.n == 1
