"""Who and what a run on own answers needs: actors, rewards, prompts that all of them have room for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accord.core.hashing import content_hash
from accord.core.types import Prompt
from accord.lm.chat import render_prompt
from accord.lm.model.chain import identity
from accord.lm.model.load import LanguageModel
from accord.lm.room import check_some, fitting, left_out_notes
from accord.rewards.compose import Rewards
from accord.train.loop.trainee import Tune
from accord.train.online.actors import FRESH, Actors, cast
from accord.train.online.method import Method
from accord.train.online.scorers import models_of, rewards_of

__all__ = ["Assembled", "Tune", "assemble"]

# unset keys are left out of a run's fingerprint; these were part of it before that
KNOWN_UNSET = ("precision", "relative")
DECIDES_NOTHING = {"tokens", "save_every", "eval_every", "max_prompt"}  # of the weights


@dataclass(frozen=True)
class Assembled:
    """`run` is a fingerprint of what decides the weights; `told` is what is said before the first step."""

    actors: Actors
    rewards: Rewards
    prompts: list[Prompt]
    held: list[Prompt]
    left_out: Counter[str]
    notes: list[str]
    run: str


def assemble(
    lm: LanguageModel, prompts: Sequence[Prompt], rewards: Sequence[Mapping[str, Any]],
    held: Sequence[Prompt], settings: Method, tune: Tune, seed: int, where: Callable[[str], Path],
) -> Assembled:  # fmt: skip
    """A value model of its own starts from the first reward model that gives an answer one score."""
    weights = lm.weights
    named, starts = models_of(rewards, where)
    shares = settings.value_shares()
    from_reward = settings.valued and settings.values_are_scores() and not shares
    actors = cast(
        lm, tune, seed, value=settings.valued, shares=shares, temperature=settings.temperature,
        precision=settings.precision or "fp32",
        reward_model=starts[0] if starts and from_reward else None,
    )  # fmt: skip
    if from_reward and named and not starts:
        actors.notes.append(FRESH.format("no reward model that is paid gives an answer one score"))
    composed = rewards_of(rewards, actors, weights, where)
    prompts, held, left_out = _fitting(actors, prompts, held, composed, settings)
    later = [key for key in settings.later if key not in KNOWN_UNSET]
    unset = {key for key in later if getattr(settings, key, None) is None}
    run = content_hash([
        weights, tune, settings.model_dump(exclude=DECIDES_NOTHING | unset),
        seed, [render_prompt(lm.tokenizer, p) for p in prompts], lm.eos_ids,
        [dict(c) for c in rewards], [identity(str(f)) for f in named],
    ])  # fmt: skip
    notes = [*left_out_notes(left_out), *composed.unread(settings.max_new_tokens)]
    return Assembled(actors, composed, prompts, held, left_out, notes, run)


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
