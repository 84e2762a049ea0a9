"""An open book: each message comes with the policy lines a retriever found, and is answered from them.

Wrong lines stand among them, in no order; in a share of prompts (`without`) the right one was not found. A
policy's figures (`values`) are drawn anew for each prompt, so that only reading gives the right answer. Lines
are looked up by BM25 (Robertson & Zaragoza 2009). `passages: 0` closes the book.
"""

from __future__ import annotations

import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from accord.core.config import Lines, Strict, locate, validate
from accord.core.errors import AccordError, ConfigError, DataError, raise_all
from accord.core.measure import Measure
from accord.core.types import Message, Prompt, Response, Role
from accord.feedback.simulated import SimulatedRater
from accord.worlds.base import Candidate, Case, Lesson, form
from accord.worlds.help_desk import Escalation, Lookalike, Rules, Text, Texts
from accord.worlds.reading import MEASURES, Ruler, Sheet, numbers

__all__ = ["OpenBook"]

ROLES: tuple[Role, ...] = ("user", "assistant")
ON_TOPIC = 0.7  # share of a chat's further questions that are about its lines
Values = dict[str, str]
Times = Annotated[int, Field(ge=1)]
Kind = Literal["plain", "premise", "exception", "lookalike", "escalation"]


class WorldTurn(Strict):
    """A message and its right answer; `{n}` is the figure, `{not_n}` another one."""

    text: Text
    answer: Text


class Policy(Strict):
    """A policy line with slots, what may stand in them, answers and messages."""

    id: Text
    policy: Text
    values: dict[str, Annotated[list[str], Field(min_length=2)]] = Field(min_length=1)
    held_out: bool = False  # no training sees it
    answers: Texts
    ask: Texts
    premise: list[WorldTurn] = Field(default=[])  # takes something wrong for granted
    exception: list[WorldTurn] = Field(default=[])  # asks for more than the policy gives


class OpenBookFile(Strict):
    """What the file holds."""

    shop: str = ""
    system: Text
    passages: Annotated[int, Field(ge=0)] = 4
    without: Annotated[float, Field(ge=0.0, le=1.0)] = 0.12
    draws: Times | dict[Kind, Times] = (
        3  # how often each message is asked; per kind, 3 where none is named
    )
    unknown: Texts
    needless: Texts
    padding: Texts
    handover_regex: Text
    refusal_regex: Text
    rules: Rules = Field(default=Rules())
    raters: list[SimulatedRater] = Field(default=[])
    facts: list[Policy] = Field(min_length=2)
    lookalikes: list[Lookalike] = Field(default=[])
    escalations: list[Escalation] = Field(default=[])


