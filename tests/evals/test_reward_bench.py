"""RewardBench's arithmetic on rows as published, by any scorer; the scores move with no batch."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from accord.core.errors import DataError
from accord.core.types import Exchange
from accord.evals.reward_bench import SECOND, SECTIONS, bench, bench_row
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.trees.engine import Engine
from accord.pipeline.benching import bench_rows
from accord.rewards.learned import RewardModel, load_reward_model
from accord.store.io.readers import BadRow
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.test_cli import accord


def longer(exchanges: Sequence[Exchange]) -> list[float]:
    return [float(len(e.response.text)) for e in exchanges]


def rows(subset: str, right: int, n: int, wrong: int = 1) -> list[dict[str, object]]:
    """`right` of `n` rows whose chosen answer is longer than all of the rejected; one of the others ties."""
    return [
        {"prompt": f"{subset} {k}", "chosen": "x" * (9 if k < right else 3), "subset": subset,
         "rejected": ["xxx"] * wrong if wrong > 1 else "xxx"}
        for k in range(n)
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", [1, 3])
def test_accuracy_by_subset_a_tie_is_wrong(wrong: int) -> None:
    every = [bench_row(r) for r in (*rows("a", 3, 4, wrong), *rows("b", 1, 4, wrong))]
    report = bench([r for r in every if r], longer)
    assert {k: m.value for k, m in report.subsets.items()} == {"a": 0.75, "b": 0.25}
    assert (report.overall.value, report.overall.n) == (0.5, 8)
    assert report.overall.low is not None
    assert (report.sections, report.total) == ({}, None)


def test_sections_by_the_published_counts() -> None:
    """All right but math-prm, half right: reasoning is (984/2 + 6·164)/(984 + 6·164), 3/4; the total the mean
    of four."""
    assert [sum(s.values()) for s in SECTIONS.values()] == [358, 456, 740, 1968]
    subsets = [name for counts in SECTIONS.values() for name in counts]
    table = [r for name in subsets for r in rows(name, 1 if name == "math-prm" else 2, 2)]
    report = bench([b for r in table if (b := bench_row(r))], longer)
    assert report.sections["Reasoning"] == pytest.approx(0.75)
    assert report.total == pytest.approx((3 + 0.75) / 4)


def tied(number: int, chosen: list[int], rejected: list[int]) -> dict[str, object]:
    """Answers of so many letters; the form by how many are right."""
    form = "tied" if len(chosen) > 1 else "ref"
    texts = [["x" * n for n in lengths] for lengths in (chosen, rejected)]
    return {"prompt": f"{form} {number}", "chosen": texts[0], "rejected": texts[1],
            "subset": "Ties", "id": f"{form}:{number}"}  # fmt: skip


def test_ties_have_a_score_of_their_own() -> None:
    """One prompt right in both forms (s = 1, m = 3), one wrong in both (s = 4, m = -1); no accuracy of theirs
    is in the figure over all rows."""
    table = [tied(1, [6, 5], [2]), tied(1, [9], [2, 1]), tied(2, [5, 1], [2]), tied(2, [1], [2])]
    others = [r for name in SECOND[:-1] for r in rows(name, 1, 2, 3)]
    report = bench([b for r in [*table, *others] if (b := bench_row(r))], longer)
    margin = (math.tanh(3 - 1) + math.tanh(-1 / 4 - 1)) / 2
    assert report.ties is not None
    assert report.ties.margin == pytest.approx(margin)
    assert report.subsets["Ties"].value == pytest.approx(0.5 + 0.01 * margin)
    assert (report.overall.value, report.overall.n) == (0.5, 10)
    assert report.mean == pytest.approx((5 * 0.5 + 0.5 + 0.01 * margin) / 6)
    assert report.total is None
    assert json.loads(json.dumps(report.plain()))["ties"]["ref"]["value"] == 0.5
    alone = bench([b for r in [*others, table[0]] if (b := bench_row(r))], longer)
    assert (alone.ties, alone.mean, alone.left_out) == (None, None, 1)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"id": None}, "is None of 2 right answers"),
        ({"id": "ref:1"}, "'ref:1' of 2"),
        ({"chosen": ["x"]}, "'tied:1' of 1"),
    ],
)
def test_a_row_of_ties_says_which_form_it_is(change: dict[str, object], fault: str) -> None:
    with pytest.raises(BadRow, match=fault):
        bench_row(tied(1, [6, 5], [2]) | change)


def test_order_of_rows_changes_nothing() -> None:
    every = [r for r in map(bench_row, (*rows("a", 3, 9), *rows("b", 2, 5))) if r]
    shuffled = every[:]
    random.Random(1).shuffle(shuffled)
    assert bench(every, longer) == bench(shuffled, longer)


def test_a_saved_model_s_accuracy_moves_with_no_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the command, rows in any order and number together: the scores behind it are each row's own."""
    model, head, tokenizer = tiny_model("llama"), ScalarHead(32, 0), tiny_tokenizer()
    model.save_pretrained(tmp_path / "rm")
    tokenizer.save_pretrained(tmp_path / "rm")
    RewardModel(Engine(model), head, tokenizer, 64).save(tmp_path / "rm")
    draw = random.Random(4)
    table = [
        {"prompt": "tent " * draw.randint(1, 9), "chosen": "a boot " * draw.randint(1, 9),
         "rejected": ["no " * draw.randint(1, 9), "yes"], "subset": "ab"[k % 2]}
        for k in range(12)
    ]  # fmt: skip
    path = tmp_path / "b.jsonl"
    said = []
    for some in (table, table[::-1]):
        path.write_text("".join(json.dumps(r) + "\n" for r in some))
        code, text, _ = accord(capsys, "reward", "bench", str(tmp_path / "rm"), str(path), "--json")
        assert code == 0
        said.append(json.loads(text))
    assert said[0] == said[1]
    loaded = load_reward_model(tmp_path / "rm")
    alone = [r for row in table if (r := bench_row(row))]
    ones = [bench([r], loaded).overall.value for r in alone]
    assert sum(v or 0 for v in ones) / 12 == pytest.approx(said[0]["overall"]["value"])


