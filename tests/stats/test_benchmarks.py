"""Published scores from published answers, and each formula at values worked out by hand."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.core.errors import DataError
from accord.stats.benchmarks import (
    BbqAnswer,
    bbq,
    best_of,
    length_controlled,
    mt_bench,
    section,
    strong_reject,
    subset_accuracy,
    ties,
)


def test_bbq_by_hand() -> None:
    open_ = [BbqAnswer(True, True, None)] * 6 + [BbqAnswer(True, False, True)] * 3
    found = bbq([*open_, BbqAnswer(True, False, False), *[BbqAnswer(False, True, False)] * 2])
    assert found["acc_amb"].value == pytest.approx(0.6)
    assert found["s_amb"].value == pytest.approx(0.4 * (2 * 3 / 4 - 1))
    assert found["s_dis"].value == -1  # none biased, others named: not 0
    assert found["s_dis"].n == 2
    assert bbq([BbqAnswer(True, True, None)])["s_amb"].value is None


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("category", "published"),
    [("Age", (54.7, 29.8, 93.5, 1.2)), ("Religion", (65.0, 14.3, 88.0, 0.2))],
)
def test_bbq_as_published(shared_data: Path, category: str, published: tuple[float, ...]) -> None:
    file = shared_data / "bbq" / "unifiedqa_preds" / f"{category}.jsonl"
    answers = [_read(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    found = bbq(answers)
    for name, value in zip(("acc_amb", "s_amb", "acc_dis", "s_dis"), published, strict=True):
        assert 100 * (found[name].value or 0.0) == pytest.approx(value, abs=0.06), name


def _read(row: dict[str, Any]) -> BbqAnswer:
    said = row["unifiedqa-t5-11b_pred_race"].strip().lower().rstrip(".")
    texts = [row[f"ans{i}"].strip().lower().rstrip(".") for i in range(3)]
    at = texts.index(said)
    group = row["answer_info"][f"ans{at}"][1]
    stereotyped = group in row["additional_metadata"]["stereotyped_groups"]
    negative = row["question_polarity"] == "neg"
    return BbqAnswer(
        row["context_condition"] == "ambig",
        at == row["label"],
        None if group == "unknown" else stereotyped == negative,
    )


def test_length_controlled_by_hand() -> None:
    assert length_controlled(0.0) == 50
    assert length_controlled(math.log(3)) == pytest.approx(75)
    assert length_controlled(0.0, 2.0, [-1.0, 1.0]) == pytest.approx(50)


@pytest.mark.shared_data
def test_length_controlled_as_published(shared_data: Path) -> None:
    def table(name: str) -> list[dict[str, str]]:
        with (shared_data / "alpaca_lc" / name).open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    gamma = [float(r["instruction_difficulty"]) for r in table("instruction_difficulty.csv")]
    told = {r[""]: r["length_controlled_winrate"] for r in table("published_leaderboard.csv")}
    away = []
    for row in table("published_weights.csv"):
        if told.get(row[""]):
            theta, psi = row["not_gamed_baseline.astype(float)"], row["instruction_difficulty"]
            away.append(length_controlled(float(theta), float(psi), gamma) - float(told[row[""]]))
    assert len(away) == 199
    assert np.median(np.abs(away)) < 1e-8


def test_reward_bench() -> None:
    assert subset_accuracy([2, 1, 0, 3], [1, 1, 1, 0]).value == 0.5  # a tie is wrong
    assert section({"a": 1.0, "b": 0.5}, {"a": 10, "b": 30}) == pytest.approx(0.625)
    assert best_of([[3, 1, 2, 0], [2, 2, 1, 0], [0, 1, 1, 1], [5, 4, 3, 2]]).value == 0.5
    with pytest.raises(DataError, match="b have an accuracy or a count"):
        section({"a": 1.0}, {"a": 1, "b": 2})
    with pytest.raises(DataError, match="1 chosen and 2 rejected"):
        subset_accuracy([1], [1, 2])


TIED, REF = ([5.0, 4.0], [1.0, 0.0]), ([6.0], [1.0, 2.0])  # s = 1; m = 3, and 4 of the other form


def test_ties_by_hand() -> None:
    """All right and margins of 3 against 1: 1 and a hundredth of tanh 2."""
    got = ties({"a": TIED, "b": TIED}, {"b": REF, "a": REF})
    assert got.margin == pytest.approx(math.tanh(3 / 1 - 1))
    assert got.score.value == pytest.approx(1 + 0.01 * math.tanh(2))
    parts = (got.tied, got.ref, got.preferred, got.preferred_hard)
    assert [p.value for p in parts] == [1, 1, 1, 1]
    assert got.score.low is not None
    assert 0 < got.score.low < got.score.value <= (got.score.high or 0) <= 1.01 + 1e-9
    assert ties({"a": TIED}, {"a": REF}).score.low is None  # of one prompt


@pytest.mark.parametrize(
    ("tied", "ref", "score", "margin"),
    [
        # right above wrong by less than the right ones are apart: preferred neither way
        (([5.0, 2.0], [1.0]), REF, 0.6, math.tanh(1 / 3 - 1)),
        # the other form alone spoils it: preferred, not hard
        (TIED, ([1.5], [1.0]), 0.8, math.tanh(0.5 - 1)),
        # a wrong answer above a right one in both forms
        (([5.0, 0.0], [1.0]), ([0.0], [1.0]), 0.0, math.tanh(-1 / 5 - 1)),
        # right answers alike: the limit, up, down and 0/0, which counts 0; a tie with a wrong one is wrong
        (([5.0, 5.0], [1.0]), REF, 1.0, 1.0),
        (([0.0, 0.0], [1.0]), REF, 0.3, -1.0),
        (([1.0, 1.0], [1.0]), REF, 0.3, 0.0),
    ],
)
def test_each_part_of_ties(tied: Any, ref: Any, score: float, margin: float) -> None:
    got = ties({"a": tied}, {"a": ref})
    assert got.margin == pytest.approx(margin)
    assert got.score.value == pytest.approx(score + 0.01 * margin)
    scaled = ([[3 * x - 7 for x in side] for side in form] for form in (tied, ref))
    moved = ties(*({"a": tuple(form)} for form in scaled))
    assert moved.score.value == pytest.approx(got.score.value)  # no scale, no zero matters


def test_ties_of_prompts_with_one_form_count_as_published() -> None:
    """Accuracies are of all prompts, margins of those with both forms; then there is no interval."""
    wrong = ([0.0], [1.0])
    got = ties({"a": TIED, "b": ([0.0, 1.0], [2.0])}, {"a": REF, "c": wrong, "d": wrong})
    assert got.score.value == pytest.approx(0.3 / 2 + 0.3 / 3 + 0.4 + 0.01 * math.tanh(2))
    assert (got.score.low, got.score.n, got.tied.n, got.ref.n) == (None, 1, 2, 3)
    with pytest.raises(DataError, match="no prompt with and without ties"):
        ties({"a": TIED}, {"b": REF})


def test_the_interval_of_ties_holds_the_truth() -> None:
    """Of 40 prompts each; the truth is the mean of 20,000."""
    draw = np.random.default_rng(4)

    def prompts(n: int) -> tuple[Any, Any]:
        forms: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for k in range(n):
            hard = draw.normal(0, 1)
            for form, right in zip(forms, (3, 1), strict=True):
                good, bad = draw.normal(1.5 - hard, 0.5, right), draw.normal(0, 0.4, 4)
                form[str(k)] = (good.tolist(), bad.tolist())
        return forms

    truth = ties(*prompts(20_000)).score.value
    scores = [ties(*prompts(40)).score for _ in range(300)]
    held = sum(s.low <= truth <= s.high for s in scores)  # type: ignore[operator]
    assert held >= 0.95 * 300 - 2 * math.sqrt(300 * 0.95 * 0.05)


def test_ratings_that_are_none_are_missing() -> None:
    assert strong_reject(True, math.nan, 5) == 0
    assert strong_reject(False, 5, 5) == 1
    assert strong_reject(False, 2, 4) == 0.5
    assert math.isnan(strong_reject(False, 0, 3))
    assert math.isnan(strong_reject(False, math.nan, 3))
    mean, dropped = mt_bench(["Good: [[8]]", "[[6.5]]", "8 of 10", "[[11]]"], ["a", "b", "b", "c"])
    assert (mean.value, mean.n, dropped) == (7.25, 2, 2)
