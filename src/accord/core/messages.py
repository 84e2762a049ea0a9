"""A conversation and an answer to it as frozen types, with the tool calls in them (see `types`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from accord.core.errors import ConfigError
from accord.core.hashing import content_hash

__all__ = [
    "ID_LENGTH",
    "Calls",
    "Exchange",
    "Frozen",
    "Message",
    "Prompt",
    "Response",
    "Role",
    "Tools",
    "as_exchanges",
    "as_prompts",
    "response_id",
    "short_id",
]

Role = Literal["system", "user", "assistant", "tool"]
ID_LENGTH = 20


def short_id(value: Any) -> str:
    """The first 20 hex digits (80 bits) of the content hash."""
    return content_hash(value)[:ID_LENGTH]


class Frozen(BaseModel):
    """Immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed; what was computed of the fields (an id) is computed anew."""
        copy = super().model_copy(update=update, deep=deep)
        for name in copy.__dict__.keys() - type(self).model_fields.keys():
            del copy.__dict__[name]
        return copy


def _one_call(call: Any) -> Any:
    """A tool call in OpenAI's form, its arguments as an object: the same call is the same however written."""
    if not isinstance(call, Mapping):
        raise ValueError("a tool call is an object {function: {name, arguments}}")  # noqa: TRY004 - pydantic's
    rest = {k: v for k, v in call.items() if v is not None}
    named = rest.pop("function", None) or {
        k: rest.pop(k) for k in ("name", "arguments") if k in rest
    }
    if not isinstance(named, Mapping) or not isinstance(named.get("name"), str):
        raise ValueError("a tool call has no name: {function: {name, arguments}}")  # noqa: TRY004 - pydantic's
    arguments = named.get("arguments")
    if isinstance(arguments, str):
        try:
            read = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            read = None
        arguments = read if isinstance(read, dict) else arguments
    function = {"name": named["name"], "arguments": {} if arguments is None else arguments}
    return {"type": "function", **rest, "function": function}


def _calls(value: Any) -> Any:
    """None for no call at all ([] or null), else each call in one form."""
    if not value:
        return None
    if not isinstance(value, list | tuple):
        raise ValueError("is no list of tool calls")  # noqa: TRY004 - pydantic's
    return tuple(_one_call(call) for call in value)


def _absent(value: Any) -> bool:
    return value is None


# what most texts lack is not written either: their ids and rows are what they were before it could be said
Calls = Annotated[
    tuple[dict[str, JsonValue], ...] | None, BeforeValidator(_calls), Field(exclude_if=_absent)
]
Tools = Annotated[
    tuple[dict[str, JsonValue], ...] | None,
    BeforeValidator(lambda value: value or None),
    Field(exclude_if=_absent),
]
Word = Annotated[str | None, Field(exclude_if=_absent)]


class Message(Frozen):
    """One turn of a conversation. `tool_calls` are an assistant's, `tool_call_id` and `name` say which call a
    tool's turn answers."""

    role: Role
    content: str
    tool_calls: Calls = None
    tool_call_id: Word = None
    name: Word = None

    @property
    def shown(self) -> str:
        """The turn as people read it: its words, then its tool calls."""
        return _shown(self.content, self.tool_calls)


def _shown(text: str, calls: tuple[dict[str, JsonValue], ...] | None) -> str:
    lines = [json.dumps(call["function"], ensure_ascii=False) for call in calls or ()]
    return "\n".join([text, *lines] if text else lines) if lines else text


class Prompt(Frozen):
    """A conversation up to the assistant's turn, and the `tools` it may call. Tags describe it and are not
    part of its id."""

    messages: tuple[Message, ...] = Field(min_length=1)
    tags: dict[str, str] = {}
    tools: Tools = None

    @cached_property
    def id(self) -> str:
        turns: list[Any] = [
            [m.role, m.content, *([more] if (more := _beyond_words(m)) else [])]
            for m in self.messages
        ]
        return short_id([*turns, {"tools": self.tools}] if self.tools else turns)

    @property
    def last(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content

    @classmethod
    def user(cls, text: str, system: str | None = None, **tags: str) -> Prompt:
        """A prompt of one user message, with a system message before it when given."""
        head = (Message(role="system", content=system),) if system else ()
        return cls(messages=(*head, Message(role="user", content=text)), tags=tags)


def _beyond_words(m: Message) -> dict[str, Any]:
    plain = m.tool_calls is None and m.tool_call_id is None and m.name is None
    return {} if plain else m.model_dump(exclude={"role", "content"})


class Response(Frozen):
    """One assistant answer: its text and tool calls, who wrote it, how it was sampled and what ended it: its
    end-of-turn token ("stop"), a stop string before which the text was cut ("string"), the limit ("length");
    None where that isn't known.
    `tokens` are those it was sampled as by the `tokenizer` its sampling names, the one that ended it
    included: no id covers them."""

    text: str
    source: str = "unknown"  # "model:<id>", "person:<id>", "import:<file>"
    sampling: dict[str, Any] | None = None
    finish: Literal["stop", "string", "length"] | None = None
    tool_calls: Calls = None
    tokens: Annotated[tuple[int, ...] | None, Field(exclude_if=_absent)] = None

    @property
    def ends_turn(self) -> bool:
        """Whether an end-of-turn token belongs to it: not where another thing is known to have ended it."""
        return self.finish not in ("string", "length")

    @property
    def shown(self) -> str:
        """The answer as people read it: its words, then its tool calls."""
        return _shown(self.text, self.tool_calls)

    def id_for(self, prompt: Prompt) -> str:
        """The id of this response as an answer to `prompt`."""
        return response_id(prompt.id, self)


def response_id(prompt: str, response: Response) -> str:
    """The id of a response to the prompt of this id."""
    parts = [prompt, response.text, response.source]
    return short_id([*parts, response.tool_calls] if response.tool_calls else parts)


class Exchange(Frozen):
    """A prompt and one response to it: what a Reward scores."""

    prompt: Prompt
    response: Response


def as_prompts(prompts: Sequence[Prompt | str]) -> list[Prompt]:
    """Prompts, a text being one user message; ConfigError for one text alone (letters)."""
    if isinstance(prompts, str):
        raise ConfigError("one text where several prompts are asked", mend="give a list: [text]")
    return [Prompt.user(p) if isinstance(p, str) else p for p in prompts]


def as_exchanges(
    prompts: Sequence[Prompt | str], answers: Sequence[Response | str]
) -> list[Exchange]:
    """Each prompt with its answer, either as a text or as what it is; ConfigError for unequal numbers."""
    asked = as_prompts(prompts)
    if isinstance(answers, str) or len(asked) != len(answers):
        number = 1 if isinstance(answers, str) else len(answers)
        raise ConfigError(f"{len(asked)} prompts and {number} answers", mend="give one for each")
    responses = [Response(text=a) if isinstance(a, str) else a for a in answers]
    return [Exchange(prompt=p, response=r) for p, r in zip(asked, responses, strict=True)]
