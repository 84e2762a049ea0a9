"""Attention of a packed row, tree by tree: a tree's tokens meet only each other and the row's root, and where
it saves enough a branch's only its prompt and itself.

Legend: T tokens of the row, t tokens of one tree, N heads, D head size.

The row goes through the network as one matrix; only attention knows of trees. Masking a [T, T] square
would spend most of its products on pairs that never see each other, so each tree attends in a square
of its own. The layout travels on the mask that transformers hands to every attention layer.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from accord.lm.trees.tree import PackedTrees

__all__ = ["NAME", "tree_mask"]

NAME = "accord_tree"  # as transformers knows it
WORTH = 8192  # pairs of tokens that never meet, from which leaving them out is worth a call of the kernel


@dataclass
class _Span:
    """Rows start..stop that attend together and the rows they see, their own last; allowed [rows, seen],
    or None where that is plainly causal."""

    start: int
    stop: int
    seen: tuple[slice, ...]
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
    mask = torch.empty(1, 1, 0, 0)
    mask.accord_layout = [  # type: ignore[attr-defined]
        span for stretch in packed.spans() for span in _spans(packed, *stretch, window)
    ]
    return mask


def _spans(packed: PackedTrees, start: int, stop: int, window: int | None) -> list[_Span]:
    """Those of one tree, or of the root."""
    root = packed.root if start >= packed.root else 0
    allowed = packed.allowed_TT(
        slice(start, stop), window
    )  # columns: the root's tokens, the tree's
    before = [slice(0, root)] if root else []
    spans = []
    for part in _parts(packed.branch_T[start:stop].tolist(), root):
        seen = (*before, *(slice(start + a, start + b) for a, b in part))
        columns = (*before, *(slice(root + a, root + b) for a, b in part))
        first, last = part[-1]
        mine = torch.cat([allowed[first:last, some] for some in columns], dim=1)
        causal = torch.ones(len(mine), len(mine), dtype=torch.bool).tril()
        mask = None if torch.equal(mine, causal) else mine
        spans.append(_Span(start + first, start + last, seen, mask))
    return spans


def _parts(branch_t: list[int], root: int) -> list[list[tuple[int, int]]]:
    """A tree as one span, or as its prompt and each of its branches, where that leaves out enough pairs of
    tokens that never see each other; of each span the stretches of the tree it sees, its own last."""
    sizes = [len(list(run)) for _, run in itertools.groupby(branch_t)]
    prompt, branches = sizes[0], sizes[1:]
    met = prompt * (root + prompt) + sum(n * (root + prompt + n) for n in branches)
    size = len(branch_t)
    if size * (root + size) - met <= WORTH * len(branches):
        return [[(0, size)]]
    stops = itertools.accumulate(sizes)
    head, *rest = [(stop - n, stop) for stop, n in zip(stops, sizes, strict=True)]
    return [[head], *([head, own] for own in rest)]


def _eager(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, scale: float, cap: float
) -> Tensor:
    """Attention whose scores go through cap·tanh(x/cap) (Gemma 2)."""
    scores = cap * torch.tanh(q @ k.transpose(2, 3) * scale / cap)
    if bias is None:
        bias = torch.full(scores.shape[2:], -torch.inf, dtype=q.dtype, device=q.device).triu(1)
    return F.softmax(scores + bias, dim=-1).to(v.dtype) @ v


def _pieces(span: _Span, values: Tensor, groups: int) -> Tensor:
    """The keys or values a span sees, a copy for each query head."""
    parts = [values[:, :, rows] for rows in span.seen]
    seen = torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]
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
        spans: list[_Span],
        scale: float,
    ) -> Tensor:
        groups = query.shape[1] // key.shape[1]
        out = query.new_empty(query.shape[0], query.shape[2], query.shape[1], query.shape[3])
        logsumexp = []
        for span in spans:
            k, v = (_pieces(span, x, groups) for x in (key, value))
            q, bias = query[:, :, span.start : span.stop], span.bias_of(query)
            o, lse = FLASH(q, k, v, is_causal=bias is None, attn_mask=bias, scale=scale)
            out[:, span.start : span.stop] = o.transpose(1, 2)
            logsumexp.append(lse)
        ctx.save_for_backward(query, key, value, out, *logsumexp)
        ctx.row = spans, scale, groups
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        query, key, value, out, *logsumexp = ctx.saved_tensors
        spans, scale, groups = ctx.row
        grad_q, grad_k, grad_v = (
            torch.empty_like(query),
            torch.zeros_like(key),
            torch.zeros_like(value),
        )
        for span, lse in zip(spans, logsumexp, strict=True):
            rows = slice(span.start, span.stop)
            q, bias = query[:, :, rows], span.bias_of(query)
            k, v = (_pieces(span, x, groups) for x in (key, value))
            g, o = (x[:, rows].transpose(1, 2) for x in (grads[0], out))
            dq, dk, dv = FLASH_BACKWARD(
                g, q, k, v, o, lse, 0.0, bias is None, attn_mask=bias, scale=scale
            )
            grad_q[:, :, rows] = dq
            for total, part in ((grad_k, dk), (grad_v, dv)):
                if groups > 1:
                    part = part.unflatten(1, (-1, groups)).sum(2)
                sizes = [seen.stop - seen.start for seen in span.seen]
                for seen, piece in zip(span.seen, part.split(sizes, dim=2), strict=True):
                    total[:, :, seen] += piece
        return grad_q, grad_k, grad_v, None, None, None


FLASH = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
FLASH_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _span_by_span(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    spans: list[_Span],
    scale: float,
    cap: float | None,
) -> Tensor:
    """The same by public operations, on any device and with soft-capping."""
    groups = query.shape[1] // key.shape[1]
    parts = []
    for span in spans:
        q, bias = query[:, :, span.start : span.stop], span.bias_of(query)
        k, v = (_pieces(span, x, groups) for x in (key, value))
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
    spans = attention_mask.accord_layout  # type: ignore[attr-defined]
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    same = query.shape[-1] == value.shape[-1] and query.dtype == key.dtype == value.dtype
    if query.device.type == "cpu" and softcap is None and same:
        dtype = query.dtype
        if dtype == torch.bfloat16:  # the kernel is twice as fast in fp32, and exact
            query, key, value = query.float(), key.float(), value.float()
        with torch.autocast("cpu", enabled=False):
            out: Tensor = _ByTree.apply(query, key, value, spans, scale)
        return out.to(dtype), None
    return _span_by_span(query, key, value, spans, scale, softcap), None


AttentionInterface.register(NAME, _tree_attention)
