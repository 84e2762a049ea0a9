"""What a row of each format says: a prompt, its responses and an answer.

    preference         prompt, chosen, rejected      text or messages (TRL)
    implicit           chosen, rejected              whole conversations with a common beginning (HH)
    unpaired           prompt, completion, label     a thumb (TRL's KTO)
    stepwise           prompt, completions, labels   steps, each right or wrong (TRL's PRM)
    unpaired_messages  messages, label               a thumb on the last turn (LLaMA-Factory's KTO)
    prompt_completion  prompt, completion            a demonstration
    messages           messages                      a demonstration: the last turn answers the rest
    prompts            prompt                        a prompt alone (by name: in messages too)
    argilla            fields, responses             Argilla's records, the hub's too (see foreign)
    label_studio       data, annotations             Label Studio's tasks, JSON_MIN and CSV (see foreign)
    accord             type, …                       our own types, lossless (see exporting)
    …                                                public data and other trainers' files (see published)

Beside any of them: `tools`, what the assistant may call; `system` (or `system_prompt`), a system turn;
`answer` and its like, kept as tags of the prompt for rewards that check it. A chosen, rejected or completion
that begins with a system or user turn is the whole conversation, and the prompt beside it must be in it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from accord.core.types import Message, Prompt, StepLabels
from accord.store.io.conversations import (
    TOLD,
    is_message,
    kind_of,
    listed,
    transcript,
    under,
    valid,
    words,
)
from accord.store.io.foreign.reading import tool_of
from accord.store.io.published import PUBLISHED
from accord.store.io.readers import BadRow
from accord.store.io.schemas import (
    Format,
    Record,
    beside,
    compared,
    demonstrated,
    is_missing,
    question,
    text,
    thumbed,
    whole,
)
from accord.store.io.suspects import is_fact, is_label, is_prose, is_suspect, is_verdict

__all__ = ["FORMATS", "Record", "check", "convert", "detect", "records", "transcript", "unused"]

NATIVE_TYPES = ("prompt", "response", "question", "rater", "judgment")
SYSTEM = ("system", "system_prompt")
TAGS = {"answer", "final_answer", "ground_truth", "reference_answer", "solution"}
PICTURES = {"image", "images", "video", "videos", "audio", "audios"}
Row = Mapping[str, Any]


def _stepwise(row: Row) -> list[Record]:
    steps, given = (
        listed(row[k], k) if isinstance(row.get(k), str) else row.get(k)
        for k in ("completions", "labels")
    )
    if not isinstance(steps, list) or not all(isinstance(s, str) and s.strip() for s in steps):
        raise BadRow("completions", f"is {kind_of(steps)}", "a list of steps, none of them empty")
    if any("\n" in s.strip() for s in steps):
        raise BadRow("completions", "has a step of several lines", "a step a line")
    if not isinstance(given, list) or any(
        not isinstance(x, bool | int) or x not in (-1, 0, 1) for x in given
    ):
        raise BadRow(
            "labels", f"is {kind_of(given)}", "a list of true and false, or of 1, 0 and -1"
        )
    if len(steps) != len(given):
        raise BadRow("labels", f"has {len(given)} labels for {len(steps)} steps", "one a step")
    labels = tuple((1 if x else -1) if isinstance(x, bool) else x for x in given)
    text = "\n".join(s.strip() for s in steps)
    answer = StepLabels.model_validate({"labels": labels})
    return [Record(Prompt(messages=question(row.get("prompt"), "prompt")), (text,), answer)]


def _prompts(row: Row) -> list[Record]:
    column = next((k for k in ("prompt", *TALKS) if k in row), "prompt")
    return [Record(Prompt(messages=question(row.get(column), column)))]


TALKS = ("messages", "conversations")  # with the answer in it, says more than two columns do
PROMPT = text("prompt")
FORMATS: dict[str, Format] = {
    "accord": Format(("type",), None, kind="typed"),
    "preference": compared(beside(PROMPT, "chosen", "rejected")),
    "implicit": compared(whole("chosen", "rejected")),
    "unpaired": thumbed(beside(PROMPT, "completion")),
    "stepwise": Format(("prompt", "completions", "labels"), _stepwise),
    "prompt_completion": demonstrated(beside(PROMPT, "completion")),
    "unpaired_messages": thumbed(whole("messages")),
    "messages": demonstrated(whole("messages")),
    "prompts": Format(("prompt",), _prompts, also=TALKS, kind="prompt"),
    "argilla": Format(("fields", "responses"), None, kind="typed"),
    "label_studio": Format(("data", "annotations"), None, kind="typed"),
    **PUBLISHED,
}


def _says(keys: Sequence[str]) -> float:
    return len(keys) + 1.5 * (keys[0] in TALKS and "chosen" not in keys)


BY_SIZE = sorted(FORMATS, key=lambda name: -_says(FORMATS[name].keys))


# -- which format a row is ------------------------------------------------------------------------


def detect(row: Row) -> str:
    """The format all of whose keys the row has, of several the one that reads most; half a pair is no prompt
    alone."""
    native = row.get("type") in NATIVE_TYPES
    there = tuple(k for k in row if k not in TALKS or not is_missing(row[k]))
    name = (None if native else tool_of(row)) or _match(there, native) or _match(tuple(row), native)
    left = unread(row, name) if name else []
    if name and not left:
        return name
    what = f"has the keys {_shown(list(row)[:20])}"
    mend = ""
    if name and left:
        what += f"; {_shown(left)} would be lost as {name}, and half a pair is no {FORMATS[name].kind} alone"
        mend = f"; or --format {name}, which leaves them out"
    near = sorted(FORMATS, key=lambda n: -_overlap(FORMATS[n].keys, row))
    known = "; ".join(f"{n}: {', '.join(FORMATS[n].keys)}" for n in near[:8])
    raise BadRow("", what, f"{known}; … (letter for letter){mend}")


def check(row: Row, name: str) -> None:
    """BadRow where a row says more than the format that was found from the file's first row reads."""
    more = _match(tuple(row), name == "accord")
    if more and set(FORMATS[more].keys) > set(FORMATS[name].keys):
        raise BadRow(
            "", f"is of format {more}, unlike the rows before it", f"{name} in all of them"
        )
    if left := unread(row, name):
        raise BadRow(left[0], f"would be lost as {name}", "the columns of the file's first row")


