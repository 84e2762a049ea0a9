"""Raters' reports: known biases are found and named, each test by hand; decisions are recorded."""

from __future__ import annotations

import itertools
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import ConfigError, DataError, StoreError
from accord.core.types import (
    Judgment,
    Preference,
    Prompt,
    Question,
    Ranking,
    Rater,
    Rating,
    Response,
    Thumb,
)
from accord.feedback.trust.ballots import ballots, style_of
from accord.feedback.trust.gold_questions import GoldAnswer, gold_shares, read_gold_questions
from accord.feedback.trust.quality import quarantine, rater_reports, reweight
from accord.store import Snapshot, Store
from tests.feedback.study import START, simulate
from tests.store.words import ANNA, BEN, TENT, A, B, C, ask, fill, says

CARL = Rater(name="carl", kind="human")
Study = tuple[Snapshot, dict[str, float]]


def test_known_biases_are_found_and_no_others(study: Study) -> None:
    reports = {r.name: r for r in rater_reports(study[0])}
    assert reports["Dmitri"].side.low is not None
    assert reports["Dmitri"].side.low < 1.5 < (reports["Dmitri"].side.high or 0)
    assert reports["Chiara"].length.low is not None
    assert reports["Chiara"].length.low < 1.0 < (reports["Chiara"].length.high or 0)
    assert {n: r.concerns for n, r in reports.items() if r.concerns} == {
        "Dmitri": ("prefers the left side",),
        "Chiara": ("prefers longer answers",),
    }
    assert next(iter(reports)) == "Ada"  # the most reliable first
    assert list(reports)[-1] == "Emre"


def three(store: Store, *more: Judgment, questions: Any = ()) -> Snapshot:
    fill(store, [ask("compare", A, B), ask("compare", B, A), *questions]).add_raters([CARL])
    store.add_judgments(more)
    return store.freeze("v1")


def test_ballots_by_hand(store: Store) -> None:
    left, right = ask("compare", A, B), ask("compare", B, A)
    cast = ballots(
        three(
            store,
            says(ANNA, left, Preference(better=0), seconds=3.0),
            says(BEN, right, Preference(better=0)),
            says(CARL, right, Preference(better=None)),
        )
    )
    first = A.id_for(TENT) < B.id_for(TENT)
    assert cast.pair_R.tolist() == [0, 0, 0]
    assert cast.value_R.tolist() == ([1.0, 0.0, 0.5] if first else [0.0, 1.0, 0.5])
    assert cast.side_R.tolist() == ([1, -1, -1] if first else [-1, 1, 1])
    assert abs(cast.longer_R[0]) == pytest.approx(0.1)  # "no" and "it may", in tens of words
    assert cast.others_R.tolist() == ([0.25, 0.75, 0.5] if first else [0.75, 0.25, 0.5])
    assert cast.agree_R.tolist() == [0.25, 0.25, 1.0]
    assert cast.seconds_R[0] == 3.0


def test_an_edit_is_no_ballot_and_a_hidden_order_has_no_side(store: Store) -> None:
    from accord.core.types import Writing

    hidden = Rater(name="file", kind="human", facts={"order_shown": "unknown"})
    store.add_raters([hidden])
    edit = ask("write", B)
    snapshot = three(
        store,
        says(ANNA, edit, Writing(text="better", edits=0)),
        says(hidden, ask("compare", A, B), Preference(better=0)),
        questions=[edit],
    )
    cast = ballots(snapshot)
    assert len(cast) == 1
    assert cast.side_R.tolist() == [0.0]
    (report,) = (r for r in rater_reports(snapshot) if r.name == "file")
    assert report.side.note == "the order shown is not known"


def test_style_is_counted() -> None:
    text = "# Head\n- one **bold** and __bold__\n2. two `code`\nnot - a list"
    assert style_of(text) == [1.4, 2.0, 2.0, 1.0, 1.0]  # tens of words, lists, bold, headings, code


