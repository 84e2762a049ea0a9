"""What a product of a new size leaves in memory."""

from __future__ import annotations

import torch

from accord.lm.kernels.allocator import release_freed_memory
from accord.lm.kernels.products import has_faster_products, times_weight_t
from accord.train.loop.memory import in_use

__all__ = ["kernel_bytes"]

MET, SIZES = 301, 48  # tokens


def kernel_bytes(width: int, device: torch.device) -> float:
    """Bytes the process keeps for a product of a size it had not met: oneDNN writes code for each."""
    if device.type != "cpu" or not has_faster_products():
        return 0.0
    weight = torch.randn(width, width)
    times_weight_t(torch.randn(MET - 1, width), weight)
    release_freed_memory()
    before = in_use(device)
    for tokens in range(MET, MET + 3 * SIZES, 3):
        times_weight_t(torch.randn(tokens, width), weight)
    release_freed_memory()
    return max(0.0, (in_use(device) - before) / SIZES)
