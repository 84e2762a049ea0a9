"""How a schema is declared: the columns of its prompt, of its answers, and of what was said of them.

    "shp": compared(beside(text("history"), "human_ref_A", "human_ref_B"), one_of("labels", {1: 0, 0: 1}))

A `Part` reads some columns together; `compared`, `rated`, `ranked`, `thumbed` and `demonstrated` make a
Format of parts, its keys the columns they must have. Nothing is guessed: a value that a part doesn't know
is a BadRow that names its column.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from accord.core.types import Answer, Message, Preference, Prompt, Ranking, Rating, Thumb, Writing
from accord.store.io.conversations import (
    Completion,
    Turns,
    answered,
    held,
    kind_of,
    listed,
    number,
    turns,
    words,
)
from accord.store.io.readers import BadRow

__all__ = [
    "Better",
    "Format",
    "Part",
    "Record",
    "Unusable",
    "beside",
    "compared",
    "demonstrated",
    "instruction",
    "is_missing",
    "larger",
    "one_hot",
    "one_of",
    "query",
    "question",
    "ranked",
    "rated",
    "score",
    "signed",
    "text",
    "thumb",
    "thumbed",
    "whole",
]

Row = Mapping[str, Any]
Better = Literal[0, 1]
Side = tuple[Turns, Completion]  # a conversation up to the answer, and the answer
QUOTED = re.compile(r"\s*\[\s*(['\"]).*\1\s*\]\s*", re.DOTALL)  # a list of texts, as JSON or Python


@dataclass(frozen=True)
class Record:
    """A question understood: a prompt, its responses, who wrote these, what was said of them and by whom."""

    prompt: Prompt
    texts: tuple[Completion, ...] = ()
    answer: Answer | None = None
    sources: tuple[str, ...] = ()
    rater: str = ""


@dataclass(frozen=True)
class Unusable(Exception):
    """A row in which nothing is wrong and that yet says nothing that can be kept; `reason` is counted."""

    reason: Literal["diverging", "unjudged"]


@dataclass(frozen=True)
class Part:
    """Columns that are read together; `also` are read where they are there."""

    keys: tuple[str, ...]
    read: Callable[[Row], Any]
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Format:
    """The keys a row must have, those it may have, and how it is read (None where a row holds typed
    objects). `gather` makes rows of what a file spreads over several."""

    keys: tuple[str, ...]
    read: Callable[[Row], Sequence[Record]] | None
    also: tuple[str, ...] = ()
    kind: Literal["comparison", "judgment", "demonstration", "prompt", "typed"] = "judgment"
    gather: Callable[[Iterable[tuple[str, Any]]], Iterator[tuple[str, Any]]] | None = None


# -- prompts --------------------------------------------------------------------------------------


def question(value: Any, field: str) -> Turns:
    """A conversation up to the assistant's turn."""
    if isinstance(value, str) and QUOTED.fullmatch(value):
        raise BadRow(
            field, "is a list of texts written as text", "text, or {role, content} messages"
        )
    messages = turns(value, field, "user")
    if (
        messages[-1].role == "assistant" and not messages[-1].content
    ):  # a transcript up to "Assistant:"
        messages = messages[:-1]
    if not messages or messages[-1].role == "assistant":
        raise BadRow(field, "ends with the assistant's turn", "a conversation up to that turn")
    return messages


def text(column: str) -> Part:
    """A column that is the prompt: text, messages, or JSON of messages."""
    return Part((column,), lambda row: question(row.get(column), column))


def _first(column: str, *more: str) -> Callable[[Row], Turns]:
    def read(row: Row) -> Turns:
        asked, beside = row.get(column), [k for k in more if not is_missing(row.get(k))]
        if not isinstance(asked, str) and beside:
            raise BadRow(column, f"is {kind_of(asked)}", "text")
        if beside:
            asked = "\n".join([asked or "", *(words(row[k], k) for k in beside)]).lstrip("\n")
        return (*_history(row), *question(asked, column))

    return read


def _history(row: Row) -> list[Message]:
    """Earlier questions and answers, in pairs (LLaMA-Factory, ms-swift)."""
    messages: list[Message] = []
    if is_missing(row.get("history")):
        return messages
    for i, pair in enumerate(listed(row["history"], "history")):
        if not isinstance(pair, list) or len(pair) != 2:
            raise BadRow(f"history[{i}]", f"is {kind_of(pair)}", "[question, answer]")
        asked, reply = (words(x, f"history[{i}][{k}]") for k, x in enumerate(pair))
        messages += [Message(role="user", content=asked), Message(role="assistant", content=reply)]
    return messages


