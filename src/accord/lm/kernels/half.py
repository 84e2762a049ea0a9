"""bf16 on a CPU: the products of the backward pass, and only those.

A forward pass in bf16 moves a preference loss by up to 1e-2: the margin is a small difference of large
log-probs. Gradients bear it: in bf16 each is off by parts in a thousand, at random. So the forward pass
stays fp32, and the two products in three that belong to the backward pass run at bf16's rate; what is
kept for them is kept in bf16. On a GPU, whose fp32 products are slow, bf16 means autocast instead.
"""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor

__all__ = ["backward_dtype", "half_backward", "has_bf16_products", "settled"]

_HALF: ContextVar[bool] = ContextVar("half_backward", default=False)


@contextlib.contextmanager
def half_backward(enabled: bool) -> Iterator[None]:
    """Layers called inside do their backward products in bf16."""
    token = _HALF.set(enabled)
    try:
        yield
    finally:
        _HALF.reset(token)


def backward_dtype(weight: Tensor) -> torch.dtype:
    """What the backward products of a layer with this weight run in."""
    return torch.bfloat16 if _HALF.get() and weight.dtype == torch.float32 else weight.dtype


def has_bf16_products() -> bool:
    """Whether this CPU multiplies bf16 itself; without, bf16 is slower than fp32."""
    if not torch.backends.mkldnn.is_available():  # a Mac's torch: its operators are not there
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def settled(
    precision: Literal["fp32", "bf16", "auto"], device: torch.device
) -> Literal["fp32", "bf16"]:
    """What auto is on this device: bf16 where it has units for it. An x86 CPU without them takes bf16
    products too, widened one by one, and slowly."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif platform.machine().lower() in ("x86_64", "amd64"):
        units = torch.cpu.get_capabilities()
        fast = has_bf16_products() and bool(units.get("avx512_bf16") or units.get("amx_bf16"))
    else:
        fast = device.type == "cpu" and has_bf16_products()
    return "bf16" if fast else "fp32"
