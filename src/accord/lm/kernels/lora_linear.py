"""A frozen linear layer with its low-rank update as one operation.

Legend: T tokens, I inputs, O outputs, R rank.

peft computes x Wᵀ, then (x Aᵀ) Bᵀ, scales and adds: three more passes over [T, O] forward and as many
backward, about a tenth of a training step on CPU, and it keeps what autograd asks for. Here the update
is accumulated by the matrix product itself, and only x and x Aᵀ are kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn

from accord.lm.kernels.half import backward_dtype
from accord.lm.kernels.products import times_weight, times_weight_t

__all__ = ["fuse_lora", "lora_linear", "plain_adapter"]


class _LoraLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight_OI: Tensor,
        bias: Tensor | None,
        a_RI: Tensor,
        b_OR: Tensor,
        s: float,
    ) -> Tensor:
        device = x.device.type
        lower = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if lower else weight_OI.dtype
        with torch.autocast(device, enabled=False):
            x_TI = x.reshape(-1, x.shape[-1]).to(dtype)
            w, a, b = weight_OI.to(dtype), a_RI.to(dtype), b_OR.to(dtype)
            out_TO = times_weight_t(x_TI, w, None if bias is None else bias.to(dtype))
            down_TR = times_weight_t(x_TI, a)
            out_TO.addmm_(down_TR, b.T, alpha=s)
        ctx.save_for_backward(x_TI, weight_OI, a_RI, b_OR, down_TR)
        ctx.scale, ctx.shape, ctx.dtype = s, x.shape, x.dtype
        ctx.compute = backward_dtype(weight_OI) if not lower else dtype
        return out_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x_TI, weight_OI, a_RI, b_OR, down_TR = ctx.saved_tensors
        dtype = x_TI.dtype
        with torch.autocast(x_TI.device.type, enabled=False):
            g_TO = grads[0].reshape(-1, grads[0].shape[-1]).to(dtype)
            back_TR = times_weight(g_TO, b_OR.to(dtype) * ctx.scale)
            grad_a = (back_TR.T @ x_TI).to(a_RI.dtype)
            grad_b = (g_TO.T @ down_TR).mul_(ctx.scale).to(b_OR.dtype)
            grad_x = None
            if ctx.needs_input_grad[0]:
                through_TI = times_weight(g_TO.to(ctx.compute), weight_OI.to(ctx.compute))
                grad_x = through_TI.to(dtype).addmm_(back_TR, a_RI.to(dtype))
                grad_x = grad_x.view(ctx.shape).to(ctx.dtype)
        return grad_x, None, None, grad_a, grad_b, None


def lora_linear(
    x: Tensor, weight_OI: Tensor, bias: Tensor | None, a_RI: Tensor, b_OR: Tensor, scale: float
) -> Tensor:
    """x Wᵀ + bias + scale·(x Aᵀ) Bᵀ (Hu et al. 2021, eq. 3); W and bias get no gradient."""
    result: Tensor = _LoraLinear.apply(x, weight_OI, bias, a_RI, b_OR, scale)
    return result


def plain_adapter(layer: Any) -> tuple[Tensor, Tensor, float] | None:
    """A [R, I], B [O, R] and scale of the one LoRA update that stands on a frozen layer; None where
    peft does anything more."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(active) != 1 or layer.disable_adapters or layer.merged or layer.lora_variant:
        return None
    a, b = layer.lora_A[active[0]], layer.lora_B[active[0]]
    dropout, base = layer.lora_dropout[active[0]], layer.base_layer
    drops = not isinstance(dropout, nn.Identity) and dropout.training
    if (
        b.bias is not None
        or drops
        or base.weight.requires_grad
        or a.weight.dtype != base.weight.dtype
    ):
        return None
    return a.weight, b.weight, layer.scaling[active[0]]


def _forward(
    layer: Any, own: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any
) -> Tensor:
    """peft's forward where anything but plain LoRA is asked for."""
    update = None if args or kwargs else plain_adapter(layer)
    base = layer.base_layer
    if not update or not (x.dtype == base.weight.dtype or torch.is_autocast_enabled(x.device.type)):
        return own(x, *args, **kwargs)
    return lora_linear(x, base.weight, base.bias, *update)


def fuse_lora(model: nn.Module) -> int:
    """Give every plain LoRA layer over a plain linear one the fused forward; how many there were."""
    fused = 0
    for layer in model.modules():
        if (
            type(layer) is PeftLinear
            and type(layer.base_layer) is nn.Linear
            and not layer.lora_variant
            and "forward" not in layer.__dict__
        ):
            layer.forward = partial(_forward, layer, layer.forward)  # type: ignore[method-assign]
            fused += 1
    return fused
