"""A study: what is asked, of how many people, under which guidelines. Read from YAML, strictly.

    name: support
    guidelines: guidelines.md
    overlap: {min: 2, max: 4}
    questions:
      - {kind: compare, points: 7, file: pairs.jsonl}
      - {kind: rate, axes: [{name: tone}], items: [{prompt: "Hi?", responses: ["Hello."]}]}

Where the questions come from: `items` (in the study), `file` (JSONL, one item a line), `run` (answers of a
run's evaluations) or `policies` (sampled while people work, blind).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from accord.core.config import Strict, apply_sets, read_yaml, validate
from accord.core.errors import ConfigError, DataError
from accord.core.rundir import read_jsonl
from accord.core.types import (
    ANSWERS,
    Answer,
    Prompt,
    Ranking,
    Rating,
    Response,
    StepLabels,
    Writing,
    steps_of,
)
from accord.store.io.readers import BadRow, read_rows

__all__ = [
    "Ask",
    "Compare",
    "Item",
    "Overlap",
    "Rank",
    "Rate",
    "Steps",
    "Study",
    "Thumbs",
    "Write",
    "check_item",
    "read_items",
    "read_study",
]

Name = Annotated[str, Field(min_length=1, max_length=48, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Text = Annotated[str, Field(min_length=1, max_length=200_000)]
MOST_RESPONSES = 9
MOST_CATEGORY = 80  # characters


class Criterion(Strict):
    """One criterion; the order in the list is the order of precedence in a conflict."""

    name: Text
    text: str = ""


class Example(Strict):
    """A worked example beside the task."""

    prompt: Text
    responses: list[str] = Field(default_factory=list)
    verdict: Text


class QuizQuestion(Strict):
    """One question of the qualification quiz: two responses and which is better."""

    prompt: Text
    responses: Annotated[list[Text], Field(min_length=2, max_length=2)]
    answer: Literal["first", "second", "tie"]
    why: str = ""


class Quiz(Strict):
    """What a rater answers before the first question."""

    questions: Annotated[list[QuizQuestion], Field(min_length=1)]
    pass_share: Share = 0.8


class Overlap(Strict):
    """Raters per question: at least `min`; more, to `max`, until the posterior is settled."""

    min: Annotated[int, Field(ge=1, le=100)] = 1
    max: Annotated[int, Field(ge=1, le=100)] = 1
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.9
    """Settled when P(the leading answer is the majority's) is this high."""
    dispute_below: Share = 0.6
    """At `max`, a question whose leading answer has a smaller share goes to an adjudicator."""

    @model_validator(mode="after")
    def _ordered(self) -> Overlap:
        if self.max < self.min:
            raise ValueError(f"max must be at least min ({self.min})")
        return self


class Arms(Strict):
    """How the next question is chosen: shares, of which the random arm is always kept."""

    random: Annotated[float, Field(ge=0.05, le=1.0)] = 1.0
    disagreement: Share = 0.0
    information: Share = 0.0

    @model_validator(mode="after")
    def _sum(self) -> Arms:
        if abs(self.random + self.disagreement + self.information - 1.0) > 1e-6:
            raise ValueError("random, disagreement and information must sum to 1")
        return self


class Item(Strict):
    """One thing to ask about. `scores`: for each response, its score by each reward model."""

    prompt: str | list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    responses: list[str | dict[str, Any]] = Field(default_factory=list)
    category: Annotated[str, Field(max_length=MOST_CATEGORY)] = ""
    """Kept as the prompt's tag `category`."""
    scores: list[list[float]] | None = None
    gold: dict[str, Any] | None = None
    """The known answer, as the kind's Answer without its name: {better: 0}, {up: true}…"""

    def prompt_(self) -> Prompt:
        tags = {"category": self.category} if self.category else {}
        prompt: Any = self.prompt
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return Prompt.model_validate({"messages": turns, "tags": tags, "tools": self.tools})

    def responses_(self) -> list[Response]:
        return [
            Response(text=r) if isinstance(r, str) else Response.model_validate(r)
            for r in self.responses
        ]


class _Asked(Strict):
    """What all kinds share."""

    ask: str = ""
    """The instruction above the task."""
    items: list[Item] = Field(default_factory=list)
    file: str | None = None
    run: str | None = None
    policies: list[str] | None = None
    prompts: str | None = None
    """With `policies`: a JSONL file of prompts."""
    ahead: Annotated[int, Field(ge=1, le=1000)] = 20
    """With `policies`: how many questions are sampled before they are needed."""

    @model_validator(mode="after")
    def _one_source(self) -> _Asked:
        named = [n for n in ("items", "file", "run", "policies") if getattr(self, n)]
        if len(named) > 1:
            raise ValueError(f"one source at a time, not {' and '.join(named)}")
        if bool(self.policies) != bool(self.prompts):
            raise ValueError("policies and prompts go together")
        return self


class Compare(_Asked):
    """Which of two is better: 2 (left, right), 5 or 7 points."""

    kind: Literal["compare"]
    points: Literal[2, 5, 7] = 2
    tie: bool = True
    both_bad: bool = True


class Axis(Strict):
    """One axis of a rating."""

    name: Annotated[str, Field(min_length=1, max_length=40)]
    text: str = ""
    low: str = "poor"
    high: str = "excellent"


class Rate(_Asked):
    """A Likert score from 1 to `points` on every axis."""

    kind: Literal["rate"]
    axes: Annotated[list[Axis], Field(min_length=1, max_length=12)]
    points: Annotated[int, Field(ge=2, le=9)] = 5


class Rank(_Asked):
    """Order 4 to 9 responses (2 and 3 are taken too)."""

    kind: Literal["rank"]
    ties: bool = True


class Thumbs(_Asked):
    """Up or down."""

    kind: Literal["thumb"]


class Steps(_Asked):
    """Mark every reasoning step of a response."""

    kind: Literal["steps"]


class Write(_Asked):
    """A demonstration, or, where the item has a response, an edit of it."""

    kind: Literal["write"]
    minimum: Annotated[int, Field(ge=1)] = 1
    """Shortest text that is taken, in characters."""


Ask = Annotated[Compare | Rate | Rank | Thumbs | Steps | Write, Field(discriminator="kind")]
COUNTS = {  # responses a question of each kind shows
    "compare": (2, 2), "rate": (1, 1), "rank": (2, MOST_RESPONSES), "thumb": (1, 1),
    "steps": (1, 1), "write": (0, 1),
}  # fmt: skip


class Arena(Strict):
    """A blind chat with two policies; `policies` are names the server knows."""

    policies: Annotated[list[str], Field(min_length=2)]
    system: str | None = None
    most_turns: Annotated[int, Field(ge=1, le=50)] = 10


class Study(Strict):
    """A whole study."""

    name: Name
    title: str = ""
    guidelines: str = ""
    """Markdown, or the name of a .md file beside the study."""
    criteria: list[Criterion] = Field(default_factory=list)
    examples: list[Example] = Field(default_factory=list)
    quiz: Quiz | None = None
    overlap: Overlap = Overlap()
    gold_rate: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    repeat_rate: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0
    """How often a rater meets a question of theirs again, to see whether they answer it as before."""
    assignment: Arms = Arms()
    scorers: list[str] = Field(default_factory=list)
    """Folders of reward models; questions that come without scores are scored by them as they are added."""
    lease_minutes: Annotated[float, Field(gt=0.0, le=1440.0)] = 20.0
    seed: int = 17
    questions: list[Ask] = Field(default_factory=list)
    arena: Arena | None = None
    folder: str = ""

    @property
    def shown(self) -> str:
        """The title as people see it."""
        return self.title or self.name

    def guideline_document(self) -> dict[str, Any]:
        """What a guideline version holds: its text, criteria and examples."""
        return {
            "text": self.guidelines,
            "criteria": [c.model_dump() for c in self.criteria],
            "examples": [e.model_dump() for e in self.examples],
        }


def read_study(path: Path, sets: list[str] | None = None) -> Study:
    """The study in a YAML file; ConfigError names file, line and key."""
    data, lines = read_yaml(path)
    apply_sets(data, sets or [])
    study = validate(Study, data, source=str(path), lines=lines)
    guidelines = study.guidelines
    if guidelines.endswith(".md") and "\n" not in guidelines:
        file = path.parent / guidelines
        try:
            guidelines = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"can't be read ({error})", where=f"{path} guidelines", mend="check the path"
            ) from None
    return study.model_copy(update={"guidelines": guidelines, "folder": str(path.parent)})


