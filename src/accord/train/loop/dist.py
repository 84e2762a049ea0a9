"""Several processes that train as one: the only place where a training knows whether it is alone.

Each process holds all weights and works on its share of a batch. What a loss is divided by is summed over
the processes *before* it divides, and gradients are then summed, not averaged: shares of unequal token counts
give the gradient of the whole batch. Statistics of a step (KL, moments, whitening) are taken over all shares,
the first process writes logs and models, and every one keeps a checkpoint of its own.

A `Processes` moves values between processes; `Alone`, one process, moves nothing. `joined` enters another.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from accord.core.seeds import derive_seed

__all__ = [
    "Alone",
    "Processes",
    "Sums",
    "add_gradients",
    "as_one",
    "average",
    "everyone_s",
    "first",
    "joined",
    "merged",
    "most",
    "rank",
    "seed",
    "share",
    "size",
    "total",
    "values_of_all",
]  # fmt: skip

Sums = dict[str, tuple[float, float]]  # metric -> (sum, count), averaged over the batch
T = TypeVar("T")


class Processes(Protocol):
    """The processes of a training, this one being number `rank` of `size`."""

    rank: int
    size: int

    def gather(self, value: Any) -> list[Any]:
        """What each process called this with, by rank: plain data, or tensors on the CPU."""

    def add(self, tensor: Tensor) -> None:
        """Make the tensor the sum of every process's, in place."""


class Alone:
    """One process."""

    rank, size = 0, 1

    def gather(self, value: Any) -> list[Any]:
        return [value]

    def add(self, tensor: Tensor) -> None:
        pass


_group: ContextVar[Processes] = ContextVar("group", default=Alone())  # noqa: B039 - holds nothing


@contextlib.contextmanager
def joined(group: Processes) -> Iterator[None]:
    """Trainings inside are a part of this group's."""
    token = _group.set(group)
    try:
        yield
    finally:
        _group.reset(token)


def rank() -> int:
    return _group.get().rank


def size() -> int:
    return _group.get().size


def first() -> bool:
    """Whether this process writes what there is one of."""
    return rank() == 0


def seed(base: int, *names: str | int) -> int:
    """Of randomness that every process has for itself; of the first, `derive_seed`'s."""
    return derive_seed(base, *names, *([rank()] if rank() else []))


def share(items: Sequence[T]) -> list[T]:
    """This process's items of a batch that all of them know."""
    group = _group.get()
    return list(items[group.rank :: group.size])


def everyone_s(value: T) -> list[T]:
    """A plain value as each process has it, by rank."""
    return _group.get().gather(value)


def total(value: float) -> float:
    """The sum over processes."""
    return sum(everyone_s(value))


def most(value: int) -> int:
    return max(everyone_s(value))


def merged(sums: Mapping[str, tuple[float, float]]) -> Sums:
    """Sums and counts of metrics over all processes; not every one has every metric."""
    totals: Sums = {}
    for part in everyone_s(dict(sums)):
        for name, (value, count) in part.items():
            before = totals.get(name, (0.0, 0.0))
            totals[name] = (before[0] + value, before[1] + count)
    return totals


def average(value: float, weight: float) -> float:
    """The mean of what each process found, by weight."""
    if size() == 1:
        return value
    return total(value * weight) / total(weight)


def values_of_all(values: Tensor) -> Tensor:
    """All processes' values, one after the other; what a mean or a spread of a step is taken over."""
    group = _group.get()
    return values if group.size == 1 else torch.cat(group.gather(values))


def as_one(function: Callable[..., Tensor], *values: Tensor) -> Tensor:
    """This process's part of a function of all processes' values that keeps their order and number."""
    group = _group.get()
    sizes = group.gather(len(values[0]))
    mine: Tensor = function(*map(values_of_all, values)).split(sizes)[group.rank]
    return mine


def add_gradients(parameters: Mapping[str, nn.Parameter]) -> None:
    """Every gradient becomes the sum over processes; what a process's share does not reach counts zero."""
    group = _group.get()
    if group.size == 1:
        return
    reached = {name: p.grad is not None for name, p in parameters.items()}
    anywhere = group.gather(reached)
    for name, p in parameters.items():
        if any(there[name] for there in anywhere):
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            group.add(p.grad)