instruction = Part(
    ("instruction",), _first("instruction", "input", "context"), ("input", "context", "history")
)
query = Part(("query",), _first("query"), ("history",))


def is_missing(value: Any) -> bool:
    """Nothing there: what readers make of a cell that was left empty."""
    return value is None or value in ("", [], {}) or (isinstance(value, float) and value != value)


# -- answers --------------------------------------------------------------------------------------


def beside(prompt: Part, *columns: str) -> Part:
    """Columns that answer the prompt, or that are conversations which hold it."""

    def read(row: Row) -> list[Side]:
        before = prompt.read(row)
        return [answered(before, row.get(c), c) for c in columns]

    return Part((*prompt.keys, *columns), read, prompt.also)


def whole(column: str, *others: str) -> Part:
    """Conversations; `others` are conversations too, or answers in place of the first one's."""

    def read(row: Row) -> list[Side]:
        prompt, answer = answered((), row.get(column), column)
        return [(prompt, answer), *(_other(prompt, row.get(c), c) for c in others)]

    return Part((column, *others), read)


def _other(prompt: Turns, value: Any, column: str) -> Side:
    messages = turns(value, column, "assistant")
    return answered(() if messages[0].role in ("system", "user") else prompt, value, column)


# -- what was said --------------------------------------------------------------------------------

FIRST = Part((), lambda row: Preference(better=0))


def signed(column: str, most: int = 3) -> Part:
    """From -most (the first is much better) to most (the second is); 0 is a tie."""

    def read(row: Row) -> Preference:
        allowed = f"a whole number from {-most} to {most}"
        grade = number(row.get(column), column, allowed)
        if grade != int(grade) or abs(grade) > most:
            raise BadRow(column, f"is {grade:g}", allowed)
        better: Better | None = None if not grade else 0 if grade < 0 else 1
        return Preference(better=better, strength=max(1, abs(int(grade))))

    return Part((column,), read)


def one_of(column: str, names: Mapping[Any, Better | None], both_bad: Iterable[str] = ()) -> Part:
    """A column that names the better one: 0 the first, 1 the second, None a tie."""
    bad = set(both_bad)

    def read(row: Row) -> Preference:
        given = row.get(column)
        name = given.strip() if isinstance(given, str) else given
        if isinstance(name, str) and name not in names:
            with contextlib.suppress(ValueError):
                name = float(name)  # "1" and "1.0" are 1
        if isinstance(name, bool | list | dict) or name not in names:
            what = "is missing" if is_missing(given) else f"{repr(given)[:60]} is unknown"
            raise BadRow(column, what, ", ".join(map(str, names)))
        return Preference(better=names[name], both_bad=name in bad)

    return Part((column,), read)


def one_hot(first: str, second: str, tie: str) -> Part:
    """Three columns of which one is 1."""
    columns = (first, second, tie)

    def read(row: Row) -> Preference:
        flags = [number(row.get(c), c, "0 or 1") for c in columns]
        if sorted(flags) != [0, 0, 1]:
            given = ", ".join(f"{x:g}" for x in flags)
            raise BadRow(", ".join(columns), f"are {given}", "one of them 1, the others 0")
        return Preference(better=(0, 1, None)[flags.index(1)])

    return Part(columns, read)


def larger(first: str, second: str) -> Part:
    """Scores: the larger one is better, equal ones tie."""

    def read(row: Row) -> Preference:
        a, b = (number(row.get(c), c) for c in (first, second))
        return Preference(better=None if a == b else 0 if a > b else 1)

    return Part((first, second), read)


# -- formats --------------------------------------------------------------------------------------


def compared(
    sides: Part,
    winner: Part = FIRST,
    sources: Sequence[str] = (),
    rater: str = "",
    *,
    may_part: bool = False,
) -> Format:
    """Two answers to one prompt, and which one is better. `sources` are the columns of who wrote them.
    Conversations that may part were held with two models: from the second question on they differ."""
    columns = sides.keys[-2:]

    def read(row: Row) -> list[Record]:
        (prompt, one), (other, two) = sides.read(row)
        if prompt != other:
            raise _parted(prompt, other, columns, may_part)
        by = row.get(rater) if rater else None
        by = ", ".join(map(str, by)) if isinstance(by, list) else by
        return [
            Record(
                Prompt(messages=prompt), (one, two), winner.read(row), _sources(row, sources),
                "" if is_missing(by) else str(by),
            )
        ]  # fmt: skip

    also = (*sides.also, *sources, *([rater] if rater else []))
    return Format((*sides.keys, *winner.keys), read, also, "comparison")