def test_consistency_by_hand(store: Store) -> None:
    left, right = ask("compare", A, B), ask("compare", B, A)
    later = (START + timedelta(days=400)).isoformat()
    snapshot = three(
        store,
        says(ANNA, left, Preference(better=0)),
        says(ANNA, right, Preference(better=1), at=later),  # the same response again
        says(BEN, left, Preference(better=0)),
        says(BEN, right, Preference(better=0), at=later),  # the other one
    )
    reports = {r.name: r for r in rater_reports(snapshot)}
    anna, ben = reports["anna"], reports["ben"]
    assert "carl" not in reports  # judged nothing
    assert (anna.left.value, anna.left.n) == (0.0, 1)  # the last vote on a pair is the vote
    assert (ben.left.value, ben.left.n) == (1.0, 1)
    assert (anna.consistency.value, anna.consistency.n) == (1.0, 1)
    assert (ben.consistency.value, ben.consistency.n) == (0.0, 1)


def test_consistency_of_what_is_about_one_response(store: Store) -> None:
    thumb, rate = ask("thumb", A), ask("rate", B)
    later = (START + timedelta(days=400)).isoformat()
    snapshot = three(
        store,
        says(ANNA, thumb, Thumb(up=True)),
        says(ANNA, thumb, Thumb(up=False), at=later),
        says(ANNA, rate, Rating(scores={"tone": 3})),
        says(ANNA, rate, Rating(scores={"tone": 4}), at=later),  # one point off
        says(BEN, rate, Rating(scores={"tone": 3})),
        questions=(thumb, rate),
    )
    anna, ben = sorted(rater_reports(snapshot), key=lambda r: r.name)
    assert (anna.consistency.value, anna.consistency.n) == (0.5, 2)
    assert ben.consistency.note == "nothing was asked twice"


def test_fast_and_late_answers_that_are_worse_are_named(store: Store) -> None:
    from accord.feedback.simulated import SimulatedRater

    raters = [SimulatedRater(name=f"r{i}", skill=9.0) for i in range(3)]
    simulate(store, prompts=240, raters=raters)
    tired = Rater(name="tired", kind="human")
    store.add_raters([tired])
    snapshot = Snapshot.now(store)
    more = []
    asked = [j for j in snapshot.judgments if j.rater == raters[0].rater().id]
    for n, j in enumerate(asked):
        late = n >= 160  # answers the opposite, and in a second
        assert isinstance(j.answer, Preference)
        answer = Preference(better=1 - j.answer.better) if late else j.answer  # type: ignore[operator]
        at = (START + timedelta(days=1, minutes=n)).isoformat()
        more.append(
            Judgment(
                question=j.question,
                rater=tired.id,
                answer=answer,
                at=at,
                seconds=1.0 if late else 20.0,
            )
        )
    store.add_judgments(more)
    (report,) = (r for r in rater_reports(Snapshot.now(store)) if r.name == "tired")
    assert set(report.concerns) >= {"less reliable when fast", "less reliable over time"}
    assert report.speed.high is not None
    assert report.speed.high < -0.3
    assert report.seconds.value == 20.0


def test_a_taste_for_lists_is_named(store: Store) -> None:
    from accord.core.types import Prompt, Question, Response

    raters = [Rater(name=n, kind="human") for n in ("x", "y", "z", "lister")]
    store.add_raters(raters)
    for n in range(40):
        prompt = Prompt.user(f"q{n}")
        plain, listed = Response(text=f"plain {n} words"), Response(text=f"- listed {n}")
        store.add_prompts([prompt])
        store.add_responses(prompt, [plain, listed])
        q = Question(
            prompt=prompt.id,
            responses=(plain.id_for(prompt), listed.id_for(prompt)),
            kind="compare",
        )
        store.add_questions([q])
        for rater in raters:
            coin = (n + ord(rater.name[0])) % 2  # x and z, and y, take turns
            better = 1 if rater.name == "lister" else coin
            store.add_judgments([says(rater, q, Preference(better=better))])
    reports = {r.name: r for r in rater_reports(Snapshot.now(store))}
    lister = reports["lister"].style["lists"]
    # the lister gives 1 where the others give 1/2: +1/2. They give 1/2 where 2/3: -1/6, the median
    assert lister.value == pytest.approx(1 / 2 + 1 / 6)
    assert lister.low < 1 / 2 < lister.value < lister.high  # with the median and without
    assert reports["x"].style["lists"].value == pytest.approx(0.0)
    assert "prefers lists" in reports["lister"].concerns
    assert reports["lister"].style["bold"].note == "fewer than 20 pairs that differ in it"


