"""Soft labels, noise and rankings: against the truth of a simulated study, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from accord.core.errors import ConfigError, DataError
from accord.core.types import Metric, Preference
from accord.feedback.simulated import SimulatedRater
from accord.feedback.trust.aggregate import flip_rate, noise, soft_groups
from accord.feedback.trust.ballots import ballots
from accord.feedback.trust.quality import fit_skills
from accord.feedback.trust.ranking import rank_models, rank_responses
from accord.store import Snapshot, Store
from tests.feedback.study import simulate
from tests.store.words import ANNA, BEN, COMPARE, A, B, fill, says

Study = tuple[Snapshot, dict[str, float]]
UNLIKE = (
    *(SimulatedRater(name=f"expert{i}", skill=14.0) for i in range(2)),
    *(SimulatedRater(name=f"guess{i}", skill=0.5, side_bias=1.0) for i in range(3)),
)


def right(groups: list, truth: dict[str, float]) -> list[bool]:  # type: ignore[type-arg]
    return [
        truth[p.chosen.id_for(p.prompt)] > truth[p.rejected.id_for(p.prompt)]
        for g in groups
        for p in g.pairs()
    ]


def test_soft_labels_believe_those_who_know(store: Store) -> None:
    truth = simulate(store, prompts=200, raters=UNLIKE)
    snapshot = store.freeze("v1")
    plain, soft = snapshot.groups(), soft_groups(snapshot)
    assert np.mean(right(soft, truth)) > np.mean(right(plain, truth)) + 0.1
    sure = [p.p for g in soft for p in g.pairs()]
    assert np.mean(sure) == pytest.approx(np.mean(right(soft, truth)), abs=0.06)


def test_a_soft_label_keeps_its_sources_and_weighs_one(study: Study) -> None:
    snapshot, _ = study
    votes = {(p.prompt.id, frozenset((p.chosen, p.rejected))): p for p in snapshot.pairs()}
    soft = [p for g in soft_groups(snapshot) for p in g.pairs()]
    assert len(soft) == len(votes) == 300
    for pair in soft:
        plain = votes[pair.prompt.id, frozenset((pair.chosen, pair.rejected))]
        assert (pair.sources, pair.weight) == (plain.sources, 1.0)
        assert 0.5 < pair.p <= 1.0


def test_a_filter_by_confidence_counts_what_it_leaves_out(study: Study) -> None:
    snapshot, truth = study
    every, sure = soft_groups(snapshot), soft_groups(snapshot, min_confidence=0.9)
    left_out = sure.notes["pairs under confidence 0.9"]
    assert sum(len(g.edges) for g in sure) + left_out == sum(len(g.edges) for g in every)
    assert left_out > 0
    assert np.mean(right(sure, truth)) > np.mean(right(every, truth))
    assert all(e.p >= 0.9 for g in sure for e in g.edges)
    with pytest.raises(ConfigError, match=r"allowed: \[0.5, 1\]"):
        soft_groups(snapshot, min_confidence=0.4)


def test_a_flip_rate_by_hand() -> None:
    # two who err in 0.1 of cases agree in 0.9² + 0.1² = 0.82
    got = flip_rate(Metric(value=0.82, low=0.68, high=1.0, n=10))
    assert (got.value, got.low, got.high) == pytest.approx((0.1, 0.0, 0.2))
    assert flip_rate(Metric(value=0.4, low=0.3, high=0.5, n=10)).value == 0.5
    assert flip_rate(Metric(value=None, n=0, note="why")).note == "why"


def test_noise_is_what_it_was_made_with(store: Store) -> None:
    # quality so far apart that each rater errs only by carelessness: half of 0.3
    raters = [SimulatedRater(name=f"r{i}", skill=1000.0, careless=0.3) for i in range(5)]
    truth = simulate(store, prompts=300, raters=raters)
    snapshot = Snapshot.now(store)
    cast = ballots(snapshot)
    got = noise(cast, fit_skills(cast))
    assert got.vote.low is not None
    assert got.vote.low < 0.15 < (got.vote.high or 0)
    wrong = 1 - np.mean(right(snapshot.groups(), truth))  # 0.027: three or more of five
    assert got.majority.value is not None
    assert (
        wrong - 0.01 < got.majority.value < 0.08
    )  # the model takes some pairs for hard: an upper estimate
    assert got.smoothing.value == got.majority.value
    assert got.smoothing.note == "of the majority's labels"
    assert got.judged_once.value == 0.0


def test_a_majority_is_as_wrong_as_it_says(study: Study) -> None:
    snapshot, truth = study
    cast = ballots(snapshot)
    wrong = 1 - np.mean(right(snapshot.groups(), truth))
    got = noise(cast, fit_skills(cast)).majority
    assert got.value == pytest.approx(wrong, abs=2.5 * math.sqrt(wrong * (1 - wrong) / 300))


def test_pairs_judged_once_take_the_noise_of_a_vote(store: Store) -> None:
    simulate(store, prompts=60, raters=[SimulatedRater(name="solo", skill=5.0)])
    simulate(store, prompts=30, seed=1)
    cast = ballots(Snapshot.now(store))
    got = noise(cast, fit_skills(cast))
    assert got.judged_once.value == pytest.approx(60 / 90)
    assert (got.smoothing.value, got.smoothing.note) == (got.vote.value, "of single votes")


def test_one_voice_has_no_noise_that_could_be_measured(store: Store) -> None:
    simulate(store, prompts=40, raters=[SimulatedRater(name="solo", skill=5.0)])
    snapshot = Snapshot.now(store)
    cast = ballots(snapshot)
    got = noise(cast, fit_skills(cast))
    assert (got.smoothing.value, got.smoothing.note) == (None, "nothing was judged twice")
    with pytest.raises(DataError, match="two raters judged, and there are none; use labels: votes"):
        soft_groups(snapshot)


def test_models_are_ranked_with_intervals(study: Study) -> None:
    got = rank_models(study[0])
    good, poor = got.models
    assert (good.name, poor.name) == ("model:good", "model:poor")
    assert good.strength.low is not None
    assert good.strength.low > 0 > (poor.strength.high or 0)
    assert good.elo.low is not None
    assert good.elo.low > 1000 > (poor.elo.high or 0)
    assert (good.wins.value or 0) + (poor.wins.value or 0) == pytest.approx(1.0)
    assert good.strength.n == 1500
    assert list(got.style) == ["10 words"]  # there is no markdown to control for
    plain = rank_models(study[0], style=False, weighted=False, ties="half")
    share = plain.models[0].wins.value
    assert share is not None
    assert plain.models[0].strength.value == pytest.approx(math.log(share / (1 - share)) / 2)
    assert plain.style == {}


def test_style_control_takes_length_from_a_ranking(store: Store) -> None:
    # raters who like nothing but length; equally good sources, so that strength at equal length is none
    raters = [SimulatedRater(name=f"r{i}", skill=0.0, length_bias=1.5) for i in range(4)]
    simulate(store, prompts=150, raters=raters)
    got = rank_models(Snapshot.now(store), weighted=False)
    for model in got.models:
        assert model.strength.low is not None
        assert model.strength.low < 0 < (model.strength.high or 0)
    words = got.style["10 words"]
    assert words.low is not None
    assert words.low < 1.5 < (words.high or 0)


def test_style_that_goes_with_the_source_is_not_controlled(store: Store) -> None:
    from accord.core.types import Prompt, Question, Response

    fill(store, [COMPARE])
    for n in range(30):
        prompt = Prompt.user(f"q{n}")
        pair = [
            Response(text=f"- listed {n}", source="model:a"),
            Response(text=f"plain {n} b", source="model:b"),
        ]
        store.add_prompts([prompt])
        store.add_responses(prompt, pair)
        q = Question(
            prompt=prompt.id, responses=tuple(r.id_for(prompt) for r in pair), kind="compare"
        )
        store.add_questions([q])
        store.add_judgments([says(r, q, Preference(better=int(n % 3 == 0))) for r in (ANNA, BEN)])
    got = rank_models(Snapshot.now(store), weighted=False)
    assert got.style == {}
    assert any(note.startswith("lists go with the source") for note in got.notes)
    assert got.models[0].strength.value == pytest.approx(math.log(2) / 2, abs=1e-6)  # 20 of 30


def test_a_source_that_always_wins_is_ranked_by_the_prior(store: Store) -> None:
    fill(store, [COMPARE]).add_judgments(
        [says(r, COMPARE, Preference(better=0)) for r in (ANNA, BEN)]
    )
    got = rank_models(Snapshot.now(store), style=False)
    assert [m.name for m in got.models] == [A.source, B.source]
    assert any("prior" in note for note in got.notes)
    assert rank_models(Snapshot.now(store).store.freeze("x", kinds=["thumb"])).notes == (
        "no comparison of two sources",
    )


def test_responses_are_ranked_by_their_prompt(study: Study) -> None:
    snapshot, truth = study
    ranked = rank_responses(snapshot)
    assert len(ranked) == 300
    hits = [truth[first[0]] > truth[second[0]] for first, second in ranked.values()]
    assert np.mean(hits) > 0.85
    for (_, one), (_, two) in ranked.values():
        assert one.value == pytest.approx(-two.value)  # type: ignore[operator]  # around their mean
        assert one.low is not None
