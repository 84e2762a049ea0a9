"""What a cell of a data file says, as messages: a list of them, JSON text of one, a transcript, or text.

Text that begins with "\\n\\nHuman:" is a transcript and becomes messages, each turn stripped of the spaces
around it; text that is JSON of messages becomes these; other text is one message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from accord.core.types import Message, Role
from accord.store.io.readers import BadRow, loads

__all__ = [
    "TOLD",
    "Completion",
    "Turns",
    "answered",
    "held",
    "is_message",
    "json_messages",
    "kind_of",
    "listed",
    "number",
    "transcript",
    "turns",
    "under",
    "valid",
    "words",
]

ROLES = get_args(Role)
SPEAKERS = {"Human": "user", "Assistant": "assistant", "System": "system"}
TOOLS = {"tool", "observation", "function", "tool_response"}  # who answers a call
CALLS = {"function_call", "tool_call"}  # whose words are a call, or a list of them, as JSON
SHAREGPT = {"human": "user", "gpt": "assistant", "system": "system"}
SHAREGPT |= {"user": "user", "assistant": "assistant"}
SHAREGPT |= dict.fromkeys(TOOLS, "tool") | dict.fromkeys(CALLS, "assistant")
TOLD = {  # of a turn, beside what was said
    "country", "hashed_ip", "header", "id", "language", "num_tokens", "redacted", "state", "timestamp",
    "toxic", "turn_identifier",
}  # fmt: skip
LEARNT = ("weight", "train", "training", "loss")  # whether a turn is (Mistral, axolotl, ms-swift)
TURN = re.compile(r"\n\n(Human|Assistant|System):")
BEGINS_AS_MESSAGES = re.compile(
    r"""\s*(?:array\()?["']?(?:\[\s*\{|\{)\s*\\?["'](?:role|content|from|value)\\?["']\s*:"""
)
MAY_BEGIN = ("[", "{", "a", '"', "'")
KEYS = ({"role", "content"}, {"from", "value"})
Turns = tuple[Message, ...]
Completion = str | Message  # an answer: a text, or a turn that calls tools
T = TypeVar("T", bound=BaseModel)


def turns(value: Any, field: str, alone: str) -> Turns:
    """Messages of a text, a list, or one message; plain text is one message by `alone`."""
    if isinstance(value, str):
        messages = json_messages(value, field)
        if messages is None:
            return transcript(value) or (Message(role=alone, content=value),)
        value = messages
    elif is_message(value):
        value = [value]
    if not isinstance(value, Sequence) or not value:
        raise BadRow(field, f"is {kind_of(value)}", "text, or a list of {role, content}")
    return _joined([_message(_role_and_content(m, at), at) for m, at in _places(value, field)])


def _joined(messages: Sequence[Message]) -> Turns:
    """Calls that stand in turns of their own belong to the assistant's turn before them."""
    joined: list[Message] = []
    for m in messages:
        if m.tool_calls and not m.content and joined and joined[-1].role == "assistant":
            last = joined.pop()
            calls = (*(last.tool_calls or ()), *m.tool_calls)
            m = last.model_copy(update={"tool_calls": calls})
        joined.append(m)
    return tuple(joined)


def _places(value: Sequence[Any], field: str) -> list[tuple[Any, str]]:
    return [(item, f"{field}[{i}]") for i, item in enumerate(value)]


def json_messages(text: str, field: str) -> list[Any] | None:
    """Messages that a text holds as JSON; None for any other text."""
    if text.lstrip()[:1] not in MAY_BEGIN:
        return None
    begins = BEGINS_AS_MESSAGES.match(text)
    if not begins and text.lstrip()[:1] not in "[{":
        return None
    value = _loaded(text, field)
    if isinstance(value, Mapping):
        role = value.get("role", value.get("from"))
        is_one = is_message(value) and isinstance(role, str) and role in SHAREGPT
        return [value] if is_one else None
    if isinstance(value, list) and value and (begins or all(map(is_message, value))):
        return value
    if begins:
        what = "begins as a list of messages but is not JSON"
        raise BadRow(field, what, "JSON as json.dumps writes it, no Python repr")
    return None


def _loaded(text: str, field: str) -> Any:
    """What a text holds as JSON; None when it is none."""
    try:
        value = loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        what = "holds half of a surrogate pair (\\ud8xx)"
        raise BadRow(field, what, "whole characters") from None
    except (ValueError, RecursionError):
        return None
    return value


def is_message(value: Any) -> bool:
    return isinstance(value, Mapping) and any(keys <= value.keys() for keys in KEYS)


def transcript(text: str) -> Turns:
    """Turns of "\\n\\nHuman: …\\n\\nAssistant: …"; () when the text is none."""
    if not TURN.match(text):
        return ()
    parts = TURN.split(text)[1:]
    return tuple(
        Message(role=SPEAKERS[who], content=content.strip())
        for who, content in zip(parts[::2], parts[1::2], strict=True)
    )


def _role_and_content(value: Any, field: str) -> Any:
    """A message of ShareGPT's words {from, value} in ours; anything else as it is."""
    if not isinstance(value, Mapping) or "from" not in value or "role" in value:
        return value
    rest = {k: v for k, v in value.items() if k not in ("from", "value")}
    speaker = value["from"]
    if not isinstance(speaker, str) or speaker not in SHAREGPT:
        raise BadRow(f"{field}.from", f"{speaker!r} is unknown", ", ".join(SHAREGPT))
    if not isinstance(value.get("value"), str):
        raise BadRow(f"{field}.value", f"is {kind_of(value.get('value'))}", "text")
    role = speaker if speaker in CALLS else SHAREGPT[speaker]
    return {"role": role, "content": value["value"], **rest}


def _calling(value: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """A turn that is a call (LLaMA-Factory, ms-swift) as the assistant's."""
    calls = _loaded(words(value.get("content"), f"{field}.content"), field)
    calls = [calls] if isinstance(calls, Mapping) else calls
    if not isinstance(calls, list) or not calls:
        raise BadRow(f"{field}.content", "is no call as JSON", '{"name": …, "arguments": {…}}')
    return {**value, "role": "assistant", "content": None, "tool_calls": calls}


def _message(value: Any, field: str) -> Message:
    if not isinstance(value, Mapping):
        raise BadRow(field, f"is {kind_of(value)}", "an object {role, content}")
    role = value.get("role")
    if isinstance(role, str) and role in CALLS:
        value = _calling(value, field)
    elif isinstance(role, str) and (role in TOOLS or role == "developer"):
        value = {**value, "role": "tool" if role in TOOLS else "system"}
    given = {
        k: v for k, v in value.items() if k not in TOLD and v not in (None, "", [], {}) and v == v
    }
    for key in LEARNT:
        if given.pop(key, 1) != 1 and role == "assistant":
            raise BadRow(f"{field}.{key}", "weights what is learnt", "1: every assistant's turn is")
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
    return valid(Message, field, {**given, "content": content or ""})


def _content(value: Any, field: str) -> str | None:
    """Text, or the text parts of a list one after another; anything else is refused by its field."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list | tuple):
        raise BadRow(field, f"is {kind_of(value)}", "text")
    for i, part in enumerate(value):
        kind = (part.get("type") or "text") if isinstance(part, Mapping) else kind_of(part)
        if kind != "text" or not isinstance(part.get("text"), str):
            raise BadRow(f"{field}[{i}]", f"is no text ({kind})", '{"type": "text", "text": …}')
    return "".join(part["text"] for part in value)


def valid(kind: type[T], field: str, value: Mapping[str, Any]) -> T:
    """The object, or a BadRow that names what pydantic did not like."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join([field, *(str(p) for p in first["loc"])]).strip(".")
        raise BadRow(place, first["msg"].removeprefix("Value error, ")) from None


def kind_of(value: Any) -> str:
    """What a value is, in words."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", dict: "an object"}
    if value is None:
        return "missing"
    if isinstance(value, float) and value != value:
        return "NaN"
    return "an empty list" if value == [] else names.get(type(value), f"a {type(value).__name__}")


def answered(before: Turns, value: Any, field: str) -> tuple[Turns, Completion]:
    """(prompt, answer) of a conversation that goes on from `before`, or that holds it already."""
    messages = turns(value, field, "assistant")
    if messages[0].role in ("system", "user") or (before and messages[: len(before)] == before):
        whole = _with_system(before, messages, field)
        _check_same(before, whole[:-1], field)
    else:
        whole = (*before, *messages)
    if whole[-1].role != "assistant":
        raise BadRow(
            field,
            f"ends with the {whole[-1].role}'s turn",
            "a last turn of the assistant, or --format prompts where no row has one",
        )
    if len(whole) == 1:
        raise BadRow(
            field, "has no turn before the answer", "a conversation, or a prompt beside it"
        )
    return whole[:-1], whole[-1] if whole[-1].tool_calls else whole[-1].content


def _with_system(before: Turns, messages: Turns, field: str) -> Turns:
    """A whole conversation under the system turn of the prompt beside it."""
    return under([m for m in before if m.role == "system"], messages, field)


def under(system: Sequence[Message], messages: Turns, field: str) -> Turns:
    """A conversation under system turns that stand beside it."""
    own = [m for m in messages if m.role == "system"]
    if system and own and _stripped(system) != _stripped(own):
        raise BadRow(field, "has another system turn than the one beside it", "one of them")
    return messages if own else (*system, *messages)


def _check_same(before: Turns, prompt: Turns, field: str) -> None:
    """The prompt beside a conversation must be how it begins or its last question."""
    asked, whole = (_stripped(m for m in some if m.role != "system") for some in (before, prompt))
    if asked and asked not in (whole[: len(asked)], whole[-len(asked) :]):
        raise BadRow(
            field,
            "is a conversation in which the prompt beside it is neither the beginning nor the last question",
            "an answer to the prompt, or a conversation that holds it",
        )


def _stripped(messages: Any) -> list[tuple[str, str]]:
    return [(m.role, m.content.strip()) for m in messages]


def held(value: Any, field: str, keys: str) -> Mapping[str, Any]:
    """An object, or one that a text holds as JSON."""
    parsed = _loaded(value, field) if isinstance(value, str) else value
    if not isinstance(parsed, Mapping):
        raise BadRow(field, f"is {kind_of(value)}", f"an object {{{keys}}}")
    return parsed


def words(value: Any, field: str) -> str:
    """Text, and nothing else."""
    if not isinstance(value, str):
        raise BadRow(field, f"is {kind_of(value)}", "text")
    return value


def listed(value: Any, field: str) -> list[Any]:
    """A list, or one that a text holds as JSON. What was columns of a table is the list of its rows."""
    if isinstance(value, str):
        value = _loaded(value, field)
        if value is None:
            raise BadRow(field, "is text that is not JSON", "a list")
    if isinstance(value, Mapping) and value and all(isinstance(v, list) for v in value.values()):
        columns = list(value.values())
        if len({len(c) for c in columns}) == 1:
            return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]
    if not isinstance(value, list):
        raise BadRow(field, f"is {kind_of(value)}", "a list")
    return value


def number(value: Any, field: str, allowed: str = "a number") -> float:
    """A number, also where a CSV has it as text; no boolean, no NaN."""
    try:
        parsed = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError):
        parsed = float("nan")
    if parsed != parsed or abs(parsed) == float("inf"):
        shown = repr(value[:40]) if isinstance(value, str) else kind_of(value)
        raise BadRow(field, f"is {shown}", allowed)
    return parsed
