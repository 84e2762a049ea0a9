"""A study in a world whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from accord.core.artifact import Data
from accord.core.errors import ConfigError
from accord.core.rundir import user_path
from accord.feedback.simulated import SimulatedRater
from accord.pipeline.stage import Count, Share, StageConfig, stage
from accord.worlds.base import Case, World, code_behind, open_world


@stage("simulate", gives=Data, file="world", run=f"{__name__}.run:run", uses_model=False, free=True)
class SimulateStage(StageConfig):
    """A study in a world whose truth is known: prompts, candidate responses, simulated raters."""

    later: ClassVar[tuple[str, ...]] = ("compared", "turns", "kinds", "habits", "groups")
    world: str = "support/world.yaml"
    raters: list[SimulatedRater] = Field(default=[])  # by default the world's own
    overlap: Count = 2  # raters per comparison
    ranked: Share = 0.25  # share of prompts that are ranked instead of compared
    compared: Share | None = (
        None  # share of prompts whose candidates are judged at all; unset: every prompt
    )
    demonstrations: Count = 6  # per fact
    padded: Share = 0.34  # share of demonstrations written at length
    turns: Count | None = None
    """The old team's chats of so many questions each (where the world has some) and nothing else, for `sft`
    to learn every turn of. Another `simulate` stage asks the raters."""
    habits: dict[Literal["lookalike", "unknown", "escalation", "padded"], Share] | None = None
    """Of these chats: by kind of question, the share that the team answers in a bad way of its own:
    it refuses a `lookalike`, goes on at an `escalation`, takes a wrong line where none fits (`unknown`),
    and pads (`padded`, of all answers)."""
    test: Share = 0.2  # share of prompts held out
    kinds: list[str] | None = None
    """Of the world's cases these kinds alone: harmful requests and twins, say. The same are held out."""
    groups: Count | None = None
    """Of the world's facts or behaviours only so many of each kind, drawn by the recipe's seed, and of
    those that no training sees as large a share: as many as a small model can learn in a few passes."""

    def check_names(self, place: Callable[[str], str]) -> None:
        if self.habits and self.turns is None:
            raise ConfigError(
                "are of chats, and there are none", where=place("habits"), mend="give turns: 4 too"
            )

    def look(self, path: Path) -> list[str]:
        world = open_world(path)
        self.asked(world)
        self.chosen(world)
        return [world.about()]

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """A plain file behind the world's form."""
        path = user_path(self.world)
        path = path if path.is_absolute() else folder / path
        return code_behind(path) if path.is_file() else {}

    def chosen(self, world: World) -> list[Case]:
        """The cases asked about; ConfigError for a kind that is not there."""
        there = {case.kind for case in world.cases}
        if self.kinds is None:
            return list(world.cases)
        if strange := sorted({*self.kinds} - there) or (not self.kinds and ["none"]):
            raise ConfigError(
                f"names {', '.join(strange)}", where="kinds", allowed=", ".join(sorted(there))
            )
        return [case for case in world.cases if case.kind in self.kinds]

    def asked(self, world: World) -> list[SimulatedRater]:
        """Who judges; ConfigError where neither recipe nor world names anybody."""
        raters = self.raters or list(world.raters)
        if not raters:
            raise ConfigError(
                "nobody judges", where=str(world.path),
                mend="name raters in the recipe's stage, or in the world's file",
            )  # fmt: skip
        return raters
