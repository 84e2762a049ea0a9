"""Runs of one recipe that differ in their seed, read for a comparison over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accord.core.errors import ConfigError
from accord.core.rundir import user_path
from accord.pipeline.manifest import finished
from accord.pipeline.report.gather import Done, Outputs
from accord.pipeline.stage import StageConfig

__all__ = ["SeedRun", "read_runs"]


@dataclass(frozen=True)
class SeedRun:
    """A finished run: its seed, what its stages left, and their configs by name."""

    seed: int
    recipe: str
    outputs: Outputs
    configs: Mapping[str, StageConfig]

    @property
    def done(self) -> dict[str, Done]:
        return {stage.name: stage for stage in self.outputs.stages}


def read_runs(sources: Sequence[str]) -> list[SeedRun]:
    """The runs in these directories, by seed; ConfigError where two are of different recipes, or of one seed,
    or where one was not evaluated and compared to its end."""
    runs: list[SeedRun] = []
    first: dict[str, Any] = {}
    for source in sources:
        recipe, _, done = finished(user_path(source))
        plain = {k: v for k, v in recipe.resolved.items() if k != "seed"}
        if first and plain != first:
            raise ConfigError(
                f"is of another recipe than {sources[0]} ({_apart(first, plain)})", where=source,
                allowed="runs that differ in their seed alone", mend="accord run RECIPE --set seed=N",
            )  # fmt: skip
        first = first or plain
        if recipe.seed in [run.seed for run in runs]:
            raise ConfigError(
                f"seed {recipe.seed} is there already", where=source, mend="name each once"
            )
        waiting = [node.name for node in recipe.nodes if node.name not in done]
        if waiting:
            what = f"is not done: {', '.join(waiting)}"
            raise ConfigError(what, where=source, mend="run it to its end")
        configs = {node.name: node.config for node in recipe.nodes}
        runs.append(SeedRun(recipe.seed, recipe.name, Outputs.read(done), configs))
        if not runs[-1].outputs.pairs:
            raise ConfigError(
                "compares no policies", where=source, allowed="a run with stages eval and compare"
            )
    return sorted(runs, key=lambda run: run.seed)


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The keys in which two resolved recipes differ, those of stages by stage; at most three."""
    keys = [k for k in {**one, **other} if k != "stages" and one.get(k) != other.get(k)]
    sides = [r["stages"] for r in (one, other)]
    keys += [
        f"{stage}.{key}"
        for stage in {**sides[0], **sides[1]}
        for key in {**sides[0].get(stage, {}), **sides[1].get(stage, {})}
        if sides[0].get(stage, {}).get(key) != sides[1].get(stage, {}).get(key)
    ]
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
