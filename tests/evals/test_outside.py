"""Results of lm-evaluation-harness and Inspect AI: read back, compared, and written in their forms."""

from __future__ import annotations

import json
import random
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import AccordError, DataError
from accord.core.types import Exchange, Prompt, Response
from accord.evals.base import EvaluationContext, configured
from accord.evals.outside.figures import OutsideFigure, OutsideResults, tax_of
from accord.evals.outside.read import read_outside
from accord.lm.sampler import Sampling
from accord.pipeline.asked import AskedPrompts
from accord.pipeline.eval_forms import write_form
from accord.pipeline.eval_report import EvalCost, EvalReport
from accord.pipeline.tax import outside
from accord.stats.intervals import paired_difference, proportion
from tests.test_cli import accord

Rows = Mapping[str, Sequence[float]]


def lm_eval(folder: Path, tasks: Rows, *, samples: bool = True, shots: int = 0) -> Path:
    """Results as lm-eval 0.4 writes them: accuracy of yes and no."""
    folder.mkdir(parents=True, exist_ok=True)
    results, n_samples = {}, {}
    for task, values in tasks.items():
        n = len(values)
        acc = sum(values) / n
        se = (acc * (1 - acc) / (n - 1)) ** 0.5
        results[task] = {"alias": task, "acc,none": acc, "acc_stderr,none": se}
        n_samples[task] = {"original": n, "effective": n}
        rows = [
            {"doc_id": k, "doc_hash": f"h{k}", "filter": "none", "metrics": ["acc"], "acc": v}
            for k, v in enumerate(values)
        ]
        if samples:
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"samples_{task}_2026-01-01.jsonl").write_text(lines)
    document = {
        "results": results, "versions": dict.fromkeys(tasks, 1.0), "n-shot": dict.fromkeys(tasks, shots),
        "higher_is_better": {t: {"acc": True} for t in tasks}, "n-samples": n_samples,
        "model_name": folder.name, "lm_eval_version": "0.4.13",
    }  # fmt: skip
    path = folder / "results_2026-01-01.json"
    path.write_text(json.dumps(document))
    return path


RIGHT = [1.0, 0.0, 1.0, 1.0] * 10
LESS = [1.0, 0.0, 0.0, 1.0] * 10


def test_a_file_of_lm_eval(tmp_path: Path) -> None:
    """With samples or without, a share of yes and no has a share's interval; paired, the difference is
    that of the samples, else of two independent shares, which is wider."""
    with_, without = (
        [lm_eval(tmp_path / f"{name}{s}", {"arc": v}, samples=s)
         for name, v in (("dpo", RIGHT), ("base", LESS))]
        for s in (True, False)
    )  # fmt: skip
    for one in (with_[0], without[0], tmp_path / "dpoTrue"):
        figure = read_outside(one).metrics()["lm-eval arc"]["acc"]
        known = proportion(30, 40)
        assert (figure.value, figure.low, figure.high, figure.n) == (
            known.value, pytest.approx(known.low), pytest.approx(known.high), 40,
        )  # fmt: skip
    paired, apart = (
        outside(some[:1], some[1:]).differences["lm-eval arc"]["acc"] for some in (with_, without)
    )
    own = paired_difference(RIGHT, LESS)
    assert (paired.value, paired.low, paired.high) == (own.value, own.low, own.high)
    assert apart.value == pytest.approx(0.25)
    assert apart.low is not None
    assert paired.low is not None
    assert apart.low < paired.low
    for folder in (
        tmp_path / "dpoTrue",
        tmp_path / "baseTrue",
    ):  # the last sample may end without a newline
        file = folder / "samples_arc_2026-01-01.jsonl"
        file.write_text(file.read_text().rstrip("\n"))
    again = outside(with_[:1], with_[1:]).differences["lm-eval arc"]["acc"]
    assert (again.low, again.high) == (own.low, own.high)


