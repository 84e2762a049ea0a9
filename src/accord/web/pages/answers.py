"""Between a form's fields and an Answer, for every kind of question."""

from __future__ import annotations

import re
from typing import Any

from accord.core.errors import DataError
from accord.core.types import (
    Answer,
    Preference,
    Ranking,
    Rating,
    StepLabels,
    Thumb,
    Writing,
    steps_of,
)
from accord.feedback.study.definition import Ask, Compare, Rank, Rate, Steps, Write
from accord.web.guard.security import Form

__all__ = [
    "answer_line",
    "answer_of",
    "choices",
    "fields_of",
    "groups_of",
    "in_words",
    "options_of",
    "text_in",
]

LONGEST = {"rationale": 20_000, "reason": 2_000}  # characters
WORDS = {1: "slightly better", 2: "better", 3: "much better"}


def choices(ask: Compare) -> list[dict[str, Any]]:
    """The options of a comparison from left to right: value, key, label, side."""
    strongest = {2: 1, 5: 2, 7: 3}[ask.points]
    words = {2: {1: "is better"}, 5: {1: "slightly better", 2: "much better"}, 7: WORDS}[ask.points]
    left = [("0", s) for s in range(strongest, 0, -1)]
    right = [("1", s) for s in range(1, strongest + 1)]
    options = [
        {"value": f"{side}:{s}", "label": f"{'AB'[int(side)]} {words[s]}", "side": "AB"[int(side)]}
        for side, s in left
    ]
    if ask.tie:
        options.append({"value": "tie", "label": "Tie", "side": ""})
    options += [
        {"value": f"{side}:{s}", "label": f"{'AB'[int(side)]} {words[s]}", "side": "AB"[int(side)]}
        for side, s in right
    ]
    if ask.points == 2:
        keys = ["1", "0", "2"] if ask.tie else ["1", "2"]
    else:
        keys = [str(n + 1) for n in range(len(options))]
    for option, key in zip(options, keys, strict=True):
        option["key"] = key
    if ask.both_bad:
        options.append({"value": "bad", "label": "Both bad", "side": "", "key": "9"})
    return options


def options_of(ask: Any) -> list[dict[str, Any]]:
    """Radios of a kind with one group."""
    if isinstance(ask, Compare):
        return choices(ask)
    if ask.kind == "thumb":
        return [
            {"value": "up", "key": "1", "label": "Good", "side": "up"},
            {"value": "down", "key": "2", "label": "Bad", "side": "down"},
        ]
    return []


def groups_of(ask: Any, shown: list[str]) -> list[dict[str, Any]]:
    """Groups of radios of the other kinds: an axis, a response to rank, a step."""
    if isinstance(ask, Rate):
        points = [{"value": str(n), "key": str(n)} for n in range(1, ask.points + 1)]
        return [{"label": a.name, "help": a.text, "low": a.low, "high": a.high, "points": points}
                for a in ask.axes]  # fmt: skip
    if isinstance(ask, Rank):
        points = [{"value": str(n), "key": str(n)} for n in range(1, len(shown) + 1)]
        return [{"label": "ABCDEFGHI"[i], "text": t, "points": points} for i, t in enumerate(shown)]
    if isinstance(ask, Steps):
        points = [
            {"value": "good", "key": "1"}, {"value": "neutral", "key": "2"},
            {"value": "bad", "key": "3"},
        ]  # fmt: skip
        return [{"label": f"Step {i + 1}", "text": t, "points": points}
                for i, t in enumerate(steps_of(shown[0]))]  # fmt: skip
    return []


def answer_of(ask: Ask, form: Form, texts: list[str]) -> Answer:
    """The answer in a form; DataError says what is missing. `texts`: the responses as shown."""
    if isinstance(ask, Compare):
        return _preference(ask, form.get("choice", ""))
    if isinstance(ask, Rate):
        scores = {
            axis.name: float(form_int(form.get(f"group-{i}", ""), axis.name, 1, ask.points))
            for i, axis in enumerate(ask.axes)
        }
        return Rating(scores=scores, lowest=1.0, highest=float(ask.points))
    if isinstance(ask, Rank):
        given = [
            form_int(form.get(f"group-{i}", ""), f"the rank of {'ABCDEFGHI'[i]}", 1, len(texts))
            for i in range(len(texts))
        ]
        if not ask.ties and len(set(given)) < len(given):
            raise DataError("two responses have the same rank", where="ranks", mend="break the tie")
        order = sorted(set(given))
        return Ranking(ranks=tuple(order.index(rank) + 1 for rank in given))
    if isinstance(ask, Steps):
        steps = steps_of(texts[0])
        names = {"good": 1, "neutral": 0, "bad": -1}
        marks = [form.get(f"group-{i}", "") for i in range(len(steps))]
        missing = next((i for i, s in enumerate(marks) if s not in names), None)
        if missing is not None:
            raise DataError("is not marked", where=f"step {missing + 1}")
        return StepLabels(labels=tuple(names[s] for s in marks))
    if isinstance(ask, Write):
        return _writing(ask, form.get("text", ""), texts)
    if form.get("choice") not in ("up", "down"):
        raise DataError("choose up or down", where="answer")
    return Thumb(up=form["choice"] == "up")


