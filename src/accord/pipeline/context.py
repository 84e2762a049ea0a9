"""What a stage is given, and how it tells what it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from accord.core.errors import RunError
from accord.core.refs import StoreRef
from accord.core.rundir import read_json, user_path, write_json
from accord.core.types import Metric
from accord.pipeline.stage import BASE, StageConfig, kinds

if TYPE_CHECKING:  # SQLAlchemy is loaded when a store is opened
    from accord.store import Store

__all__ = ["Reporter", "StageContext", "StageResult", "data_store", "read_result"]


class Reporter(Protocol):
    """Where a stage's progress goes: a terminal, a log, or nowhere."""

    def start(self, stage: str) -> None: ...

    def progress(self, done: int, total: int, text: str = "") -> None: ...

    def note(self, text: str) -> None: ...

    def finished(self, stage: str, headline: str, seconds: float, notes: list[str]) -> None: ...

    def skipped(self, stage: str, headline: str) -> None: ...

    def failed(self, stage: str) -> None: ...

    def report(self, path: Path, seconds: float) -> None: ...


@dataclass
class StageResult:
    """What a stage found, written to result.json and told when it ends."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    headline: str = ""

    def write(self, folder: Path) -> None:
        write_json(
            folder / "result.json",
            {
                "metrics": {k: m.model_dump(mode="json") for k, m in self.metrics.items()},
                "notes": self.notes,
                "facts": self.facts,
                "headline": self.headline,
            },
        )


def read_result(folder: Path) -> StageResult:
    """The result a finished stage wrote."""
    raw = read_json(folder / "result.json")
    config = folder / "config.json"  # not before the stage has ended
    kind = kinds().get(read_json(config)["kind"]) if config.exists() else None
    known = kind.declared() if kind else {}
    try:
        metrics = {k: Metric.model_validate(m).of(known.get(k)) for k, m in raw["metrics"].items()}
        return StageResult(metrics, raw["notes"], raw["facts"], raw["headline"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise RunError(
            "is not what the stage wrote",
            where=str(folder / "result.json"),
            mend="run this stage again: --only STAGE --fresh",
        ) from None


def data_store(folder: Path) -> tuple[Store, dict[str, Any]]:
    """The store that a finished data stage filled or opened, a file or a database, and its facts."""
    from accord.store import Store

    facts = read_result(folder).facts
    return Store(StoreRef(facts["store"]).location(folder), create=False), facts


C = TypeVar("C", bound=StageConfig)


@dataclass
class StageContext(Generic[C]):
    """A stage's name, config, seed, folder, and the folders of the stages it reads."""

    name: str
    config: C
    seed: int
    model: str  # the recipe's model
    folder: Path
    recipe_folder: Path
    stages: dict[str, Path]  # every stage of the recipe that can be read
    reporter: Reporter
    cache_folder: Path  # shared by runs: reference log-probs
    trackers: tuple[str, ...] = ()

    def policy(self, name: str) -> str:
        """What `accord.lm.model.load.load` takes for policy `name`: the base, or a stage's model."""
        return self.model if name == BASE else str(self.stages[name] / "model")

    def reward_model(self, name: str) -> Path:
        """The folder of a model that a reward names: a stage's, or by its path."""
        return self.stages[name] / "model" if name in self.stages else self.path(name)

    def path(self, text: str) -> Path:
        """A path of the recipe: absolute, else relative to the recipe's file."""
        path = user_path(text)
        return path if path.is_absolute() else self.recipe_folder / path