@form("open_book")
class OpenBook:
    """The texts of an open book and everything that follows from them."""

    def __init__(self, path: Path, data: dict[str, Any], lines: Lines) -> None:
        self.path = path
        self.file = validate(OpenBookFile, data, source=str(path), lines=lines)
        self.raters = self.file.raters
        self.facts = {f.id: f for f in self.file.facts}
        _check(self.file, lambda key: locate(str(path), key, lines))
        rules = self.file.rules
        self._ruler = Ruler(
            re.compile(self.file.handover_regex, re.I), re.compile(self.file.refusal_regex, re.I),
            rules.full_words, rules.no_words,
        )  # fmt: skip
        self.measures: tuple[Measure, ...] = MEASURES

    def about(self) -> str:
        new = sum(f.held_out for f in self.facts.values())
        return f"{len(self.cases)} prompts about {len(self.facts)} policies, {new} of them held out"

    @cached_property
    def _all(self) -> dict[str, tuple[Case, Sheet]]:
        """Every prompt once with what its truth follows from, by prompt id."""
        by_id: dict[str, tuple[Case, Sheet]] = {}
        draws = self.file.draws
        kinds: tuple[Kind, ...] = get_args(Kind)
        times = {k: draws if isinstance(draws, int) else draws.get(k, 3) for k in kinds}
        items = list(self._items())
        near = _nearest([m for _, _, m, _, _ in items], [_blank(f) for f in self.file.facts])
        for (kind, fact, message, answers, bad), order in zip(items, near, strict=True):
            for i in range(times[kind] if self.file.passages else 1):
                draw = random.Random(f"{kind}/{message}/{i}")
                case, sheet = self._drawn(kind, fact, message, answers, bad, order, draw)
                by_id.setdefault(case.prompt.id, (case, sheet))
        return by_id

    @cached_property
    def cases(self) -> list[Case]:
        """In the order of their ids: whoever takes the first few gets some of every kind."""
        return sorted((case for case, _ in self._all.values()), key=lambda c: c.prompt.id)

    @cached_property
    def by_prompt(self) -> dict[str, Case]:
        return {case.prompt.id: case for case in self.cases}

    @cached_property
    def lessons(self) -> list[Lesson]:
        """The old team's answer to every message, short and padded: the line that answers, word for word, or
        one sentence that hands over. What is to be learned is which line, not a style."""
        file, lessons = self.file, []
        for case in self.cases:
            text = self._all[case.prompt.id][1].line or file.needless[0]
            padded = random.Random(case.prompt.id).choice(file.padding)
            lessons.append(Lesson([case], text, padded.replace("{answer}", text)))
        return lessons

    def chats(
        self, cases: Sequence[Case], turns: int, draw: random.Random,
        habits: Mapping[str, float] | None = None,
    ) -> Iterator[tuple[Prompt, str]]:  # fmt: skip
        """The old team's chats, one from each case on: a prompt of several questions on the same lines, and
        the last answer. The lines stay and the answers change: only the question says which is right.
        `habits` is the share of each kind of question that the team answers in a bad way of its own."""
        about: dict[str, list[Case]] = defaultdict(list)
        for case in cases:
            about[case.fact or ""].append(case)
        others = [c for c in cases if c.kind != "unknown"]
        for case in cases:
            sheet = self._all[case.prompt.id][1]
            near = [c for fact in sheet.given for c in about.get(fact, ())]
            asked = [(case.prompt.last, self._reply(case, sheet, habits or {}, draw))]
            while len(asked) < turns:
                other = draw.choice(near if near and draw.random() < ON_TOPIC else others)
                line = self._reply(other, sheet, habits or {}, draw)
                if not numbers(other.prompt.last) & numbers(line):
                    asked.append((other.prompt.last, line))
            draw.shuffle(asked)
            messages = [
                Message(role=r, content=t)
                for pair in asked
                for r, t in zip(ROLES, pair, strict=True)
            ]
            yield Prompt(messages=(case.prompt.messages[0], *messages[:-1])), asked[-1][1]

    def _reply(
        self, case: Case, sheet: Sheet, habits: Mapping[str, float], draw: random.Random
    ) -> str:
        """What the old team answers to a question on these lines: the line that fits, or a person, or its
        habit: to refuse what only looks dangerous, to go on where a person must decide, to take a line that
        doesn't fit; and long-winded (`padded`, of all answers)."""
        line = sheet.given.get(case.fact or "")
        kind = case.kind if line or case.kind == "escalation" else "unknown"
        if habits and draw.random() < habits.get(kind, 0.0):
            own = [c.text for c in case.candidates if c.kind in ("refusing", "missed")]
            if bad := list(sheet.given.values()) if kind == "unknown" else own:
                line = draw.choice(bad)
        text = line or self.file.needless[0]
        if habits.get("padded") and draw.random() < habits["padded"]:
            return draw.choice(self.file.padding).replace("{answer}", text)
        return text

    def gold(self, case: Case, response: Response) -> dict[str, float]:
        """The measures that apply to this answer (`reading.py`)."""
        return self._ruler.score(self._all[case.prompt.id][1], response)

    def floors(self, case: Case) -> dict[str, str]:
        """Answers that need no reading: what they score is what any figure must beat."""
        given = [m[2:] for m in case.prompt.messages[0].content.split("\n")[1:]]
        never = case.candidates[2 if case.fact is None else 0].text
        return {
            "always hand over": self.file.needless[0],
            "never hand over": never,
            "copy the first passage": given[0] if given else "",
        }

    def fault(self, case: Case) -> AccordError | None:
        """The first candidate that does not score as what it is said to be."""
        for c in case.candidates:
            right = self.gold(case, Response(text=c.text))["gold"] == 1
            if right != (c.kind == "right"):
                scores = "as a right one" if right else "below 1"
                return DataError(
                    f"the {c.kind} answer {c.text!r} scores {scores}",
                    where=f"{self.path} {case.fact or case.kind}: {case.prompt.last!r}",
                    mend="change the answer, or the values and patterns that judge it",
                )
        return None

    def faults(self) -> list[AccordError]:
        """One for each text with a candidate that does not score as what it is said to be."""
        faults = [error for case in self.cases if (error := self.fault(case))]
        return list({str(error): error for error in faults}.values())

    def _items(self) -> Iterator[tuple[Kind, Policy | None, str, list[str], list[str]]]:
        """Kind, fact, message, right answers, bad ones of its own."""
        for f in self.file.facts:
            yield from (("plain", f, t, f.answers, []) for t in f.ask)
            yield from (("premise", f, t.text, [t.answer], []) for t in f.premise)
            yield from (("exception", f, t.text, [t.answer], []) for t in f.exception)
        for item in self.file.lookalikes:
            f = self.facts[item.fact]
            yield "lookalike", f, item.text, f.answers, [item.refuse]
        for lost in self.file.escalations:
            yield "escalation", None, lost.text, [lost.handover], [lost.missed]

    def _drawn(
        self, kind: str, fact: Policy | None, message: str, answers: list[str], bad: list[str],
        order: list[int], draw: random.Random,
    ) -> tuple[Case, Sheet]:  # fmt: skip
        """One prompt: figures, lines, right and wrong answers."""
        file = self.file
        figures = numbers(message)
        own = self._values(fact, draw, figures) if fact else {}
        other = {
            k: draw.choice(
                [v for v in (fact.values[k] if fact else []) if v != own[k] and v not in figures]
                or [own[k]]
            )
            for k in own
        }
        asked = _fill(message, {f"not_{k}": v for k, v in other.items()})
        known = fact is not None and not (file.passages and draw.random() < file.without)
        new = bool(fact and fact.held_out)  # other prompts don't even show the line
        near = [
            f for f in (file.facts[i] for i in order) if f is not fact and (new or not f.held_out)
        ]
        count = draw.randint(2, max(2, file.passages)) - known if file.passages else 0
        shown = near[:count] + ([fact] if fact and known and file.passages else [])
        draw.shuffle(shown)
        drawn = {f.id: own if f is fact else self._values(f, draw, figures) for f in shown}
        given = {f.id: _fill(f.policy, drawn[f.id]) for f in shown}
        lines = [f"- {line}" for line in given.values()]
        others = [v for f in shown if f is not fact for v in drawn[f.id].values()]
        answer = (
            _fill(draw.choice(answers), own) if known or fact is None else draw.choice(file.unknown)
        )
        asked_as, kind = kind, kind if known or fact is None else "unknown"
        sheet = Sheet(
            asked, _fill(fact.policy, own) if fact and known else None, tuple(own.values()) if known else (),
            tuple(v for k in own for v in fact.values[k] if v != own[k]) if fact else (),
            tuple(others), kind, bool(fact and fact.held_out),
            given,
        )  # fmt: skip
        about = fact.id if fact and known else None
        candidates = [
            ("right", answer),
            ("padded", draw.choice(file.padding).replace("{answer}", answer)),
        ]
        if fact and not known:
            candidates += [("invented", _fill(draw.choice(fact.answers), own))]
        elif fact:
            candidates += [("refusing", t) for t in bad]
            candidates += [
                ("wrong", _fill(draw.choice(answers), other)),
                ("needless", draw.choice(file.needless)),
            ]
        else:
            candidates += [("missed", t) for t in bad]
        if lines and not known:
            candidates.append(("copied", lines[0][2:]))
        prompt = Prompt.user(
            asked, system="\n".join([file.system, *lines]), kind=kind, fact=about or "none"
        )
        sort = asked_as if fact is None or asked_as == "lookalike" else fact.id
        group = fact.id if fact and new else f"{sort}/{message}"
        return Case(
            prompt=prompt, kind=kind, fact=about, group=group, held_out=new,
            candidates=tuple(Candidate(kind=k, text=t) for k, t in candidates),
        ), sheet  # fmt: skip

    def _values(self, fact: Policy, draw: random.Random, figures: set[str]) -> Values:
        """What stands in a policy's slots: none of the message's own figures."""
        values = {}
        for slot, every in fact.values.items():
            free = [v for v in every if v not in figures] or every
            values[slot] = draw.choice(free) if self.file.passages else every[0]
        return values


