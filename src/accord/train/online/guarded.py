"""A guard over a run on its own answers: what it looks at is not the loop's matter, what follows is.

It is shown each step's answers before the step's update, so that what it sees is what the weights, as they
stand, said. Its state is plain data in the checkpoint: a killed run goes on as if it had never stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from accord.core.errors import RunError
from accord.core.rundir import beside
from accord.core.types import Exchange
from accord.train.loop import dist

__all__ = ["Guard", "Look", "keep_weights", "put_back"]

GOOD = "good{}.pt"


@dataclass(frozen=True)
class Look:
    """What a guard saw. `beta`: what β is multiplied by. `facts` go to the log, `text` to the notes."""

    state: Literal["good", "alarm", "rollback"]
    beta: float = 1.0
    text: str = ""
    facts: Mapping[str, float] = field(default_factory=dict)


class Guard(Protocol):
    """Looks at answers every few steps."""

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def rolls_back(self) -> bool:
        """Whether weights that it held for good must be kept."""

    def see(
        self, step: int, exchanges: Sequence[Exchange], scores: Sequence[float], kl: float
    ) -> Look | None:
        """The answers of a step (0-based), their scores and their mean KL from the reference (nats an
        answer); None where it did not look."""

    def saved(self) -> dict[str, Any]:
        """Plain data for the checkpoint."""

    def restore(self, saved: Mapping[str, Any]) -> None: ...


def keep_weights(folder: Path, parameters: Mapping[str, nn.Parameter], step: int) -> None:
    """Keep the weights with which step `step` (0-based) began."""
    path = _good(folder)
    new = beside(path)
    torch.save(
        {"step": step, "parameters": {n: p.detach().cpu() for n, p in parameters.items()}}, new
    )
    new.replace(path)


def put_back(folder: Path, parameters: Mapping[str, nn.Parameter]) -> int:
    """Restore the weights that were kept; the step that began with them."""
    path = _good(folder)
    if not path.exists():
        raise RunError("no weights were kept to go back to", where=str(path))
    kept = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(kept["parameters"][name])
    return int(kept["step"])


def _good(folder: Path) -> Path:
    return folder / GOOD.format(f".{rank}" if (rank := dist.rank()) else "")
