"""What `accord eval` measured, in the forms of other tools: lm-evaluation-harness's results and samples, and
a log of Inspect AI. Standard errors are those of accord's intervals, which respect clusters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError
from accord.core.hashing import content_hash
from accord.core.rundir import make_dir, write_json, write_jsonl
from accord.core.types import Exchange, Metric, Prompt
from accord.core.version import __version__
from accord.pipeline.eval_report import EvalReport

__all__ = ["FORMS", "check_forms", "write_form"]

NORMAL = 1.959963984540054  # standard errors to either side of a 95% interval


def write_form(name: str, report: EvalReport, folder: Path) -> list[Path]:
    """The report in a tool's form; the files written."""
    check_forms([name])
    make_dir(folder, "choose another with --out DIR")
    return FORMS[name](report, folder)


def check_forms(names: list[str]) -> None:
    """ConfigError for one that is none."""
    for name in names:
        if name not in FORMS:
            raise ConfigError(f"no form {name!r}", where="--form", allowed=", ".join(FORMS))


def _se(metric: Metric) -> float | None:
    if metric.low is None or metric.high is None:
        return None
    return (metric.high - metric.low) / (2 * NORMAL)


def _replies(report: EvalReport) -> dict[str, list[Exchange]]:
    """The replies to each prompt, in order."""
    replies: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in report.replies:
        replies[exchange.prompt.id].append(exchange)
    return replies


# -- lm-evaluation-harness ------------------------------------------------------------------------


def _lm_eval(report: EvalReport, folder: Path) -> list[Path]:
    """results_DATE.json, and samples_EVALUATION_DATE.jsonl of each evaluation."""
    date = _now().strftime("%Y-%m-%dT%H-%M-%S.%f")
    results: dict[str, dict[str, Any]] = {}
    files = [folder / f"results_{date}.json"]
    better: dict[str, dict[str, bool]] = {}
    for name, figures in report.metrics.items():
        results[name] = {"name": name, "alias": name, "sample_len": len(report.rows[name])}
        for key, metric in figures.items():
            se = _se(metric)
            results[name] |= {
                f"{key},none": metric.value,
                f"{key}_stderr,none": "N/A" if se is None else se,
            }
            if metric.measure and metric.measure.better:
                better.setdefault(name, {})[key] = metric.measure.better == "more"
        files.append(folder / f"samples_{name}_{date}.jsonl")
        write_jsonl(files[-1], _lm_eval_samples(report, name))
    ones = dict.fromkeys(results)
    document = {
        "results": results, "group_subtasks": {}, "higher_is_better": better,
        "configs": {k: {"task": k, "metadata": dict(report.chosen[k][0].config)} for k in ones},
        "versions": {k: report.chosen[k][0].version for k in ones},
        "n-shot": dict.fromkeys(ones, 0),
        "n-samples": {
            k: {"original": len(report.rows[k]), "effective": len(report.rows[k])} for k in ones
        },
        "config": {
            "model": "accord", "model_args": {"policy": report.policy, "identity": report.identity},
            "gen_kwargs": report.sampling.model_dump(),
        },
        "date": _now().timestamp(), "model_source": "accord", "model_name": report.policy,
        "model_name_sanitized": report.policy.replace("/", "__"), "accord_version": __version__,
    }  # fmt: skip
    write_json(files[0], document)
    return files


def _lm_eval_samples(report: EvalReport, name: str) -> list[dict[str, Any]]:
    rows, texts = [], _in_turn(report)
    for number, (prompt, scores) in enumerate(report.rows[name]):
        asked = [m.model_dump(mode="json", include={"role", "content"}) for m in prompt.messages]
        reply = "" if report.chosen[name][0].asks else texts(prompt)
        rows.append(
            {
                "doc_id": number, "doc": {"prompt": asked, **prompt.tags}, "target": "",
                "arguments": {"gen_args_0": {"arg_0": asked, "arg_1": {}}},
                "resps": [[reply]], "filtered_resps": [reply], "filter": "none",
                "metrics": list(scores), "doc_hash": prompt.id, "prompt_hash": prompt.id,
                "target_hash": "", "cluster": report.asked.cluster_of(prompt), **scores,
            }
        )  # fmt: skip
    return rows


