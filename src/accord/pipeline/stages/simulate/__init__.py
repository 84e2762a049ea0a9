"""A study in a world whose truth is known."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from accord.core.artifact import Data
from accord.feedback.simulated import SimulatedRater
from accord.pipeline.stage import Count, Share, StageConfig, stage


@stage("simulate", gives=Data, file="world", run=f"{__name__}.run:run", uses_model=False, free=True)
class Simulate(StageConfig):
    """A study in a world whose truth is known: prompts, candidate responses, simulated raters."""

    world: str = "support/world.yaml"
    raters: list[SimulatedRater] = Field(min_length=1)
    overlap: Count = 2  # raters per comparison
    ranked: Share = 0.25  # share of prompts that are ranked instead of compared
    demonstrations: Count = 6  # per fact
    padded: Share = 0.34  # share of demonstrations written at length
    test: Share = 0.2  # share of prompts held out

    def look(self, path: Path) -> list[str]:
        from accord.evals.support import World

        world = World(path)
        return [f"{len(world.cases)} messages about {len(world.facts)} policies"]
