"""Between the tables' rows and the types; JSON columns hold canonical JSON."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar

from accord.core.errors import StoreError
from accord.core.hashing import canonical_json
from accord.core.types import STORED, Judgment, Prompt, Question, Rater, Response

Row = dict[str, Any]
T = TypeVar("T")


def _whole(read: Callable[[Any], T]) -> Callable[[Any], T]:
    """A row that can't be read any more is a StoreError."""

    @functools.wraps(read)
    def checked(row: Any) -> T:
        try:
            return read(row)
        except (ValueError, TypeError):
            raise StoreError(
                f"row {row.id} can't be read: it is not what was written",
                mend="restore the store from a copy",
            ) from None

    return checked


# What few prompts and responses have stands inside a JSON column, so that older stores and archives stay as
# they are: tools beside the messages, a response's tool calls and sampled tokens beside its sampling.
BESIDE_SAMPLING = ("tool_calls", "tokens")


def from_prompt(p: Prompt) -> Row:
    messages = list(p.messages)
    return {
        "id": p.id,
        "messages": canonical_json(
            {"messages": messages, "tools": p.tools} if p.tools else messages
        ),
        "tags": canonical_json(p.tags),
    }


def from_response(p: Prompt, r: Response) -> Row:
    beside = {k: v for k in BESIDE_SAMPLING if (v := getattr(r, k)) is not None}
    plain = r.sampling is None and not beside
    return {
        "id": r.id_for(p),
        "prompt": p.id,
        "text": r.text,
        "source": r.source,
        "sampling": None if plain else canonical_json({**(r.sampling or {}), **beside}),
        "finish": r.finish,
    }


def from_question(q: Question) -> Row:
    return {
        "id": q.id,
        "prompt": q.prompt,
        "kind": q.kind,
        "guideline": q.guideline,
        "responses": canonical_json(q.responses),
    }


def from_rater(r: Rater) -> Row:
    return {"id": r.id, "name": r.name, "kind": r.kind, "facts": canonical_json(r.facts)}


def to_ids(text: str) -> list[str]:
    ids: list[str] = json.loads(text)
    return ids


@_whole
def to_prompt(row: Any) -> Prompt:
    held = json.loads(row.messages)
    held = held if isinstance(held, dict) else {"messages": held}
    return Prompt(**held, tags=json.loads(row.tags))


@_whole
def to_response(row: Any) -> Response:
    held: Row = {} if row.sampling is None else json.loads(row.sampling)
    beside = {k: held.pop(k) for k in BESIDE_SAMPLING if k in held}
    sampling = None if row.sampling is None or (beside and not held) else held
    return Response(
        text=row.text, source=row.source, sampling=sampling, finish=row.finish, **beside
    )


@_whole
def to_question(row: Any) -> Question:
    return Question(
        prompt=row.prompt,
        responses=json.loads(row.responses),
        kind=row.kind,
        guideline=row.guideline,
    )


@_whole
def to_rater(row: Any) -> Rater:
    return Rater(name=row.name, kind=row.kind, facts=json.loads(row.facts))


@_whole
def to_judgment(row: Any) -> Judgment:
    return Judgment.model_validate_json(row.body, context=STORED)
