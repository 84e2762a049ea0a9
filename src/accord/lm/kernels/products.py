"""x Wᵀ and g W in fp32 on a CPU, by the library that is faster there.

Legend: T tokens, I inputs, O outputs.

torch multiplies fp32 matrices with MKL. On CPUs that are not Intel's oneDNN, which torch has on board too,
takes 5 to 15% less time for a training step's products and half for a few rows at a time
(measured on EPYC). The weight's gradient stays with MKL, which is the faster one there. Which
library runs depends on the machine and the shapes only: a resumed run computes the same bits.
"""

from __future__ import annotations

import functools
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["has_faster_products", "has_laid_out_products", "times_weight", "times_weight_t"]

NARROW, MANY = 64, 512  # thin matrices (LoRA's) gain only where there are many rows


@functools.cache
def has_laid_out_products() -> bool:
    """Whether oneDNN is on board of an x86: it multiplies with weights laid out beforehand."""
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    return (
        x86
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


@functools.cache
def has_faster_products() -> bool:
    """Whether oneDNN is on board and the CPU an x86 that is not Intel's."""
    if not has_laid_out_products():
        return False
    try:
        vendor = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        vendor = platform.processor()
    return "GenuineIntel" not in vendor


def _faster(x: Tensor, weight: Tensor) -> bool:
    return (
        has_faster_products()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.numel() > 0
        and (min(weight.shape) >= NARROW or x.numel() // x.shape[-1] >= MANY)
    )


def times_weight_t(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """x Wᵀ + bias [..., O], without autograd."""
    if _faster(x, weight_OI):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight_OI, bias_O, "none", [], "")
        return product
    return F.linear(x, weight_OI, bias_O)


def times_weight(g: Tensor, weight_OI: Tensor) -> Tensor:
    """g W [..., I], without autograd."""
    if _faster(g, weight_OI):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(g, weight_OI.T, None, "none", [], "")
        return product
    return g @ weight_OI