def test_the_mean_over_tasks_and_what_is_not_compared(tmp_path: Path) -> None:
    after = lm_eval(tmp_path / "dpo", {"arc": RIGHT, "boolq": LESS, "odd": RIGHT})
    before = lm_eval(tmp_path / "base", {"arc": LESS, "boolq": LESS, "odd": RIGHT})
    document = json.loads(before.read_text())
    document["n-shot"]["odd"] = 5
    before.write_text(json.dumps(document))
    both = outside([after], [before])
    mean = both.differences["all"]["mean over tasks"]
    assert mean.value == pytest.approx(0.25 / 2)
    assert list(both.differences) == ["lm-eval arc", "lm-eval boolq", "all"]
    assert both.tax is not None
    assert "odd: version 1.0, 0 shots against version 1.0, 5 shots" in both.tax.notes[0]
    level = both.differences["lm-eval arc"]["acc"].level
    assert level == pytest.approx(1 - 0.05 / 3)  # two tasks and their mean


def test_an_alarm_between_equal_policies_is_rare() -> None:
    """Of 120 pairs of policies that are equally good on three tasks, some difference is clear in at most
    5%, to the simulation's error; paired or not."""
    draw, alarms = random.Random(2), [0, 0]
    for _ in range(120):
        for paired in (0, 1):
            sides = []
            for _ in range(2):
                values = {
                    f"t{t}": [float(draw.random() < 0.6) for _ in range(40)] for t in range(3)
                }
                figures = {
                    (t, "acc"): OutsideFigure(
                        t, "acc", sum(v) / 40, 40, (sum(v) / 40 * (1 - sum(v) / 40) / 39) ** 0.5,
                        {f"{k}\t{k}": x for k, x in enumerate(v)} if paired else {},
                    )
                    for t, v in values.items()
                }  # fmt: skip
                sides.append(OutsideResults("lm-eval", "m", figures))
            every = [
                m for own in tax_of(sides[:1], sides[1:]).differences.values() for m in own.values()
            ]
            alarms[paired] += any(not m.low <= 0 <= m.high for m in every)  # type: ignore[operator]
    assert max(alarms) <= 120 * 0.05 + 2 * 2.4


def test_a_group_and_what_is_no_mean(tmp_path: Path) -> None:
    """A group of tasks counts its tasks, not itself; where samples don't average to the figure, its
    standard error stands."""
    path = lm_eval(tmp_path / "dpo", {"mmlu": RIGHT, "mmlu_law": RIGHT, "wiki": LESS})
    document = json.loads(path.read_text())
    document["group_subtasks"] = {"mmlu": ["mmlu_law"]}
    document["results"]["wiki"] = {"acc,none": 12.5, "acc_stderr,none": 0.5}
    path.write_text(json.dumps(document))
    figures = read_outside(path).figures
    assert [f.leaf for f in figures.values()] == [False, True, True]
    metric = figures["wiki", "acc"].metric()
    assert metric.low == pytest.approx(12.5 - 2.0227 * 0.5, abs=1e-3)  # t of 39 degrees


def inspect_log(path: Path, samples: list[dict[str, Any]], **more: Any) -> Path:
    document = {
        "version": 2, "status": "success", "samples": samples,
        "eval": {"task": "tents", "model": "accord/x", "created": "2026-01-01T00:00:00+00:00"}, **more,
    }  # fmt: skip
    if path.suffix == ".json":
        path.write_text(json.dumps(document))
        return path
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("header.json", json.dumps({**document, "samples": None}))
        for k, sample in enumerate(samples):
            packed.writestr(f"samples/{k}.json", json.dumps(sample))
    return path


@pytest.mark.parametrize("name", ["log.json", "log.eval"])
def test_a_log_of_inspect(name: str, tmp_path: Path) -> None:
    """Letters are right, half and wrong, several values are measures, epochs of a sample hang together."""
    samples = [
        {"id": k, "epoch": e, "scores": {
            "includes": {"value": "CPI"[k % 3]}, "mine": {"value": {"a": 0.25, "b": float("nan")}}}}
        for k in range(6) for e in (1, 2)
    ]  # fmt: skip
    results = {"scores": [{"name": "includes", "metrics": {"accuracy": {"value": 0.5}}}]}
    metrics = read_outside(inspect_log(tmp_path / name, samples, results=results)).metrics()
    own = metrics["inspect tents"]
    assert {k: m.value for k, m in own.items()} == {"includes": 0.5, "mine a": 0.25}
    assert own["includes"].n == 12
    assert own["includes"].measure is not None
    assert own["includes"].measure.better == "more"
    once = read_outside(inspect_log(tmp_path / name, samples[::2], results=results)).metrics()
    first = once["inspect tents"]["includes"]
    assert (first.low, first.high) == pytest.approx(
        (own["includes"].low, own["includes"].high), abs=0.02
    )


