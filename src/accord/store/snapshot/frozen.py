"""A snapshot: a frozen selection of judgments, read as what training reads. Splits go by prompt."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Annotated, Literal, Protocol, Self, TypeVar, get_args

from pydantic import Field

from accord.core.errors import ConfigError
from accord.core.hashing import content_hash
from accord.core.types import (
    Demonstration,
    Frozen,
    Group,
    Judgment,
    LabelledResponse,
    LabelledSteps,
    Pair,
    Prompt,
    Question,
    Rater,
    Rating,
    Response,
)
from accord.store.db.proof import tampered
from accord.store.snapshot import pairs as reading
from accord.store.snapshot.pairs import Even, Tables, Ties

__all__ = ["NOW", "Items", "Selection", "Snapshot", "part_of", "split_of"]

NOW = "now"  # the name of what is not frozen


class HasPrompt(Protocol):
    @property
    def prompt(self) -> Prompt: ...


Prompted = TypeVar("Prompted", bound=HasPrompt)


def split_of(prompt_id: str, test: float, seed: int) -> Literal["train", "test"]:
    """The side of the split a prompt is on: fixed by its id and the seed alone, so that it stays
    where it is when the store grows."""
    drawn = int(hashlib.sha256(f"{seed}/{prompt_id}".encode()).hexdigest(), 16) % 10**6
    return "test" if drawn < test * 10**6 else "train"


def part_of(prompt_id: str, parts: int, seed: int) -> int:
    """The part, 1 to `parts`, a prompt is in: as fixed as its side of the split, and independent of it."""
    drawn = int(hashlib.sha256(f"{seed}/part/{prompt_id}".encode()).hexdigest(), 16)
    return drawn % parts + 1


class Ledger(Protocol):
    """What a snapshot reads: a store."""

    @property
    def name(self) -> str: ...
    def counts(self) -> dict[str, int]: ...
    def judgments(self, up_to: int | None = None) -> list[Judgment]: ...
    def prompts(self) -> list[Prompt]: ...
    def responses(self) -> list[tuple[str, Response]]: ...
    def questions(self) -> list[Question]: ...
    def raters(self) -> list[Rater]: ...
    def freeze(
        self,
        name: str,
        *,
        without: Collection[str] = (),
        weights: Mapping[str, float] | None = None,
        because: str = "",
        of: str | None = None,
    ) -> Snapshot: ...


class Items(list[Prompted]):
    """What a snapshot yields. `notes` counts what was left out and why."""

    def __init__(self, items: Iterable[Prompted] = (), notes: dict[str, int] | None = None) -> None:
        super().__init__(items)
        self.notes = dict(notes or {})

    def split(
        self, *, test: float = 0.1, seed: int = 17
    ) -> tuple[Items[Prompted], Items[Prompted]]:
        """(train, held out), by prompt and never by row; `test` is the expected share of prompts."""
        if not 0.0 <= test < 1.0:
            raise ConfigError("is out of range", where=f"test={test}", allowed="[0, 1)")
        sides: dict[str, Items[Prompted]] = {"train": Items(), "test": Items()}
        for item in self:
            sides[split_of(item.prompt.id, test, seed)].append(item)
        return sides["train"], sides["test"]


class Selection(Frozen):
    """Which judgments a snapshot takes (None means all): of these kinds, by these raters, `only` these ids
    (a study's); without which raters (a quarantine), and how much a rater's votes count (1 unless named).
    What is not taken stays in the store."""

    only: tuple[str, ...] | None = None
    kinds: tuple[str, ...] | None = None
    raters: tuple[str, ...] | None = None
    without: tuple[str, ...] = ()
    weights: dict[str, Annotated[float, Field(gt=0.0)]] = Field(default={})
    because: str = ""

    def narrowed(self, more: Selection) -> Selection:
        """What both take; of weights, the later word counts."""
        return Selection(
            only=_both(self.only, more.only),
            kinds=_both(self.kinds, more.kinds),
            raters=_both(self.raters, more.raters),
            without=tuple(sorted({*self.without, *more.without})),
            weights={**self.weights, **more.weights},
            because="; ".join(dict.fromkeys(b for b in (self.because, more.because) if b)),
        )


def _both(one: tuple[str, ...] | None, other: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(sorted(set(one) & set(other)))


class Snapshot:
    """Judgments of a store at a moment, superseded ones left out. `sha256` names the judgments, and the
    weights of raters where there are any."""

    def __init__(
        self,
        store: Ledger,
        name: str,
        judgments: list[Judgment],
        selection: Selection | None = None,
    ) -> None:
        self.store, self.name, self.judgments = store, name, judgments
        self.selection = selection or Selection()
        ids: object = sorted(j.id for j in judgments)
        weights = self.selection.weights
        self.sha256 = content_hash({"judgments": ids, "weights": weights} if weights else ids)

    def __len__(self) -> int:
        return len(self.judgments)

    @classmethod
    def now(cls, store: Ledger) -> Self:
        """All judgments there are at this moment, not frozen."""
        return cls.of(store, NOW, store.counts()["judgments"], Selection())

    @classmethod
    def of(cls, store: Ledger, name: str, up_to: int, selection: Selection) -> Self:
        """The selection's judgments among the first `up_to` of the store."""
        chosen = store.judgments(up_to)
        if selection.only is not None:  # a correction that is not among them corrects none of them
            named = set(selection.only)
            chosen = [j for j in chosen if j.id in named]
        superseded = {j.supersedes for j in chosen if j.supersedes}
        chosen = [j for j in chosen if j.id not in superseded]
        if selection.kinds is not None:
            chosen = [j for j in chosen if j.answer.kind in selection.kinds]
        if selection.raters is not None:
            ids = {r.id for r in store.raters() if r.name in selection.raters}
            chosen = [j for j in chosen if j.rater in ids]
        if selection.without:
            left_out = {r.id for r in store.raters() if r.name in selection.without}
            chosen = [j for j in chosen if j.rater not in left_out]
        return cls(store, name, chosen, selection)

    @cached_property
    def tables(self) -> Tables:
        """Everything the judgments speak of."""
        prompts = {p.id: p for p in self.store.prompts()}
        tables = Tables(
            prompts=prompts,
            responses={r.id_for(prompts[p]): r for p, r in self.store.responses() if p in prompts},
            questions={q.id: q for q in self.store.questions()},
            raters={r.id: r for r in self.store.raters()},
        )
        for j in self.judgments:  # ids are recomputed: a changed row is one that is not there
            q = tables.questions.get(j.question)
            if (
                q is None
                or q.prompt not in prompts
                or j.rater not in tables.raters
                or not tables.responses.keys() >= set(q.responses)
            ):
                raise tampered(self.store.name, f"what judgment {j.id} is about")
        return tables

    def groups(
        self,
        *,
        ties: Ties = "half",
        even: Even = "drop",
        min_agreement: float = 0.0,
        margin: float = 0.0,
        axis: str | None = None,
    ) -> Items[Group]:
        """The comparisons grouped by prompt (see accord.store.snapshot.pairs).

        Args:
            ties: "half" gives each side half a vote, "drop" forgets a tie.
            even: whether a pair split evenly is dropped or kept.
            min_agreement: the least share, in [0, 1], of votes on one side of a pair that is kept.
            margin: logits for each point of strength above 1 (reward losses ask for them).
            axis: compare the scores on this axis of ratings (`axes()`), not the choices.
        """
        for name, value, allowed in (("ties", ties, Ties), ("even", even, Even)):
            if value not in get_args(allowed):
                raise ConfigError(f"is {value!r}", where=name, allowed=", ".join(get_args(allowed)))
        if not 0.0 <= min_agreement <= 1.0:
            raise ConfigError(
                "is out of range", where=f"min_agreement={min_agreement}", allowed="[0, 1]"
            )
        groups, notes = reading.groups(
            self.judgments,
            self.tables,
            ties=ties,
            even=even,
            min_agreement=min_agreement,
            margin=margin,
            weights=self.weights,
            axis=axis,
        )
        return Items(groups, notes)

    def axes(self) -> list[str]:
        """The axes that ratings speak of, in order of their names."""
        scored = (j.answer.scores for j in self.judgments if isinstance(j.answer, Rating))
        return sorted({axis for scores in scored for axis in scores})

    @cached_property
    def weights(self) -> dict[str, float]:
        """How much the votes of a rater (by id) count, where it is not 1."""
        named = self.selection.weights
        return {i: named[r.name] for i, r in self.tables.raters.items() if r.name in named}

    def pairs(
        self,
        *,
        ties: Ties = "half",
        even: Even = "drop",
        min_agreement: float = 0.0,
        margin: float = 0.0,
    ) -> Items[Pair]:
        """The same comparisons one by one."""
        groups = self.groups(ties=ties, even=even, min_agreement=min_agreement, margin=margin)
        return Items((pair for group in groups for pair in group.pairs()), groups.notes)

    def demonstrations(self) -> Items[Demonstration]:
        """Answers people wrote."""
        return Items(reading.demonstrations(self.judgments, self.tables))

    def labelled(self) -> Items[LabelledResponse]:
        """Responses with thumbs up or down."""
        return Items(*reading.labelled(self.judgments, self.tables, self.weights))

    def stepped(self) -> Items[LabelledSteps]:
        """Responses whose steps were labelled."""
        return Items(*reading.stepped(self.judgments, self.tables, self.weights))
