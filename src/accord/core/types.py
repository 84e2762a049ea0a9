"""The words of accord as frozen types: what is asked, what is answered, what training reads.

A Question is asked of a Rater and answered by a Judgment; a Snapshot freezes judgments; training
reads Pairs, Groups, Demonstrations and LabelledResponses, each with the judgment ids (`sources`)
it came from. Ids are content hashes: the same content has the same id in every store.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from accord.core.hashing import content_hash

__all__ = [
    "Answer",
    "Demonstration",
    "Edge",
    "Exchange",
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
    "StepLabels",
    "Thumb",
    "Verdict",
    "Writing",
    "steps_of",
]

Role = Literal["system", "user", "assistant", "tool"]
QuestionKind = Literal["compare", "rate", "rank", "thumb", "steps", "write"]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
ID_LENGTH = 20


def short_id(value: Any) -> str:
    """The first 20 hex digits (80 bits) of the content hash."""
    return content_hash(value)[:ID_LENGTH]


class Frozen(BaseModel):
    """Immutable, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with some fields changed; what was computed of the fields (an id) is computed anew."""
        made = super().model_copy(update=update, deep=deep)
        for name in made.__dict__.keys() - type(self).model_fields.keys():
            del made.__dict__[name]
        return made


class Message(Frozen):
    """One turn of a conversation."""

    role: Role
    content: str


class Prompt(Frozen):
    """A conversation up to the assistant's turn. Tags describe it and are not part of its id."""

    messages: tuple[Message, ...] = Field(min_length=1)
    tags: dict[str, str] = {}

    @cached_property
    def id(self) -> str:
        return short_id([[m.role, m.content] for m in self.messages])

    @property
    def last(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content

    @classmethod
    def user(cls, text: str, system: str | None = None, **tags: str) -> Prompt:
        """A prompt of one user message, with a system message before it when given."""
        head = (Message(role="system", content=system),) if system else ()
        return cls(messages=(*head, Message(role="user", content=text)), tags=tags)


class Response(Frozen):
    """One assistant answer: its text, who wrote it, how it was sampled and what ended it: its end-of-turn
    token ("stop"), a stop string before which the text was cut ("string"), the limit ("length"); None where
    that isn't known."""

    text: str
    source: str = "unknown"  # "model:<id>", "person:<id>", "import:<file>"
    sampling: dict[str, Any] | None = None
    finish: Literal["stop", "string", "length"] | None = None

    @property
    def ends_turn(self) -> bool:
        """Whether an end-of-turn token belongs to it: not where another thing is known to have ended it."""
        return self.finish not in ("string", "length")

    def id_for(self, prompt: Prompt) -> str:
        """The id of this response as an answer to `prompt`."""
        return short_id([prompt.id, self.text, self.source])


class Exchange(Frozen):
    """A prompt and one response to it: what a Reward scores."""

    prompt: Prompt
    response: Response


class Rater(Frozen):
    """Who answers questions: a person, a judge model, or a rule."""

    name: str
    kind: Literal["human", "model", "rule"]
    facts: dict[str, Any] = {}

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


class Preference(Frozen):
    """Answer to `compare`: index of the better response as shown; None is a tie."""

    kind: Literal["preference"] = "preference"
    better: Literal[0, 1] | None
    strength: Annotated[int, Field(ge=1, le=3)] = 1
    both_bad: bool = False


class Rating(Frozen):
    """Answer to `rate`: a score per axis on a scale from `lowest` to `highest`."""

    kind: Literal["rating"] = "rating"
    scores: dict[str, float]
    lowest: float = 1.0
    highest: float = 5.0

    @model_validator(mode="after")
    def _in_range(self) -> Rating:
        for axis, score in self.scores.items():
            if not self.lowest <= score <= self.highest:
                raise ValueError(f"{axis} must be in [{self.lowest:g}, {self.highest:g}]")
        return self


class Ranking(Frozen):
    """Answer to `rank`: the rank of each response as shown, 1 is best, equal ranks are ties."""

    kind: Literal["ranking"] = "ranking"
    ranks: tuple[Annotated[int, Field(ge=1)], ...]


class Thumb(Frozen):
    """Answer to `thumb`."""

    kind: Literal["thumb"] = "thumb"
    up: bool


class StepLabels(Frozen):
    """Answer to `steps`: 1 good, 0 neutral, -1 bad, one label per reasoning step."""

    kind: Literal["steps"] = "steps"
    labels: tuple[Literal[-1, 0, 1], ...]


def steps_of(text: str) -> list[str]:
    """The steps of a worked answer, what raters label and process models score: its lines that are not
    empty."""
    return [line.strip() for line in text.split("\n") if line.strip()] or [text]


class Writing(Frozen):
    """Answer to `write`: a demonstration, or an edit of the shown response `edits`."""

    kind: Literal["writing"] = "writing"
    text: str
    edits: int | None = None


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
    """A value with its interval and n. An undefined value (None) says why in `note`."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    level: float = 0.95
    method: str = ""
    note: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined ({self.note or 'no data'}) n={self.n}"
        interval = "" if self.low is None else f" [{self.low:.3g}, {self.high:.3g}]"
        return f"{self.value:.3g}{interval} n={self.n}"


class Verdict(Frozen):
    """A detector's outcome with its evidence."""

    detector: str
    outcome: Literal["pass", "warn", "fail", "undefined"]
    summary: str
    metrics: dict[str, Metric] = {}
    evidence: tuple[dict[str, Any], ...] = ()