@functools.lru_cache(maxsize=1000)
def _match(keys: tuple[str, ...], native: bool) -> str | None:
    if native and "type" in keys:  # many a data set has a column of this name
        return "accord"
    return next((n for n in BY_SIZE if n != "accord" and set(FORMATS[n].keys) <= set(keys)), None)


def _overlap(keys: Sequence[str], row: Row) -> float:
    """How near a format is to a row whose columns may be written otherwise."""
    plain = {k.strip().casefold() for k in row}
    return len(plain & {k.casefold() for k in keys}) / len(keys)


def _shown(names: Sequence[str]) -> str:
    return ", ".join(repr(n) if n != n.strip() else n for n in names) or "(none)"


def unread(row: Row, name: str) -> list[str]:
    """Columns that look like answers, or like what was said of them, and that the format doesn't read."""
    columns = [k for k in _suspects(tuple(row), name) if not is_missing(row[k])]
    columns = [k for k in columns if not (k in TAGS and _is_tag(row[k]))]
    columns = [k for k in columns if is_label(k) or isinstance(row[k], str | list | dict)]
    if FORMATS[name].kind == "demonstration":  # imitates an answer that was found bad as well
        left = [k for k in _others(tuple(row), name) if is_verdict(k, row[k])]
        columns += [k for k in left if k not in columns]
    if FORMATS[name].kind == "prompt":  # what else is written beside a prompt alone answers it
        left = [k for k in _others(tuple(row), name) if k not in TAGS and not is_fact(k)]
        columns += [k for k in left if k not in columns and is_prose(row[k])]
    return columns


