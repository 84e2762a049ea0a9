"""A finished run, read for a comparison over seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accord.core.errors import ConfigError
from accord.core.rundir import user_path
from accord.pipeline.manifest import finished
from accord.pipeline.report.gather import Done, Outputs
from accord.pipeline.stage import StageConfig

__all__ = ["SeedRun", "read_run"]


@dataclass(frozen=True)
class SeedRun:
    """A finished run: its seed, the recipe's name and settings but for that, what its stages left, and their
    configs by name."""

    seed: int
    recipe: str
    settings: dict[str, Any]
    outputs: Outputs
    configs: Mapping[str, StageConfig]

    @property
    def done(self) -> dict[str, Done]:
        return {stage.name: stage for stage in self.outputs.stages}


def read_run(source: str) -> SeedRun:
    """The run in this directory; ConfigError where it was not evaluated and compared to its end."""
    recipe, _, done = finished(user_path(source))
    waiting = [node.name for node in recipe.nodes if node.name not in done]
    if waiting:
        what = f"is not done: {', '.join(waiting)}"
        raise ConfigError(what, where=source, mend="run it to its end")
    settings = {k: v for k, v in recipe.resolved.items() if k != "seed"}
    configs = {node.name: node.config for node in recipe.nodes}
    run = SeedRun(recipe.seed, recipe.name, settings, Outputs.read(done), configs)
    if not run.outputs.pairs:
        raise ConfigError(
            "compares no policies", where=source, allowed="a run with stages eval and compare"
        )
    return run
