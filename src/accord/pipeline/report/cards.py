"""The data cards on the page: what each source of judgments holds, as titled lines."""

from __future__ import annotations

from typing import Any

from accord.core.rundir import read_json
from accord.core.types import Metric
from accord.pipeline.report.gather import Done, Outputs, Row
from accord.pipeline.report.words import number

__all__ = ["cards"]


def cards(outputs: Outputs) -> list[Row]:
    """The data cards: counts, raters, agreement, split and hashes of each source of judgments."""
    return [_card(stage) for stage in outputs.data]


def _card(stage: Done) -> Row:
    card = read_json(stage.folder / "card.json")
    raters = card.pop("raters", [])
    return {
        "stage": stage.name,
        "notes": stage.result.notes,
        "parts": [(title, _lines(value)) for title, value in _titled(card)],
        "raters": [{k: _say(v) for k, v in r.items()} for r in raters],
    }


def _titled(card: Row) -> list[tuple[str, Row]]:
    flat = {k: v for k, v in card.items() if not isinstance(v, dict) or "level" in v}
    nested = {k: v for k, v in card.items() if isinstance(v, dict) and "level" not in v}
    return [("in all", flat), *((k.replace("_", " "), v) for k, v in nested.items())]


def _lines(part: Row) -> list[tuple[str, str]]:
    return [(k.replace("_", " "), _say(v)) for k, v in part.items()]


def _say(value: Any) -> str:
    if isinstance(value, dict) and "level" in value:
        return str(Metric.model_validate(value))
    if isinstance(value, float):
        return number(value)
    return "" if value is None else str(value)
