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

from accord.lm.trees.tree import PackedTrees

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


def _eager(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, cap: float
) -> Tensor:
    """Attention whose scores go through cap·tanh(x/cap) (Gemma 2)."""
    scores = cap * torch.tanh(q @ k.transpose(2, 3) * scale / cap)
    if bias is None:
        bias = torch.full(scores.shape[2:], -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    return F.softmax(scores + bias, dim=-1).to(v.dtype) @ v


def _pieces(span: _Span, root: int, values: Tensor, groups: int) -> Tensor:
    """The keys or values a span sees: the root's and its own, a copy for each query head."""
    own = values[:, :, span.start : span.stop]
    seen = torch.cat([values[:, :, :root], own], dim=2) if root and span.start >= root else own
    return seen.repeat_interleave(groups, dim=1) if groups > 1 else seen


class _ByTree(torch.autograd.Function):
    """All spans of a row through the CPU's flash kernel. Autograd would keep each span's copies of keys
    and values and its output twice; here backward makes the copies again."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        root: int,
        spans: list[_Span],
        scale: float,
    ) -> Tensor:
        groups = query.shape[1] // key.shape[1]
        out = query.new_empty(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
        logsumexp = []
        for span in spans:
            k, v = (_pieces(span, root, x, groups) for x in (key, value))
            q, bias = query[:, :, span.start : span.stop], span.bias_of(query)
            o, lse = FLASH(q, k, v, is_causal=bias is None, attn_mask=bias, scale=scale)
            out[:, span.start : span.stop] = o.transpose(1, 2)
            logsumexp.append(lse)
        ctx.save_for_backward(query, key, value, out, *logsumexp)
        ctx.row = root, spans, scale, groups
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        query, key, value, out, *logsumexp = ctx.saved_tensors
        root, spans, scale, groups = ctx.row
        grad_q, grad_k, grad_v = (
            torch.empty_like(query),
            torch.zeros_like(key),
            torch.zeros_like(value),
        )
        for span, lse in zip(spans, logsumexp, strict=True):
            rows = slice(span.start, span.stop)
            q, bias = query[:, :, rows], span.bias_of(query)
            k, v = (_pieces(span, root, x, groups) for x in (key, value))
            g, o = (x[:, rows].transpose(1, 2) for x in (grads[0], out))
            dq, dk, dv = FLASH_BACKWARD(
                g, q, k, v, o, lse, 0.0, bias is None, attn_mask=bias, scale=scale
            )
            grad_q[:, :, rows] = dq
            for total, part in ((grad_k, dk), (grad_v, dv)):
                if groups > 1:
                    part = part.unflatten(1, (-1, groups)).sum(2)
                total[:, :, rows] += part[:, :, part.shape[2] - (span.stop - span.start) :]
                if part.shape[2] > span.stop - span.start:
                    total[:, :, :root] += part[:, :, :root]
        return grad_q, grad_k, grad_v, None, None, None


FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _span_by_span(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    root: int,
    spans: list[_Span],
    scale: float,
    cap: float | None,
) -> Tensor:
    """The same by public operations, on any device and with soft-capping."""
    groups = query.shape[1] // key.shape[1]
    parts = []
    for span in spans:
        q, bias = query[:, :, span.start : span.stop], span.bias_of(query)
        k, v = (_pieces(span, root, x, groups) for x in (key, value))
        if cap is None:
            done = F.scaled_dot_product_attention(
                q, k, v, attn_mask=bias, is_causal=bias is None, scale=scale
            )
        else:
            done = _eager(q, k, v, bias, scale, cap)
        parts.append(done.transpose(1, 2))
    return torch.cat(parts, dim=1)


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
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    same = query.shape[-1] == value.shape[-1] and query.dtype == key.dtype == value.dtype
    if query.device.type == "cpu" and softcap is None and same:
        dtype = query.dtype
        if dtype == torch.bfloat16:  # the kernel is twice as fast in fp32, and exact
            query, key, value = query.float(), key.float(), value.float()
        with torch.autocast("cpu", enabled=False):
            out: Tensor = _ByTree.apply(query, key, value, root, spans, scale)
        return out.to(dtype), None
    return _span_by_span(query, key, value, root, spans, scale, softcap), None


AttentionInterface.register(NAME, _tree_attention)
