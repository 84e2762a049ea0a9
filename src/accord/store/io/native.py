"""accord's own JSONL: one typed row a line, lossless. {"type": "prompt", "messages": […], "tags": {…}}

Types: prompt, response (with `prompt`, its prompt's id), question, rater, judgment. Rows may come in any
order; what they refer to must be in the file or in the store.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from accord.core.errors import AccordError, DataError
from accord.core.types import Judgment, Prompt, Question, Rater, Response, response_id
from accord.store.db import schema
from accord.store.db.fitting import unfit
from accord.store.io.readers import BadRow

if TYPE_CHECKING:
    from accord.store.db.store import Store
    from accord.store.snapshot.frozen import Snapshot

__all__ = ["Native", "add_native", "native_rows", "read_native", "refused"]

TYPES: dict[str, type[BaseModel]] = {
    "prompt": Prompt,
    "response": Response,
    "question": Question,
    "rater": Rater,
    "judgment": Judgment,
}
Native = tuple[str, str, Any]  # type, prompt id of a response, object


def read_native(row: Mapping[str, Any]) -> Native:
    """The object a row holds; BadRow names the field that is wrong."""
    rest = dict(row)
    name = rest.pop("type", None)
    if not isinstance(name, str) or name not in TYPES:
        raise BadRow("type", f"{name!r} is unknown", ", ".join(TYPES))
    prompt = rest.pop("prompt", None) if name == "response" else ""
    if not isinstance(prompt, str):
        raise BadRow("prompt", "is missing", "the id of the response's prompt")
    try:
        return name, prompt, TYPES[name].model_validate(rest)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRow(".".join(map(str, first["loc"])), first["msg"]) from None


def add_native(store: Store, objects: Sequence[Native], path: Path) -> int:
    """Add all objects in the order their references need; returns the number of new judgments."""
    of = {name: [thing for n, _, thing in objects if n == name] for name in TYPES}
    store.add_prompts(of["prompt"])
    known = {p.id: p for p in of["prompt"]}
    if any(name == "response" and prompt not in known for name, prompt, _ in objects):
        known |= {p.id: p for p in store.prompts()}
    responses = []
    for name, prompt, thing in objects:
        if name == "response":
            if prompt not in known:
                raise DataError(
                    f"prompt {prompt} is neither in the file nor in the store",
                    where=f"{path} response.prompt",
                )
            responses.append((known[prompt], thing))
    try:
        store.add_all_responses(responses)
        store.add_raters(of["rater"])
        store.add_questions(of["question"])
        return store.add_judgments(of["judgment"])
    except AccordError as error:
        raise DataError(error.what, where=f"{path}: {error.where}", mend=error.mend) from None


def refused(store: Store, groups: Sequence[Sequence[Native]]) -> dict[int, BadRow]:
    """The groups of objects that the store would refuse, by number, and why: also what refers to them."""
    faults: dict[int, BadRow] = {}
    while new := _refused(store, {n: g for n, g in enumerate(groups) if n not in faults}):
        faults |= new
    return faults


def _refused(store: Store, groups: Mapping[int, Sequence[Native]]) -> dict[int, BadRow]:
    of: dict[str, list[Any]] = {name: [] for name in TYPES}
    db = store.database
    prompt_of: dict[str, str] = {}
    for name, prompt, thing in (x for group in groups.values() for x in group):
        of[name].append(thing)
        if name == "response":
            prompt_of[response_id(prompt, thing)] = prompt
    named = {q.prompt for q in of["question"]} | set(prompt_of.values())
    prompts = {p.id for p in of["prompt"]} | {
        i for (i,) in db.columns(schema.prompts, "id", named, "id")
    }
    shown = {r for q in of["question"] for r in q.responses} - set(prompt_of)
    prompt_of |= dict(db.columns(schema.responses, "id", shown, "id", "prompt"))
    misfits = unfit(db, of["judgment"], of["question"], of["rater"])
    faults: dict[int, BadRow] = {}
    for n, group in groups.items():
        for name, prompt, thing in group:
            what = ""
            if name == "response" and prompt not in prompts:
                what = f"prompt {prompt} is neither in the file nor in the store"
            elif name == "question" and thing.prompt not in prompts:
                what = f"prompt {thing.prompt} is neither in the file nor in the store"
            elif name == "question":
                wrong = next((r for r in thing.responses if prompt_of.get(r) != thing.prompt), None)
                what = f"response {wrong} is no response to prompt {thing.prompt}" if wrong else ""
            elif name == "judgment":
                what = misfits.get(thing.id, "")
            if what:
                faults.setdefault(n, BadRow(name, what))
    return faults


def native_rows(snapshot: Snapshot) -> Iterator[dict[str, Any]]:
    """A snapshot's judgments, those they correct, and all they speak of."""
    tables = snapshot.tables
    judgments = _with_corrected(snapshot)
    questions = {j.question: tables.questions[j.question] for j in judgments}
    prompts = {q.prompt: tables.prompts[q.prompt] for q in questions.values()}
    shown = {r: q.prompt for q in questions.values() for r in q.responses}
    raters = {j.rater: tables.raters[j.rater] for j in judgments}
    groups: tuple[tuple[str, Sequence[BaseModel]], ...] = (
        ("prompt", list(prompts.values())),
        ("rater", list(raters.values())),
    )
    for name, things in groups:
        yield from ({"type": name, **t.model_dump(mode="json")} for t in things)
    for id, prompt in shown.items():
        yield {"type": "response", "prompt": prompt, **tables.responses[id].model_dump(mode="json")}
    for name, things in (("question", list(questions.values())), ("judgment", judgments)):
        yield from ({"type": name, **t.model_dump(mode="json")} for t in things)


def _with_corrected(snapshot: Snapshot) -> list[Judgment]:
    """In the order they came; a correction can't be imported without what it supersedes."""
    if not any(j.supersedes for j in snapshot.judgments):
        return snapshot.judgments
    everything = snapshot.store.judgments()
    of = {j.id: j for j in everything}
    wanted: set[str] = set()
    for j in snapshot.judgments:
        now: str | None = j.id
        while now and now not in wanted:
            wanted.add(now)
            now = of[now].supersedes
    return [j for j in everything if j.id in wanted]
