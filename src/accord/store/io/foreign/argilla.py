"""Argilla's records, in every shape they are kept in.

    2.x, to_json         {fields, responses: {question: [{value, user_id, status}]}, metadata, suggestions}
    1.x, the server's    {fields, responses: [{user_id, status, values: {question: {value}}}], …}
    1.x, from the hub    a column a field, and a question: [{user_id, value, status}]; QUESTION-suggestion
    2.x, to_datasets     a column a field; QUESTION.responses, .responses.users, .responses.status

A ranking is [{value, rank}], {value: […], rank: […]} or names in order, the best first. Answers that were
discarded or left as drafts, and those without a value, are no answers; suggestions are a model's.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from accord.store.io.foreign.task import NULL, OWN, ForeignAnswer, ForeignTask, Value

__all__ = ["is_argilla", "read_argilla"]

Row = Mapping[str, Any]
Cell = tuple[str, Any, Any, Any]  # question, value, user, status
ANSWER, ENDS = {"user_id", "value"}, (".responses", ".responses.users", ".responses.status")
SUGGESTED = (
    ".suggestion",
    ".suggestion.score",
    ".suggestion.agent",
    "-suggestion",
    "-suggestion-metadata",
)
KEPT = {"id", "status", "_server_id", "external_id", "metadata", "vectors", "suggestions", "inserted_at",
        "updated_at", "score"}  # fmt: skip


def is_argilla(row: Row) -> bool:
    if "fields" in row and "responses" in row:
        return True
    of_hub = any(
        k.endswith(SUGGESTED[-2]) or k.endswith(ENDS[1]) or _question(row[k]) for k in map(str, row)
    )
    return of_hub or {"_server_id", "status"} <= set(row)


def _question(value: Any) -> bool:
    """Whether a column of a hub's data set holds a question's answers."""
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Mapping) and set(first) >= ANSWER


def read_argilla(row: Row) -> ForeignTask:
    skipped: Counter[str] = Counter()
    if "fields" in row:
        fields, answers = row["fields"], list(_nested(row["responses"]))
    else:
        answers = [*_columns(row), *_flat(row)]
        asked = {str(k).removesuffix("-suggestion") for k in row if str(k).endswith("-suggestion")}
        fields = {
            k: v for k, v in row.items()
            if k not in KEPT | asked and not str(k).endswith((*ENDS, *SUGGESTED)) and not _question(v)
        }  # fmt: skip
    facts = row.get("metadata") or {}
    facts = json.loads(facts) if isinstance(facts, str) else dict(facts)
    facts |= {k: fields[k] for k in OWN & set(fields)}
    by_user: dict[str, ForeignAnswer] = {}
    for name, value, user, status in answers:
        who = "unknown" if user is None else str(user)
        if status in ("discarded", "draft", "pending"):
            skipped[f"{status} answers"] += 1
        elif value is None or value in ([], {}):
            skipped[NULL] += 1
        else:
            by_user.setdefault(who, ForeignAnswer(who, [])).values.append(_value(name, value))
    skipped["suggestions"] += _suggestions(row)
    return ForeignTask(fields, facts, list(by_user.values()), +skipped)


def _nested(responses: Any) -> Iterator[Cell]:
    if isinstance(responses, Mapping):
        for name, answers in responses.items():
            for answer in answers or []:
                yield name, answer["value"], answer.get("user_id"), answer.get("status")
        return
    for given in responses or []:
        values = given.get("values") or {}
        if isinstance(values, list):
            values = {k: v for some in values for k, v in some.items()}
        if not values:
            yield "", None, given.get("user_id"), given.get("status")
        for name, value in values.items():
            content = value["value"] if isinstance(value, Mapping) and "value" in value else value
            yield name, content, given.get("user_id"), given.get("status")


def _columns(row: Row) -> Iterator[Cell]:
    """A column a question: a list of answers, or (as older data sets have it) lists of their parts."""
    for name, value in row.items():
        if not _question(value):
            continue
        answers = value if isinstance(value, list) else list(_transposed(value))
        for answer in answers:
            yield name, answer["value"], answer["user_id"], answer.get("status")


def _transposed(lists: Row) -> Iterator[dict[str, Any]]:
    """{a: [1, 2], b: [3, 4]} -> {a: 1, b: 3}, {a: 2, b: 4}"""
    for some in zip(*(v or [] for v in lists.values()), strict=True):
        yield dict(zip(lists, some, strict=True))


def _flat(row: Row) -> Iterator[Cell]:
    for name in row:
        if str(name).endswith(ENDS[0]):
            values = row[name] or []
            users = row.get(f"{name}.users") or [None] * len(values)
            states = row.get(f"{name}.status") or [None] * len(values)
            for value, user, status in zip(values, users, states, strict=True):
                yield name.removesuffix(ENDS[0]), value, user, status


def _suggestions(row: Row) -> int:
    named = row.get("suggestions") or ()
    flat = [k for k in row if str(k).endswith((SUGGESTED[0], SUGGESTED[-2])) and row[k] is not None]
    return len(named) + len(flat)


def _value(name: str, value: Any) -> Value:
    if isinstance(value, Mapping) and {"rank", "value"} <= set(value):
        value = list(_transposed(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Value(name, value, "number")
    if isinstance(value, str):
        return Value(name, value, "label")
    if isinstance(value, list) and all(isinstance(x, Mapping) and "value" in x for x in value):
        return Value(name, [(x["value"], x.get("rank")) for x in value], "rank")
    if isinstance(value, list) and all(isinstance(x, str) for x in value):
        return Value(name, [(x, n) for n, x in enumerate(value, 1)], "rank")
    return Value(name, value, "other")
