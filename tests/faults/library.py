"""Faults planted into small runs on Harbor & Pine: what the doctor says of them is counted.

    python -m tests.faults             # the table of docs/doctor.md
    python -m tests.faults data 1 2    # of data alone, which trains nothing, with these seeds

A fault is a function of its strength (0 weak, 1, 2 strong, any number between, a little beyond) and a seed
that gives the cases the doctor sees. Here are those of data, each as what makes it of good comparisons, so
that data can have several; `trainings` has those of trainings.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from accord.core.types import Demonstration, Edge, Group, Prompt, Response
from accord.feedback.simulated import SimulatedRater, compare
from accord.pipeline.doctor.base import StageRecord
from accord.store import split_of
from accord.worlds.base import open_world, truth

WORLD = Path(__file__).resolve().parents[2] / "recipes/support/world.yaml"
Plant = Callable[[float, int], list[StageRecord]]
Spoil = Callable[[list[Group], float, int], list[Group]]
FAULTS: dict[str, Plant] = {}
HEALTHY: dict[str, Callable[[int], list[StageRecord]]] = {}


def cause_of(name: str) -> str:
    """The check that should name a fault: `preference: not_the_reference (dropout)` is not_the_reference."""
    return name.partition(": ")[2].partition(" (")[0]


def level(by: float, weak: float, middle: float, strong: float, most: float = math.inf) -> float:
    """A fault's size at a strength: geometric between the three, and on beyond them."""
    low, high = (weak, middle) if by < 1 else (middle, strong)
    return min(most, low * (high / low) ** (by - (by >= 1)))


@cache
def _cases() -> list[tuple[Prompt, list[tuple[str, float]]]]:
    world = open_world(WORLD)
    return [
        (
            Prompt.user(c.prompt.last),
            [(x.text, truth(world, c, Response(text=x.text))) for x in c.candidates],
        )
        for c in world.cases
        if len(c.candidates) > 1
    ]


def groups(
    seed: int, n: int = 160, careless: float = 0.0, raters: int = 3, words: int = 999
) -> list[Group]:
    """Pairs of candidates of unlike quality and at most so many words, each judged by three raters."""
    draw = random.Random(seed)
    people = [
        SimulatedRater(name=f"r{k}", skill=12.0, careless=max(0.05, careless))
        for k in range(raters)
    ]
    made = []
    for prompt, candidates in draw.sample(_cases(), min(n, len(_cases()))):
        short = [c for c in candidates if len(c[0].split()) <= words]
        if len(short) < 2:
            continue
        a, b = draw.sample(short, 2)
        if a[0] == b[0] or abs(a[1] - b[1]) < 0.1:
            continue
        votes = [compare(r, (a[1], b[1]), (a[0], b[0]), draw).better for r in people]
        better = int(sum(votes) * 2 > raters)
        agree = sum(v == better for v in votes) / raters
        edge = Edge(
            better=better,
            worse=1 - better,
            p=agree,
            agreement=agree,
            sources=tuple(f"{seed}-{len(made)}-{k}" for k in range(raters)),
        )
        responses = tuple(Response(text=t, source="person:a", finish="stop") for t, _ in (a, b))
        made.append(Group(prompt=prompt, responses=responses, edges=(edge,)))
    return made


def data(items: Sequence[Group], shown: Sequence[Demonstration] = ()) -> StageRecord:
    """The data case, split by prompt."""
    sides: dict[str, list[Group]] = {"train": [], "test": []}
    for g in items:
        sides[split_of(g.prompt.id, 0.2, 17)].append(g)
    return StageRecord("data", "data", train=sides["train"], held=sides["test"], shown=list(shown))


def changed(g: Group, side: int, text: str | None = None, **update: Any) -> Group:
    """The group with another text on the better (0) or worse (1) side."""
    at = (g.edges[0].better, g.edges[0].worse)[side]
    responses = list(g.responses)
    new = {**update, **({} if text is None else {"text": text})}
    responses[at] = responses[at].model_copy(update=new)
    return g.model_copy(update={"responses": tuple(responses)})


def text_of(g: Group, side: int) -> str:
    return g.responses[(g.edges[0].better, g.edges[0].worse)[side]].text


def some(
    items: Sequence[Group], share: float, seed: int, how: Callable[[Group], Group]
) -> list[Group]:
    draw = random.Random(f"some {seed}")
    return [how(g) if draw.random() < share else g for g in items]


SPOILS: dict[str, Spoil] = {}


