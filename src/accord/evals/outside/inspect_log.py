"""Evaluation logs of Inspect AI, as JSON or as .eval (a zip of JSON files), read without it.

A scorer's values are numbers, yes and no, letters (C right, P half, I and N wrong) or several of them by
name; of a sample asked in several epochs all values count, and hang together.
"""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from accord.core.errors import DISTRIBUTION, DataError
from accord.evals.outside.figures import OutsideFigure, OutsideResults

__all__ = ["TOOL", "is_inspect", "read_inspect", "unpacked"]

TOOL = "inspect"
LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
MAIN = ("mean", "accuracy")
ERRORS = ("stderr", "bootstrap_stderr")


def is_inspect(document: Any) -> bool:
    """Whether a JSON document is such a log."""
    return isinstance(document, dict) and isinstance(document.get("eval"), dict) and (
        "task" in document["eval"] and "version" in document
    )  # fmt: skip


def unpacked(path: Path) -> dict[str, Any]:
    """A .eval file as the document that the JSON form is."""
    with contextlib.suppress(ImportError):
        import zipfile_zstd  # noqa: F401 - of Inspect's: from then on zipfile reads what it packs
    try:
        with zipfile.ZipFile(path) as packed:
            document: dict[str, Any] = json.loads(packed.read("header.json"))
            names = [n for n in packed.namelist() if n.startswith("samples/")]
            document["samples"] = [json.loads(packed.read(n)) for n in names]
    except (OSError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        what = f"can't be unpacked ({error})"
        way = "inspect log convert --to json --output-dir DIR FILE"
        mend = f"pip install '{DISTRIBUTION}[inspect]', or convert it: {way}"
        raise DataError(what, where=str(path), mend=mend) from None
    return document


def read_inspect(path: Path, document: Mapping[str, Any]) -> OutsideResults:
    """The figures of a log, of its samples where they are in it; DataError where it has none."""
    about = document["eval"]
    task, figures = str(about["task"]), dict[tuple[str, str], OutsideFigure]()
    values: dict[str, dict[str, float]] = {}
    ways = _ways(document)
    for sample in document.get("samples") or ():
        cluster = (sample.get("metadata") or {}).get("cluster") or sample["id"]
        for name, value in _values(sample.get("scores") or {}):
            key = f"{cluster}\t{sample['id']} {sample.get('epoch', 1)}"
            values.setdefault(name, {})[key] = value
    for name, own in values.items():
        mean = sum(own.values()) / len(own)
        figures[task, name] = OutsideFigure(task, name, mean, len(own), None, own, ways.get(name))
    for score in () if values else (document.get("results") or {}).get("scores") or ():
        metrics = {k: m.get("value") for k, m in (score.get("metrics") or {}).items()}
        mean_value, se = (
            next((float(v) for k in some if isinstance(v := metrics.get(k), int | float)), None)
            for some in (MAIN, ERRORS)
        )
        if mean_value is not None:
            n = score.get("scored_samples") or (document["results"]).get("completed_samples", 0)
            name = str(score["name"])
            figures[task, name] = OutsideFigure(
                task, name, mean_value, int(n), se, {}, ways.get(name)
            )
    if not figures:
        what = f"holds no scores (status {document.get('status')})"
        raise DataError(what, where=str(path), mend="is it the log of a finished evaluation?")
    version = about.get("task_version")
    return OutsideResults(TOOL, str(about.get("model")), figures, {task: f"version {version}"})


def _ways(document: Mapping[str, Any]) -> dict[str, bool | None]:
    """Whether more is better, by score: so where right and wrong are counted, and of accord's own as it says;
    of any other number it isn't known."""
    ways: dict[str, bool | None] = dict(
        (document["eval"].get("metadata") or {}).get("better") or {}
    )
    for score in (document.get("results") or {}).get("scores") or ():
        if "accuracy" in (score.get("metrics") or {}):
            ways.setdefault(str(score["name"]), True)
    return ways


def _values(scores: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, score in scores.items():
        value = score.get("value")
        several = value.items() if isinstance(value, Mapping) else [("", value)]
        for key, one in several:
            number = LETTERS.get(one) if isinstance(one, str) else one
            if isinstance(number, int | float) and math.isfinite(number):
                yield f"{name} {key}".strip(), float(number)
