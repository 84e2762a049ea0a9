"""The words of accord as frozen types: what is asked, what is answered, what training reads.

A Question is asked of a Rater and answered by a Judgment; a Snapshot freezes judgments; training
reads Pairs, Groups, Demonstrations and LabelledResponses, each with the judgment ids (`sources`)
it came from. Ids are content hashes: the same content has the same id in every store.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from accord.core.measure import Measure
from accord.core.messages import (
    ID_LENGTH,
    Calls,
    Exchange,
    Frozen,
    Message,
    Prompt,
    Response,
    Role,
    Tools,
    response_id,
    short_id,
)

__all__ = [
    "ID_LENGTH",
    "Answer",
    "Demonstration",
    "Edge",
    "Exchange",
    "Frozen",
    "Group",
    "Judgment",
    "LabelledResponse",
    "LabelledSteps",
    "Message",
    "Metric",
    "Pair",
    "Preference",
    "Prompt",
    "Question",
    "Ranking",
    "Rater",
    "Rating",
    "Response",
    "Role",
    "StepLabels",
    "Thumb",
    "Tools",
    "Verdict",
    "Writing",
    "response_id",
    "short_id",
    "steps_of",
]

QuestionKind = Literal["compare", "rate", "rank", "thumb", "steps", "write"]
STORED = {"stored": True}  # context of validation
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class Rater(Frozen):
    """Who answers questions: a person, a judge model, or a rule."""

    name: str
    kind: Literal["human", "model", "rule"]
    facts: dict[str, Any] = Field(default={})

    @cached_property
    def id(self) -> str:
        return short_id([self.kind, self.name])


class Question(Frozen):
    """What a rater is asked. `responses` are response ids in the order shown."""

    prompt: str
    responses: tuple[str, ...]
    kind: QuestionKind
    guideline: str = "v1"

    @cached_property
    def id(self) -> str:
        return short_id([self.prompt, list(self.responses), self.kind, self.guideline])


A = TypeVar("A", bound=Frozen)


def _not_empty(answer: A, content: Collection[Any], info: ValidationInfo) -> A:
    """An answer that says something; what older versions stored is still read (`STORED`)."""
    if not content and info.context != STORED:
        raise ValueError("says nothing of any response")
    return answer


class Preference(Frozen):
    """Answer to `compare`: index of the better response as shown; None is a tie. `p` is the probability that
    the first shown is better, of a rater that tells one (a model); its vote is then a soft one."""

    kind: Literal["preference"] = "preference"
    better: Literal[0, 1] | None
    strength: Annotated[int, Field(ge=1, le=3)] = 1
    both_bad: bool = False
    p: Annotated[Probability | None, Field(exclude_if=lambda p: p is None)] = None

    @model_validator(mode="after")
    def _p_says_the_same(self) -> Preference:
        if self.p is not None and self.better != (None if self.p == 0.5 else int(self.p < 0.5)):
            raise ValueError(f"p={self.p:g} and better={self.better} say different things")
        return self


class Rating(Frozen):
    """Answer to `rate`: a score per axis on a scale from `lowest` to `highest`."""

    kind: Literal["rating"] = "rating"
    scores: dict[str, float]
    lowest: float = 1.0
    highest: float = 5.0

    @model_validator(mode="after")
    def _in_range(self, info: ValidationInfo) -> Rating:
        _not_empty(self, self.scores, info)
        for axis, score in self.scores.items():
            if not self.lowest <= score <= self.highest:
                raise ValueError(f"{axis} must be in [{self.lowest:g}, {self.highest:g}]")
        return self


class Ranking(Frozen):
    """Answer to `rank`: the rank of each response as shown, 1 is best, equal ranks are ties."""

    kind: Literal["ranking"] = "ranking"
    ranks: tuple[Annotated[int, Field(ge=1)], ...]

    @model_validator(mode="after")
    def _says_something(self, info: ValidationInfo) -> Ranking:
        return _not_empty(self, self.ranks, info)


class Thumb(Frozen):
    """Answer to `thumb`."""

    kind: Literal["thumb"] = "thumb"
    up: bool


class StepLabels(Frozen):
    """Answer to `steps`: 1 good, 0 neutral, -1 bad, one label per reasoning step."""

    kind: Literal["steps"] = "steps"
    labels: tuple[Literal[-1, 0, 1], ...]

    @model_validator(mode="after")
    def _says_something(self, info: ValidationInfo) -> StepLabels:
        return _not_empty(self, self.labels, info)


def steps_of(text: str) -> list[str]:
    """The steps of a worked answer, what raters label and process models score: its lines that are not
    empty."""
    return [line.strip() for line in text.split("\n") if line.strip()] or [text]


class Writing(Frozen):
    """Answer to `write`: a demonstration, or an edit of the shown response `edits`."""

    kind: Literal["writing"] = "writing"
    text: str
    edits: int | None = None
    tool_calls: Calls = None


Answer = Annotated[
    Preference | Rating | Ranking | Thumb | StepLabels | Writing, Field(discriminator="kind")
]

ANSWERS: dict[str, str] = {  # question kind -> answer kind
    "compare": "preference",
    "rate": "rating",
    "rank": "ranking",
    "thumb": "thumb",
    "steps": "steps",
    "write": "writing",
}


class Judgment(Frozen):
    """One answer of one rater to one question. Never changed: a correction supersedes it."""

    question: str
    rater: str
    answer: Answer
    at: str  # ISO 8601, UTC
    seconds: float | None = None
    rationale: str | None = None
    supersedes: str | None = None

    @field_validator("at")
    @classmethod
    def _is_a_time(cls, at: str) -> str:
        try:
            datetime.fromisoformat(at)
        except ValueError:
            raise ValueError(f"{at!r} is no ISO 8601 time") from None
        return at

    @cached_property
    def id(self) -> str:
        return short_id(self.model_dump(mode="json"))


class Pair(Frozen):
    """Chosen against rejected. `p` is P(chosen is better), `weight` how much the pair counts."""

    prompt: Prompt
    chosen: Response
    rejected: Response
    p: Probability = 1.0
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    margin: float = 0.0
    agreement: Probability | None = None
    sources: tuple[str, ...] = ()


class Edge(Frozen):
    """One comparison inside a Group: response `better` against `worse` (indices)."""

    better: int
    worse: int
    p: Probability = 1.0
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    margin: float = 0.0
    agreement: Probability | None = None
    sources: tuple[str, ...] = ()


class Group(Frozen):
    """K responses to one prompt and the comparisons among them: one token tree."""

    prompt: Prompt
    responses: tuple[Response, ...]
    edges: tuple[Edge, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(s for e in self.edges for s in e.sources))

    def pairs(self) -> list[Pair]:
        """The group's comparisons as pairs."""
        return [
            Pair(
                prompt=self.prompt,
                chosen=self.responses[e.better],
                rejected=self.responses[e.worse],
                p=e.p,
                weight=e.weight,
                margin=e.margin,
                agreement=e.agreement,
                sources=e.sources,
            )
            for e in self.edges
        ]


