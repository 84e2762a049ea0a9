"""Scoring without gradients: many trees through the engine, packed to a token budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from accord.lm.engine import Engine, evaluating
from accord.lm.tree import Tree, bins, split_tree

__all__ = ["each_tree", "tree_logps"]

OnProgress = Callable[[int, int], None] | None


def each_tree(
    module: nn.Module,
    values_C: Callable[[Sequence[Tree]], Tensor],
    trees: Sequence[Tree],
    tokens: int,
    on_progress: OnProgress = None,
) -> list[Tensor]:
    """`values_C` (trees -> one value per continuation) over all trees; per tree a tensor [K] on the
    CPU. Trees are packed to at most `tokens` a call; one with more continuations than that is split."""
    pieces = [(i, piece) for i, tree in enumerate(trees) for piece in split_tree(tree, tokens)]
    found: dict[int, Tensor] = {}
    with evaluating(module):
        for members in bins([piece.tokens for _, piece in pieces], tokens):
            part_C = values_C([pieces[n][1] for n in members]).cpu()
            parts = part_C.split([len(pieces[n][1].completions) for n in members])
            found |= dict(zip(members, parts, strict=True))
            if on_progress:
                on_progress(len(found) * len(trees) // len(pieces), len(trees))
    values: list[list[Tensor]] = [[] for _ in trees]
    for n, (i, _) in enumerate(pieces):
        values[i].append(found[n])
    return [torch.cat(parts) for parts in values]


def tree_logps(
    engine: Engine, trees: Sequence[Tree], tokens: int, on_progress: OnProgress = None
) -> list[Tensor]:
    """Summed log-probs [K] of every tree's continuations (nats), fp32 on the CPU."""
    return each_tree(
        engine.model, lambda some: engine.logps(some).sums_C(), trees, tokens, on_progress
    )
