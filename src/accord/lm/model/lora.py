"""What an adapter looks like: plain data, readable without torch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from accord.core.config import Strict
from accord.core.registry import Positive

__all__ = ["Lora"]


class Lora(Strict):
    """Low-rank adapters (Hu et al. 2021) on the linear layers of the trunk."""

    r: Annotated[int, Field(ge=1)] = 16
    alpha: Positive = 32.0
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    targets: str = "all-linear"  # or module names, comma-separated
    last_layers: Annotated[int, Field(ge=1)] | None = None
    """Adapt only the last N layers: the backward pass stops there."""
