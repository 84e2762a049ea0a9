"""What a detector is, and where detectors are registered.

    @detector("shouting")
    def shouting(context: Context, *, most: UnitInterval = 0.05) -> Detector:
        def look(after: Sequence[Answered], before: Sequence[Answered]) -> Verdict: ...
        return look

The factory's signature is its schema: `detectors: [{name: shouting, most: 0.1}]` works in a compare stage.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from accord.core.registry import Registry
from accord.core.types import Exchange, Verdict

__all__ = [
    "READING", "Detector", "DetectorContext", "Reply", "configured", "detector", "detectors", "needs",
]  # fmt: skip


@dataclass(frozen=True)
class Reply:
    """An answer, and every score that was measured of it, by the measure's name; and where a reward model has
    read it, the answers most like it among those that it learned from."""

    exchange: Exchange
    scores: Mapping[str, float]
    near: Sequence[Mapping[str, Any]] = ()

    @property
    def text(self) -> str:
        return self.exchange.response.text


class Detector(Protocol):
    """A policy's answers and those of the one it started from (none, for the first), to its verdict."""

    def __call__(self, after: Sequence[Reply], before: Sequence[Reply]) -> Verdict: ...


@dataclass(frozen=True)
class DetectorContext:
    """What a detector may need of the run: the names of the measures that are a learned model's word, the
    truth, and a distance from a reference, where they are known; and how wide an interval holds the values of
    those that have one."""

    proxy: str | None = None
    truth: str | None = None
    distance: str | None = None
    spans: Mapping[str, float] = field(default_factory=dict)


READING = "a reward model's reading"
F = TypeVar("F", bound=Callable[..., Detector])
detectors: Registry = Registry("detector")


def detector(
    name: str, *, version: int = 1, panel: bool = False, needs: str = ""
) -> Callable[[F], F]:
    """Decorator of a factory: register a detector. Raise `version` when its verdict on the same answers
    changes: what was compared with it is then looked at again. `panel`: whether "all" includes it, for
    its verdicts have a p-value that holds. `needs`: what it looks at beside answers and their scores, which
    is measured after a training (READING: a reward model has read the answers)."""
    return detectors.register(name, version=version, panel=panel, needs=needs)


def needs(name: str) -> str:
    """What a registered detector looks at that a run on own answers does not know."""
    _house()
    return str(detectors.entry(name).facts["needs"])


def _house() -> None:
    """Register the house's own: every file beside this one."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"accord.detect.{module.name}")


def configured(
    entries: Sequence[str | Mapping[str, Any]] | str, where: str = ""
) -> list[tuple[str, int, Any]]:
    """Name, version and factory of each entry, `name` or `{name: …, hyperparameters}`; of the whole panel for
    "all". ConfigError names a wrong name or key."""
    _house()
    chosen = []
    if entries == "all":
        entries = [name for name in detectors.names() if detectors.entry(name).facts["panel"]]
    for number, given in enumerate(entries):
        config = {"name": given} if isinstance(given, str) else given
        entry, make = detectors.configured(config, f"{where}.{number}" if where else "")
        chosen.append((entry.name, entry.facts["version"], make))
    return chosen
