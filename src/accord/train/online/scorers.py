"""The rewards of a run and the models they ask, each loaded once: on the policy's base if it can."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accord.core.types import Exchange
from accord.lm.model.load import LanguageModel, load
from accord.lm.options import ScoringSampler
from accord.lm.remote import server_sampler
from accord.lm.sampler import Sampler
from accord.rewards.axes import load_axes_model
from accord.rewards.base import Context, named_models
from accord.rewards.compose import Rewards, build_rewards
from accord.rewards.learned import is_reward_model, load_reward_model
from accord.rewards.process_model import load_process_model
from accord.train.online.actors import Actors, on_the_base

__all__ = ["models_of", "rewards_of", "sampler_of", "token_counter"]


def models_of(
    rewards: Sequence[Mapping[str, Any]], where: Callable[[str], Path]
) -> tuple[list[Path], list[Path]]:
    """Folders of the models that entries name, and of those that a value model can start from: what has no
    weight says nothing of what answers are paid."""
    named = [
        (where(name), config.get("weight", 1.0))
        for config in rewards
        for name in named_models(dict(config))
    ]
    return [f for f, _ in named], [f for f, weight in named if weight and is_reward_model(f)]


def rewards_of(
    rewards: Sequence[Mapping[str, Any]], actors: Actors, weights: str, where: Callable[[str], Path]
) -> Rewards:
    """What a run is paid. `weights` are those the policy starts from; `where` gives the folder of a model
    that an entry names."""
    models = partial(_finder, actors, weights, where)
    context = Context(
        token_counter(actors.lm), models(load_reward_model), process_model=models(load_process_model),
        axes_model=models(load_axes_model), sampler=sampler_of,
    )  # fmt: skip
    return build_rewards(rewards, context, "rewards")


def sampler_of(name: str) -> Sampler:
    """A model's sampler: a folder or hub name, or the address of a server with the model's name after #."""
    return server_sampler(name) if "://" in name else ScoringSampler(load(name))


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
