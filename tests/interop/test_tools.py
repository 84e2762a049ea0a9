"""The tools themselves, where they are installed: lm-evaluation-harness on a trained checkpoint with two
local tasks, Inspect AI with accord's provider and task; what they write is read back."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import accord
from accord.evals.outside.read import read_outside
from accord.pipeline.eval_forms import write_form
from tests.evals.test_outside import reported
from tests.lm.test_load import own_caches, stages
from tests.pipeline.tiny_recipe import save_tiny_model

__all__ = ["own_caches"]
pytestmark = pytest.mark.filterwarnings("ignore")

CHOICE = """
task: accord_choice
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choice.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: answer
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""
REPLY = """
task: accord_reply
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/reply.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "Say {{{{word}}}} again:"
doc_to_target: "{{{{word}}}}"
generation_kwargs: {{until: ["\\n"], max_gen_toks: 4, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
metadata: {{version: 1.0}}
"""


def tasks(folder: Path) -> Path:
    """Two tasks made locally: one by log-prob, one by what is written."""
    folder.mkdir()
    rows = [
        {"question": f"{k} and one?", "choices": [str(k + 1), str(k + 2)], "answer": 0}
        for k in range(6)
    ]
    words = [{"word": w} for w in ("tent", "boots", "rope")]
    for name, some in (("choice", rows), ("reply", words)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in some))
    (folder / "choice.yaml").write_text(CHOICE.format(folder=folder))
    (folder / "reply.yaml").write_text(REPLY.format(folder=folder))
    return folder


def test_lm_eval_on_a_trained_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip(
        "lm_eval", reason="lm_eval is not installed: pip install 'accord-align[lm-eval]'"
    )
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager
    from lm_eval.utils import make_table

    base, _, dpo = stages(tmp_path)
    policy = accord.export_model(dpo, tmp_path / "out")
    manager = TaskManager(include_path=str(tasks(tmp_path / "tasks")), include_defaults=False)
    files = []
    for model in (base, policy):
        document: dict[str, Any] = simple_evaluate(
            model="hf", model_args=f"pretrained={model},dtype=float32", device="cpu", batch_size=4,
            tasks=["accord_choice", "accord_reply"], task_manager=manager, bootstrap_iters=0,
        )  # fmt: skip
        files.append(tmp_path / model.name / "results_1.json")
        document.pop("samples")
        files[-1].write_text(json.dumps(document, default=str))
    before, after = map(read_outside, files)
    for results in (before, after):
        assert set(results.figures) == {("accord_choice", "acc"), ("accord_reply", "exact_match")}
        assert [f.n for f in results.figures.values()] == [6, 3]
    own = json.loads(write_form("lm-eval", reported(), tmp_path / "own")[0].read_text())
    assert "over-refusal" in make_table(own)


def test_inspect_asks_a_policy_and_runs_an_evaluation(tmp_path: Path) -> None:
    pytest.importorskip(
        "inspect_ai", reason="inspect_ai is not installed: pip install 'accord-align[inspect]'"
    )
    from inspect_ai import Task, eval
    from inspect_ai.dataset import Sample
    from inspect_ai.log import read_eval_log
    from inspect_ai.scorer import includes
    from inspect_ai.solver import generate

    import accord.inspect.registry
    from accord.inspect.tasks import evaluation

    model = f"accord/{save_tiny_model(tmp_path / 'm')}"
    prompts = tmp_path / "p.jsonl"
    rows = [
        {"prompt": f"How do I fold tent {k}?", "label": "safe", "behaviour": f"b{k // 2}"}
        for k in range(6)
    ]
    choice = [
        {"question": f"{k} and one?", "choices": ["1", "2"], "answer": k % 2} for k in range(3)
    ]
    prompts.write_text("".join(json.dumps(r) + "\n" for r in rows))
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(r) + "\n" for r in choice))
    theirs = Task(
        dataset=[Sample(input="Say tent", target="e")], solver=generate(), scorer=includes()
    )
    ours = [
        evaluation(str(prompts), "refusal,length"),
        evaluation(str(tmp_path / "c.jsonl"), "choice"),
        evaluation(str(prompts), "spread"),
    ]
    keys = {"display": "none", "log_dir": str(tmp_path / "logs"), "log_format": "json"}
    logs = eval([theirs, *ours], model=model, max_tokens=4, **keys)
    logging.getLogger().handlers.clear()
    assert [log.status for log in logs] == ["success"] * 4
    report = accord.run_evals(
        str(tmp_path / "m"), ["refusal", "length"], prompts=prompts, max_new_tokens=4, cache=None
    )
    figures = read_outside(logs[1].location).figures
    for name, own in report.metrics.items():
        for key, metric in own.items():
            again = figures["evaluation", f"measured_by_accord {name} {key}"].metric()
            assert again.value == pytest.approx(metric.value)
            assert again.n == metric.n
    alone = accord.run_evals(
        str(tmp_path / "m"), ["choice"], prompts=tmp_path / "c.jsonl", cache=None
    )
    read = read_outside(logs[2].location).figures[
        "evaluation", "measured_by_accord choice mass on right"
    ]
    assert read.value == pytest.approx(alone.metrics["choice"]["mass on right"].value, abs=1e-6)
    apart = read_outside(logs[3].location).figures["evaluation", "measured_by_accord spread spread"]
    varied = (
        apart.metric()
    )  # samples of a message differ: each has a seed, and the temperature of 1
    assert (varied.n, 0.2 < (varied.value or 0) <= 1) == (6, True)
    written = read_eval_log(str(write_form("inspect", reported(), tmp_path / "own")[0]))
    assert written.results is not None
    assert {s.name for s in written.results.scores} >= {"refusal over-refusal", "length words"}
