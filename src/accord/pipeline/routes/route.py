"""Which policies of a run are one route at different numbers of judgments, and what stands behind each.

A route is a policy's settings and those of all trainings behind it, whatever their `limit`: policies that
differ in that alone learned from more or fewer judgments by the same route.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from accord.core.artifact import Data, Figures
from accord.core.hashing import content_hash
from accord.pipeline.routes.runs import SeedRun
from accord.pipeline.stage import StageConfig

__all__ = ["Route", "behind", "routes_of", "trainings"]

LIMIT = "limit"


@dataclass(frozen=True)
class Route:
    """Policies of one route, from the fewest judgments to the most; it is called by the last."""

    policies: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.policies[-1]


def routes_of(run: SeedRun, judgments: Callable[[str], int]) -> list[Route]:
    """The routes of the policies that were evaluated and came after the baseline, in the recipe's order;
    `judgments` tells how many a policy learned from."""
    baseline = run.outputs.baseline
    before = {baseline, *behind(run, baseline, beside=False)}
    groups: dict[str, list[str]] = {}
    for policy in run.outputs.answers:
        if policy not in before and policy in run.configs:
            groups.setdefault(_settings(run, policy), []).append(policy)
    return [Route(tuple(sorted(group, key=judgments))) for group in groups.values()]


def _settings(run: SeedRun, name: str) -> str:
    """A stage by its settings but for `limit`, its trainings by theirs; data, and the baseline, by name."""
    config = run.configs.get(name)
    if config is None or name == run.outputs.baseline or not hasattr(config, LIMIT):
        return name
    plain = {k: v for k, v in config.hashed().items() if k != LIMIT}
    for key in config.reads:
        names = {n: _settings(run, n) for n in config.named(key)}
        plain[key] = _renamed(plain.get(key), names)
    return content_hash(plain)


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {k: _renamed(v, names) for k, v in value.items()}
    if isinstance(value, list):
        return [_renamed(v, names) for v in value]
    return names.get(value, value) if isinstance(value, str) else value


def behind(run: SeedRun, name: str, beside: bool = True) -> list[str]:
    """The stages that a stage stands on, itself among them, in the recipe's order; `beside`: but for the
    baseline and what that stands on."""
    shared = set(behind(run, run.outputs.baseline, beside=False)) if beside else set[str]()
    reached = set(_reached(run, name, lambda config: list(config.parents())))
    return [n for n in run.configs if n in reached - shared]


def trainings(run: SeedRun, name: str) -> list[str]:
    """Of those the trainings of the route itself: what its `init` and its rewards name, not what its data's
    judge learned from."""

    def models(config: StageConfig) -> list[str]:
        keys = [
            k for k, artifact in config.reads.items() if not issubclass(artifact, (Data, Figures))
        ]
        return [n for key in keys for n in config.named(key)]

    own = set(_reached(run, name, models))
    return [n for n in behind(run, name) if n in own]


def _reached(run: SeedRun, name: str, next_of: Callable[[StageConfig], list[str]]) -> Iterator[str]:
    left, seen = [name], set[str]()
    while left:
        stage = left.pop()
        if stage in run.configs and stage not in seen:
            seen.add(stage)
            yield stage
            left += next_of(run.configs[stage])
