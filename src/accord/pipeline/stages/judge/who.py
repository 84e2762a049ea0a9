"""Who judges: the backend that a stage names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from accord.core.errors import ConfigError
from accord.core.hashing import content_hash, file_hash
from accord.core.rundir import named_folder, user_path
from accord.judges.backends import Backend, Job, ScoreBackend, backend_of, log_shares
from accord.judges.cache import JudgeReply
from accord.pipeline.context import StageContext
from accord.pipeline.stages.judge import SCRIPT, WORLD, JudgeStage
from accord.worlds.base import World, worth

__all__ = ["WorldJudge", "backend_for"]

SHARP = 8.0  # of the scripted judge: log-odds of a whole point of the truth


@dataclass
class WorldJudge:
    """A script that knows a world's truth: the better answer is the likelier by `SHARP` log-odds a point.
    Asked by a principle it looks at the world's measure that the principle's category names, if one does, and
    at the whole where that says nothing of the answers."""

    world: World
    categories: Mapping[str, str] = field(default_factory=dict)  # of principles, by id
    chunk: int = 1024

    @cached_property
    def name(self) -> str:
        """Of another world, or other principles, it is another judge: nothing it said before holds."""
        knows = [SCRIPT, file_hash(self.world.path), dict(self.categories)]
        return f"{WORLD}#{content_hash(knows)[:12]}"

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for at, job in enumerate(jobs):
            case = job.item and self.world.by_prompt.get(job.item.prompt.id)
            if not (job.item and case):
                yield at, "the prompt is none of the world's"
                continue
            measure = self.categories.get(job.item.principle, "")
            known = [worth(self.world, case, job.item.responses[k], measure) for k in job.order]
            scores, main = ([pair[i] for pair in known] for i in range(2))
            logps = log_shares([SHARP * s for s in (scores if len(set(scores)) > 1 else main)])
            if len(job.options) == len(logps):
                yield at, JudgeReply(logps)
            else:
                yield at, "the script reads log-probs of places alone"


def backend_for(
    ctx: StageContext[JudgeStage], world: World | None, categories: Mapping[str, str]
) -> Backend:
    """The judge that the stage names."""
    judge = ctx.config.judge
    if judge == WORLD:
        if world is None:
            raise ConfigError("needs a world whose truth is known", where=f"stage {ctx.name}.judge")
        return WorldJudge(world, categories)
    place = named_folder(judge, ctx.recipe_folder)
    folder = ctx.policy(judge) if ctx.config.named("judge") else str(place or judge)
    from accord.rewards.learned import is_reward_model, load_reward_model

    if is_reward_model(user_path(folder)):
        from accord.lm.model.chain import identity

        model = load_reward_model(folder)
        return ScoreBackend(model, f"reward model {judge}#{identity(folder)[:12]}")
    return backend_of(folder, at_once=ctx.config.at_once, per_second=ctx.config.per_second)