def _in_turn(report: EvalReport) -> Callable[[Prompt], str]:
    """Of a prompt asked for again its next reply."""
    left = {k: iter(v) for k, v in _replies(report).items()}
    return lambda prompt: next(left[prompt.id]).response.text


# -- Inspect AI -----------------------------------------------------------------------------------


def _inspect(report: EvalReport, folder: Path) -> list[Path]:
    """accord_DATE.json: one log, a score for each evaluation and measure."""
    now = _now()
    scores, better = [], {}
    for name, figures in report.metrics.items():
        for key, metric in figures.items():
            if metric.measure and metric.measure.better:
                better[f"{name} {key}"] = metric.measure.better == "more"
            scores.append(_inspect_score(name, key, metric, len(report.rows[name])))
    samples = _inspect_samples(report)
    document = {
        "version": 2, "status": "success",
        "eval": {
            "created": now.isoformat(timespec="seconds"), "task": "accord",
            "task_id": content_hash([report.identity, list(report.metrics)])[:22],
            "run_id": content_hash([report.identity, now.isoformat()])[:22],
            "task_args": {k: dict(e.config) for k, (e, _) in report.chosen.items()},
            "dataset": {"name": "accord", "samples": len(report.asked.prompts)},
            "model": f"accord/{report.policy}", "config": {"epochs": report.sampling.n},
            "model_generate_config": _generate_config(report),
            "packages": {"accord-align": __version__}, "metadata": {"better": better},
        },
        "plan": {}, "stats": {"started_at": "", "completed_at": now.isoformat(timespec="seconds")},
        "results": {
            "total_samples": len(samples), "completed_samples": len(samples), "scores": scores,
        },
        "samples": samples,
    }  # fmt: skip
    file = folder / f"{now.strftime('%Y-%m-%dT%H-%M-%S-%f')}_accord.json"
    write_json(file, document)
    return [file]


def _generate_config(report: EvalReport) -> dict[str, Any]:
    how = report.sampling
    return {
        "max_tokens": how.max_new_tokens, "temperature": how.temperature, "top_p": how.top_p,
        "seed": how.seed,
    }  # fmt: skip


def _inspect_score(name: str, key: str, metric: Metric, n: int) -> dict[str, Any]:
    figures = {"mean": metric.value, "stderr": _se(metric)}
    metrics = {
        k: {"name": k, "value": v, "params": {}} for k, v in figures.items() if v is not None
    }
    return {
        "name": f"{name} {key}", "scorer": name, "params": {}, "metrics": metrics,
        "scored_samples": metric.n, "unscored_samples": max(0, n - metric.n),
    }  # fmt: skip


def _inspect_samples(report: EvalReport) -> list[dict[str, Any]]:
    """A sample for each prompt and reply; evaluations that ask for themselves score the first."""
    values: dict[tuple[str, int], dict[str, float]] = defaultdict(dict)
    for name, rows in report.rows.items():
        times: dict[str, int] = defaultdict(int)
        for prompt, scores in rows:
            times[prompt.id] += 1
            own = {f"{name} {k}": v for k, v in scores.items()}
            values[prompt.id, times[prompt.id]] |= own
    replies, prompts = _replies(report), {p.id: p for p in report.asked.prompts}
    samples = []
    for (id_, epoch), own in values.items():
        some = replies.get(id_, [])[epoch - 1 : epoch]
        samples.append(
            _inspect_sample(prompts[id_], epoch, [e.response.text for e in some], own, report)
        )
    return samples


def _inspect_sample(
    prompt: Prompt, epoch: int, replies: list[str], values: Mapping[str, float], report: EvalReport
) -> dict[str, Any]:
    model = f"accord/{report.policy}"
    turns = [m.model_dump(mode="json", include={"role", "content"}) for m in prompt.messages]
    turn = [{"role": "assistant", "content": text, "source": "generate"} for text in replies]
    choices = [{"message": m, "stop_reason": "stop"} for m in turn]
    metadata = {**prompt.tags, "cluster": report.asked.cluster_of(prompt)}
    return {
        "id": prompt.id, "epoch": epoch, "input": turns, "target": "", "messages": [*turns, *turn],
        "output": {"model": model, "choices": choices}, "metadata": metadata,
        "scores": {k: {"value": v} for k, v in values.items()},
    }  # fmt: skip


def _now() -> datetime:
    return datetime.now(UTC)


FORMS = {"lm-eval": _lm_eval, "inspect": _inspect}