class Demonstration(Frozen):
    """An answer to imitate: what SFT reads."""

    prompt: Prompt
    response: Response
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    sources: tuple[str, ...] = ()


class LabelledResponse(Frozen):
    """An answer marked good or bad on its own: KTO's signal."""

    prompt: Prompt
    response: Response
    desirable: bool
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    sources: tuple[str, ...] = ()


class LabelledSteps(Frozen):
    """An answer whose steps (`steps_of`) were judged: what a process reward model reads. A label is the
    mean of what raters said: 1 right, 0 neutral, -1 wrong."""

    prompt: Prompt
    response: Response
    labels: tuple[Annotated[float, Field(ge=-1.0, le=1.0)], ...] = Field(min_length=1)
    weight: Annotated[float, Field(gt=0.0)] = 1.0
    sources: tuple[str, ...] = ()


class Metric(Frozen):
    """A value with its interval and n. An undefined value (None) says why in `note`; `measure` says what it
    is of, where whoever measured it declared that."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    level: float = 0.95
    method: str = ""
    note: str = ""
    measure: Measure | None = Field(default=None, exclude_if=lambda m: m is None)

    def of(self, measure: Measure | None) -> Metric:
        """The same figure with its declaration, where it has none."""
        if self.measure or measure is None:
            return self
        return self.model_copy(update={"measure": measure})

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined ({self.note or 'no data'}) n={self.n}"
        interval = "" if self.low is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{interval} n={self.n}"


class Verdict(Frozen):
    """A detector's outcome with its evidence. `p`: how probable so clear a change is between two policies
    that are one; None where that isn't known."""

    detector: str
    outcome: Literal["pass", "warn", "fail", "undefined"]
    summary: str
    metrics: dict[str, Metric] = Field(default={})
    evidence: tuple[dict[str, Any], ...] = ()
    p: float | None = Field(default=None, exclude_if=lambda p: p is None)
