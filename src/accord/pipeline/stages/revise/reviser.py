"""Who criticises and revises: a model that is asked, or in a world a script that knows the better answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accord.constitution.principles import Principle
from accord.constitution.requests import critique_request, revision_request
from accord.core.errors import ConfigError
from accord.core.rundir import named_folder
from accord.core.seeds import derive_seed
from accord.core.types import Prompt, Response
from accord.lm.sampler import Sampler, Sampling
from accord.pipeline.context import StageContext
from accord.pipeline.stages.revise import WORLD, ReviseStage
from accord.train.online.scorers import sampler_of
from accord.worlds.base import World, worth

__all__ = ["Reviser", "reviser_for"]


Answered = tuple[Prompt, Response, Principle]
# answers with what they are criticised by, and the round's number -> a critique and a revision of each
Reviser = Callable[[Sequence[Answered], int], list[tuple[str, Response]]]


@dataclass
class Asked:
    """A model that is asked for a critique, then for the revision."""

    sampler: Sampler
    config: ReviseStage
    seed: int

    def __call__(self, rows: Sequence[Answered], number: int) -> list[tuple[str, Response]]:
        asked = [critique_request(p, answer.text, by) for p, answer, by in rows]
        critiques = [r.text for r in self._replies(asked, "critique", number)]
        asked = [
            revision_request(prompt, answer.text, critique or "None.", principle)
            for (prompt, answer, principle), critique in zip(rows, critiques, strict=True)
        ]
        return list(zip(critiques, self._replies(asked, "revision", number), strict=True))

    def _replies(self, prompts: Sequence[Prompt], what: str, number: int) -> list[Response]:
        """Their words, and what ended them."""
        most = self.config.critique_tokens if what == "critique" else self.config.max_new_tokens
        how = Sampling(
            temperature=self.config.temperature, max_new_tokens=most,
            seed=derive_seed(self.seed, what, number),
        )  # fmt: skip
        replies = (some[0] for some in self.sampler(prompts, how))
        return [Response(text=r.text.strip(), finish=r.finish) for r in replies]


@dataclass
class Script:
    """Knows a world's truth: where a candidate of the case is better by the measure that the principle's
    category names (the whole truth, where none does), that is the revision; else the answer stays."""

    world: World
    categories: Mapping[str, str]

    def __call__(self, rows: Sequence[Answered], number: int) -> list[tuple[str, Response]]:
        return [self._one(*row) for row in rows]

    def _one(self, prompt: Prompt, answer: Response, principle: Principle) -> tuple[str, Response]:
        case, measure = self.world.by_prompt[prompt.id], self.categories.get(principle.id, "")

        def value(response: Response) -> tuple[float, float]:
            return worth(self.world, case, response, measure)

        best = max((Response(text=c.text, finish="stop") for c in case.candidates), key=value)
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
    else:
        critic = str(named_folder(critic, ctx.recipe_folder) or critic)
    return Asked(sampler_of(critic), ctx.config, ctx.seed)
