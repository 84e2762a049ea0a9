"""Supervised CAI: a policy's answers, criticised and written again by sampled principles."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from accord.constitution.principles import DEFAULT, identity, place_of, read_constitution
from accord.constitution.requests import VERSION
from accord.core.artifact import Data, Policy
from accord.core.errors import ConfigError
from accord.core.rundir import named_folder
from accord.pipeline.section import Section
from accord.pipeline.stage import Count, StageConfig, stage

STAGE = re.compile(r"[A-Za-z0-9_-]+")
WORLD = "stand-in:world"
SCRIPTED = (
    "In this run a script stands in for the critic of stage {name} ({critic}): it looks the better answer "
    "up, so what is learned from its revisions says nothing of what a model's critique would give."
)
INTRO = (
    "Each answer is criticised by a principle drawn from the constitution and written again; every step is "
    "kept as a writing that knows its principle and what it revises. Training reads the last one."
)


def report(done: Any) -> Section:
    facts = done.result.facts
    return Section(
        first=SCRIPTED.format(name=done.name, critic=facts["critic"]) if facts["scripted"] else "",
        title="Revisions by principles",
        nav="Revisions",
        intro=INTRO,
        subtitle=f"{done.name}: {facts['constitution']}, {facts['critic']}",
        text=[f"{key}: {metric}." for key, metric in done.result.metrics.items()]
        + [f"By {e['principle']}: “{e['before']}” became “{e['after']}”." for e in facts["examples"]],
        columns=("principle", "category", "revisions", "changed the text", "change in truth"),
        rows=facts["by_principle"],
    )  # fmt: skip


@stage(
    "revise", reads={"policy": Policy, "data": Data, "critic": Policy}, gives=Data,
    run=f"{__name__}.run:run", work=f"{__name__}.work:work", report=report,
)  # fmt: skip
class ReviseStage(StageConfig):
    """Answers of a policy to training prompts of `data`, criticised by a principle of the constitution and
    written again, `rounds` times (CAI's first stage). `critic` is the policy itself, a stage giving one, a
    model, a server (http://host:8000/v1#model), or in a world stand-in:world, a script that looks the
    better answer up and says so. `sft` on this stage learns last revisions and demonstrations."""

    later: ClassVar[tuple[str, ...]] = ("max_prompt",)
    policy: str
    data: str
    critic: str | None = None
    constitution: str = DEFAULT  # a file, or the house's own
    without: list[str] = Field(default=[])  # ids of principles to leave out
    rounds: Count = 2
    prompts: Count = 64  # of the training side
    demonstrations: Annotated[int, Field(ge=0)] | None = (
        None  # of the training side, mixed in; by default all
    )
    max_new_tokens: Count = 64  # of an answer and of a revision
    critique_tokens: Count = 96
    max_prompt: Count | None = None
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    batch_size: Count = 32

    def named(self, key: str) -> list[str]:
        """For `critic`, the stage it names, if it names one."""
        names = super().named(key)
        return names if key != "critic" else [n for n in names if STAGE.fullmatch(n)]

    def check_names(self, place: Callable[[str], str]) -> None:
        if self.critic and self.critic.startswith("stand-in:") and self.critic != WORLD:
            raise ConfigError("no such script", where=place("critic"), allowed=WORLD)
        if self.constitution == DEFAULT:  # a file is read where the recipe lies
            read_constitution().but(self.without)

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """The constitution's file, how critics are asked, and a critic's folder."""
        from accord.lm.model.chain import identity_or_name

        where = place_of(self.constitution, folder)
        read_constitution(where).but(self.without)
        known = {"constitution": identity(where), "requests": str(VERSION)}
        if not self.named("critic") and (critic := named_folder(self.critic or "", folder)):
            known["critic"] = identity_or_name(str(critic))
        return known
