"""What a row of each format says: a prompt, its responses and an answer.

    preference         prompt, chosen, rejected      text or messages (TRL)
    implicit           chosen, rejected              whole conversations with a common beginning (HH)
    unpaired           prompt, completion, label     a thumb (TRL's KTO)
    stepwise           prompt, completions, labels   steps, each right or wrong (TRL's PRM)
    unpaired_messages  messages, label               a thumb on the last turn (LLaMA-Factory's KTO)
    prompt_completion  prompt, completion            a demonstration
    messages           messages                      a demonstration: the last turn answers the rest
    prompts            prompt                        a prompt alone
    argilla            fields, responses             Argilla's records (see foreign)
    label_studio       data, annotations             Label Studio's tasks (see foreign)
    accord             type, …                       our own types, lossless (see exporting)

Beside any of these `tools` lists what the assistant may call; messages may hold tool calls, and content in
parts of text. Text that begins with "\\n\\nHuman:" is a transcript and becomes messages, each turn stripped
of the spaces around it; other text is one user message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from accord.core.types import Answer, Message, Preference, Prompt, Role, StepLabels, Thumb, Writing
from accord.store.readers import BadRow

__all__ = ["FORMATS", "Record", "convert", "detect"]

ROLES = get_args(Role)
SPEAKERS = {"Human": "user", "Assistant": "assistant", "System": "system"}
TURN = re.compile(r"\n\n(Human|Assistant|System):")
T = TypeVar("T", bound=BaseModel)
NATIVE_TYPES = ("prompt", "response", "question", "rater", "judgment")
Turns = tuple[Message, ...]
Said = str | Message  # an answer: a text, or a turn that calls tools


@dataclass(frozen=True)
class Record:
    """A row understood: for a preference the better response comes first."""

    prompt: Prompt
    texts: tuple[Said, ...] = ()
    answer: Answer | None = None


def turns(value: Any, field: str, alone: str) -> Turns:
    """Messages of a text or a list; plain text is one message by `alone`."""
    if isinstance(value, str):
        return transcript(value) or (Message(role=alone, content=value),)
    if not isinstance(value, Sequence) or not value:
        raise BadRow(field, f"is {_kind(value)}", "text, or a list of {role, content}")
    return tuple(_message(m, f"{field}[{i}]") for i, m in enumerate(value))


def transcript(text: str) -> Turns:
    """Turns of "\\n\\nHuman: …\\n\\nAssistant: …"; () when the text is none."""
    if not TURN.match(text):
        return ()
    parts = TURN.split(text)[1:]
    return tuple(
        Message(role=SPEAKERS[who], content=said.strip())
        for who, said in zip(parts[::2], parts[1::2], strict=True)
    )


def _message(value: Any, field: str) -> Message:
    if not isinstance(value, Mapping):
        raise BadRow(field, f"is {_kind(value)}", "an object {role, content}")
    given = {k: v for k, v in value.items() if v not in (None, "", [], {})}
    extra = sorted(set(given) - set(Message.model_fields))
    if extra:
        raise BadRow(f"{field}.{extra[0]}", "is not a known key", ", ".join(Message.model_fields))
    role = value.get("role")
    if role not in ROLES:
        raise BadRow(
            f"{field}.role",
            "is missing" if role is None else f"{role!r} is unknown",
            ", ".join(ROLES),
        )
    content = _content(value.get("content"), f"{field}.content")
    if content is None and not given.get("tool_calls"):
        raise BadRow(f"{field}.content", "is missing", "text")
    if given.get("tool_calls") and role != "assistant":
        raise BadRow(f"{field}.tool_calls", f"stands in a {role}'s turn", "in the assistant's")
    return _valid(Message, field, {**given, "content": content or ""})


def _content(value: Any, field: str) -> str | None:
    """Text, or the text parts of a list one after another; anything else is refused by its field."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        raise BadRow(field, f"is {_kind(value)}", "text")
    for i, part in enumerate(value):
        kind = part.get("type", "text") if isinstance(part, Mapping) else _kind(part)
        if kind != "text" or not isinstance(part.get("text"), str):
            raise BadRow(f"{field}[{i}]", f"is no text ({kind})", '{"type": "text", "text": …}')
    return "".join(part["text"] for part in value)


