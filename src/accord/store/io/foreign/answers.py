"""One rater's values as answers to questions about the responses shown; what is not read is counted by name.

A choice that means a response is a preference, a number on a response a rating of it, an order a ranking of
those it names; written text is a rationale where its question is called so. Which of these a value is, its
question's name and its control's target tell (`names`); a value they do not place is not guessed at.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from accord.core.types import Answer, Preference, Ranking, Rating, StepLabels, Thumb, Writing
from accord.store.io.foreign.names import Shown, key, side, words
from accord.store.io.foreign.task import STEPS, ForeignAnswer, Value
from accord.store.io.readers import BadRow

__all__ = ["About", "answers_of"]

NOTES = {
    "rationale", "why", "reason", "reasons", "reasoning", "comment", "comments", "explanation", "feedback",
    "note", "notes", "justification", "critique",
}  # fmt: skip
PREFERENCES = {"preference", "tie"}  # what our own export calls them: another value is a fault
RANKINGS = PREFERENCES | {"rank", "ranking"}
WRITTEN = {"text", "response", "answer", "completion", "demonstration"}
EDITED = {"text", "correction", "corrected", "edit", "edited", "rewrite", "rewritten", "improved"}
THUMBS = {
    "up": True, "thumbsup": True, "👍": True, "good": True, "like": True, "accept": True,
    "down": False, "thumbsdown": False, "👎": False, "bad": False, "dislike": False, "reject": False,
}  # fmt: skip
SAID_OF_A_THUMB = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class About(NamedTuple):
    """An answer, the responses it is about (by place), and what was written of it."""

    answer: Answer
    of: tuple[int, ...]
    rationale: str | None = None


@dataclass
class _Heard:
    """What has been understood of one rater's values so far."""

    shown: Shown
    facts: Mapping[str, Any]
    names: set[str]  # of all questions that anybody was asked
    sides: list[tuple[str, int | None, int, bool]] = field(default_factory=list)
    strength: int | None = None
    rankings: list[tuple[str, dict[int, int]]] = field(default_factory=list)
    scores: dict[int, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    others: dict[int, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    written: list[Answer] = field(default_factory=list)
    notes: dict[int | None, list[str]] = field(default_factory=lambda: defaultdict(list))


def answers_of(
    answer: ForeignAnswer,
    shown: Shown,
    facts: Mapping[str, Any],
    names: set[str],
    unread: Counter[str],
) -> list[About]:
    """What one rater said, as answers. BadRow for a value that is wrong; others are counted in `unread`."""
    heard = _Heard(shown, facts, names)
    for value in answer.values:
        if not HEAR[value.kind](value, heard):
            unread[value.name] += 1
    answers = [*_preferences(heard, unread), *_rankings(heard, unread), *_single(heard)]
    if heard.strength is not None and not heard.sides:
        unread["strength"] += 1
    return _with_notes(answers, heard, unread)


# -- one value ------------------------------------------------------------------------------------


def _pair(value: Value, heard: _Heard) -> bool:
    """Left or right of the two that the control is on: by their names, or in their order."""
    places = [heard.shown.named(name) for name in value.about.split(",")]
    if len(places) != 2 or None in places:
        places = [0, 1]
        if len(heard.shown.names) != 2:
            raise BadRow(
                value.name,
                f"compares 2 of {len(heard.shown.names)} responses",
                "to_name: LEFT,RIGHT",
            )
    if value.value not in ("left", "right"):
        raise BadRow(value.name, f"{value.value!r} is unknown", "left, right")
    heard.sides.insert(0, (value.name, places[value.value == "right"], 1, False))
    return True


def _choice(value: Value, heard: _Heard) -> bool:
    name, choice = key(value.name), str(value.value)
    about = _of(value, heard)
    known = THUMBS | (SAID_OF_A_THUMB if name.startswith("thumb") else {})
    if about is not None and (key(choice) in known or name == "thumb"):
        if key(choice) not in known:
            raise BadRow(value.name, f"{choice!r} is unknown", "up, down")
        heard.others[about[0]].append(Thumb(up=known[key(choice)]))
        return True
    verdict = side(choice, heard.shown) if len(heard.shown.names) > 1 else None
    if name == "tie" or choice == "both_bad":
        verdict = {"tie": (None, 1, False), "both_bad": (None, 1, True)}.get(choice, verdict)
    if verdict is None and name in PREFERENCES:
        allowed = ", ".join([*heard.shown.names, "tie", "both_bad"])
        raise BadRow(value.name, f"{choice!r} is unknown", allowed)
    if verdict is None or (verdict[0] is None and len(heard.shown.names) != 2):
        return False
    heard.sides.append((value.name, *verdict))
    return True


def _number(value: Value, heard: _Heard) -> bool:
    name = key(value.name)
    if name == "strength" and len(heard.shown.names) == 2:
        heard.strength = int(value.value)
        return True
    if name in PREFERENCES:
        raise BadRow(value.name, f"{value.value!r} is unknown", ", ".join(heard.shown.names))
    of = _of(value, heard)
    if of is None:
        return False
    heard.scores[of[0]][of[1]] = float(value.value)
    return True


def _rank(value: Value, heard: _Heard) -> bool:
    ranks: dict[int, int] = {}
    places = [heard.shown.named(item) for item, _ in value.value]
    if None in places:
        places = [heard.shown.place(item) for item, _ in value.value]
    if None in places and key(value.name) not in RANKINGS and not value.about:
        return False  # several labels, not an order
    for at, (item, rank) in zip(places, value.value, strict=True):
        if at is None or at in ranks:
            what = "is no response here" if at is None else "is ranked twice"
            raise BadRow(value.name, f"{item!r} {what}", ", ".join(heard.shown.names))
        if rank is not None:
            ranks[at] = int(rank)
    if len(ranks) < 2:
        return False
    heard.rankings.append((value.name, ranks))
    return True


def _text(value: Value, heard: _Heard) -> bool:
    name, text, tokens = key(value.name), str(value.value), set(words(value.name.replace("_", " ")))
    about = _of(value, heard) if len(heard.shown.names) > 1 else None
    if name == "steps" and len(heard.shown.names) == 1:
        wrong = [s for s in text.split() if s not in STEPS]
        if wrong:
            raise BadRow(value.name, f"{wrong[0]!r} is unknown", ", ".join(STEPS))
        heard.others[0].append(StepLabels(labels=tuple(STEPS[s] for s in text.split())))
    elif tokens & NOTES:
        if text.strip():
            heard.notes[about[0] if about else None].append(text)
    elif not heard.shown.names and (name in WRITTEN or tokens & EDITED):
        heard.written.append(Writing(text=text))
    elif len(heard.shown.names) == 1 and tokens & EDITED:
        heard.written.append(Writing(text=text, edits=0))
    else:
        return False
    return True


def _label(value: Value, heard: _Heard) -> bool:
    """Text that is a choice where it means one, else written."""
    if key(value.name) in PREFERENCES:
        return _choice(value, heard)
    return _text(value, heard) or _choice(value, heard)


HEAR: dict[str, Callable[[Value, _Heard], bool]] = {
    "pair": _pair, "choice": _choice, "number": _number, "rank": _rank, "text": _text, "label": _label,
    "other": lambda value, heard: False,
}  # fmt: skip


def _of(value: Value, heard: _Heard) -> tuple[int, str] | None:
    """The response a value is about, and what of it (the axis): by the control's target, else by the name."""
    shown = heard.shown
    if len(shown.names) < 2:
        return (0, value.name) if shown.names else None
    parts = re.findall(r"[A-Za-z]+\d+|[A-Za-z]+|\d+", value.name)
    target = shown.named(value.about) if value.about else None
    if target is None and value.about:
        target = shown.place(value.about)
    for size in (2, 1):
        for start in range(len(parts) - size + 1):
            word = "".join(parts[start : start + size])
            at = shown.named(word)
            if at is None and re.fullmatch(
                r"(?i)(response|answer|completion|generation|output)s?(\d+|[a-z])", word
            ):
                at = shown.place(word)
            if at is not None and target in (None, at):
                return at, "_".join(parts[:start] + parts[start + size :]) or "rating"
    if target is not None:
        axis, number = _numbered(value.name)
        return target, axis if number == shown.ends[target] and axis else value.name
    axis, number = _numbered(value.name)
    asked = {n for name in heard.names for a, n in [_numbered(name)] if a == axis and n}
    if number and asked <= set(shown.ends):  # rating_1, rating_2: all of them numbers of responses
        return shown.ends.index(number), axis or "rating"
    return None


def _numbered(name: str) -> tuple[str, str]:
    """("rating", "1") of rating_1, rating-1 and rating1; (name, "") of others."""
    match = re.fullmatch(r"(.*?)[\s_.-]*(\d+)|(.+?)[\s_.-]([A-Za-z])", name)
    if match is None:
        return name, ""
    axis, number, other, letter = match.groups()
    return (axis, number) if number else (other, letter.lower())


# -- all of one rater's ---------------------------------------------------------------------------


def _preferences(heard: _Heard, unread: Counter[str]) -> Iterable[About]:
    """One preference between two; of several responses the best against each other one."""
    if not heard.sides:
        return
    first = heard.sides[0]
    for name, *verdict in heard.sides[1:]:
        if verdict[0] != first[1]:
            unread[name] += 1
    _, better, strength, both_bad = first
    strength = heard.strength or strength
    if better is None:
        yield About(Preference(better=None, both_bad=both_bad), (0, 1))
        return
    for other in range(len(heard.shown.names)):
        if other != better:
            of = (better, other) if better < other else (other, better)
            at: Literal[0, 1] = 0 if better < other else 1
            yield About(Preference.model_validate({"better": at, "strength": strength}), of)


def _rankings(heard: _Heard, unread: Counter[str]) -> Iterable[About]:
    """A ranking has no axis: of several the one that is called so, else the first."""
    rankings = sorted(heard.rankings, key=lambda r: key(r[0]) not in RANKINGS)
    for name, _ in rankings[1:]:
        unread[name] += 1
    for _, ranks in rankings[:1]:
        of = tuple(sorted(ranks))
        yield About(Ranking(ranks=tuple(ranks[i] for i in of)), of)


def _single(heard: _Heard) -> Iterable[About]:
    lowest, highest = float(heard.facts.get("lowest", 1.0)), float(heard.facts.get("highest", 5.0))
    for at, scores in sorted(heard.scores.items()):
        wrong = next((a for a, s in scores.items() if not lowest <= s <= highest), None)
        if wrong is not None:
            raise BadRow(
                wrong, f"is {scores[wrong]:g}, which is not in [{lowest:g}, {highest:g}]",
                "another scale, when the data (in Argilla: the metadata) has its lowest and highest",
            )  # fmt: skip
        yield About(Rating(scores=scores, lowest=lowest, highest=highest), (at,))
    for at, answers in sorted(heard.others.items()):
        yield from (About(answer, (at,)) for answer in answers)
    for answer in heard.written:
        yield About(answer, tuple(range(len(heard.shown.names))))


def _with_notes(answers: list[About], heard: _Heard, unread: Counter[str]) -> list[About]:
    """Each note with the answer it is about: a response's, or the one comparison, or the only answer."""
    of_all = [a for a in answers if len(a.of) > 1]
    if not of_all and len({a.of for a in answers}) == 1:
        of_all = answers
    notes = {a: heard.notes.get(None, []) for a in map(answers.index, of_all)}
    for n, about in enumerate(answers):
        if len(about.of) == 1 and heard.notes.get(about.of[0]):
            notes[n] = [*notes.get(n, []), *heard.notes[about.of[0]]]
    kept = {id(text) for some in notes.values() for text in some}
    unread["rationale"] += sum(id(t) not in kept for some in heard.notes.values() for t in some)
    return [
        a._replace(rationale="\n".join(notes[n]) if notes.get(n) else None)
        for n, a in enumerate(answers)
    ]
