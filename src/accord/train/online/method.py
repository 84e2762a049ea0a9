"""A way to learn from a policy's own answers: its keys, and what it makes of what is known of the answers.

    @method("rloo", "RLOO")
    class Rloo(Method):
        n: Several = 4

        def advantages(self, experience, beta): ...

That is all of a method: `on_policy` is the loop around it, a stage kind and `accord.train_policy` know it by
its name. Keys are read and checked without torch, so its functions import what is heavy when they run.

Legend: C continuations, S their tokens, contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from pydantic import model_validator

from accord.core.errors import ConfigError
from accord.core.plugins import load_installed, registers
from accord.train.settings import OnPolicy, Ratio, Several, TokenAverage

if TYPE_CHECKING:
    from torch import Tensor

    from accord.train.loop.optimise import Objective
    from accord.train.online.actors import Actors
    from accord.train.online.experience import Experience

__all__ = [
    "Advantages",
    "Method",
    "Ratio",
    "Several",
    "Surrogate",
    "TokenAverage",
    "each_method",
    "method",
    "methods",
]  # fmt: skip


@dataclass(frozen=True)
class Advantages:
    """What each token was worth [S]; returns_S are the value model's targets. `facts` go to the log."""

    advantages_S: Tensor
    returns_S: Tensor | None = None
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Surrogate:
    """loss: new log-probs, old ones, advantages -> the policy's loss [S].
    average: over what it is a mean. token: all tokens. sequence: answers, each the mean of its tokens.
    sum: answers, each the sum of its tokens. constant: the same divided by max_new_tokens.
    ratio: of new to old probability, of each token or of its whole answer (GSPO).
    kl: β times k2 is part of the loss instead of the reward."""

    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    average: TokenAverage = "token"
    ratio: Ratio = "token"
    kl: bool = False


class Method(OnPolicy):
    """Keys and functions of a method. `valued`: whether it has a value model. `learns_from`: of each prompt's
    answers, how many its update reads (None: all). How many there must be says the bound of `n`."""

    valued: ClassVar[bool] = False
    learns_from: ClassVar[int | None] = None
    later: ClassVar[tuple[str, ...]] = (
        "precision",
    )  # as a stage's own: no part of its key while unset

    @model_validator(mode="after")
    def _a_value_is_there_to_bootstrap(self) -> Self:
        if self.missing_eos.treatment == "bootstrap" and not self.valued:
            others = ", ".join(known.name for known in _known.values() if known.method.valued)
            raise ValueError(
                f"missing_eos.treatment: bootstrap needs a value model, which only {others} has; "
                "allowed: leave, penalty, score"
            )
        return self

    def values_are_scores(self) -> bool:
        """Whether a value foretells the score itself: it then starts from the reward model, at its mean."""
        return True

    def value_shares(self) -> bool:
        """Whether the value is a head on the policy's states, and no model of its own."""
        return False

    def advantages(self, experience: Experience, beta: float) -> Advantages:
        """What the answers were worth; β weighs the KL that is paid as a reward."""
        raise NotImplementedError

    def surrogate(self) -> Surrogate:
        """PPO's clipped ratio (Schulman et al. 2017), a mean over tokens."""
        from accord.losses import ppo_clip

        clip = partial(ppo_clip, clip=self.clip_ratio, clip_high=self.clip_ratio_high)
        return Surrogate(clip)

    def objective(
        self,
        actors: Actors,
        experience: Experience,
        worth: Advantages,
        beta: float,
        gaps: list[float],
    ) -> Objective:
        """What the policy's update optimises over the rollout's trees; `gaps` is told the largest |ratio - 1|
        of each micro-batch."""
        from accord.train.online.surrogate import policy_objective

        return policy_objective(actors, experience, worth, self, self.surrogate(), beta, gaps)

    def value_objective(
        self, actors: Actors, experience: Experience, worth: Advantages
    ) -> Objective:
        """What the value model's update optimises: `value_loss`, a mean over tokens."""
        from accord.train.online.surrogate import value_objective

        return value_objective(actors, experience, worth, self)

    def value_loss(self, values_S: Tensor, old_S: Tensor, returns_S: Tensor) -> Tensor:
        """Of a method with a value model, its loss [S]."""
        raise NotImplementedError

    def value_rate(self) -> float:
        """The value model's learning rate."""
        return self.lr

    def check_names(self, place: Callable[[str], str]) -> None:
        """Raise ConfigError for a registered name or hyperparameter that is wrong; `place` says where."""


@dataclass(frozen=True)
class Registration:
    """A registered method and what the report calls it."""

    name: str
    title: str
    method: type[Method]


M = TypeVar("M", bound=type[Method])
_known: dict[str, Registration] = {}
_listeners: list[Callable[[Registration], Any]] = []


def method(name: str, title: str = "") -> Callable[[M], M]:
    """Decorator of a `Method`: register it as a kind of stage and a `method=` of that name."""

    def decorate(cls: M) -> M:
        before = _known.get(name)
        theirs = before.method.__module__ if before else None
        if not registers(cls.__module__, "method", name, theirs):
            raise ConfigError(f"method {name!r} is registered twice", where=name)
        _known[name] = Registration(name, title or name, cls)
        for tell in _listeners:
            tell(_known[name])
        return cls

    return decorate


def each_method(tell: Callable[[Registration], Any]) -> None:
    """Call this with every method there is, and with every one that comes."""
    import accord.train.online.methods  # noqa: F401 - its modules register theirs

    for known in _known.values():
        tell(known)
    _listeners.append(tell)


def methods() -> dict[str, type[Method]]:
    """All methods by name, the house's own first."""
    import accord.train.online.methods  # noqa: F401

    load_installed()
    return {name: known.method for name, known in _known.items()}