def read_items(ask: Ask, folder: Path) -> list[tuple[str, Item]]:
    """(place, item) of everything a source holds now; live policies hold nothing yet."""
    if ask.file:
        return [(place, _item(row, place)) for place, row in _rows(folder / ask.file)]
    if ask.run:
        return _run_items(ask, folder / ask.run)
    return [(f"items.{i}", item) for i, item in enumerate(ask.items)]


def _rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for place, row in read_rows(path):
        if isinstance(row, BadRow):
            raise DataError(row.reason, where=f"{path}:{place} {row.field}".rstrip())
        rows.append((f"{path}:{place}", row))
    return rows


def _item(row: dict[str, Any], place: str) -> Item:
    try:
        return Item.model_validate(row)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{place} {'.'.join(str(p) for p in first['loc'])}"
        raise DataError(
            first["msg"], where=where, allowed=", ".join(Item.model_fields), mend="mend the row"
        ) from None


def _run_items(ask: Ask, run: Path) -> list[tuple[str, Item]]:
    """The answers a run's evaluations left, grouped by prompt; each kind takes as many as it shows."""
    files = sorted(run.glob("*/answers.jsonl"))
    if not files:
        raise DataError("holds no answers", where=str(run), mend="run the recipe's eval stage")
    by_prompt: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {}
    for file in files:
        for row in read_jsonl(file):
            prompt = row["prompt"]
            _, answers = by_prompt.setdefault(
                str([prompt["messages"], prompt.get("tools")]), (prompt, [])
            )
            answers.append({**row["response"], "source": f"run:{run.name}:{file.parent.name}"})
    low, high = COUNTS[ask.kind]
    items = []
    for number, (prompt, answers) in enumerate(by_prompt.values()):
        asked = {
            "prompt": prompt["messages"],
            "tools": prompt.get("tools"),
            "category": prompt.get("tags", {}).get("category", ""),
        }
        place = f"{run} prompt {number + 1}"
        parts = [answers[:high]] if high > 1 else [[a] for a in answers]
        items += [
            (place, _item({**asked, "responses": part}, place))
            for part in parts
            if len(part) >= low
        ]
    return items