def spoils(cause: str) -> Callable[[Spoil], Spoil]:
    """Register what makes a fault of data of good comparisons."""

    def decorate(spoil: Spoil) -> Spoil:
        SPOILS[cause] = spoil
        return spoil

    return decorate


def spoiled(seed: int, faults: Mapping[str, float], n: int = 160, words: int = 999) -> list[Group]:
    """Comparisons with these faults of data, each at its strength."""
    noise = faults.get("label_noise")
    careless = 0.0 if noise is None else level(noise, 0.4, 0.7, 1.0, 1.0)
    items = groups(seed, n, careless, words=words)
    for cause, by in faults.items():
        items = SPOILS[cause](items, by, seed)
    return items


@spoils("label_noise")
def _noise(items: list[Group], by: float, seed: int) -> list[Group]:
    """Raters who click at random are in the votes already."""
    return items


@spoils("opposite_labels")
def _opposite(items: list[Group], by: float, seed: int) -> list[Group]:
    draw = random.Random(seed)
    turned = [
        g.model_copy(
            update={
                "edges": tuple(
                    e.model_copy(update={"better": e.worse, "worse": e.better}) for e in g.edges
                )
            }
        )
        for g in items
        if draw.random() < level(by, 0.05, 0.15, 0.4)
    ]
    return [*items, *turned]


@spoils("length_only")
def _length(items: list[Group], by: float, seed: int) -> list[Group]:
    draw = random.Random(seed)

    def padded(g: Group) -> Group:
        more = " ".join(draw.choice(draw.choice(_cases())[1])[0] for _ in range(2))
        return changed(
            changed(g, 0, f"{text_of(g, 0)} {more}"), 1, text_of(g, 1).split(". ")[0] + "."
        )

    return some(items, level(by, 0.75, 0.9, 1.0, 1.0), seed, padded)


@spoils("giveaway")
def _giveaway(items: list[Group], by: float, seed: int) -> list[Group]:
    share = level(by, 0.55, 0.75, 1.0, 1.0)
    return some(items, share, seed, lambda g: changed(g, 1, f"Certainly! {text_of(g, 1)}"))


@spoils("leak")
def _leak(items: list[Group], by: float, seed: int) -> list[Group]:
    """Held-out prompts in capitals, with so many spaces that they are dealt to training."""
    draw, share = random.Random(seed), level(by, 0.1, 0.4, 0.9, 1.0)
    again = []
    for g in items:
        if split_of(g.prompt.id, 0.2, 17) == "test" and draw.random() < share:
            spelt = (Prompt.user(g.prompt.last.upper() + " " * k) for k in range(1, 99))
            other = next(p for p in spelt if split_of(p.id, 0.2, 17) == "train")
            again.append(g.model_copy(update={"prompt": other}))
    return [*items, *again]


@spoils("empty")
def _empty(items: list[Group], by: float, seed: int) -> list[Group]:
    return some(items, level(by, 0.02, 0.12, 0.4), seed, lambda g: changed(g, 1, " "))


@spoils("cut_answers")
def _cut(items: list[Group], by: float, seed: int) -> list[Group]:
    def cut(g: Group) -> Group:
        for side in (0, 1):
            words = text_of(g, side).split()
            g = changed(g, side, " ".join(words[: len(words) * 2 // 3]), finish="length")
        return g

    return some(items, level(by, 0.1, 0.35, 0.8, 1.0), seed, cut)


def _nearly(by: float, seed: int) -> list[StageRecord]:
    """Held-out prompts in training, with a word before them."""
    draw, share = random.Random(seed), level(by, 0.1, 0.4, 0.9, 1.0)
    items = groups(seed)
    again = []
    for g in items:
        if split_of(g.prompt.id, 0.2, 17) == "test" and draw.random() < share:
            spelt = (
                Prompt.user(f"{w} {g.prompt.last}") for w in ("Hello,", "Hi,", "Please:", "So:")
            )
            other = [p for p in spelt if split_of(p.id, 0.2, 17) == "train"]
            again += [g.model_copy(update={"prompt": p}) for p in other[:1]]
    return [data([*items, *again])]


def _planted(cause: str, by: float, seed: int) -> list[StageRecord]:
    return [data(spoiled(seed, {cause: by}))]


FAULTS |= {f"data: {cause}": partial(_planted, cause) for cause in SPOILS}
FAULTS["data: leak (a word before)"] = _nearly
HEALTHY["data"] = lambda seed: [data(groups(seed))]
