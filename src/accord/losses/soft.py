"""Soft labels for any pairwise loss, by symmetry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, Self, TypeVar

from torch import Tensor

__all__ = ["Swappable", "soft"]


class Swappable(Protocol):
    """B pairs that can exchange their two sides."""

    def swap(self) -> Self: ...


S = TypeVar("S", bound=Swappable)


def soft(loss: Callable[[S], Tensor], pairs: S, p_B: Tensor) -> Tensor:
    """Expected loss [B] under the label P(chosen is better) = p: p·L(w, l) + (1-p)·L(l, w)."""
    return p_B * loss(pairs) + (1 - p_B) * loss(pairs.swap())
