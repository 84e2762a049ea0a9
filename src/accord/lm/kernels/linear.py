"""Plain linear layers by the faster products (`products`), backward in bf16 where that is on;
an output layer of half-precision weights in fp32.

Legend: T tokens, I inputs, O outputs.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from accord.lm.kernels.half import backward_dtype
from accord.lm.kernels.products import has_faster_products, times_weight, times_weight_t

__all__ = ["fuse_linear", "widen"]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, x_TI: Tensor, weight_OI: Tensor, bias: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(x_TI, weight_OI)
        ctx.shape, ctx.dtype = x.shape, x.dtype
        return times_weight_t(x, weight_OI, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x_TI, weight_OI = ctx.saved_tensors
        wide_TO = grads[0].reshape(-1, grads[0].shape[-1])
        g_TO = wide_TO.to(x_TI.dtype)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = times_weight(g_TO, weight_OI.to(x_TI.dtype)).to(ctx.dtype).view(ctx.shape)
        if ctx.needs_input_grad[2]:
            grad_weight = (g_TO.T @ x_TI).to(weight_OI.dtype)
        if ctx.needs_input_grad[3]:
            grad_bias = wide_TO.sum(0)
        return grad_x, None, grad_weight, grad_bias


def _kept(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x [T, I] for the weight's gradient; in bf16 one copy for all the layers that read the same tensor."""
    flat_TI = x.detach().reshape(-1, x.shape[-1])
    if dtype == x.dtype:
        return flat_TI
    version, kept = getattr(x, "accord_bf16", (None, x))
    if version != x._version:
        kept = flat_TI.to(dtype)
        x.accord_bf16 = (x._version, kept)  # type: ignore[attr-defined]
    return kept


def _forward(layer: Any, own: Any, x: Tensor) -> Tensor:
    weight, bias = layer.weight, layer.bias
    dtype = backward_dtype(weight)
    ours = dtype != weight.dtype or has_faster_products()
    lower = torch.is_autocast_enabled(x.device.type)
    if not ours or lower or x.device.type != "cpu" or not x.dtype == weight.dtype == torch.float32:
        result: Tensor = own(x)
        return result
    if not torch.is_grad_enabled() or not (x.requires_grad or weight.requires_grad):
        return times_weight_t(x, weight, bias)
    # of a frozen layer only the gradient of x is asked for: nothing of x is kept
    x_TI = _kept(x, dtype) if weight.requires_grad else x.new_empty(0, dtype=dtype)
    result = _Linear.apply(x, x_TI, weight, bias)
    return result


def fuse_linear(model: nn.Module) -> int:
    """Give every plain linear layer this forward; how many there were."""
    fused = 0
    for layer in model.modules():
        if type(layer) is nn.Linear and "forward" not in layer.__dict__:
            layer.forward = partial(_forward, layer, layer.forward)  # type: ignore[method-assign]
            fused += 1
    return fused


def _widely(layer: Any, x: Tensor) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    bias = None if layer.bias is None else layer.bias.to(dtype)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(dtype), layer.weight.to(dtype), bias)


def widen(head: Any) -> None:
    """Let an output layer of half-precision weights multiply in fp32: logits rounded to bf16 move a token's
    log-prob by up to 0.08 nats, more than a DPO margin."""
    layer = getattr(head, "base_layer", head)  # under an adapter
    if isinstance(layer, nn.Linear) and layer.weight.dtype in (torch.bfloat16, torch.float16):
        layer.forward = partial(_widely, layer)  # type: ignore[method-assign]
