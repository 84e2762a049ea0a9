"""Preference training at every point of a grid."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from pydantic import Field

from accord.core.artifact import Policy
from accord.core.config import validate
from accord.core.errors import ConfigError
from accord.pipeline.section import Section
from accord.pipeline.stage import stage
from accord.pipeline.stages.preference import MEASURES, PreferenceStage
from accord.pipeline.stages.training import READS

SWEPT = (
    "lr", "schedule", "warmup", "epochs", "max_steps", "batch_size", "weight_decay", "max_grad_norm",
    "precision", "tune", "loss",
)  # fmt: skip
MOST_POINTS = 64


def report(done: Any) -> Section:
    from accord.pipeline.report.sweep import section

    return section(done)


@stage(
    "sweep", version=5, reads=READS, gives=Policy, run=f"{__name__}.run:run",
    work=f"{__name__}.run:work", report=report, measures=MEASURES,
)  # fmt: skip
class Sweep(PreferenceStage):
    """Preference training at every point of a grid; later stages see the point with the best held-out
    accuracy. What decides which rows are read can't be swept: the points share them."""

    over: dict[str, list[Any]] = Field(min_length=1)  # dotted key -> values

    def points(self) -> list[dict[str, Any]]:
        """The grid, the last key changing fastest."""
        return [
            dict(zip(self.over, v, strict=True)) for v in itertools.product(*self.over.values())
        ]

    def at(self, point: dict[str, Any], where: str = "over") -> PreferenceStage:
        """The preference stage of one point; ConfigError names a wrong key or value."""
        plain = self.model_dump(exclude={"over"}) | {"kind": "preference"}
        for path, value in point.items():
            *outer, key = path.split(".")
            target: Any = plain
            for name in outer:
                target = target.get(name) if isinstance(target, dict) else None
            if not isinstance(target, dict):
                raise ConfigError(f"{path!r} is no key of the stage", where=where)
            target[key] = value
        return validate(PreferenceStage, plain, where=where)

    def check_names(self, place: Callable[[str], str]) -> None:
        for key, values in self.over.items():
            where = place(f"over.{key}")
            if key.partition(".")[0] not in SWEPT:
                raise ConfigError(f"{key!r} can't be swept", where=where, allowed=", ".join(SWEPT))
            if not values or any(v in values[:n] for n, v in enumerate(values)):
                what = "holds a value twice" if values else "has no value"
                raise ConfigError(what, where=where, mend="give each value once")
        if len(self.points()) > MOST_POINTS:
            raise ConfigError(
                f"{len(self.points())} points",
                where=place("over"),
                allowed=f"at most {MOST_POINTS}",
            )
        for point in self.points():
            self.at(point, place("over")).check_names(lambda key: place("over"))
