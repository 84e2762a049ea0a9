"""Between the tables' rows and the types; JSON columns hold canonical JSON."""

from __future__ import annotations

import json
from typing import Any

from accord.core.hashing import canonical_json
from accord.core.types import Prompt, Question, Rater, Response

Row = dict[str, Any]


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


def to_prompt(row: Any) -> Prompt:
    return Prompt(messages=json.loads(row.messages), tags=json.loads(row.tags))


def to_response(row: Any) -> Response:
    sampling = None if row.sampling is None else json.loads(row.sampling)
    return Response(text=row.text, source=row.source, sampling=sampling, finish=row.finish)


def to_question(row: Any) -> Question:
    return Question(
        prompt=row.prompt,
        responses=json.loads(row.responses),
        kind=row.kind,
        guideline=row.guideline,
    )


def to_rater(row: Any) -> Rater:
    return Rater(name=row.name, kind=row.kind, facts=json.loads(row.facts))
