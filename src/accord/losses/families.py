"""Which family a loss belongs to: pairs, single answers or rankings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from accord.core.errors import ConfigError
from accord.losses.preference import preference_losses
from accord.losses.ranking import ranking_losses
from accord.losses.unpaired import unpaired_losses

__all__ = ["ChosenLoss", "choose_loss", "loss_names"]

Family = Literal["pairs", "unpaired", "rankings"]

FAMILIES = {"pairs": preference_losses, "unpaired": unpaired_losses, "rankings": ranking_losses}


@dataclass(frozen=True)
class ChosenLoss:
    """A loss with its hyperparameters bound, and the facts its registration states."""

    family: Family
    name: str
    function: Callable[..., Tensor]
    facts: Mapping[str, Any]


def loss_names() -> list[str]:
    """Every policy loss a recipe can name."""
    return sorted(name for registry in FAMILIES.values() for name in registry.names())


def choose_loss(config: Mapping[str, Any], where: str = "loss") -> ChosenLoss:
    """The loss of `{name: …, hyperparameters}`; ConfigError names a wrong name, key or value."""
    name = config.get("name")
    for family, registry in FAMILIES.items():
        if name in registry.names():
            entry, function = registry.configured(config, where)
            facts = entry.known(function.keywords)
            return ChosenLoss(family, entry.name, function, facts)  # type: ignore[arg-type]
    if not isinstance(name, str):
        raise ConfigError(
            "required key name is missing", where=where, allowed=", ".join(loss_names())
        )
    raise ConfigError(
        f"unknown loss {name!r}", where=f"{where}.name", allowed=", ".join(loss_names())
    )