def test_concerns_are_what_wide_intervals_are_clear_of(study: Study) -> None:
    """Each concern holds at 95% over all tests: the usual interval of its figure is clear by far."""
    reports = rater_reports(study[0])
    assert all("concern" not in name for r in reports for name in r.concerns)
    for r in reports:
        assert ("prefers the left side" in r.concerns) <= ((r.side.low or 0) > 0)


def test_few_prompts_raise_no_concern(store: Store) -> None:
    """Three prompts say nothing of a bias, however one-sided the votes on them are."""
    ask_left = [ask("compare", A, B), ask("compare", B, A), ask("compare", A, C)]
    judged = [says(r, q, Preference(better=0)) for q in ask_left for r in (ANNA, BEN)]
    assert all(not r.concerns for r in rater_reports(three(store, *judged, questions=ask_left[2:])))


def test_other_prompts_do_not_make_comparisons_on_few_prompts_many(store: Store) -> None:
    """Twelve prompts of thumbs and three of 28 comparisons each, of which all but some go to the left."""
    store.add_raters([ANNA, BEN])
    questions, said, draw = [], [], random.Random(2)
    for n in range(15):
        prompt = Prompt.user(f"question {n}")
        shown = [Response(text=f"answer {n} {i} " + "word " * i) for i in range(8)]
        store.add_prompts([prompt])
        store.add_responses(prompt, shown)
        ids = [r.id_for(prompt) for r in shown]
        pairs = list(itertools.combinations(ids, 2)) if n < 3 else [(ids[0],)]
        for at in pairs:
            kind = "compare" if n < 3 else "thumb"
            asked = Question(prompt=prompt.id, responses=tuple(draw.sample(at, len(at))), kind=kind)
            questions.append(asked)
            for rater in (ANNA, BEN):
                left = Preference(better=int(draw.random() < 0.1))
                said.append(says(rater, asked, left if n < 3 else Thumb(up=True)))
    store.add_questions(questions)
    store.add_judgments(said)
    reports = rater_reports(Snapshot.now(store))
    assert all(r.left.value > 0.8 for r in reports)
    assert [r.concerns for r in reports] == [(), ()]


def test_gold_by_hand(store: Store) -> None:
    left, right = ask("compare", A, B), ask("compare", B, A)
    rank, rate, thumb = ask("rank", A, B, C), ask("rate", A), ask("thumb", B)
    snapshot = three(
        store,
        says(ANNA, left, Preference(better=0)),
        says(ANNA, right, Preference(better=0)),
        says(BEN, left, Preference(better=None)),
        says(ANNA, rank, Ranking(ranks=(1, 2, 3))),
        says(BEN, rank, Ranking(ranks=(1, 2, 2))),
        says(ANNA, rate, Rating(scores={"help": 4.0, "tone": 1.0})),
        says(BEN, rate, Rating(scores={"help": 2.0})),
        says(ANNA, thumb, Thumb(up=True)),
        says(BEN, thumb, Thumb(up=False)),
        questions=[rank, rate, thumb],
    )
    a, b, c = (r.id_for(TENT) for r in (A, B, C))

    def shares(gold: dict[str, Any]) -> list[tuple[float | None, int]]:
        found = gold_shares(snapshot, {k: GoldAnswer(**v) for k, v in gold.items()})
        return [
            (found[r.id].value, found[r.id].n) if r.id in found else (None, 0) for r in (ANNA, BEN)
        ]

    assert shares({left.id: {"better": a}, right.id: {"better": a}}) == [(0.5, 2), (0.0, 1)]
    assert shares({TENT.id: {"better": a}}) == [(0.5, 2), (0.0, 1)]  # by prompt, whatever the order
    assert shares({left.id: {"better": "tie"}}) == [(0.0, 1), (1.0, 1)]
    assert shares({rank.id: {"order": [a, b, c]}}) == [(1.0, 1), (0.0, 1)]
    assert shares({rate.id: {"scores": {"help": [3, 5]}}}) == [(1.0, 1), (0.0, 1)]
    assert shares({thumb.id: {"up": False}}) == [(0.0, 1), (1.0, 1)]
    assert shares({left.id: {"better": c}}) == [(None, 0), (None, 0)]  # not shown: says nothing


