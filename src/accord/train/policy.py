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
from accord.core.types import Exchange, Metric, Prompt
from accord.lm.chat import render_prompt
from accord.lm.model.chain import identity
from accord.lm.model.load import LanguageModel, load
from accord.lm.remote import ServerSampler, server_sampler
from accord.lm.room import check_some, fitting, said
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampler
from accord.rewards.axes import load_axes_model
from accord.rewards.base import Context, named_models
from accord.rewards.compose import Rewards, build_rewards
from accord.rewards.learned import is_reward_model, load_reward_model
from accord.rewards.process_model import load_process_model
from accord.stats.intervals import mean
from accord.train.actors import FRESH, Actors, cast, on_the_base
from accord.train.best_and_worst import best_of_n, online_dpo
from accord.train.experience import cut_notes, sampler_notes
from accord.train.group import grpo, rloo
from accord.train.on_policy import Method, on_policy
from accord.train.optimise import Progress
from accord.train.ppo import ppo
from accord.train.rollout import Rollout
from accord.train.settings import BestOfN, Grpo, OnlineDpo, OnPolicy, Ppo, Rloo
from accord.train.trainee import Saved, Tune, save_model

__all__ = ["METHODS", "NAMES", "PolicyTrained", "sampler_of", "token_counter", "train_policy"]

METHODS: dict[type[OnPolicy], Callable[[Any], Method]] = {
    Ppo: ppo, Rloo: rloo, Grpo: grpo, OnlineDpo: online_dpo, BestOfN: best_of_n,
}  # fmt: skip
NAMES: dict[str, type[OnPolicy]] = {make.__name__: kind for kind, make in METHODS.items()}


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
    settings: OnPolicy,
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
    valued = isinstance(settings, Ppo)
    actors = cast(
        lm, tune, seed, value=valued, reward_model=starts[0] if starts and valued else None,
        temperature=settings.temperature,
    )  # fmt: skip
    models = partial(_finder, actors, weights, where)
    if valued and named and not starts:
        actors.notes.append(FRESH.format("axes and process models do not give an answer one score"))
    context = Context(
        token_counter(lm), models(load_reward_model), process_model=models(load_process_model),
        axes_model=models(load_axes_model), sampler=sampler_of,
    )  # fmt: skip
    made = build_rewards(rewards, context, "rewards")
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
        if isinstance(server, ServerSampler) and server.reload:
            save_model(lm, module, folder / "served", adapter=adapter)
            server.publish(folder / "served" / (f"adapter/{adapter}" if adapter else ""))

    ended = on_policy(
        actors, prompts, made, settings, _method(settings), seed=seed, folder=folder, run=run,
        sampler=server, publish=publish, evaluate=evaluate, held=held, trackers=trackers, on_step=on_step,
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
    actors: Actors, prompts: Sequence[Prompt], held: Sequence[Prompt], rewards: Rewards, settings: OnPolicy
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


def sampler_of(name: str) -> Sampler:
    """A model's sampler: a folder or hub name, or the address of a server with the model's name after #."""
    return server_sampler(name) if "://" in name else LocalSampler(load(name))


def _method(settings: OnPolicy) -> Method:
    return next(make(settings) for kind, make in METHODS.items() if isinstance(settings, kind))


def token_counter(lm: LanguageModel) -> Callable[[str], int]:
    """How many of the model's tokens a text is."""
    return lambda text: len(lm.tokenizer(text, add_special_tokens=False)["input_ids"])


class _Asked:
    """A model that doesn't train, asked by several rewards: what it last said is kept."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.last: tuple[Sequence[Exchange], Sequence[Any]] = ([], [])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, exchanges: Sequence[Exchange]) -> Sequence[Any]:
        if self.last[0] != list(exchanges):
            self.last = list(exchanges), self.model(exchanges)
        return self.last[1]


def _finder(
    actors: Actors, weights: str, where: Callable[[str], Path], loaded: Callable[..., Any]
) -> Callable[[str], Any]:
    """Models by name, each loaded once: as a role on the policy's base where they stand on it, else on
    their own."""
    kept: dict[Path, _Asked] = {}

    def find(name: str) -> _Asked:
        folder = where(name)
        if folder not in kept:
            base = on_the_base(actors, weights, folder)
            kept[folder] = _Asked(loaded(folder, device=str(actors.lm.device), on=base))
        return kept[folder]

    return find