def test_a_log_without_samples(tmp_path: Path) -> None:
    figures = {"accuracy": {"value": 0.75}, "stderr": {"value": 0.0693375}}
    scores = [{"name": "includes", "metrics": figures}]
    results = {"completed_samples": 40, "scores": scores}
    metric = read_outside(inspect_log(tmp_path / "a.json", [], results=results)).metrics()
    known = proportion(30, 40)
    assert metric["inspect tents"]["includes"].low == pytest.approx(known.low)


def reported(n: int = 2) -> EvalReport:
    """Twelve prompts of four clusters, two replies each, scored by refusal and length."""
    prompts = [
        Prompt.user(f"q{k}", label="safe" if k % 2 else "unsafe", cluster=f"c{k // 3}")
        for k in range(12)
    ]
    texts = ["I can't help with that.", "Take the train at nine, it is quick."]
    replies = [
        Exchange(prompt=p, response=Response(text=texts[(k + e) % 2], finish="stop"))
        for k, p in enumerate(prompts) for e in range(n)
    ]  # fmt: skip
    asked = AskedPrompts(prompts, cluster="cluster")
    report = EvalReport("run:dpo", "hash", Sampling(n=n), asked, replies, EvalCost(0, 0, 0, 0, 0))
    for one in configured(["refusal", "length"]):
        context = EvaluationContext()
        rows = one.make(context)(replies)  # type: ignore[misc]
        report.chosen[one.name] = (one, context)
        report.rows[one.name] = [(e.prompt, dict(r)) for e, r in zip(replies, rows, strict=True)]
        report.metrics[one.name] = report.figures(one.name, report.rows[one.name])
    return report


@pytest.mark.parametrize("form", ["lm-eval", "inspect"])
def test_what_is_written_reads_back(form: str, tmp_path: Path) -> None:
    """Value, n and interval of every measure, clusters included."""
    report = reported()
    results = read_outside(write_form(form, report, tmp_path)[0])
    for name, figures in report.metrics.items():
        for key, metric in figures.items():
            at = (name, key) if form == "lm-eval" else ("accord", f"{name} {key}")
            again = results.figures[at].metric()
            assert (again.value, again.n) == (pytest.approx(metric.value), metric.n)
            assert (again.low, again.high) == pytest.approx((metric.low, metric.high))
            better = metric.measure.better if metric.measure else None
            assert again.measure is not None
            assert again.measure.better == better


def test_the_command_shows_them_beside_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lm_eval(tmp_path / "dpo", {"arc": RIGHT, "boolq": LESS})
    lm_eval(tmp_path / "base", {"arc": LESS, "boolq": LESS})
    words = ("--results", "dpo", "--against-results", "base", "--out", "o")
    code, text, _ = accord(capsys, "eval", "run:dpo", *words)
    assert code == 0
    assert "lm-eval arc" in text
    assert "mean over tasks" in text
    kept = json.loads((tmp_path / "o/outside.json").read_text())
    assert kept["differences"]["lm-eval arc"]["acc"]["value"] == 0.25


BAD = {
    "no file": ("none.json", "none.json: no such file"),
    "no results": ("empty.json", "empty.json: holds no results"),
    "no JSON": ("cut.json", "cut.json: can't be read"),
    "no figure": ("bare.json", "bare.json: holds no figure"),
    "two": ("two", "two: holds 2 results"),
    "no zip": ("x.eval", "x.eval: can't be unpacked"),
    "an error": ("failed.json", "failed.json: holds no scores (status error)"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_one_line(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("{}")
    (tmp_path / "cut.json").write_text('{"results"')
    (tmp_path / "bare.json").write_text('{"results": {"a": {"alias": "a"}}, "n-shot": {}}')
    (tmp_path / "x.eval").write_text("no zip")
    inspect_log(tmp_path / "failed.json", [], status="error")
    for k in range(2):
        lm_eval(tmp_path / f"two/{k}", {"arc": RIGHT})
    file, match = BAD[name]
    with pytest.raises(AccordError) as error:
        read_outside(tmp_path / file)
    assert match in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    a, b = (lm_eval(tmp_path / t, {t: RIGHT}) for t in ("arc", "boolq"))
    with pytest.raises(DataError, match="no task and measure is in both"):
        outside([a], [b])
