"""A recipe run from Python, and what its stages left, read when asked for."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accord.core.errors import RunError, door
from accord.core.types import Metric

if TYPE_CHECKING:
    from accord.lm.model.load import LanguageModel
    from accord.pipeline.context import Reporter, StageResult

__all__ = ["Finished", "Run", "run"]


@dataclass(frozen=True)
class Finished:
    """A finished stage and its folder."""

    name: str
    folder: Path

    @cached_property
    def result(self) -> StageResult:
        """Metrics, notes, facts and headline, as the report shows them."""
        from accord.pipeline.context import read_result

        return read_result(self.folder)

    @property
    def metrics(self) -> dict[str, Metric]:
        return self.result.metrics

    @cached_property
    def policy(self) -> LanguageModel:
        """The stage's model, loaded when first asked for; RunError of a stage that trains none."""
        from accord.lm.model.load import load

        if not self.trained:
            raise RunError("trains no model", where=f"stage {self.name}", mend="ask another stage")
        return load(self.folder / "model")

    @property
    def trained(self) -> bool:
        """Whether it left a model."""
        return (self.folder / "model").is_dir()


@dataclass(frozen=True)
class Run:
    """A run: its folder, its report and its stages by name, in order."""

    folder: Path
    report: Path
    stages: dict[str, Finished]
    model: str
    """The recipe's."""

    def __getitem__(self, stage: str) -> Finished:
        if stage not in self.stages:
            allowed = ", ".join(self.stages)
            raise RunError(f"there is no finished stage {stage!r}", allowed=allowed)
        return self.stages[stage]

    @property
    def metrics(self) -> dict[str, dict[str, Metric]]:
        """Every stage's metrics by its name."""
        return {name: stage.metrics for name, stage in self.stages.items()}

    @cached_property
    def policy(self) -> LanguageModel:
        """The policy of the last stage that trained one, else the recipe's model; loaded when first asked
        for. `run["dpo"].policy` gives another's."""
        from accord.lm.model.load import load
        from accord.lm.model.scalar_head import FILE

        trained = [s for s in self.stages.values() if s.trained]
        policies = [s for s in trained if not (s.folder / "model" / FILE).exists()]
        return policies[-1].policy if policies else load(self.model)


@door
def run(
    recipe: str | Path | Mapping[str, Any],
    sets: Mapping[str, Any] | Sequence[str] = (),
    *,
    runs: str | Path = "runs",
    only: Sequence[str] = (),
    fresh: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Run a recipe as `accord run` does: finished stages are skipped, a killed run goes on where it was.

    Args:
        recipe: a YAML file, the name of a shipped recipe ("support"), or the same as a dict, whose relative
            paths start at the working directory.
        sets: keys to override, {"dpo.loss.beta": 0.3} or ["dpo.loss.beta=0.3"].
        runs: where runs are kept.
        only: these stages alone; what they read must be finished.
        fresh: forget earlier outputs of these stages.
        reporter: hears of progress; by default what the terminal shows is printed.

    Returns:
        `run["dpo"].metrics`, `run["dpo"].policy`, `run.metrics`, `run.policy`, `run.report` (its HTML file).

    Raises:
        ConfigError: faults of the recipe, all at once.
        DataError, StoreError, ModelError, RunError: what a stage needs is missing or unreadable; what was
            finished is kept.
    """
    from accord.core.rundir import is_done
    from accord.pipeline import runner
    from accord.pipeline.recipe import build_recipe, find_recipe, read_recipe
    from accord.pipeline.terminal import Terminal

    given = (
        [f"{k}={json.dumps(v, default=str)}" for k, v in sets.items()]
        if isinstance(sets, Mapping)
        else sets
    )
    if isinstance(recipe, Mapping):
        plain = copy.deepcopy(dict(recipe))
        parsed = build_recipe(plain, {}, "recipe", Path.cwd(), list(given))
    else:
        parsed = read_recipe(find_recipe(str(recipe)), list(given))
    done = runner.run(parsed, Path(runs), reporter or Terminal(), only=list(only), fresh=fresh)
    stages = {
        name: Finished(name, folder) for name, folder in done.stages.items() if is_done(folder)
    }
    return Run(done.path, done.report, stages, parsed.model)
