"""bf16 on a CPU: the products of the backward pass, and only those.

Legend: T tokens, I inputs, O outputs.

A forward pass in bf16 moves a preference loss by up to 1e-2: the margin is a small difference of large
log-probs. Gradients bear it: in bf16 each is off by parts in a thousand, at random. So the forward pass
stays fp32, and the two products in three that belong to the backward pass run at bf16's rate; what is
kept for them is kept in bf16. On a GPU, whose fp32 products are slow, bf16 means autocast instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["backward_dtype", "fuse_linear", "half_backward", "has_bf16_products"]

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
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, x_TI: Tensor, weight_OI: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x_TI, weight_OI)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return nn.functional.linear(x, weight_OI, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x_TI, weight_OI = ctx.saved_tensors
        wide_TO = grads[0].reshape(-1, grads[0].shape[-1])
        g_TO = wide_TO.to(x_TI.dtype)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = (g_TO @ weight_OI.to(x_TI.dtype)).to(ctx.dtype).view(ctx.shape)
        if ctx.needs_input_grad[2]:
            grad_weight = (g_TO.T @ x_TI).to(weight_OI.dtype)
        if ctx.needs_input_grad[3]:
            grad_bias = wide_TO.sum(0)
        return grad_x, None, grad_weight, grad_bias


def _halved(x: Tensor) -> Tensor:
    """x [T, I] in bf16; one copy for all the layers that read the same tensor."""
    version, kept = getattr(x, "accord_bf16", (None, x))
    if version != x._version:
        kept = x.detach().reshape(-1, x.shape[-1]).to(torch.bfloat16)
        x.accord_bf16 = (x._version, kept)  # type: ignore[attr-defined]
    return kept


def _forward(layer: Any, own: Any, x: Tensor) -> Tensor:
    weight = layer.weight
    half = backward_dtype(weight) != weight.dtype and x.dtype == weight.dtype
    if not half or not torch.is_grad_enabled():
        result: Tensor = own(x)
        return result
    # of a frozen layer only the gradient of x is asked for: nothing of x is kept
    x_TI = _halved(x) if weight.requires_grad else x.new_empty(0, dtype=torch.bfloat16)
    result = _Linear.apply(x, x_TI, weight, layer.bias)
    return result


def fuse_linear(model: nn.Module) -> int:
    """Give every plain linear layer a forward that heeds `half_backward`; how many there were."""
    fused = 0
    for layer in model.modules():
        if type(layer) is nn.Linear and "forward" not in layer.__dict__:
            layer.forward = partial(_forward, layer, layer.forward)  # type: ignore[method-assign]
            fused += 1
    return fused
