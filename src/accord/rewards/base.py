"""What a reward is, and where rewards are registered.

    @reward("brevity")
    def brevity(context: Context, *, per_word: Positive = 0.01) -> Reward:
        return lambda exchanges: [-per_word * len(e.response.text.split()) for e in exchanges]

The factory's signature is its schema: `rewards: [{name: brevity, per_word: 0.02}]` works in a recipe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from accord.core.errors import ConfigError
from accord.core.registry import Registry
from accord.core.types import Exchange

__all__ = [
    "Context", "Reward", "Sum", "Together", "named_models", "reward", "rewards", "runs_here",
]  # fmt: skip


class Reward(Protocol):
    """Exchanges in, a score for each out, in order; NaN where there is none."""

    def __call__(self, exchanges: Sequence[Exchange]) -> Sequence[float]: ...


class Sum(float):
    """A score put together of terms of `size` in all, each without its sign: where they cancel, what is left
    may be their rounding, which a policy must not learn from. A plain score is a term of its own size."""

    size: float

    def __new__(cls, value: float, size: float) -> Sum:
        summed = super().__new__(cls, value)
        summed.size = max(size, abs(value))
        return summed


@dataclass(frozen=True)
class Together:
    """A reward that also depends on what it is scored beside. `score` may be asked for one exchange at a
    time, where some of them fail; `finish` then sees all scores at once, NaN where there is none."""

    score: Reward
    finish: Callable[[Sequence[Exchange], Sequence[float]], list[float]]

    def __call__(self, exchanges: Sequence[Exchange]) -> list[float]:
        return self.finish(exchanges, self.score(exchanges))


def _no_models(name: str) -> Any:
    raise ConfigError(f"no reward model {name!r} here", mend="give a reward stage or a folder")


@dataclass(frozen=True)
class Context:
    """What a reward may need of the run: how to count tokens, the models its names mean, and how many
    seconds a call may take, where that is limited."""

    count_tokens: Callable[[str], int] = lambda text: len(text.split())
    model: Callable[[str], Any] = _no_models
    process_model: Callable[[str], Any] = _no_models
    axes_model: Callable[[str], Any] = _no_models
    sampler: Callable[[str], Any] = _no_models
    seconds: float | None = None


rewards: Registry = Registry("reward")
reward = rewards.register


def named_models(config: Mapping[str, Any]) -> list[str]:
    """The reward models an entry of `rewards` names."""
    return [n for n in (config.get("model"), *(config.get("models") or ())) if isinstance(n, str)]


def runs_here(config: Mapping[str, Any]) -> bool:
    """Whether an entry's model (or judge) runs in this process: it may be slow, but it won't hang."""
    judge = config.get("judge")
    return bool(named_models(config)) or (isinstance(judge, str) and "://" not in judge)
