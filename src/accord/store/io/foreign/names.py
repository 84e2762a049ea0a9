"""Which response a field, a control, an item or a choice means: names are matched alike everywhere.

response_1, response1, Response-1, answer1 and answer-1 are all "the response whose number is 1"; letters
count as numbers (a is 1), left and right are the two of a pair.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accord.core.types import Message, Prompt
from accord.store.io.conversations import turns
from accord.store.io.foreign.task import OWN
from accord.store.io.readers import BadRow

__all__ = ["Shown", "key", "question_of", "side", "words"]

STEMS = (
    "response", "answer", "completion", "output", "generation", "reply", "candidate", "option", "text",
    "model", "assistant", "llm", "item",
)  # fmt: skip
STEM = "|".join(STEMS)
FIELD = re.compile(rf"(?i:({STEM})s?)(?:[ _.-]?(\d+)|[ _.-]([A-Za-z])|([A-Z]))")
OF_MODEL = re.compile(
    r"(?i)(?:model|assistant|llm)[ _.-]?(\d+|[a-z])[ _.-](?:response|answer|output|text)"
)
SOURCE = re.compile(
    r"(?i)(?:model|source)[ _.-]?(\d+|[a-z])|(\w+?)[ _.-](?:model|source)(?:[ _.-]name)?"
)
SPOKEN = re.compile(rf"(?:{STEM})?s?(\d+|[a-z])")
ALONE = ("response", "answer", "completion", "generation", "output", "reply")
PROMPTS = (
    "prompt", "instruction", "question", "input", "query", "task", "userprompt", "usermessage", "messages",
    "conversation", "dialogue", "dialog", "chat",
)  # fmt: skip
SYSTEM = ("system", "systemprompt", "systemmessage")
END = re.compile(r"(\d+)$|[\s_.-]([A-Za-z])$|(?<=[a-z])([A-Z])$")
SIDES = {"left": 0, "right": 1, "first": 0, "second": 1, "1st": 0, "2nd": 1}
TIE, BAD = {"tie", "tied", "equal", "equally", "same", "draw"}, {"bad", "poor", "wrong", "good"}
NOT_SAID = {"not", "worse", "worst", "isn", "less", "least", "rejected"}
STRONG = {"much", "significantly", "far", "clearly", "strongly", "considerably", "definitely"}
FILLER = STRONG | {
    "is", "the", "are", "was", "better", "best", "preferred", "prefer", "preference", "i", "wins", "winner",
    "more", "one", "good", "slightly", "somewhat", "marginally", "a-little", "chosen", "choose", "overall",
}  # fmt: skip


def key(name: str) -> str:
    """A name without what people write differently: case, spaces, _, - and dots."""
    return re.sub(r"[\s_.-]+", "", str(name)).lower()


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


@dataclass(frozen=True)
class Shown:
    """The responses of a task, in order, by the names the tool has for them."""

    names: tuple[str, ...]
    texts: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    calls: tuple[Any, ...] = ()
    dropped: tuple[str, ...] = ()  # parts of a list that are not read

    @property
    def ends(self) -> list[str]:
        """The number or letter that ends each name, "" where there is none."""
        matches = [OF_MODEL.fullmatch(n) or END.search(n) for n in self.names]
        return [next(filter(None, m.groups())).lower() if m else "" for m in matches]

    def named(self, reference: Any) -> int | None:
        """The response with this very name, written in any way."""
        keys = [key(n) for n in self.names]
        return keys.index(key(reference)) if key(reference) in keys else None

    def place(self, reference: Any) -> int | None:
        """The response that this means: by its name, its number or letter, or its side of a pair."""
        at = self.named(reference)
        if at is not None:
            return at
        spoken = SPOKEN.fullmatch(key(reference))
        if spoken:
            return self.numbered(spoken.group(1))
        return SIDES.get(key(reference)) if len(self.names) == 2 else None

    def numbered(self, number: str) -> int | None:
        """The response with this number, or whose letter stands for it."""
        ends = self.ends
        if not ends or ends[0] == "0":  # "1" may then be the first or the second
            return None
        if number in ends:
            return ends.index(number)
        if number.isdigit() == ends[0].isdigit():
            return None  # of the same kind, and none is called so
        at = int(number) - 1 if number.isdigit() else ord(number) - ord("a")
        return at if 0 <= at < len(self.names) else None


def side(choice: str, shown: Shown) -> tuple[int | None, int, bool] | None:
    """(better response, strength, both bad) of a choice in words; None when it is about something else."""
    tokens = words(choice)
    if len(tokens) > 12:
        return None
    said_of_both = {"both", "neither", "none", "all"} & set(tokens)
    if said_of_both and BAD & set(tokens):
        is_good = ("good" in tokens) == (not {"neither", "none"} & set(tokens))
        return None, 1, not is_good
    if NOT_SAID & set(tokens):
        return None
    if TIE & set(tokens) or key("".join(tokens)) in {
        "both",
        "neither",
        "nopreference",
        "neitherisbetter",
    }:
        return None, 1, False
    for word in ("than", "over", "beats"):
        tokens = tokens[: tokens.index(word)] if word in tokens else tokens
    strength = 3 if STRONG & set(tokens) else 1
    at = shown.place("".join(w for w in tokens if w not in FILLER))
    return None if at is None else (at, strength, False)


def question_of(
    fields: Mapping[str, Any], facts: Mapping[str, Any]
) -> tuple[Prompt, Shown, set[str]]:
    """The prompt, the responses shown, and the fields they were taken from."""
    own = json.loads(facts["accord"]) if isinstance(facts.get("accord"), str) else {}
    keys = {key(name): name for name in reversed(list(fields)) if fields[name] not in (None, "")}
    prompt_field = next((keys[p] for p in PROMPTS if p in keys), None)
    if prompt_field is None:
        raise BadRow("prompt", "is missing", ", ".join(PROMPTS))
    used = {prompt_field}
    original = own.get("messages")
    messages = (
        [Message.model_validate(m) for m in original]
        if original
        else _messages(fields[prompt_field], prompt_field)
    )
    if (
        key(prompt_field) == "instruction" and "input" in keys
    ):  # Alpaca's two halves of one question
        used.add(keys["input"])
        both = f"{messages[-1].content}\n\n{fields[keys['input']]}"
        messages[-1] = messages[-1].model_copy(update={"content": both})
    system = next((keys[s] for s in SYSTEM if s in keys), None)
    if system:
        used.add(system)
        if messages[0].role != "system":
            messages = [Message(role="system", content=fields[system]), *messages]
    shown, taken = _responses(fields, own.get("sources"))
    calls = tuple(own.get("calls") or [None] * len(shown.texts))
    shown = replace(shown, calls=calls)
    return Prompt(messages=tuple(messages), tools=own.get("tools")), shown, used | taken


def _messages(value: Any, name: str) -> list[Message]:
    """A text or chat; Label Studio's paragraphs say author and text."""
    if isinstance(value, list) and all(isinstance(m, Mapping) and "author" in m for m in value):
        value = [{"from": str(m["author"]).lower(), "value": m.get("text")} for m in value]
    return list(turns(value, name, "user"))


