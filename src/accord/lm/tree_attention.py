"""Attention of a packed row, tree by tree: a tree's tokens meet only each other and the row's root.

Legend: T tokens of the row, t tokens of one tree, N heads, D head size.

The row goes through the network as one matrix; only attention knows of trees. Masking a [T, T] square
would spend most of its products on pairs that never see each other, so each tree attends in a square
of its own. The layout travels on the mask that transformers hands to every attention layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from accord.lm.tree import PackedTrees

__all__ = ["NAME", "tree_mask"]

NAME = "accord_tree"  # as transformers knows it


@dataclass
class _Span:
    """Rows start..stop of one tree; allowed [t, root + t], or None where it is plainly causal."""

    start: int
    stop: int
    allowed: Tensor | None
    bias: dict[torch.dtype, Tensor] = field(default_factory=dict)

    def bias_of(self, query: Tensor) -> Tensor | None:
        """The additive mask in the query's dtype and on its device, made once a row."""
        if self.allowed is None:
            return None
        if query.dtype not in self.bias:
            bias = torch.zeros(self.allowed.shape, dtype=query.dtype)
            bias.masked_fill_(~self.allowed, -torch.inf)
            self.bias[query.dtype] = bias[None, None].to(query.device)
        return self.bias[query.dtype]


def tree_mask(packed: PackedTrees, window: int | None = None) -> Tensor:
    """What to pass as `attention_mask`: an empty 4D tensor (transformers passes it on as it is) that
    carries the layout. `window` limits sight to so many positions."""
    spans = []
    root = packed.root
    for start, stop in packed.spans():
        rows = slice(start, stop)
        allowed = packed.allowed_TT(rows, window)
        causal = start < root or root == 0
        plain = causal and bool((allowed == torch.ones_like(allowed).tril()).all())
        spans.append(_Span(start, stop, None if plain else allowed))
    mask = torch.empty(1, 1, 0, 0)
    mask.accord_layout = (root, spans)  # type: ignore[attr-defined]
    return mask


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float | None,
) -> Tensor:
    """softmax(q·k·scale + bias) v; with `softcap` the scores go through cap·tanh(x/cap) first."""
    if softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, is_causal=bias is None, scale=scale
        )
    scores = softcap * torch.tanh(query @ key.transpose(2, 3) * scale / softcap)
    if bias is None:
        bias = torch.full(
            scores.shape[2:], -torch.inf, dtype=scores.dtype, device=scores.device
        ).triu(1)
    return F.softmax(scores + bias, dim=-1).to(value.dtype) @ value


def _tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query [1, N, T, D] -> [1, T, N, D]."""
    root, spans = attention_mask.accord_layout  # type: ignore[attr-defined]
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    sizes = [span.stop - span.start for span in spans]
    # split, not slices: its gradient is one cat, theirs a row of zeros for each tree
    queries, keys, values = (x.split(sizes, dim=2) for x in (query, key, value))
    parts = []
    for span, q, k, v in zip(spans, queries, keys, values, strict=True):
        if root and span.start >= root:
            k, v = torch.cat([keys[0], k], dim=2), torch.cat([values[0], v], dim=2)
        parts.append(_attend(q, k, v, span.bias_of(q), scale, softcap).transpose(1, 2))
    return torch.cat(parts, dim=1), None


AttentionInterface.register(NAME, _tree_attention)
