"""Scoring without gradients: many trees through the engine, packed to a token budget."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from accord.lm.engine import Engine
from accord.lm.tree import Tree, bins

__all__ = ["each_tree", "evaluating", "tree_logps"]

OnProgress = Callable[[int, int], None] | None


@contextlib.contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; the former mode afterwards."""
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        module.train(was_training)


def each_tree(
    module: nn.Module,
    values_C: Callable[[Sequence[Tree]], Tensor],
    trees: Sequence[Tree],
    tokens: int,
    on_progress: OnProgress = None,
) -> list[Tensor]:
    """`values_C` (trees -> one value per continuation) over all trees; per tree a tensor [K] on the
    CPU. Trees are packed to at most `tokens` a call."""
    found: dict[int, Tensor] = {}
    packed = bins([tree.tokens for tree in trees], tokens)
    with evaluating(module):
        for members in packed:
            part_C = values_C([trees[i] for i in members]).cpu()
            parts = part_C.split([len(trees[i].completions) for i in members])
            found |= dict(zip(members, parts, strict=True))
            if on_progress:
                on_progress(len(found), len(trees))
    return [found[i] for i in range(len(trees))]


def tree_logps(
    engine: Engine, trees: Sequence[Tree], tokens: int, on_progress: OnProgress = None
) -> list[Tensor]:
    """Summed log-probs [K] of every tree's continuations (nats), fp32 on the CPU."""
    return each_tree(
        engine.model, lambda some: engine.logps(some).sums_C(), trees, tokens, on_progress
    )