def _parted(prompt: Turns, other: Turns, columns: Sequence[str], may_part: bool) -> Exception:
    mine, yours = ([m.content for m in p if m.role != "assistant"] for p in (prompt, other))
    if may_part and mine == yours:
        return Unusable("diverging")
    what = f"differs from {columns[0]} before the last turn"
    return BadRow(columns[1], what, "one prompt, two answers")


def _sources(row: Row, columns: Sequence[str]) -> tuple[str, ...]:
    names = [row.get(c) for c in columns]
    return () if any(is_missing(n) for n in names) else tuple(f"model:{n}" for n in names)


def rated(
    sides: Part, axes: Sequence[str], lowest: float, highest: float, sources: Sequence[str] = ()
) -> Format:
    """An answer with a column of scores for each axis."""

    def read(row: Row) -> list[Record]:
        ((prompt, answer),) = sides.read(row)
        scores = {axis: score(row.get(axis), axis, lowest, highest) for axis in axes}
        rating = Rating(scores=scores, lowest=lowest, highest=highest)
        return [Record(Prompt(messages=prompt), (answer,), rating, _sources(row, sources))]

    return Format((*sides.keys, *axes), read, (*sides.also, *sources))


def score(value: Any, field: str, lowest: float, highest: float) -> float:
    """A number on a scale."""
    allowed = f"a number from {lowest:g} to {highest:g}"
    figure = number(value, field, allowed)
    if not lowest <= figure <= highest:
        raise BadRow(field, f"is {figure:g}", allowed)
    return figure


def ranked(prompt: Part, column: str, answer: str, rank: str, source: str) -> Format:
    """A column of objects, each an answer with its rank from 1, the best; equal ranks are ties."""

    def read(row: Row) -> list[Record]:
        before = prompt.read(row)
        texts: list[str] = []
        ranks: list[int] = []
        sources: list[str] = []
        for i, item in enumerate(listed(row.get(column), column)):
            at = f"{column}[{i}]"
            item = held(item, at, f"{answer}, {rank}")
            texts.append(words(item.get(answer), f"{at}.{answer}"))
            position = number(item.get(rank), f"{at}.{rank}", "a rank from 1")
            if position < 1 or position != int(position):
                raise BadRow(f"{at}.{rank}", f"is {position:g}", "a rank from 1")
            ranks.append(int(position))
            sources += _sources(item, [source])
        if len(texts) < 2:
            raise BadRow(column, f"has {len(texts)} answers", "two or more to be ranked")
        authors = tuple(sources) if len(sources) == len(texts) else ()
        answers = Ranking(ranks=tuple(ranks))
        return [Record(Prompt(messages=before), tuple(texts), answers, authors)]

    return Format((*prompt.keys, column), read, prompt.also, "comparison")


def thumbed(sides: Part, label: str = "label") -> Format:
    """An answer and whether it is good."""

    def read(row: Row) -> list[Record]:
        ((prompt, answer),) = sides.read(row)
        return [Record(Prompt(messages=prompt), (answer,), thumb(row.get(label), label))]

    return Format((*sides.keys, label), read, sides.also)


def thumb(given: Any, field: str) -> Thumb:
    """True, 1, 1.0 or the same as text."""
    names = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
    up = given if isinstance(given, bool) else names.get(str(given).strip().lower())
    if up is None:
        raise BadRow(field, f"is {kind_of(given)}", "true or false, 1 or 0")
    return Thumb(up=up)


def _writing(answer: Completion) -> Writing:
    if isinstance(answer, str):
        return Writing(text=answer)
    return Writing(text=answer.content, tool_calls=answer.tool_calls)


def demonstrated(sides: Part) -> Format:
    """An answer to imitate."""

    def read(row: Row) -> list[Record]:
        ((prompt, answer),) = sides.read(row)
        return [Record(Prompt(messages=prompt), (), _writing(answer))]

    return Format(sides.keys, read, sides.also, "demonstration")
