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


def from_prompt(p: Prompt) -> Row:
    return {
        "id": p.id,
        "messages": canonical_json(list(p.messages)),
        "tags": canonical_json(p.tags),
    }


def from_response(p: Prompt, r: Response) -> Row:
    return {
        "id": r.id_for(p),
        "prompt": p.id,
        "text": r.text,
        "source": r.source,
        "sampling": None if r.sampling is None else canonical_json(r.sampling),
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
    return Prompt(messages=json.loads(row.messages), tags=json.loads(row.tags))


@_whole
def to_response(row: Any) -> Response:
    sampling = None if row.sampling is None else json.loads(row.sampling)
    return Response(text=row.text, source=row.source, sampling=sampling, finish=row.finish)


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