def _valid(kind: type[T], field: str, value: Mapping[str, Any]) -> T:
    """The object, or a BadRow that names what pydantic did not like."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([field, *(str(p) for p in first["loc"])]).strip(".")
        raise BadRow(place, first["msg"].removeprefix("Value error, ")) from None


def _tools(value: Any) -> Any:
    """The tools of a row: a list of objects, or the same as JSON."""
    try:
        found = json.loads(value) if isinstance(value, str) and value.strip() else value or None
    except (ValueError, RecursionError):
        raise BadRow("tools", "is no JSON", "a list of tools") from None
    if found is not None and not (
        isinstance(found, list) and all(isinstance(t, Mapping) for t in found)
    ):
        raise BadRow("tools", f"is {_kind(found)}", "a list of tools, or that as JSON")
    return found or None


def _kind(value: Any) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", dict: "an object"}
    if value is None:
        return "missing"
    return "an empty list" if value == [] else names.get(type(value), f"a {type(value).__name__}")


def _prompt(row: Mapping[str, Any]) -> Turns:
    found = turns(row.get("prompt"), "prompt", "user")
    if found[-1].role == "assistant" and not found[-1].content:  # a transcript up to "Assistant:"
        found = found[:-1]
    if not found or found[-1].role == "assistant":
        raise BadRow("prompt", "ends with the assistant's turn", "a conversation up to that turn")
    return found


def _answer(before: Turns, value: Any, field: str) -> tuple[Turns, Said]:
    """(prompt, answer) of a conversation that goes on from `before`, or repeats it first."""
    said = turns(value, field, "assistant")
    whole = said if before and said[: len(before)] == before else (*before, *said)
    if whole[-1].role != "assistant":
        raise BadRow(
            field, f"ends with the {whole[-1].role}'s turn", "a last turn of the assistant"
        )
    if len(whole) == 1:
        raise BadRow(
            field, "has no turn before the answer", "a conversation, or a prompt beside it"
        )
    return whole[:-1], whole[-1] if whole[-1].tool_calls else whole[-1].content


def _writing(said: Said) -> Writing:
    if isinstance(said, str):
        return Writing(text=said)
    return Writing(text=said.content, tool_calls=said.tool_calls)


def _compare(row: Mapping[str, Any], before: Turns) -> Record:
    prompt, chosen = _answer(before, row.get("chosen"), "chosen")
    other, rejected = _answer(before, row.get("rejected"), "rejected")
    if prompt != other:
        raise BadRow(
            "rejected", "differs from chosen before the last turn", "one prompt, two answers"
        )
    return Record(Prompt(messages=prompt), (chosen, rejected), Preference(better=0))


def _preference(row: Mapping[str, Any]) -> Record:
    return _compare(row, _prompt(row))


def _implicit(row: Mapping[str, Any]) -> Record:
    return _compare(row, ())


def _unpaired(row: Mapping[str, Any]) -> Record:
    prompt, text = _answer(_prompt(row), row.get("completion"), "completion")
    return Record(Prompt(messages=prompt), (text,), _thumb(row))


def _unpaired_messages(row: Mapping[str, Any]) -> Record:
    prompt, text = _answer((), row.get("messages"), "messages")
    return Record(Prompt(messages=prompt), (text,), _thumb(row))


def _thumb(row: Mapping[str, Any]) -> Thumb:
    names = {"true": True, "1": True, "false": False, "0": False}
    label = row.get("label")
    up = label if isinstance(label, bool) else names.get(str(label).lower())
    if up is None:
        raise BadRow("label", f"is {_kind(label)}", "true or false")
    return Thumb(up=up)


def _stepwise(row: Mapping[str, Any]) -> Record:
    steps, given = row.get("completions"), row.get("labels")
    if not isinstance(steps, list) or not all(isinstance(s, str) and s.strip() for s in steps):
        raise BadRow("completions", f"is {_kind(steps)}", "a list of steps, none of them empty")
    if any("\n" in s.strip() for s in steps):
        raise BadRow("completions", "has a step of several lines", "a step a line")
    if not isinstance(given, list) or any(
        not isinstance(x, bool | int) or x not in (-1, 0, 1) for x in given
    ):
        raise BadRow("labels", f"is {_kind(given)}", "a list of true and false, or of 1, 0 and -1")
    if len(steps) != len(given):
        raise BadRow("labels", f"has {len(given)} labels for {len(steps)} steps", "one a step")
    labels = tuple((1 if x else -1) if isinstance(x, bool) else x for x in given)
    text = "\n".join(s.strip() for s in steps)
    answer = StepLabels.model_validate({"labels": labels})
    return Record(Prompt(messages=_prompt(row)), (text,), answer)


def _prompt_completion(row: Mapping[str, Any]) -> Record:
    prompt, text = _answer(_prompt(row), row.get("completion"), "completion")
    return Record(Prompt(messages=prompt), (), _writing(text))


def _messages(row: Mapping[str, Any]) -> Record:
    prompt, text = _answer((), row.get("messages"), "messages")
    return Record(Prompt(messages=prompt), (), _writing(text))


def _prompts(row: Mapping[str, Any]) -> Record:
    return Record(Prompt(messages=_prompt(row)))


@dataclass(frozen=True)
class Format:
    """The keys a row must have and how it is read; None where a row holds several things."""

    keys: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Record] | None


FORMATS: dict[str, Format] = {
    "accord": Format(("type",), None),
    "preference": Format(("prompt", "chosen", "rejected"), _preference),
    "implicit": Format(("chosen", "rejected"), _implicit),
    "unpaired": Format(("prompt", "completion", "label"), _unpaired),
    "stepwise": Format(("prompt", "completions", "labels"), _stepwise),
    "prompt_completion": Format(("prompt", "completion"), _prompt_completion),
    "unpaired_messages": Format(("messages", "label"), _unpaired_messages),
    "messages": Format(("messages",), _messages),
    "prompts": Format(("prompt",), _prompts),
    "argilla": Format(("fields", "responses"), None),
    "label_studio": Format(("data", "annotations"), None),
}


def detect(row: Mapping[str, Any]) -> str:
    """The first format all of whose keys the row has; half a pair is no prompt alone."""
    partial = {"chosen", "rejected", "completion", "messages", "response", "output"} & set(row)
    for name, format in FORMATS.items():
        if name == "accord" and row.get("type") not in NATIVE_TYPES:
            continue  # many a data set has a column of this name
        if all(key in row for key in format.keys) and not (name == "prompts" and partial):
            return name
    known = "; ".join(f"{n}: {', '.join(f.keys)}" for n, f in FORMATS.items())
    raise BadRow("", f"has the keys {', '.join(map(str, row)) or '(none)'}", known)


def convert(row: Mapping[str, Any], format: str) -> Record:
    """The record of a row; BadRow names the field that is wrong."""
    shape = FORMATS[format]
    for key in shape.keys:
        if key not in row:
            raise BadRow(key, "is missing", f"{format} needs {', '.join(shape.keys)}")
    assert shape.read is not None
    record = shape.read(row)
    if tools := _tools(row.get("tools")):
        prompt = _valid(Prompt, "", {**record.prompt.model_dump(), "tools": tools})
        record = replace(record, prompt=prompt)
    return record
