"""FlexAttention's form of the tree mask, for GPUs (it has no backward on CPU).

Legend: T tokens of a packed row.

Kernels are compiled per shape, so rows are padded up to a multiple of `BUCKET`: few shapes, few
compilations. A padding token is a tree of its own and no one sees it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.lm.trees.tree import ROOT, PackedTrees

__all__ = ["BUCKET", "block_mask", "padded"]

BUCKET = 256
NOBODY = ROOT - 1  # the tree of padding


def padded(values_T: Tensor, multiple: int = BUCKET, fill: int = 0) -> Tensor:
    """The row's values with `fill` up to a multiple of so many."""
    return F.pad(values_T, (0, -len(values_T) % multiple), value=fill)


def block_mask(packed: PackedTrees, window: int | None, device: torch.device) -> Any:
    """A BlockMask [1, 1, T, T] that says what `PackedTrees.allowed_TT` says."""
    from torch.nn.attention.flex_attention import create_block_mask

    tree_T = padded(packed.tree_T, fill=NOBODY).to(device)
    branch_T = padded(packed.branch_T).to(device)
    position_T = padded(packed.positions_T).to(device)

    def allowed(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same = (tree_T[q] == tree_T[k]) | (tree_T[k] == ROOT)
        seen = same & (q >= k) & ((branch_T[k] == 0) | (branch_T[q] == branch_T[k]))
        return seen if window is None else seen & (position_T[q] - position_T[k] < window)

    T = len(tree_T)
    return create_block_mask(allowed, None, None, T, T, device=device)