def text_in(form: Form, key: str) -> str:
    """A text of a form; DataError for one that is too long, rather than a part of it."""
    text = form.get(key, "").strip()
    if len(text) > LONGEST[key]:
        raise DataError(
            f"is {len(text):,} characters long, at most {LONGEST[key]:,} are kept",
            where={"rationale": "why"}.get(key, key),
        )
    return text


def form_int(text: str, what: str, low: int, high: int) -> int:
    """A number of a form; DataError says which one is wrong."""
    if not text.isascii() or not text.isdigit() or not low <= int(text[:9]) <= high:
        raise DataError(f"is {text[:20]!r}" if text else "is not answered", where=what,
                        allowed=f"{low} to {high}")  # fmt: skip
    return int(text)


def _preference(ask: Compare, choice: str) -> Preference:
    if choice not in {option["value"] for option in choices(ask)}:
        raise DataError("choose one", where="answer")
    if choice in ("tie", "bad"):
        return Preference(better=None, both_bad=choice == "bad")
    side, _, strength = choice.partition(":")
    return Preference(better=0 if side == "0" else 1, strength=int(strength))


def _writing(ask: Write, text: str, shown: list[str]) -> Writing:
    if len(text.strip()) < ask.minimum:
        raise DataError(f"at least {ask.minimum} characters are asked for", where="text")
    if shown and text.strip() == shown[0].strip():
        raise DataError("nothing is changed yet", where="text", mend="edit it, or skip")
    return Writing(text=text.strip(), edits=0 if shown else None)


def fields_of(answer: Answer, ask: Ask) -> Form:
    """The form's fields that say this answer to a question of this kind."""
    if isinstance(answer, Preference):
        if answer.better is None:
            return {"choice": "bad" if answer.both_bad else "tie"}
        return {"choice": f"{answer.better}:{answer.strength}"}
    if isinstance(answer, Thumb):
        return {"choice": "up" if answer.up else "down"}
    if isinstance(answer, Rating):
        axes = [axis.name for axis in ask.axes] if isinstance(ask, Rate) else []
        return {
            f"group-{i}": f"{answer.scores[axis]:g}"
            for i, axis in enumerate(axes)
            if axis in answer.scores
        }
    if isinstance(answer, Ranking):
        return {f"group-{i}": str(rank) for i, rank in enumerate(answer.ranks)}
    if isinstance(answer, StepLabels):
        names = {1: "good", 0: "neutral", -1: "bad"}
        return {f"group-{i}": names[label] for i, label in enumerate(answer.labels)}
    return {"text": answer.text}


def answer_line(answer: Answer) -> str:
    """An answer in words, for reviewers."""
    if isinstance(answer, Preference):
        if answer.better is None:
            return "both bad" if answer.both_bad else "tie"
        return f"{'AB'[answer.better]} better" + (
            f" ({'+' * answer.strength})" if answer.strength > 1 else ""
        )
    if isinstance(answer, Thumb):
        return "up" if answer.up else "down"
    if isinstance(answer, Rating):
        return ", ".join(f"{axis} {score:g}" for axis, score in answer.scores.items())
    if isinstance(answer, Ranking):
        return ", ".join(f"{'ABCDEFGHI'[i]} {rank}" for i, rank in enumerate(answer.ranks))
    if isinstance(answer, StepLabels):
        return " ".join({1: "+", 0: "o", -1: "−"}[label] for label in answer.labels)
    return answer.text


def in_words(ask: Ask, fields: Form) -> str:
    """A draft as its rater would say it."""
    names = [axis.name for axis in ask.axes] if isinstance(ask, Rate) else list("ABCDEFGHI")
    labels = {str(o["value"]): str(o["label"]) for o in options_of(ask)}
    parts = [labels.get(fields["choice"], "")] if "choice" in fields else []
    for n in sorted(int(k[6:]) for k in fields if re.fullmatch(r"group-[0-9]{1,4}", k)):
        name = names[n] if ask.kind != "steps" and n < len(names) else f"step {n + 1}"
        parts.append(f"{name} {fields.get(f'group-{n}', '')}")
    return ", ".join(parts) + fields.get("text", "")
