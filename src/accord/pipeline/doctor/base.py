"""What the doctor knows of a stage, what a check is, and how findings are ranked.

    @check("shouting", of=("data",))
    def shouting(case: StageRecord) -> Finding | None: ...

A check reads records alone, no model. It says how far beyond its threshold a figure is (`strength`, 0 to 1):
confidence is what that was worth in the fault library (`confidence`). Where there is too little to look at it
raises `Unseen`: that is no "no sign of it".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from accord.core.errors import ConfigError
from accord.core.types import Demonstration, Frozen, Group, Pair
from accord.pipeline.doctor.confidence import chance

__all__ = [
    "SERIOUS",
    "Examination",
    "Finding",
    "StageRecord",
    "Unseen",
    "check",
    "checks",
    "examined",
    "filled",
    "finding",
    "strength",
]

SERIOUS = 0.2  # of strength
DPO_BETA = 0.1  # where a loss doesn't say it
PLACES = ("RECIPE", "RUN", "FILE", "STORE@SNAPSHOT")
Row = Mapping[str, Any]


@dataclass(frozen=True)
class StageRecord:
    """A stage as its records show it: what it is of (data, sft, reward, preference, online, answers,
    evaluation), its config, the rows of its log, its facts and metrics, the data behind it, and rows of
    answers where it kept some."""

    name: str
    of: str
    config: Row = field(default_factory=dict)
    log: Sequence[Row] = ()
    facts: Row = field(default_factory=dict)
    metrics: Row = field(default_factory=dict)
    train: Sequence[Group] = ()
    held: Sequence[Group] = ()
    shown: Sequence[Demonstration] = ()
    answers: Sequence[Row] = ()
    places: Mapping[str, str] = field(
        default_factory=dict
    )  # RECIPE, RUN, FILE, … -> what they are here

    @property
    def pairs(self) -> list[Pair]:
        """The comparisons trained on, those split evenly left out."""
        return [p for g in self.train for p in g.pairs() if p.p != 0.5]

    def logged(self, key: str) -> list[float]:
        """A column of the log, where it was logged."""
        return [float(row[key]) for row in self.log if row.get(key) is not None]

    def late(self, key: str) -> float:
        """Its mean over the last fifth of the log, NaN where there is none."""
        values = self.logged(key)
        last = values[-max(1, len(values) // 5) :]
        return sum(last) / len(last) if last else math.nan

    def early(self, key: str) -> float:
        """Its mean over the first fifth."""
        values = self.logged(key)
        first = values[: max(1, len(values) // 5)]
        return sum(first) / len(first) if first else math.nan

    @property
    def mixed(self) -> bool:
        """Whether its loss is a sum of several."""
        loss = self.config.get("loss")
        return isinstance(loss, Mapping) and bool(loss.get("parts"))

    @property
    def beta(self) -> float | None:
        """β of its loss, where it has one; of several, that of the first, whose margin the log tells."""
        loss = self.config.get("loss")
        first = loss["parts"][0] if self.mixed and isinstance(loss, Mapping) else loss
        if not isinstance(first, Mapping):
            return None
        value = first.get("beta", DPO_BETA if first.get("name") == "dpo" else None)
        return None if value is None else float(value)


class Finding(Frozen):
    """A cause with what speaks for it. `strength`: how far its figure is beyond the threshold, 0 to 1;
    `confidence`: the chance that it is one of the run's causes; `change`: what to do; `line`: keys as YAML,
    of the stage or the one `at`; `test`: a command that shows cheaply whether it is so, in which `PLACES` are
    filled in."""

    check: str = ""
    stage: str
    cause: str
    strength: float = 0.0
    confidence: float
    number: str
    example: str = ""
    change: str
    line: str = ""
    at: str = ""
    test: str = ""

    @property
    def serious(self) -> bool:
        """Well beyond its threshold, and likelier so than not."""
        return self.strength >= SERIOUS and self.confidence >= 0.5


Check = Callable[[StageRecord], Finding | None]
F = TypeVar("F", bound=Check)
checks: dict[str, tuple[tuple[str, ...], Check]] = {}


def check(name: str, *, of: tuple[str, ...]) -> Callable[[F], F]:
    """Decorator: register a check of these kinds of case."""

    def decorate(function: F) -> F:
        if name in checks:
            raise ConfigError(f"check {name!r} is registered twice", where=name)
        checks[name] = (of, function)
        return function

    return decorate


class Unseen(Exception):
    """A check has too little to look at."""


@dataclass(frozen=True)
class Examination:
    """Findings, the surest first; and (stage, check) of what was looked for without one, and of what there
    was too little to look at."""

    findings: list[Finding]
    clear: list[tuple[str, str]]
    unseen: list[tuple[str, str]]


def strength(value: float, smallest: float, large: float) -> float:
    """How far a figure is from the threshold (0) to where it is plain (1); below 0, to -1, on this side.
    Of no figure (NaN) minus infinity."""
    if math.isnan(value):
        return -math.inf
    return max(-1.0, min(1.0, (value - smallest) / (large - smallest)))


def finding(case: StageRecord, by: float, **parts: str) -> Finding | None:
    """A finding whose figure is `by` beyond its threshold; None below it. Unseen where there is no figure."""
    if by == -math.inf:
        raise Unseen
    if by < 0:
        return None
    by = round(by, 2)
    return Finding(stage=case.name, strength=by, confidence=chance("", by), **parts)


def filled(command: str, places: Mapping[str, str]) -> str:
    """A check's command with what its capitals stand for here; "" where something has no place here."""
    words = [places.get(w) if w in PLACES else w for w in re.split(r"([ :])", command)]
    return "" if None in words else "".join(w for w in words if w)


def examined(cases: Sequence[StageRecord]) -> Examination:
    """Every check's finding on every case it is of; of data that several stages read, once."""
    from accord.pipeline.doctor import beta, data, mismatch, offline, online, start  # noqa: F401 - they register theirs

    once: dict[tuple[str, ...], Finding] = {}
    clear, unseen = [], []
    for case in cases:
        for name, (of, function) in checks.items():
            if case.of not in of:
                continue
            try:
                one = function(case)
            except Unseen:
                unseen.append((case.name, name))
                continue
            if one is None:
                clear.append((case.name, name))
            else:
                sure = chance(name, one.strength)
                known = {"check": name, "confidence": sure, "test": filled(one.test, case.places)}
                once.setdefault((name, one.number, one.example), one.model_copy(update=known))
    return Examination(_ranked(list(once.values())), clear, unseen)


def _ranked(findings: list[Finding]) -> list[Finding]:
    """The likeliest first; the others are as likely as what comes after a likelier one: mostly its
    consequences."""
    by = sorted(findings, key=lambda f: (-f.confidence, -f.strength))
    after = [
        f.model_copy(update={"confidence": chance(f.check, f.strength, after=True)}) for f in by[1:]
    ]
    return [*by[:1], *sorted(after, key=lambda f: -f.confidence)]