def test_gold_is_read_from_a_file_that_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "gold.yaml"
    file.write_text("q1: {better: r1}\nq2: {scores: {help: [4, 5]}}\n")
    assert read_gold_questions(file)["q2"].scores == {"help": [4, 5]}
    for text, said in (
        (
            "q1: {better: r1}\nq2: {best: r1}\n",
            r"gold.yaml:2 q2.best: unknown key 'best'; allowed: better, order",
        ),
        ("q1: {}\n", "must say one thing; allowed: better, order, scores, up"),
        ("q1: {better: a, up: true}\n", "must say one thing"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_gold_questions(file)


def test_a_quarantine_deletes_nothing_and_says_why(store: Store) -> None:
    simulate(store, prompts=30)
    base = store.freeze("v1")
    made = quarantine(base, ["Dmitri"], because="prefers the left", name="v2")
    assert len(made) == len(base) - 30
    assert store.counts()["judgments"] == len(base)
    again = store.snapshot("v2")
    assert (again.sha256, again.selection.because) == (made.sha256, "prefers the left")
    assert again.selection.without == ("Dmitri",)
    assert store.snapshot("v1").sha256 == base.sha256
    both = quarantine(again, ["Emre"], because="guesses", name="v3")
    assert both.selection.without == ("Dmitri", "Emre")
    assert both.selection.because == "prefers the left; guesses"
    simulate(store, prompts=5, seed=1)  # what comes later is not in it
    assert len(store.snapshot("v3")) == len(both)
    store.verify()
    with pytest.raises(DataError, match=r"no rater 'Dimitri'.*allowed: Ada, Bruno"):
        quarantine(base, ["Dimitri"], because="-", name="v4")


def test_weights_count_votes_and_are_in_the_hash(store: Store) -> None:
    q = ask("compare", A, B)
    base = three(
        store,
        says(ANNA, q, Preference(better=0)),
        says(BEN, q, Preference(better=1)),
        says(CARL, q, Preference(better=1)),
    )
    (pair,) = base.pairs()
    assert (pair.chosen, pair.p, pair.weight) == (B, pytest.approx(2 / 3), 3)
    made = reweight(base, {"anna": 3.0, "carl": 0.5}, because="anna is the expert", name="w")
    (pair,) = store.snapshot("w").pairs()
    assert (pair.chosen, pair.p, pair.weight) == (A, pytest.approx(3 / 4.5), 4.5)
    assert pair.agreement == pytest.approx(3 / 4.5)
    assert len(pair.sources) == 3
    assert made.sha256 != base.sha256
    with pytest.raises(StoreError, match="or weighs them otherwise"):
        reweight(base, {"anna": 2.0}, because="-", name="w")


def test_weights_by_reliability_follow_it(store: Store) -> None:
    simulate(store, prompts=100)
    made = reweight(store.freeze("v1"), "reliability", because="measured", name="w")
    weights = made.selection.weights
    assert sorted(weights, key=lambda n: -weights[n])[0] == "Ada"
    assert weights["Emre"] < 0.6 < weights["Bruno"]
    assert sum(weights.values()) / 5 == pytest.approx(1.0, abs=1e-3)


def test_thumbs_have_a_truth_of_their_own(store: Store) -> None:
    # eight raters on forty responses: seven say the truth, one the opposite of it
    from accord.core.types import Prompt, Question, Response

    raters = [Rater(name=f"r{i}", kind="human") for i in range(8)]
    store.add_raters(raters)
    for n in range(40):
        prompt, response = Prompt.user(f"q{n}"), Response(text=f"a{n}")
        store.add_prompts([prompt])
        store.add_responses(prompt, [response])
        q = Question(prompt=prompt.id, responses=(response.id_for(prompt),), kind="thumb")
        store.add_questions([q])
        store.add_judgments(
            [says(r, q, Thumb(up=(n % 2 == 0) != (r.name == "r7"))) for r in raters]
        )
    right = {r.name: r.right["thumb"] for r in rater_reports(Snapshot.now(store))}
    assert right["r0"].value == pytest.approx(20.5 / 21)  # 20 of 20 with half an answer smoothed in
    assert right["r7"].value == pytest.approx(0.5 / 21)