def _responses(fields: Mapping[str, Any], sources: Sequence[str] | None) -> tuple[Shown, set[str]]:
    families: dict[str, dict[str, str]] = defaultdict(dict)
    for name, value in fields.items():
        match, of_model = FIELD.fullmatch(name), OF_MODEL.fullmatch(name)
        if of_model and value is not None:
            families["of a model"][of_model.group(1).lower()] = name
        elif (
            match
            and value is not None
            and match.group(1).lower() not in ("model", "assistant", "llm")
        ):
            number = next(g for g in match.groups()[1:] if g)
            families[match.group(1).lower()][number.lower()] = name
    if families:
        most = max(families.values(), key=len)
        names = [most[n] for n in sorted(most, key=lambda n: (len(n), n))]
    else:
        items = _items(fields)
        if items is not None:
            return items
        names = [n for n in fields if key(n) in ALONE and isinstance(fields[n], str)][:1]
    if bad := next((n for n in names if not isinstance(fields[n], str)), None):
        raise BadRow(bad, "is no text", "text")
    source_fields = [_source(fields, n, names) for n in names]
    models = sources or [f"model:{fields[s]}" if s else "unknown" for s in source_fields]
    if len(models) != len(names):
        raise BadRow("accord", f"names {len(models)} sources for {len(names)} responses")
    shown = Shown(tuple(names), tuple(fields[n] for n in names), tuple(models))
    return shown, {*names, *(s for s in source_fields if s)}


def _source(fields: Mapping[str, Any], name: str, names: Sequence[str]) -> str | None:
    """The field that says which model wrote the response: model_a, response_1_model."""
    for field, value in fields.items():
        match = SOURCE.fullmatch(field)
        if match and isinstance(value, str) and field not in names and value:
            shown = Shown(tuple(names))
            at = shown.numbered(match.group(1).lower()) if match.group(1) else None
            if at is None and match.group(2):
                at = shown.named(match.group(2))
            if at is not None and names[at] == name:
                return field
    return None


def _items(fields: Mapping[str, Any]) -> tuple[Shown, set[str]] | None:
    """What a Label Studio List shows: [{id, title, body}]."""
    for name, value in fields.items():
        if isinstance(value, str) and value.lstrip().startswith("[{"):
            try:
                value = json.loads(value)
            except ValueError:
                continue
        if not isinstance(value, list) or not value or name in OWN:
            continue
        if all(
            isinstance(x, Mapping) and "id" in x and {"body", "html", "title"} & set(x)
            for x in value
        ):
            texts = [next(x[k] for k in ("body", "html", "title") if x.get(k)) for x in value]
            names = tuple(str(x["id"]) for x in value)
            parts = {
                k
                for x, t in zip(value, texts, strict=True)
                for k in x
                if x[k] not in (t, x["id"], "")
            }
            dropped = tuple(f"{name}[].{k}" for k in sorted(parts))
            return Shown(names, tuple(texts), ("unknown",) * len(names), dropped=dropped), {name}
    return None
