"""From judgments to comparisons: rankings, preferences, ratings and edits become votes on pairs.

A vote is one judgment's word on two responses to one prompt: 1 for the first, 0 for the second, 1/2
for a tie. The votes on a pair become one edge with

    p = share of votes for the better side      weight = number of votes      agreement = p

so that weight · [p·L(w, l) + (1-p)·L(l, w)] is the sum of the loss over single votes: the maximum
likelihood of a Bradley-Terry model on votes, whatever the number of raters (a ranking of K counts as
its K(K-1)/2 pairs; Ouyang et al. 2022, section 3.5). A pair judged once has no agreement (None). Where
raters have weights, a vote counts as many times as its rater's.

Ties: "half" gives each side half a vote, "drop" forgets the vote. A pair split evenly (p = 1/2) has no
better side: `even="drop"` leaves it out, "keep" keeps it with p = 1/2. What is left out is counted.

Margin: `margin` logits for each point of strength above 1, mean over the votes for the better side: by how
much its score should win (Touvron et al. 2023, section 3.2.2).
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from accord.core.types import (
    Demonstration,
    Edge,
    Group,
    Judgment,
    LabelledResponse,
    LabelledSteps,
    Preference,
    Prompt,
    Question,
    Ranking,
    Rater,
    Rating,
    Response,
    StepLabels,
    Thumb,
    Writing,
    steps_of,
)

__all__ = [
    "Even",
    "Tables",
    "Ties",
    "Vote",
    "demonstrations",
    "groups",
    "labelled",
    "stepped",
    "votes",
]

Ties = Literal["half", "drop"]
Even = Literal["drop", "keep"]


@dataclass(frozen=True)
class Tables:
    """What judgments speak of, by id."""

    prompts: Mapping[str, Prompt]
    responses: Mapping[str, Response]
    questions: Mapping[str, Question]
    raters: Mapping[str, Rater]


@dataclass(frozen=True)
class Vote:
    """`value` is 1 when `first` is better than `second`, 0 when worse, 1/2 for a tie; `strength` 1 to 3."""

    prompt: str
    first: str
    second: str
    value: float
    rater: str
    sources: tuple[str, ...]
    strength: int = 1

    def turned(self) -> Vote:
        """The same vote with the sides exchanged."""
        return replace(self, first=self.second, second=self.first, value=1 - self.value)


def votes(
    judgments: Iterable[Judgment], tables: Tables, axis: str | None = None
) -> tuple[list[Vote], dict[str, Response]]:
    """All votes, and the responses that edits wrote (by id). On an `axis` only ratings have a say, by their
    score on it."""
    found: list[Vote] = []
    written: dict[str, Response] = {}
    rated: dict[tuple[str, str, str], list[tuple[str, float, str]]] = defaultdict(list)
    for j in judgments:
        q, answer = tables.questions[j.question], j.answer
        if axis is not None and not (isinstance(answer, Rating) and axis in answer.scores):
            continue
        if isinstance(answer, Preference):
            value = {0: 1.0, 1: 0.0, None: 0.5}[answer.better]
            a, b = q.responses
            found.append(Vote(q.prompt, a, b, value, j.rater, (j.id,), answer.strength))
        elif isinstance(answer, Ranking):
            ranked = zip(q.responses, answer.ranks, strict=True)
            for (a, rank_a), (b, rank_b) in itertools.combinations(ranked, 2):
                value = _order(-rank_a, -rank_b)
                found.append(Vote(q.prompt, a, b, value, j.rater, (j.id,)))
        elif isinstance(answer, Rating):
            rated[q.prompt, j.rater, q.guideline].append(
                (q.responses[0], _level(answer, axis), j.id)
            )
        elif isinstance(answer, Writing) and answer.edits is not None:
            new = _written(answer, tables.raters[j.rater])
            id = new.id_for(tables.prompts[q.prompt])
            written[id] = new
            found.append(Vote(q.prompt, id, q.responses[answer.edits], 1.0, j.rater, (j.id,)))
    for (prompt, rater, _), levels in rated.items():
        for (a, level_a, i), (b, level_b, k) in itertools.combinations(levels, 2):
            found.append(Vote(prompt, a, b, _order(level_a, level_b), rater, (i, k)))
    return [v for v in found if v.first != v.second], written  # one shown twice says nothing


def _order(a: float, b: float) -> float:
    return 0.5 if a == b else float(a > b)


def _level(answer: Rating, axis: str | None = None) -> float:
    """The score on an axis, or the mean over all, on a scale from 0 to 1."""
    width = answer.highest - answer.lowest or 1.0
    scores = [(s - answer.lowest) / width for a, s in answer.scores.items() if axis in (None, a)]
    return sum(scores) / len(scores) if scores else 0.5


def _written(answer: Writing, rater: Rater) -> Response:
    return Response(
        text=answer.text, source=f"person:{rater.name}", finish="stop", tool_calls=answer.tool_calls
    )


def by_pair(found: Iterable[Vote]) -> dict[str, dict[tuple[str, str], list[Vote]]]:
    """Votes by prompt and pair, each pair in the order of its ids, turned where needed."""
    pairs: dict[str, dict[tuple[str, str], list[Vote]]] = defaultdict(lambda: defaultdict(list))
    for vote in found:
        straight = vote if vote.first < vote.second else vote.turned()
        pairs[straight.prompt][straight.first, straight.second].append(straight)
    return pairs


def groups(
    judgments: Iterable[Judgment],
    tables: Tables,
    *,
    ties: Ties = "half",
    even: Even = "drop",
    min_agreement: float = 0.0,
    margin: float = 0.0,
    weights: Mapping[str, float] | None = None,
    axis: str | None = None,
) -> tuple[list[Group], dict[str, int]]:
    """One group per prompt that has an edge left, in the order of prompt ids; and what was left out."""
    found, written = votes(judgments, tables, axis)
    responses = {**tables.responses, **written}
    notes: Counter[str] = Counter()
    made: list[Group] = []
    pairs = by_pair(found)
    for prompt in sorted(pairs):
        ids = sorted({i for pair in pairs[prompt] for i in pair})
        place = {i: k for k, i in enumerate(ids)}
        edges = []
        for (a, b), cast in sorted(pairs[prompt].items()):
            edge = _edge(place[a], place[b], cast, ties, even, min_agreement, notes, weights or {})
            if edge:
                edges.append(_with_margin(edge, place[a], cast, margin) if margin else edge)
        if edges:
            used = tuple(responses[i] for i in ids)
            made.append(Group(prompt=tables.prompts[prompt], responses=used, edges=tuple(edges)))
    return made, dict(notes)


def _edge(
    a: int,
    b: int,
    cast: Sequence[Vote],
    ties: Ties,
    even: Even,
    min_agreement: float,
    notes: Counter[str],
    weights: Mapping[str, float],
) -> Edge | None:
    counted = [v for v in cast if ties == "half" or v.value != 0.5]
    notes["tied votes dropped"] += len(cast) - len(counted)
    if not counted:
        return None
    n = sum(weights.get(v.rater, 1.0) for v in counted)
    won = sum(weights.get(v.rater, 1.0) * v.value for v in counted)
    p = min(max(won, n - won) / n, 1.0)
    if p == 0.5 and even == "drop":
        notes["pairs split evenly"] += 1
        return None
    if len(counted) > 1 and p < min_agreement:
        notes[f"pairs under agreement {min_agreement:g}"] += 1
        return None
    better, worse = (a, b) if 2 * won >= n else (b, a)
    sources = tuple(dict.fromkeys(s for v in counted for s in v.sources))
    agreement = p if len(counted) > 1 else None
    return Edge(better=better, worse=worse, p=p, weight=n, agreement=agreement, sources=sources)


def _with_margin(edge: Edge, first: int, cast: Sequence[Vote], margin: float) -> Edge:
    won = 1.0 if edge.better == first else 0.0
    points = [v.strength - 1 for v in cast if v.value == won]
    return edge.model_copy(update={"margin": margin * sum(points) / len(points) if points else 0.0})


def demonstrations(judgments: Iterable[Judgment], tables: Tables) -> list[Demonstration]:
    """Every writing (a demonstration or an edit) as something to imitate, in the order they came."""
    return [
        Demonstration(
            prompt=tables.prompts[tables.questions[j.question].prompt],
            response=_written(j.answer, tables.raters[j.rater]),
            sources=(j.id,),
        )
        for j in judgments
        if isinstance(j.answer, Writing)
    ]


def labelled(
    judgments: Iterable[Judgment], tables: Tables
) -> tuple[list[LabelledResponse], dict[str, int]]:
    """Thumbs by response: the majority decides, weight is its lead; even splits are counted out."""
    cast: dict[str, list[Judgment]] = defaultdict(list)
    for j in judgments:
        if isinstance(j.answer, Thumb):
            cast[tables.questions[j.question].responses[0]].append(j)
    made: list[LabelledResponse] = []
    notes: Counter[str] = Counter()
    for response, thumbs in cast.items():
        lead = sum(1 if j.answer.up else -1 for j in thumbs if isinstance(j.answer, Thumb))
        if lead == 0:
            notes["responses with as many thumbs up as down"] += 1
            continue
        made.append(
            LabelledResponse(
                prompt=tables.prompts[tables.questions[thumbs[0].question].prompt],
                response=tables.responses[response],
                desirable=lead > 0,
                weight=abs(lead),
                sources=tuple(j.id for j in thumbs),
            )
        )
    return made, dict(notes)


def stepped(
    judgments: Iterable[Judgment], tables: Tables
) -> tuple[list[LabelledSteps], dict[str, int]]:
    """Step labels by response: the mean of what its raters said of each step. Raters who labelled another
    number of steps than the response has are counted out."""
    said: dict[str, list[Judgment]] = defaultdict(list)
    notes: Counter[str] = Counter()
    for j in judgments:
        if isinstance(j.answer, StepLabels):
            response = tables.questions[j.question].responses[0]
            if len(j.answer.labels) == len(steps_of(tables.responses[response].text)):
                said[response].append(j)
            else:
                notes["labels that differ in number from the steps"] += 1
    made = [
        LabelledSteps(
            prompt=tables.prompts[tables.questions[judged[0].question].prompt],
            response=tables.responses[response],
            labels=tuple(
                sum(x) / len(x)
                for x in zip(
                    *(j.answer.labels for j in judged if isinstance(j.answer, StepLabels)),
                    strict=True,
                )
            ),
            sources=tuple(j.id for j in judged),
        )
        for response, judged in said.items()
    ]
    return made, dict(notes)