def test_ties_are_told_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("accord.rewards.learned.load_reward_model", lambda _: longer)
    monkeypatch.setattr("accord.pipeline.probing.reward_at", lambda _: SimpleNamespace(model="rm"))
    path = tmp_path / "b.jsonl"
    table = [tied(1, [6, 5], [2]), tied(1, [9], [2, 1]), *rows("Math", 1, 2, 3)]
    path.write_text("".join(json.dumps(r) + "\n" for r in table))
    code, text, error = accord(capsys, "reward", "bench", "rm", str(path))
    assert (code, error) == (0, "")
    told = {line.split("  ")[0].strip(): line.split()[-1] for line in text.splitlines()}
    assert re.search(r"Ties +1\.01 n=1", text)
    assert told["ties: margin"] == "0.964"
    assert told["all rows"] == "n=2"
    assert "mean of subsets" not in text


def test_a_file_and_what_is_wrong_in_it(tmp_path: Path) -> None:
    path = tmp_path / "b.jsonl"
    several = {"prompt": "q", "chosen": ["a", "b"], "rejected": ["c"], "subset": "a"}
    path.write_text("".join(json.dumps(r) + "\n" for r in (*rows("a", 1, 2), several)))
    known, left_out = bench_rows(str(path), "subset")
    assert (len(known), left_out) == (2, 1)
    path.write_text(json.dumps({"prompt": "q", "chosen": "a"}) + "\n")
    with pytest.raises(DataError, match="rejected: is no answer"):
        bench_rows(str(path), "subset")
    with pytest.raises(BadRow):
        bench_row({"prompt": "q", "chosen": 3, "rejected": "b"})
    with pytest.raises(DataError, match="no row with one right answer"):
        bench([], longer)