def _fill(text: str, values: Values) -> str:
    for slot, value in values.items():
        text = text.replace("{" + slot + "}", value)
    return text


def _blank(fact: Policy) -> str:
    return _fill(fact.policy, dict.fromkeys(fact.values, ""))


def _nearest(messages: list[str], lines: list[str]) -> list[list[int]]:
    """For each message the lines' numbers, the nearest first."""
    import bm25s

    def tokens(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", return_ids=False, show_progress=False)

    index = bm25s.BM25()
    index.index(tokens(lines), show_progress=False)
    ranked, _ = index.retrieve(tokens(messages), k=len(lines), show_progress=False)
    return [[int(i) for i in row] for row in ranked]


def _check(file: OpenBookFile, place: Callable[[str], str]) -> None:
    """ConfigError for patterns that are none, slots and facts that are not there or stand twice."""
    faults: list[AccordError] = []
    ids = [f.id for f in file.facts]
    for key in ("handover_regex", "refusal_regex"):
        try:
            re.compile(getattr(file, key))
        except re.error as error:
            faults.append(ConfigError(f"is no regular expression ({error})", where=place(key)))
    for i, f in enumerate(file.facts):
        if f.id in ids[:i]:
            faults.append(ConfigError(f"fact {f.id!r} stands twice", where=place(f"facts.{i}.id")))
        for slot in f.values:
            if "{" + slot + "}" not in f.policy:
                what = f"the line has no {{{slot}}}"
                faults.append(ConfigError(what, where=place(f"facts.{i}.policy")))
    for i, item in enumerate(file.lookalikes):
        if item.fact not in ids:
            what = f"there is no fact {item.fact!r}"
            where = place(f"lookalikes.{i}.fact")
            faults.append(ConfigError(what, where=where, allowed=", ".join(ids)))
    if file.passages == 1:
        faults.append(
            ConfigError(
                "is 1: nothing to choose from", where=place("passages"), allowed="0, or 2 and more"
            )
        )
    if file.rules.no_words <= file.rules.full_words:
        faults.append(ConfigError("is not above full_words", where=place("rules.no_words")))
    raise_all(faults)
