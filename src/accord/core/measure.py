"""What a figure is: its declaration, which whoever measures it gives and whoever shows it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Measure", "by_name", "column_order", "decisive"]


class Measure(BaseModel):
    """A figure's name, and all a reader must know of it.

    better: which way is better; None: neither, by itself. unit: of its values, "" for a plain number.
    kind: how values become one figure: a share of yes among yes and no, a mean, F1 (of what is found or to be
        found, whether it is both), or a difference of two.
    role: truth (known without a model), proxy (a learned model's word for it), distance (from a reference),
        fidelity (how far a proxy can be believed).
    compared: whether differences of it between policies are told.
    bounded: whether every value of a mean lies in [0, 1], of a difference in [-1, 1]; its interval then does
        too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    title: str
    meaning: str
    kind: Literal["share", "mean", "f1", "difference"] = "mean"
    better: Literal["more", "less"] | None = None
    unit: str = ""
    role: Literal["truth", "proxy", "distance", "fidelity"] | None = None
    compared: bool = True
    bounded: bool = False

    @property
    def span(self) -> float | None:
        """How wide an interval holds every value: 1 of shares, 2 of differences of them; None where none
        does."""
        if self.kind == "difference":
            return 2.0 if self.bounded else None
        return 1.0 if self.bounded or self.kind in ("share", "f1") else None

    def difference(self) -> Measure:
        """The same of a difference of it."""
        return self.model_copy(update={"kind": "difference", "bounded": False})

    def way(self, change: float) -> Literal["better", "worse", "changed"]:
        """What a change of it by so much is."""
        if self.better is None:
            return "changed"
        return "better" if (change > 0) == (self.better == "more") else "worse"


def by_name(measures: Iterable[Measure]) -> dict[str, Measure]:
    """Measures by their names."""
    return {m.name: m for m in measures}


def column_order(measures: Mapping[str, Measure]) -> list[str]:
    """Names as a table shows them: those that have a better way first, then distances, then the rest."""
    return sorted(
        measures, key=lambda k: (measures[k].better is None, measures[k].role != "distance")
    )


def decisive(measures: Mapping[str, Measure]) -> Measure | None:
    """The figure that decides: the truth where it is known, else one with a better way that no learned model
    gave, else the learned reward, else the first that is no distance."""

    def rank(m: Measure) -> int:
        if m.role == "truth":
            return 0
        if m.better and m.role is None:
            return 1
        return 2 if m.role == "proxy" else 3

    there = [m for m in measures.values() if m.role != "distance"]
    return min(there, key=rank, default=None)
