"""Weights laid out for products of a few rows: what sampling on a CPU spends its time on.

A decode step multiplies one row per answer with every weight. MKL and oneDNN both lay a weight out anew in
every product, which for a few rows costs more than the product. Inside `laid_out` each weight is laid out
once, with its LoRA update added to it: on SmolLM2 a step of 8 rows takes less than half the time.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import psutil
import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn

from accord.lm.kernels.lora_linear import plain_adapter
from accord.lm.kernels.products import NARROW, has_faster_products, has_laid_out_products

__all__ = ["laid_out", "lays_out"]

ROWS = 16  # the layout is made for about so many rows
ENOUGH = 8  # rows from which it gains on an Intel CPU too, whose MKL is quick with fewer
SHARE = 4  # no more than this part of the free memory


def lays_out(rows: int) -> bool:
    """Whether batches of so many rows gain by it on this CPU."""
    return has_faster_products() or (rows >= ENOUGH and has_laid_out_products())


@contextlib.contextmanager
def laid_out(model: nn.Module) -> Iterator[int]:
    """Linear layers use copies of their weights as these are now; how many do. Nothing is copied where
    that can't be (a GPU, other dtypes, no oneDNN) or memory is short."""
    layers = dict(_layers(model))
    size = sum(4 * weight.numel() for weight, _, _ in layers.values())
    if not has_laid_out_products() or size * SHARE > psutil.virtual_memory().available:
        layers = {}
    before = {layer: layer.__dict__.get("forward") for layer in layers}
    for layer, (weight, update, bias) in layers.items():
        layer.forward = partial(_forward, _blocked(weight, update), bias)
    try:
        yield len(layers)
    finally:
        for layer, own in before.items():
            if own is None:
                del layer.forward
            else:
                layer.forward = own


def _layers(model: nn.Module) -> Iterator[tuple[Any, tuple[Tensor, Any, Tensor | None]]]:
    """Layers that can be laid out, each with weight, LoRA update and bias."""
    for layer in model.children():
        if type(layer) is PeftLinear and type(layer.base_layer) is nn.Linear:
            base = layer.base_layer
            off = layer.disable_adapters and not layer.merged
            update = None if off else plain_adapter(layer)
            if _fits(base) and (off or update):
                yield layer, (base.weight, update, base.bias)
        elif type(layer) is nn.Linear:
            if _fits(layer):
                yield layer, (layer.weight, None, layer.bias)
        else:
            yield from _layers(layer)


def _fits(layer: nn.Linear) -> bool:
    weight = layer.weight
    plain = weight.dtype == torch.float32 and weight.device.type == "cpu"
    return plain and min(weight.shape) >= NARROW


def _blocked(weight: Tensor, update: tuple[Tensor, Tensor, float] | None) -> Tensor:
    with torch.no_grad():
        if update:
            a_RI, b_OR, scale = update
            weight = torch.addmm(weight, b_OR, a_RI, alpha=scale)
        blocked: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS)
    return blocked


def _forward(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product