@functools.lru_cache(maxsize=1000)
def _suspects(keys: tuple[str, ...], name: str) -> list[str]:
    kind = FORMATS[name].kind
    if kind in ("typed", "comparison"):
        return []
    return [k for k in _others(keys, name) if is_suspect(k, kind)]


def used(name: str) -> frozenset[str]:
    """The columns that a format reads where they are there."""
    return frozenset((*FORMATS[name].keys, *FORMATS[name].also, *SYSTEM, "tools"))


def unused(row: Row, name: str) -> list[str]:
    """The columns of a row of which nothing is read, and what is told of its turns."""
    whole = [k for k in _others(tuple(row), name) if not (k in TAGS and _is_tag(row[k]))]
    return whole + [t for k in FORMATS[name].keys for t in _turn_fields(k, row.get(k))]


def _turn_fields(column: str, value: Any) -> list[str]:
    turn = value[0] if isinstance(value, list) and value and is_message(value[0]) else ()
    return [f"{column}[].{k}" for k in turn if k in TOLD]


@functools.lru_cache(maxsize=1000)
def _others(keys: tuple[str, ...], name: str) -> list[str]:
    read = used(name)
    return [k for k in keys if k not in read]


# -- what a row says ------------------------------------------------------------------------------


def records(row: Row, format: str) -> Sequence[Record]:
    """What a row says; BadRow names the field that is wrong, Unusable why nothing of it can be kept."""
    shape = FORMATS[format]
    for key in () if shape.gather or shape.kind == "prompt" else shape.keys:
        if key not in row:
            raise BadRow(key, "is missing", f"{format} needs {', '.join(shape.keys)}")
    for column in PICTURES & row.keys():
        if not is_missing(row[column]):
            raise BadRow(column, "holds pictures, video or sound", "text alone")
    assert shape.read is not None
    try:
        parsed = shape.read(row)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRow(".".join(map(str, first["loc"])), first["msg"]) from None
    system, tags, tools = _system(row), _tags(row, shape), _tools(row.get("tools"))
    if not system and not tags and not tools:
        return parsed
    return [replace(r, prompt=_under(system, r.prompt, tags, tools)) for r in parsed]


def convert(row: Row, format: str) -> Record:
    """The first of what a row says."""
    return records(row, format)[0]


def _system(row: Row) -> tuple[Message, ...]:
    texts = {words(row[k], k) for k in SYSTEM if k in row and not is_missing(row[k])}
    if len(texts) > 1:
        raise BadRow(SYSTEM[1], f"differs from {SYSTEM[0]}", "one of them")
    return tuple(Message(role="system", content=text) for text in texts)


def _under(system: tuple[Message, ...], prompt: Prompt, tags: dict[str, str], tools: Any) -> Prompt:
    messages = [m.model_dump() for m in under(system, prompt.messages, "system")]
    return valid(Prompt, "", {"messages": messages, "tags": tags, "tools": tools})


def _tools(value: Any) -> Any:
    """The tools of a row: a list of objects, or the same as JSON."""
    if is_missing(value) or (isinstance(value, str) and not value.strip()):
        return None
    try:
        tools = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        raise BadRow("tools", "is no JSON", "a list of tools") from None
    if tools is not None and not (
        isinstance(tools, list) and all(isinstance(t, Mapping) for t in tools)
    ):
        raise BadRow("tools", f"is {kind_of(tools)}", "a list of tools, or that as JSON")
    return tools or None


def _tags(row: Row, shape: Format) -> dict[str, str]:
    """The answers to be checked, by column."""
    columns = sorted(TAGS & row.keys() - set(shape.keys))
    return {k: str(row[k]) for k in columns if _is_tag(row[k])}


def _is_tag(value: Any) -> bool:
    """One value; lists and objects are none."""
    return isinstance(value, str | int | float) and not is_missing(value)
