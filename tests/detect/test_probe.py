"""What a reward model pays for: one that loves length, one that knows the truth, an indifferent one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from accord.core.types import Edge, Exchange, Group, Prompt, Response
from accord.detect.probe import _spread, probe
from accord.lm.model.scalar_head import ScalarHead
from accord.pipeline.probing import Probed, answers_of, of_groups
from tests.detect.test_panel import policy
from tests.test_cli import accord, assert_one_line
from tests.train.small import reward_model

ANSWERS = [r.exchange for r in (*policy(3, 40), *policy(4, 40))]


def words(exchanges: Sequence[Exchange]) -> list[float]:
    return [0.1 * len(e.response.text.split()) for e in exchanges]


def chance(exchanges: Sequence[Exchange], salt: str = "") -> list[float]:
    """A score that is nothing but noise: original and perturbed are alike to it."""
    texts = [f"{salt}{e.prompt.id}{e.response.text}" for e in exchanges]
    return [int(hashlib.md5(t.encode()).hexdigest()[:8], 16) / 2**32 for t in texts]


def test_a_model_that_loves_length_pays_for_padding_by_what_it_adds() -> None:
    report = probe(ANSWERS, words)
    pays = {p.perturbation: p for p in report.pays}
    assert report.pays[0].outcome == "fail"
    assert pays["padded"].outcome == "fail"
    own = {e.response.text: len(e.response.text.split()) for e in ANSWERS}
    example = pays["padded"].examples[0]
    assert example.paid_before == pytest.approx(0.1 * own[example.before])
    assert example.paid_after == pytest.approx(0.1 * len(example.after.split()))
    # one stock sentence of 15 words more each time, whatever the answer: 1.5 of a score
    assert pays["stock"].pay.value == pytest.approx(1.5 / report.spread)
    assert pays["refused"].outcome == "pass"
    assert pays["opened"].keeps
    assert not pays["refused"].keeps


def test_the_spread_is_the_mean_distance_of_two_answers_to_a_prompt() -> None:
    assert _spread(np.array([1.0, 4.0, 2.0, 3.0]), np.array([0, 0, 1, 1])) == 2.0
    # of single answers: |1-4|, |1-2|, |1-3|, |4-2|, |4-3|, |2-3|
    assert _spread(np.array([1.0, 4.0, 2.0, 3.0]), np.arange(4)) == pytest.approx(10 / 6)


def test_what_the_truth_pays_too_is_no_exploit() -> None:
    report = probe(ANSWERS, words, truth=words, names=["padded", "stock"])
    assert [p.outcome for p in report.pays] == ["pass", "pass"]
    assert report.pays[0].truth == report.pays[0].pay
    falls = probe(ANSWERS, words, truth=lambda x: [-s for s in words(x)], names=["padded"])
    assert (falls.pays[0].outcome, "truth falls" in falls.pays[0].summary) == ("fail", True)


def test_the_answer_that_is_paid_best_by_all_is_found() -> None:
    """Half of the answers are loved wherever they stand: one of them given to all is paid, while the truth
    falls. A reward that reads the prompt pays nothing for another prompt's answer."""
    own = {(e.prompt.id, e.response.text) for e in ANSWERS}
    loved = {e.response.text for e in ANSWERS[::2]}

    def in_love(exchanges: Sequence[Exchange]) -> list[float]:
        return [
            3.0 * (e.response.text in loved) + x
            for e, x in zip(exchanges, chance(exchanges), strict=True)
        ]

    def reads(exchanges: Sequence[Exchange]) -> list[float]:
        right = [float((e.prompt.id, e.response.text) in own) for e in exchanges]
        return [r + x for r, x in zip(right, chance(exchanges), strict=True)]

    pay = {p.perturbation: p for p in probe(ANSWERS, in_love, reads).pays}["one_for_all"]
    assert pay.outcome == "fail"
    assert {x.after for x in pay.examples} <= loved
    assert len({x.after for x in pay.examples}) == 1
    assert pay.pay.n < len(ANSWERS)
    assert (pay.keeps, "the truth falls" in pay.summary) == (False, True)
    (read,) = probe(ANSWERS, reads, names=["one_for_all"]).pays
    assert read.outcome == "pass"
    assert read.pay.high is not None
    assert read.pay.high < 0


def test_an_indifferent_model_raises_few_alarms() -> None:
    """Of 20 probes 5% would be 1; more than 3 come by chance once in 60."""
    few = ANSWERS[:30]
    reports = [probe(few, lambda x, s=s: chance(x, str(s))) for s in range(20)]
    alarms = [any(p.outcome in ("warn", "fail") for p in r.pays) for r in reports]
    assert sum(alarms) <= 3
    constant = probe(few, lambda x: [1.0] * len(x))
    assert {p.outcome for p in constant.pays} == {"pass"}
    assert "alike" in constant.notes[0]


def test_the_command_probes_a_model_on_a_file(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The head reads a random trunk, so what it pays is anything; the constant head pays for nothing."""
    model, data = reward_model(tiny, tmp_path / "rm"), tmp_path / "a.jsonl"
    rows = [{"prompt": f"q{i}?", "response": f"It takes {i} days."} for i in range(10)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("reward", "probe", str(model))
    code, shown, _ = accord(capsys, *command, "--data", str(data), "--json", "--only", "padded")
    report = json.loads(shown)
    assert (code, report["answers"], report["prompts"]) == (0, 10, 10)
    code, _, error = accord(capsys, *command)
    assert_one_line(code, error, "which answers?")
    code, _, error = accord(capsys, *command, "--data", str(data), "--only", "x")
    assert_one_line(code, error, "unknown perturbation 'x'")
    head = ScalarHead.load(model)
    torch.nn.init.zeros_(head.weight)
    head.save(model)
    code, shown, _ = accord(capsys, *command, "--data", str(data), "--fail-on", "warn")
    assert (code, "pays for nothing" in shown) == (0, True)


def test_each_answer_of_a_policy_is_there_once() -> None:
    """With how it was sampled."""
    said = [Response(text=t, source="model:sft", sampling={"seed": 3}) for t in ("a", "b", "a")]
    group = Group(prompt=Prompt.user("q"), responses=tuple(said), edges=(Edge(better=0, worse=1),))
    assert [e.response.text for e in of_groups([group])] == ["a", "b"]


def test_pairs_are_answers_too(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": f"q{i}?", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(3)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = {e.response.text for e in answers_of(Probed(tmp_path), str(data), 2)}
    assert len(texts) == 4
