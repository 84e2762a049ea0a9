"""From judgments to comparisons: rankings, preferences, ratings and edits become votes on pairs.

A vote is one judgment's word on two responses to one prompt: 1 for the first, 0 for the second, 1/2
for a tie, or the probability that a judge gave (`Preference.p`). The votes on a pair become one edge with

    p = share of votes for the better side      weight = number of votes      agreement = p

so that weight · [p·L(w, l) + (1-p)·L(l, w)] is the sum of the loss over single votes: the maximum
likelihood of a Bradley-Terry model on votes, whatever the number of raters (a ranking of K counts as
its K(K-1)/2 pairs; Ouyang et al. 2022, section 3.5). A pair judged once has no agreement (None). Where
raters have weights, a vote counts as many times as its rater's. A rater has one say on a pair, a
response's axis, a thumb or its steps: asked again, the last answer in the order given counts. Ratings are
compared by their mean over axes; a judge is asked for one axis at a time, and those it rated both on count.

Ties: "half" gives each side half a vote, "drop" forgets the vote. A pair split evenly (p = 1/2) has no
better side: `even="drop"` leaves it out, "keep" keeps it with p = 1/2. What is left out is counted.

Margin: `margin` logits for each point of strength above 1, mean over the votes for the better side: by how
much its score should win (Touvron et al. 2023, section 3.2.2).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

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
    "last_by_rater",
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
    judgments: Iterable[Judgment], tables: Tables, axis: str | None = None, *, repeats: bool = False
) -> tuple[list[Vote], dict[str, Response]]:
    """One vote of each rater on each pair, the last; with `repeats` all that were cast. And the responses
    that edits wrote (by id). On an `axis` only ratings have a say, by their score on it."""
    cast: list[Vote] = []
    written: dict[str, Response] = {}
    rated: dict[tuple[str, str, str], Levels] = defaultdict(lambda: defaultdict(dict))
    at: dict[str, int] = {}
    for number, j in enumerate(judgments):
        q, answer = tables.questions[j.question], j.answer
        at[j.id] = number
        if axis is not None and not (isinstance(answer, Rating) and axis in answer.scores):
            continue
        if isinstance(answer, Preference):
            value = {0: 1.0, 1: 0.0, None: 0.5}[answer.better] if answer.p is None else answer.p
            a, b = q.responses
            cast.append(Vote(q.prompt, a, b, value, j.rater, (j.id,), answer.strength))
        elif isinstance(answer, Ranking):
            ranked = zip(q.responses, answer.ranks, strict=True)
            for (a, rank_a), (b, rank_b) in itertools.combinations(ranked, 2):
                value = _order(-rank_a, -rank_b)
                cast.append(Vote(q.prompt, a, b, value, j.rater, (j.id,)))
        elif isinstance(answer, Rating):
            scale = _scale(q, answer, tables.raters[j.rater])
            levels = rated[q.prompt, j.rater, scale][q.responses[0]]
            levels.update({a: (x, j.id) for a, x in _levels(answer).items() if axis in (None, a)})
        elif isinstance(answer, Writing) and answer.edits is not None:
            new = _written(answer, tables.raters[j.rater])
            id = new.id_for(tables.prompts[q.prompt])
            written[id] = new
            cast.append(Vote(q.prompt, id, q.responses[answer.edits], 1.0, j.rater, (j.id,)))
    for (prompt, rater, _), by_response in rated.items():
        for (a, of_a), (b, of_b) in itertools.combinations(by_response.items(), 2):
            if tables.raters[rater].kind == "model":  # what has no verdict of one is in no mean
                of_a, of_b = (
                    {x: of[x] for x in of if x in of_a and x in of_b} for of in (of_a, of_b)
                )
                if not of_a:
                    continue
            value = _order(_mean(of_a), _mean(of_b))
            sources = tuple(dict.fromkeys(id for of in (of_a, of_b) for _, id in of.values()))
            cast.append(Vote(prompt, a, b, value, rater, sources))
    cast = [v for v in cast if v.first != v.second]  # one shown twice says nothing
    return cast if repeats else _last(cast, at, tables), written


Levels = dict[str, dict[str, tuple[float, str]]]  # response -> axis -> (level, judgment)


def _last(cast: Iterable[Vote], at: Mapping[str, int], tables: Tables) -> list[Vote]:
    """The vote with the latest judgment of each rater on each pair, where its first one stood. Behind a file
    that names nobody may be many: all its votes stay."""
    kept: dict[tuple[Any, ...], Vote] = {}
    for vote in cast:
        who = vote.sources if tables.raters[vote.rater].facts.get("many") else vote.rater
        key = (vote.prompt, who, frozenset((vote.first, vote.second)))
        before = kept.get(key)
        if before is None or max(map(at.__getitem__, vote.sources)) >= max(
            map(at.__getitem__, before.sources)
        ):
            kept[key] = vote
    return list(kept.values())


def last_by_rater(
    judgments: Iterable[Judgment], of: Callable[[Judgment], str]
) -> dict[str, list[Judgment]]:
    """The last judgment of each rater on each `of`, by that."""
    last: dict[str, dict[str, Judgment]] = defaultdict(dict)
    for j in judgments:
        last[of(j)][j.rater] = j
    return {key: list(by_rater.values()) for key, by_rater in last.items()}


def _scale(q: Question, answer: Rating, rater: Rater) -> str:
    """What a rating is comparable within: its guideline. A judge's names the one axis it is of, which is left
    out."""
    if rater.kind != "model" or len(answer.scores) != 1:
        return q.guideline
    return q.guideline.removesuffix(f" {next(iter(answer.scores))}")


def _order(a: float, b: float) -> float:
    return 0.5 if a == b else float(a > b)


def _levels(answer: Rating) -> dict[str, float]:
    """The score on each axis, on a scale from 0 to 1."""
    width = answer.highest - answer.lowest or 1.0
    return {a: (s - answer.lowest) / width for a, s in answer.scores.items()}


def _mean(levels: Mapping[str, tuple[float, str]]) -> float:
    return sum(level for level, _ in levels.values()) / len(levels) if levels else 0.5


def _written(answer: Writing, rater: Rater) -> Response:
    who = "model" if rater.kind == "model" else "person"
    return Response(
        text=answer.text, source=f"{who}:{rater.name}", finish="stop", tool_calls=answer.tool_calls
    )


def by_pair(cast: Iterable[Vote]) -> dict[str, dict[tuple[str, str], list[Vote]]]:
    """Votes by prompt and pair, each pair in the order of its ids, turned where needed."""
    pairs: dict[str, dict[tuple[str, str], list[Vote]]] = defaultdict(lambda: defaultdict(list))
    for vote in cast:
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
    all_votes, written = votes(judgments, tables, axis)
    responses = {**tables.responses, **written}
    notes: Counter[str] = Counter()
    grouped: list[Group] = []
    pairs = by_pair(all_votes)
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
            grouped.append(Group(prompt=tables.prompts[prompt], responses=used, edges=tuple(edges)))
    return grouped, dict(notes)


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
    judgments: Iterable[Judgment], tables: Tables, weights: Mapping[str, float] | None = None
) -> tuple[list[LabelledResponse], dict[str, int]]:
    """Thumbs by response: the majority of raters, by their weights, decides, weight is its lead; even splits
    are counted out."""
    cast = last_by_rater(
        (j for j in judgments if isinstance(j.answer, Thumb)),
        lambda j: tables.questions[j.question].responses[0],
    )
    responses: list[LabelledResponse] = []
    notes: Counter[str] = Counter()
    weight = weights or {}
    for response, thumbs in cast.items():
        up, down = (
            sum(weight.get(j.rater, 1.0) for j in thumbs if j.answer == Thumb(up=up))
            for up in (True, False)
        )
        if math.isclose(up, down):
            notes["responses with as many thumbs up as down"] += 1
            continue
        responses.append(
            LabelledResponse(
                prompt=tables.prompts[tables.questions[thumbs[0].question].prompt],
                response=tables.responses[response],
                desirable=up > down,
                weight=abs(up - down),
                sources=tuple(j.id for j in thumbs),
            )
        )
    return responses, dict(notes)


def stepped(
    judgments: Iterable[Judgment], tables: Tables, weights: Mapping[str, float] | None = None
) -> tuple[list[LabelledSteps], dict[str, int]]:
    """Step labels by response: the mean, by their weights, of what its raters said of each step. Raters who
    labelled another number of steps than the response has are counted out."""
    notes: Counter[str] = Counter()
    fitting: list[Judgment] = []
    for j in judgments:
        if isinstance(j.answer, StepLabels):
            response = tables.questions[j.question].responses[0]
            if len(j.answer.labels) == len(steps_of(tables.responses[response].text)):
                fitting.append(j)
            else:
                notes["labels that differ in number from the steps"] += 1
    by_response = last_by_rater(fitting, lambda j: tables.questions[j.question].responses[0])
    responses = []
    for response, judged in by_response.items():
        says = [(j.answer.labels, j.rater) for j in judged if isinstance(j.answer, StepLabels)]
        own = [(weights or {}).get(rater, 1.0) for _, rater in says]
        steps = zip(*(labels for labels, _ in says), strict=True)
        responses.append(
            LabelledSteps(
                prompt=tables.prompts[tables.questions[judged[0].question].prompt],
                response=tables.responses[response],
                labels=tuple(
                    sum(w * x for w, x in zip(own, step, strict=True)) / sum(own) for step in steps
                ),
                sources=tuple(j.id for j in judged),
            )
        )
    return responses, dict(notes)
