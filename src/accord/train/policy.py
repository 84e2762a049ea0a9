"""A policy trained on its own answers: actors, rewards and loop put together, and the result saved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from accord.core.day import in_its_day
from accord.core.hashing import content_hash
from accord.core.rundir import read_jsonl
from accord.core.types import Metric, Prompt
from accord.lm.chain import identity
from accord.lm.chat import render_prompt
from accord.lm.load import LanguageModel
from accord.lm.room import check_some, fitting, said
from accord.lm.sample import Sampler
from accord.lm.server import ServerSampler, server_sampler
from accord.rewards.base import named_models
from accord.rewards.compose import Rewards
from accord.rewards.learned import is_reward_model
from accord.stats.intervals import mean
from accord.train import dist
from accord.train.actors import FRESH, Actors, cast
from accord.train.experience import cut_notes, sampler_notes
from accord.train.held_out import answer_held
from accord.train.loop import Progress
from accord.train.method import Method
from accord.train.on_policy import on_policy
from accord.train.rollout import Rollout
from accord.train.saved import Saved, save_model
from accord.train.scorers import rewards_of
from accord.train.trainee import Tune

__all__ = ["PolicyTrained", "train_policy"]


@dataclass(frozen=True)
class PolicyTrained(Saved):
    """What training left: its folder, notes, why it ended early, or "", and the prompts that were left out,
    by reason."""

    notes: tuple[str, ...]
    ended: str
    left_out: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Of the last evaluation's held-out answers: each reward's mean by its label, and `reward`, their
        composed one. Answers without a score count nowhere."""
        samples = sorted((self.folder / "samples").glob("*.jsonl"))
        rows = read_jsonl(samples[-1]) if samples else []
        columns = {k: [r["parts"][k] for r in rows] for k in (rows[0]["parts"] if rows else ())}
        columns["reward"] = [r["reward"] for r in rows]
        return {k: mean([x for x in some if x is not None]) for k, some in columns.items()}


@in_its_day
def train_policy(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    rewards: Sequence[Mapping[str, Any]],
    *,
    run_dir: str | Path,
    tune: Tune,
    settings: Method,
    where: Callable[[str], Path] = Path,
    held: Sequence[Prompt] = (),
    evaluate: Callable[[Rollout], Mapping[str, float]] | None = None,
    sampler: Sampler | str | None = None,
    reload: str = "",
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> PolicyTrained:
    """Train `lm` on `rewards` of its own answers to `prompts`; its weights at the start are the reference.
    `where` gives the folder of a reward model that an entry of `rewards` names. The policy is saved in
    run_dir/model. `sampler` answers instead of the policy's own model: anything, or a server by its address
    with the model's name after #. It must answer with the weights that are trained: before each step `reload`
    (an address) is told where they lie. `sampler_gap` in the log tells how far it is from them. `tell` hears,
    before the first step, which prompts are left out and which reward models read less than is written."""
    folder, weights = Path(run_dir), lm.weights
    named = [where(name) for config in rewards for name in named_models(dict(config))]
    starts = [f for f in named if is_reward_model(f)]  # what a value model can start from
    valued = settings.valued
    actors = cast(
        lm, tune, seed, value=valued, reward_model=starts[0] if starts and valued else None,
        temperature=settings.temperature,
    )  # fmt: skip
    if valued and named and not starts:
        actors.notes.append(FRESH.format("axes and process models do not give an answer one score"))
    made = rewards_of(rewards, actors, weights, where)
    prompts, held, left_out = _fitting(actors, prompts, held, made, settings)
    before = [*said(left_out), *made.unread(settings.max_new_tokens)]
    for text in before:
        tell(text)
    run = content_hash([
        weights, tune, settings.model_dump(exclude={"tokens", "save_every", "eval_every", "max_prompt"}),
        seed, [render_prompt(lm.tokenizer, p) for p in prompts], lm.eos_ids,
        [dict(c) for c in rewards], [identity(str(f)) for f in named],
    ])  # fmt: skip
    module = actors.roles.module if actors.roles else lm.model
    adapter = actors.roles.adapters["policy"] if actors.roles else None
    server = server_sampler(sampler, reload) if isinstance(sampler, str) else sampler

    def publish() -> None:
        if isinstance(server, ServerSampler) and server.reload and dist.first():
            save_model(lm, module, folder / "served", adapter=adapter)
            server.publish(folder / "served" / (f"adapter/{adapter}" if adapter else ""))
        dist.everyone_s(None)  # nobody asks before the server has the weights

    measured = answer_held(actors, made, settings, seed, folder, held, evaluate) if held else None
    ended = on_policy(
        actors, prompts, made, settings, seed=seed, folder=folder, run=run,
        sampler=server, publish=publish, evaluate=measured, trackers=trackers, on_step=on_step,
    )  # fmt: skip
    save_model(lm, module, folder / "model", adapter=adapter)
    log = read_jsonl(folder / "metrics.jsonl")
    told = [*(sampler_notes(log) if server else []), *cut_notes(log)]
    notes = [
        *actors.policy.engine.notes,
        *actors.notes,
        *before,
        *([ended] if ended else []),
        *told,
    ]
    return PolicyTrained(folder, tuple(notes), ended, left_out)


def _fitting(
    actors: Actors, prompts: Sequence[Prompt], held: Sequence[Prompt], rewards: Rewards, settings: Method
) -> tuple[list[Prompt], list[Prompt], Counter[str]]:  # fmt: skip
    """The prompts that everyone who takes part has room for, those held out too, and what is left out."""
    fits = partial(
        fitting, actors.lm, max_new_tokens=settings.max_new_tokens, max_prompt=settings.max_prompt,
        most=actors.positions(), read_by=rewards.fits,
    )  # fmt: skip
    kept, left_out = fits(prompts)
    check_some(kept, left_out, actors.lm.name)
    kept_held, others = fits(held)
    return kept, kept_held, left_out + Counter({f"held out: {k}": n for k, n in others.items()})
