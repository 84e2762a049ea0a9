"""A policy trained on its own answers: actors, rewards and loop put together, and the result saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from accord.core.day import in_its_day
from accord.core.types import Prompt
from accord.lm.model.load import LanguageModel
from accord.train.loop.loop import Progress
from accord.train.loop.saved import PolicyTrained
from accord.train.online.assembled import Tune, assemble
from accord.train.online.method import Method
from accord.train.online.on_policy import on_policy
from accord.train.online.rollout import Rollout
from accord.train.online.served import Sampler, notes, save_policy, served

__all__ = ["PolicyTrained", "train_policy"]


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
    folder = Path(run_dir)
    assembled = assemble(lm, prompts, rewards, held, settings, tune, seed, where)
    for text in assembled.notes:
        tell(text)
    answering, publish = served(assembled.actors, sampler, reload, folder)
    ended = on_policy(
        assembled.actors, assembled.prompts, assembled.rewards, settings, seed=seed, folder=folder,
        run=assembled.run, sampler=answering, publish=publish, evaluate=evaluate, held=assembled.held,
        trackers=trackers, on_step=on_step,
    )  # fmt: skip
    save_policy(assembled.actors, folder / "model")
    texts = [
        *assembled.actors.policy.engine.notes,
        *assembled.actors.notes,
        *assembled.notes,
        *filter(None, [ended]),
    ]
    done = PolicyTrained(folder, (), ended, assembled.left_out)
    return replace(done, notes=(*texts, *notes(done.log, answering)))
