"""Results of lm-evaluation-harness: results_*.json, and samples_*.jsonl beside it (`--log_samples`).

A sample's value is believed where the mean of all is the task's figure: of others (perplexity, BLEU) the
figure is no mean, and its standard error is what the file tells.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accord.core.errors import DataError
from accord.evals.outside.figures import CLOSE, OutsideFigure, OutsideResults

__all__ = ["TOOL", "is_lm_eval", "read_lm_eval"]

TOOL = "lm-eval"


def is_lm_eval(document: Any) -> bool:
    """Whether a JSON document is such a file."""
    return isinstance(document, dict) and isinstance(document.get("results"), dict) and (
        "lm_eval_version" in document or "n-shot" in document or "configs" in document
    )  # fmt: skip


def read_lm_eval(path: Path, document: Mapping[str, Any]) -> OutsideResults:
    """The figures of a results file; DataError where it has none."""
    figures: dict[tuple[str, str], OutsideFigure] = {}
    groups = {k for k, subs in (document.get("group_subtasks") or {}).items() if subs}
    groups |= set(document.get("groups") or {})
    for task, row in document["results"].items():
        samples = _samples(path, task)
        ways = (document.get("higher_is_better") or {}).get(task) or {}
        n = (document.get("n-samples") or {}).get(task) or {}
        for key, value in row.items():
            name, comma, kept_by = key.partition(",")
            if not comma or name.endswith("_stderr") or not _is_number(value):
                continue
            se = row.get(f"{name}_stderr,{kept_by}")
            values = samples.get((name, kept_by), {})
            shown = name if kept_by == "none" else f"{name} ({kept_by})"
            figures[task, shown] = OutsideFigure(
                task, shown, float(value), int(n.get("effective") or row.get("sample_len") or len(values)),
                float(se) if _is_number(se) else None, values if _agrees(values, value) else {},
                ways.get(name), task not in groups,
            )  # fmt: skip
    if not figures:
        raise DataError("holds no figure of a task", where=str(path), mend="is it the right file?")
    config = document.get("config") or {}
    model = document.get("model_name") or str(config.get("model_args") or config.get("model") or "")
    setups = {
        task: f"version {(document.get('versions') or {}).get(task)}, "
        f"{(document.get('n-shot') or {}).get(task)} shots"
        for task in document["results"]
    }
    return OutsideResults(TOOL, str(model), figures, setups)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _agrees(values: Mapping[str, float], figure: float) -> bool:
    if not values:
        return False
    return abs(sum(values.values()) / len(values) - figure) <= CLOSE * max(1.0, abs(figure))


def _samples(path: Path, task: str) -> dict[tuple[str, str], dict[str, float]]:
    """Each document's values by (measure, filter): of the file logged with this one."""
    date = path.stem.removeprefix("results_")
    file = path.parent / f"samples_{task}_{date}.jsonl"
    values: dict[tuple[str, str], dict[str, float]] = {}
    if not file.is_file():
        return values
    for number, line in enumerate(_lines(file), 1):
        try:
            row = json.loads(line)
            key = f"{row.get('cluster') or row['doc_id']}\t{row['doc_id']} {row.get('doc_hash')}"
            for name in row["metrics"]:
                if _is_number(row.get(name)):
                    values.setdefault((name, row.get("filter", "none")), {})[key] = float(row[name])
        except (ValueError, KeyError, TypeError) as error:
            what = f"is no sample of lm-eval ({error})"
            raise DataError(what, where=f"{file}:{number}") from None
    return values


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8").rstrip("\n")
        return text.split("\n") if text else []
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't be read ({error})", where=str(file)) from None
