"""What it takes: the policy's answers, and of each round a critique and a revision by a model of this run."""

from __future__ import annotations

from accord.constitution.principles import place_of, read_constitution
from accord.constitution.requests import critique_request, revision_request
from accord.core.types import Prompt
from accord.lm.room import check_some, fitting, left_out_notes
from accord.pipeline.context import StageContext
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.revise import ReviseStage
from accord.pipeline.stages.revise.answers import room_of
from accord.pipeline.work import Known, Sample, Work, placeholder

__all__ = ["work"]

ELSEWHERE = "what the critic reads and writes is not counted: it is no model of this recipe"


def work(ctx: StageContext[ReviseStage], known: Known) -> Work:
    config = ctx.config
    room = room_of(config)
    kept, left_out = fitting(known.lm, held_out_prompts(ctx, config.data), room, config.max_prompt)
    check_some(kept, left_out, f"stage {ctx.name}")
    prompts, notes = kept[: config.prompts], left_out_notes(left_out)
    times = config.prompts / len(prompts)
    most, batch = config.max_new_tokens, config.batch_size
    wrote = known.written(ctx, config.policy, most)
    parts = [Sample(prompts, 1, wrote, most, batch, times)]
    critic = config.critic or config.policy
    if config.critic and not config.named("critic"):
        return Work(list(parts), uses=[config.policy], notes=[*notes, ELSEWHERE])
    by = read_constitution(place_of(config.constitution, ctx.recipe_folder)).but(config.without)
    principle = max(by.principles, key=lambda p: len(p.critique) + len(p.revision))
    texts = {n: known.written(ctx, critic, n) for n in (config.critique_tokens, most)}
    answer, critique = (placeholder(lengths) for lengths in (wrote, texts[config.critique_tokens]))
    asked: list[tuple[list[Prompt], int]] = [
        ([critique_request(p, answer, principle) for p in prompts], config.critique_tokens),
        ([revision_request(p, answer, critique, principle) for p in prompts], most),
    ]
    rounds = times * config.rounds
    parts += [Sample(some, 1, texts[n], n, batch, rounds) for some, n in asked]
    both = [config.policy, *([critic] if config.named("critic") else [])]
    return Work(list(parts), uses=both, models=len(both), notes=notes)
