"""A row of Argilla or Label Studio as typed objects, and what of it was not read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from accord.core.types import ANSWERS, Judgment, Prompt, Question, QuestionKind, Rater, Response
from accord.store.io.foreign.answers import answers_of
from accord.store.io.foreign.argilla import is_argilla, read_argilla
from accord.store.io.foreign.label_studio import KEPT, is_label_studio, read_label_studio
from accord.store.io.foreign.names import Shown, question_of
from accord.store.io.foreign.task import NULL, OWN, ForeignTask
from accord.store.io.native import Native
from accord.store.io.readers import BadRow

__all__ = ["TOOLS", "Foreign", "read_foreign", "tool_of"]

TOOLS = {"argilla": read_argilla, "label_studio": read_label_studio}
KINDS: dict[str, QuestionKind] = {answer: asked for asked, answer in ANSWERS.items()}  # type: ignore[misc]


@dataclass
class Foreign:
    """What came of a row. `untimed` are judgments whose tool keeps no time."""

    prompt: Prompt
    texts: tuple[str, ...]
    objects: list[Native]
    untimed: set[str] = field(default_factory=set)
    unused: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def tool_of(row: Mapping[str, Any]) -> str | None:
    """The tool that wrote a row, None when it is none of these."""
    if is_label_studio(row):
        return "label_studio"
    return "argilla" if is_argilla(row) else None


def read_foreign(row: Mapping[str, Any], format: str, at: str) -> Foreign:
    """What a record or task says; BadRow names the field that is wrong. `at` is used where the tool keeps
    no time."""
    try:
        return _read(TOOLS[format](row), at)
    except (
        ValidationError,
        TypeError,
        AttributeError,
        KeyError,
        ValueError,
        RecursionError,
    ) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadRow("", f"is no {format} row that can be read ({first})") from None


def _read(task: ForeignTask, at: str) -> Foreign:
    prompt, shown, used = question_of(task.fields, task.facts)
    responses = [
        Response(text=t, source=s, tool_calls=c)
        for t, s, c in zip(shown.texts, shown.sources, shown.calls, strict=True)
    ]
    ids = [r.id_for(prompt) for r in responses]
    objects: list[Native] = [
        ("prompt", "", prompt),
        *(("response", prompt.id, r) for r in responses),
    ]
    foreign = Foreign(prompt, shown.texts, objects, skipped=Counter(task.skipped))
    unread: Counter[str] = Counter()
    names = {v.name for answer in task.answers for v in answer.values}
    for answer in task.answers:
        answer.values = [v for v in answer.values if not (task.loose and v.name in used)]
        foreign.skipped[NULL] += sum(v.value in (None, "") for v in answer.values)
        answer.values = [v for v in answer.values if v.value not in (None, "")]
        rater = Rater(name=answer.rater, kind="human", facts={"order_shown": "unknown"})
        for about in answers_of(answer, shown, task.facts, names, unread):
            question = Question(
                prompt=prompt.id, responses=tuple(ids[i] for i in about.of), kind=KINDS[about.answer.kind],
                guideline=str(task.facts.get("guideline") or "v1"),
            )  # fmt: skip
            judgment = Judgment(
                question=question.id, rater=rater.id, answer=about.answer, at=answer.at or at,
                seconds=answer.seconds, rationale=about.rationale,
            )  # fmt: skip
            objects += [
                ("question", "", question),
                ("rater", "", rater),
                ("judgment", "", judgment),
            ]
            if answer.at is None:
                foreign.untimed.add(judgment.id)
    if task.loose:  # text that says nothing may be a column: it is told as one
        labels = {v.name for answer in task.answers for v in answer.values if v.kind == "label"}
        used |= {name for name in labels if not unread.pop(name, 0)}
    foreign.skipped.update({f"answers to {name}": n for name, n in unread.items() if n})
    foreign.skipped = +foreign.skipped
    if not task.answers and not foreign.skipped:
        foreign.skipped["rows that nobody answered"] += 1
    foreign.unused = _unused(task, shown, used)
    return foreign


def _unused(task: ForeignTask, shown: Shown, used: set[str]) -> list[str]:
    kept = used | OWN | KEPT
    unused = [k for k, v in task.fields.items() if k not in kept and v not in (None, "", [], {})]
    if task.facts is not task.fields:
        unused += [f"metadata.{k}" for k in task.facts if k not in OWN and k not in task.fields]
    return [*unused, *shown.dropped]
