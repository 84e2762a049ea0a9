"""RMSNorm and the gated MLP as one operation each: fewer passes over memory, less kept for backward.

Legend: T tokens, H hidden size, I intermediate size.

Autograd keeps every intermediate of these small formulas, a third of a layer's activations. Written as
one function each keeps its inputs only. A module is replaced only where the replacement gives what the
module itself gives on a random input, so an architecture with a rule of its own keeps it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["fuse", "rms_norm", "swiglu"]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain_H: Tensor, eps: float) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        square: Tensor = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_()
        rate = square.div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, gain_H, rate)
        return (wide * rate).mul_(gain_H).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, gain_H, rate = ctx.saved_tensors
        wide, g = x.to(rate.dtype), grads[0].to(rate.dtype)
        grad_gain = None
        if ctx.needs_input_grad[1]:
            flat = (g * wide).reshape(-1, x.shape[-1])
            grad_gain = (rate.reshape(1, -1) @ flat)[0].to(gain_H.dtype)
        # y = x·r·gain, r = (mean x² + eps)^-1/2: dx = r·a - x·r³·mean(a·x), a = g·gain
        a = g * gain_H
        along = (a * wide).sum(-1, keepdim=True).mul_(rate**3).div_(-x.shape[-1])
        return a.mul_(rate).addcmul_(wide, along).to(x.dtype), grad_gain, None


class _Swiglu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        gate, up = ctx.saved_tensors
        grad_gate = torch.ops.aten.silu_backward(grads[0] * up, gate)
        return grad_gate, F.silu(gate).mul_(grads[0])


def rms_norm(x: Tensor, gain_H: Tensor, eps: float) -> Tensor:
    """x / √(mean x² + eps) · gain, computed in fp32 (fp64 for fp64), in the dtype of x."""
    result: Tensor = _RmsNorm.apply(x, gain_H, eps)
    return result


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up."""
    result: Tensor = _Swiglu.apply(gate, up)
    return result


def _norm_forward(module: Any, eps: float, x: Tensor) -> Tensor:
    return rms_norm(x, module.weight, eps)


def _mlp_forward(module: Any, x: Tensor) -> Tensor:
    result: Tensor = module.down_proj(swiglu(module.gate_proj(x), module.up_proj(x)))
    return result


def _replacement(module: nn.Module) -> Any:
    """A fused forward for a module that looks like one of the two; None for any other."""
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "weight"):
        eps = getattr(module, "variance_epsilon", None)
        return partial(_norm_forward, module, eps) if isinstance(eps, float) else None
    layers = all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn"))
    if layers and hasattr(
        module.gate_proj, "in_features"
    ):  # else a tensor: experts' that act at once
        return partial(_mlp_forward, module)
    return None


def _agrees(module: nn.Module, fused: Any) -> bool:
    """Whether both forwards give the same on a random input, up to rounding."""
    weight = next(module.parameters())
    gate = getattr(module, "gate_proj", None)
    width = weight.shape[-1] if gate is None else gate.in_features
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, width, generator=generator).to(weight.device, weight.dtype)
    try:
        with torch.no_grad():
            own, ours = module(x), fused(x)
    except (TypeError, ValueError, RuntimeError, AttributeError):
        return False
    within = 1e-5 if weight.dtype.itemsize > 2 else 0.02  # half precision rounds in other places
    return own.dtype == ours.dtype and torch.allclose(own, ours, atol=within, rtol=within)


def fuse(model: nn.Module) -> int:
    """Replace the forwards that can be; how many were. A second call changes nothing."""
    fused = 0
    for module in model.modules():
        if "forward" not in module.__dict__:
            forward = _replacement(module)
            if forward is not None and _agrees(module, forward):
                module.forward = forward
                fused += 1
    return fused
