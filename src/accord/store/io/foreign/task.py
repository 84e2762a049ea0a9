"""What one row of another tool says: the texts shown, and who said what of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["MAIL", "NULL", "OWN", "STEPS", "ForeignAnswer", "ForeignTask", "Kind", "Value"]

Kind = Literal["pair", "choice", "number", "rank", "text", "label", "other"]
MAIL = "@accord.invalid"  # Label Studio names people by address
NULL = "answers without a value"
OWN = {"accord", "kind", "guideline", "lowest", "highest", "to_rank"}  # facts of our own export
STEPS: dict[str, Literal[-1, 0, 1]] = {"good": 1, "neutral": 0, "bad": -1}


@dataclass(frozen=True)
class Value:
    """One answer to one of the tool's questions. A `label` is text that may be a choice or written; a `rank`
    holds (name, rank); `about` is what the control was put on."""

    name: str
    value: Any
    kind: Kind
    about: str = ""


@dataclass
class ForeignAnswer:
    """All of one rater's values; `at` None where the tool keeps no time."""

    rater: str
    values: list[Value]
    at: str | None = None
    seconds: float | None = None


@dataclass
class ForeignTask:
    """Texts by field, facts, everybody's answers; `names` of all questions, and what was skipped and why."""

    fields: Mapping[str, Any]
    facts: Mapping[str, Any]
    answers: list[ForeignAnswer]
    skipped: Counter[str] = field(default_factory=Counter)
    loose: bool = False  # fields and answers share the row: a value that says nothing is a column
