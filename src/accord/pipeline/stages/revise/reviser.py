"""Who criticises and revises: a model that is asked, or in a world a script that knows the better answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accord.constitution.principles import Principle
from accord.constitution.requests import critique_request, revision_request
from accord.core.errors import ConfigError
from accord.core.rundir import user_path
from accord.core.seeds import derive_seed
from accord.core.types import Prompt, Response
from accord.lm.sampler import Sampler, Sampling
from accord.pipeline.context import StageContext
from accord.pipeline.stages.revise import WORLD, ReviseStage
from accord.train.online.scorers import sampler_of
from accord.worlds.base import World, worth

__all__ = ["Reviser", "reviser_for"]


Answered = tuple[Prompt, str, Principle]
# answers with what they are criticised by, and the round's number -> a critique and a revision of each
Reviser = Callable[[Sequence[Answered], int], list[tuple[str, str]]]


@dataclass
class Asked:
    """A model that is asked for a critique, then for the revision."""

    sampler: Sampler
    config: ReviseStage
    seed: int

    def __call__(self, rows: Sequence[Answered], number: int) -> list[tuple[str, str]]:
        critiques = self._replies([critique_request(*row) for row in rows], "critique", number)
        asked = [
            revision_request(prompt, answer, critique or "None.", principle)
            for (prompt, answer, principle), critique in zip(rows, critiques, strict=True)
        ]
        return list(zip(critiques, self._replies(asked, "revision", number), strict=True))

    def _replies(self, prompts: Sequence[Prompt], what: str, number: int) -> list[str]:
        most = self.config.critique_tokens if what == "critique" else self.config.max_new_tokens
        how = Sampling(
            temperature=self.config.temperature, max_new_tokens=most,
            seed=derive_seed(self.seed, what, number),
        )  # fmt: skip
        return [some[0].text.strip() for some in self.sampler(prompts, how)]


@dataclass
class Script:
    """Knows a world's truth: where a candidate of the case is better by the measure that the principle's
    category names (the whole truth, where none does), that is the revision; else the answer stays."""

    world: World
    categories: Mapping[str, str]

    def __call__(self, rows: Sequence[Answered], number: int) -> list[tuple[str, str]]:
        return [self._one(*row) for row in rows]

    def _one(self, prompt: Prompt, answer: str, principle: Principle) -> tuple[str, str]:
        case, measure = self.world.by_prompt[prompt.id], self.categories.get(principle.id, "")

        def value(text: str) -> tuple[float, float]:
            return worth(self.world, case, Response(text=text, finish="stop"), measure)

        best = max((c.text for c in case.candidates), key=value)
        better = value(best) > value(answer)
        critique = f"By {principle.id} the answer is worth {value(answer)[0]:.2f}."
        return critique, best if better else answer


def reviser_for(
    ctx: StageContext[ReviseStage], own: Any, world: World | None, categories: Mapping[str, str]
) -> Reviser:
    """The critic that the stage names; `own` is the policy's sampler."""
    critic = ctx.config.critic
    if critic == WORLD:
        if world is None:
            raise ConfigError(
                "needs a world whose truth is known", where=f"stage {ctx.name}.critic"
            )
        return Script(world, categories)
    if critic is None:
        return Asked(own, ctx.config, ctx.seed)
    if ctx.config.named("critic"):
        critic = ctx.policy(critic)
    elif (ctx.recipe_folder / user_path(critic)).is_dir():
        critic = str(ctx.recipe_folder / user_path(critic))
    return Asked(sampler_of(critic), ctx.config, ctx.seed)
