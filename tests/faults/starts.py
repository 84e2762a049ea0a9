"""What makes a policy and its reference differ before the first update, planted around a training.

other weights    the reference is of another checkpoint (its weights moved by noise)
adapter twice    the policy starts from weights with an adapter merged once more than the reference's
dropout          the forward pass that trains drops activations
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import nn

from accord.lm.model import load as loading
from accord.train.offline import preference as offline
from accord.train.online import actors
from tests.faults import library

PREFERENCE = ("other weights", "adapter twice", "dropout")
ONLINE = ("other weights", "dropout")


@contextlib.contextmanager
def _moved(model: nn.Module, size: float, seed: int, rank: int = 0) -> Iterator[None]:
    """The model's matrices moved by noise (of a rank, where one is given) of this size against their own."""
    draw = torch.Generator().manual_seed(seed)
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.ndim == 2}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in before or "lora" in name:
                continue
            shape = parameter.shape
            noise = torch.randn(shape, generator=draw)
            if rank:
                a, b = (torch.randn(n, rank, generator=draw) for n in shape)
                noise = a @ b.T / rank**0.5
            parameter.add_(size * parameter.std() * noise)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in before:
                    parameter.copy_(before[name])


def dropped(rate: float, where: str = "tests.train.small.load") -> Any:
    """Models are loaded, there, with a part of each layer's output dropped wherever there are gradients."""

    def drops(_: Any, __: Any, out: Any) -> Any:
        return nn.functional.dropout(out, rate) if torch.is_grad_enabled() else out

    original = loading.load

    def load(*args: Any, **keys: Any) -> Any:
        lm = original(*args, **keys)
        for name, module in lm.model.named_modules():
            if name.endswith("mlp"):
                module.register_forward_hook(drops)
        return lm

    return mock.patch(where, load)


def preference(how: str, by: float, seed: int) -> Any:
    """Around a preference training."""
    if how == "dropout":
        return dropped(library.level(by, 0.02, 0.1, 0.3))
    size, rank = library.level(by, 0.01, 0.05, 0.3), 2 if how == "adapter twice" else 0
    original: Callable[..., Any] = offline.reference_logps

    def other(engine: Any, *args: Any, **keys: Any) -> Any:
        with _moved(engine.model, size, seed, rank):
            return original(engine, *args, **keys)

    return mock.patch("accord.train.offline.preference.reference_logps", other)


def online(how: str, by: float, seed: int) -> Any:
    """Around a training on own answers: its adapter does not begin at nothing, so that the reference (the
    adapter off) is other weights."""
    if how == "dropout":
        return dropped(library.level(by, 0.02, 0.1, 0.3))
    original: Callable[..., Any] = actors._on_one_base

    def other(*args: Any, **keys: Any) -> Any:
        made = original(*args, **keys)
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in made.policy.parameters.items():
                if "lora_B" in name:
                    noise = torch.randn(parameter.shape, generator=draw)
                    parameter.add_(library.level(by, 0.03, 0.1, 0.3) * noise)
        return made

    return mock.patch("accord.train.online.actors._on_one_base", other)