def check_item(ask: Ask, item: Item, place: str) -> tuple[Prompt, list[Response], Answer | None]:
    """The item as types; DataError when it can't be asked as this kind."""
    low, high = COUNTS[ask.kind]
    try:
        prompt, responses = item.prompt_(), item.responses_()
        known = None if item.gold is None else _gold(ask, item.gold)
    except ValidationError as error:
        first = error.errors()[0]
        raise DataError(first["msg"], where=f"{place} {'.'.join(map(str, first['loc']))}") from None
    if not low <= len(responses) <= high:
        allowed = str(low) if low == high else f"{low} to {high}"
        raise DataError(
            f"{len(responses)} responses for a {ask.kind} question", where=place, allowed=allowed
        )
    texts = [*(m.shown for m in prompt.messages), *(r.shown + r.source for r in responses)]
    if any("\x00" in t or not _whole(t) for t in [*texts, item.category]):
        raise DataError("holds a character that can't be kept", where=place, mend="take it out")
    if len({r.shown for r in responses}) < len(responses):
        raise DataError("the same response twice", where=place, mend="leave one out")
    if item.scores is not None and len(item.scores) != len(responses):
        raise DataError("scores need one list per response", where=f"{place} scores")
    if item.scores is not None and len({len(one) for one in item.scores}) > 1:
        raise DataError("scores need as many models for each response", where=f"{place} scores")
    if known is not None and not _fits(ask, known, responses):
        raise DataError(f"is no answer to this {ask.kind} question", where=f"{place} gold")
    return prompt, responses, known


def _gold(ask: Ask, gold: dict[str, Any]) -> Answer:
    scale = {"lowest": 1.0, "highest": float(ask.points)} if isinstance(ask, Rate) else {}
    answer: Answer = TypeAdapter(Answer).validate_python(
        {**scale, **gold, "kind": ANSWERS[ask.kind]}
    )
    return answer


def _fits(ask: Ask, known: Answer, responses: list[Response]) -> bool:
    """Whether a known answer can be right at all: all axes, all ranks, all steps; a text never is."""
    if isinstance(known, Rating):
        return isinstance(ask, Rate) and set(known.scores) == {axis.name for axis in ask.axes}
    if isinstance(known, Ranking):
        return len(known.ranks) == len(responses)
    if isinstance(known, StepLabels):
        return len(known.labels) == len(steps_of(responses[0].text))
    return not isinstance(known, Writing)


def _whole(text: str) -> bool:
    """Whether it is text: half of a surrogate pair is none."""
    return not any("\ud800" <= c <= "\udfff" for c in text)
