"""A snapshot's comparisons as columns: who preferred what, on which side, how fast, and how the two differ.

A ballot is a vote on two responses (store.snapshot.pairs), turned so that the pair's first response has the
smaller id: the same pair is the same number whatever order it was shown in. A rater asked again has one
ballot, the last; how often it said the same as before is `again`. Edits are not ballots: who writes a
response and prefers it has not judged it.

A soft vote (a judge's p) is more or less of a vote where votes are averaged, and the side it gives more than
half wherever a side is asked for: `category`. p is how sure a judge is, never how right.

Legend: R ballots, P pairs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accord.core.types import Rater, Writing
from accord.store import Snapshot
from accord.store.snapshot.pairs import Vote, votes

__all__ = ["STYLES", "Ballots", "ballots", "category", "style_of"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STYLES: dict[str, str] = {  # what makes an answer look good without making it better
    "lists": r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+\S",
    "bold": r"\*\*[^*\n]+\*\*|__[^_\n]+__",
    "headings": r"^#{1,6}\s+\S",
    "code": r"```|`[^`\n]+`",
}
_FOUND = {name: re.compile(pattern, re.MULTILINE) for name, pattern in STYLES.items()}
WORDS = 10.0  # lengths are counted in tens of words, as in feedback.simulated


def style_of(text: str) -> list[float]:
    """Tens of words, and how often each of STYLES occurs."""
    marks = [float(len(pattern.findall(text))) for pattern in _FOUND.values()]
    return [len(text.split()) / WORDS, *marks]


def category(value: ArrayLike) -> Floats:
    """The side that votes name: 1 the first response, 0 the second, 1/2 neither (p is exactly 1/2)."""
    return np.asarray((1 + np.sign(np.asarray(value, dtype=float) - 0.5)) / 2)


@dataclass(frozen=True)
class Ballots:
    """Columns by ballot: pair, rater (numbers), value (1 the first response won, 0 the second, 1/2 a tie, p
    of a soft vote), side (1 first on the left, -1 right, 0 not known), seconds (NaN when not known), time (s
    since 1970), judgment id. By pair: ids of its responses, number of its prompt, difference of their style
    [P, 1 + F]. By rater: of each pair asked again its prompt's number and whether it named the same side."""

    raters: list[Rater]
    prompts: list[str]
    pairs: list[tuple[str, str]]
    pair_R: Ints
    rater_R: Ints
    value_R: Floats
    side_R: Floats
    seconds_R: Floats
    time_R: Floats
    judgment_R: list[str]
    prompt_P: Ints
    style_PF: Floats
    again_J: list[list[tuple[int, bool]]]

    def __len__(self) -> int:
        return len(self.pair_R)

    @property
    def prompt_R(self) -> Ints:
        return self.prompt_P[self.pair_R]

    @property
    def longer_R(self) -> Floats:
        """Tens of words the first response is longer by."""
        return np.asarray(self.style_PF[self.pair_R, 0])

    @cached_property
    def category_R(self) -> Floats:
        """The side each ballot names."""
        return category(self.value_R)

    @cached_property
    def n_others_R(self) -> Ints:
        """How many other raters judged the pair."""
        return np.asarray(np.bincount(self.pair_R, minlength=len(self.pairs))[self.pair_R] - 1)

    @cached_property
    def others_R(self) -> Floats:
        """Mean side of the *other* raters on the ballot's pair; NaN where there is none."""
        total_P = np.bincount(self.pair_R, self.category_R, len(self.pairs))
        n_R = np.where(self.n_others_R > 0, self.n_others_R, np.nan)
        return np.asarray((total_P[self.pair_R] - self.category_R) / n_R)

    @cached_property
    def agree_R(self) -> Floats:
        """How far the ballot agrees with the others: 1 - |side - mean of theirs|; NaN without any."""
        return np.asarray(1 - np.abs(self.category_R - self.others_R))


def ballots(snapshot: Snapshot) -> Ballots:
    """The snapshot's comparisons; raters in order of their names, pairs as they first come."""
    tables = snapshot.tables
    by_id = {j.id: j for j in snapshot.judgments}
    judged = [j for j in snapshot.judgments if not isinstance(j.answer, Writing)]
    cast, _ = votes(judged, tables)
    raters = sorted(tables.raters.values(), key=lambda r: (r.name, r.kind))
    number = {r.id: i for i, r in enumerate(raters)}
    blind = {r.id for r in raters if r.facts.get("order_shown") == "unknown"}
    pairs: dict[tuple[str, str], int] = {}
    prompts: dict[str, int] = {}
    prompt_of: list[int] = []
    columns: list[tuple[float, ...]] = []
    judgments: list[str] = []
    for vote in cast:
        j = by_id[vote.sources[0]]
        shown = vote.first
        straight = vote if vote.first < vote.second else vote.turned()
        pair = pairs.setdefault((straight.first, straight.second), len(pairs))
        prompt = prompts.setdefault(vote.prompt, len(prompts))
        if pair == len(prompt_of):
            prompt_of.append(prompt)
        side = 0.0
        if j.answer.kind == "preference" and vote.rater not in blind:
            side = 1.0 if shown == straight.first else -1.0
        seconds = float("nan") if j.seconds is None else j.seconds
        row = (pair, number[vote.rater], straight.value, side, seconds, _time(j.at))
        columns.append(row)
        judgments.append(j.id)
    fields_6R = np.array(columns, dtype=float).reshape(-1, 6).T
    used = {i for pair in pairs for i in pair}
    style = {i: np.array(style_of(tables.responses[i].text)) for i in used}
    apart = [style[a] - style[b] for a, b in pairs]
    return Ballots(
        raters=raters,
        prompts=list(prompts),
        pairs=list(pairs),
        pair_R=fields_6R[0].astype(np.int64),
        rater_R=fields_6R[1].astype(np.int64),
        value_R=fields_6R[2],
        side_R=fields_6R[3],
        seconds_R=fields_6R[4],
        time_R=fields_6R[5],
        judgment_R=judgments,
        prompt_P=np.array(prompt_of, dtype=np.int64),
        style_PF=np.array(apart, dtype=float).reshape(-1, 1 + len(STYLES)),
        again_J=_again(votes(judged, tables, repeats=True)[0], number, prompts),
    )


def _again(
    cast: Sequence[Vote], number: Mapping[str, int], prompts: Mapping[str, int]
) -> list[list[tuple[int, bool]]]:
    """Of each repeat of a pair: whether it names the side that the rater's vote before it named."""
    repeats: list[list[tuple[int, bool]]] = [[] for _ in number]
    before: dict[tuple[str, str, str], float] = {}
    for vote in cast:
        straight = vote if vote.first < vote.second else vote.turned()
        key = (straight.rater, straight.first, straight.second)
        if key in before:
            same = bool(category(before[key]) == category(straight.value))
            repeats[number[straight.rater]].append((prompts[straight.prompt], same))
        before[key] = straight.value
    return repeats


def _time(at: str) -> float:
    time = datetime.fromisoformat(at)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
