"""Scoring without gradients: many trees through the engine, packed to a token budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from accord.lm.trees.engine import Engine, evaluating
from accord.lm.trees.tree import Tree, bins, scored_tokens, split_tree

__all__ = ["by_tree", "each_tree", "token_kl", "token_logps", "tree_logps"]

OnProgress = Callable[[int, int], None] | None


def each_tree(
    module: nn.Module,
    values: Callable[[Sequence[Tree]], Sequence[Tensor]],
    trees: Sequence[Tree],
    tokens: int,
    on_progress: OnProgress = None,
) -> list[Tensor]:
    """`values` (trees -> a tensor for each) over all trees, on the CPU. Trees are packed to at most
    `tokens` a call; one with more continuations than that is split, and its parts are joined."""
    pieces = [(i, piece) for i, tree in enumerate(trees) for piece in split_tree(tree, tokens)]
    scored: dict[int, Tensor] = {}
    with evaluating(module):
        for members in bins([piece.tokens for _, piece in pieces], tokens):
            parts = [part.cpu() for part in values([pieces[n][1] for n in members])]
            scored |= dict(zip(members, parts, strict=True))
            if on_progress:
                on_progress(len(scored) * len(trees) // len(pieces), len(trees))
    joined: list[list[Tensor]] = [[] for _ in trees]
    for n, (i, _) in enumerate(pieces):
        joined[i].append(scored[n])
    return [torch.cat(parts) for parts in joined]


def by_tree(values: Tensor, trees: Sequence[Tree], *, scored: bool = False) -> tuple[Tensor, ...]:
    """A tensor over all continuations (or over all their scored tokens) cut into one a tree."""
    lengths = [sum(scored_tokens(t)) if scored else len(t.completions) for t in trees]
    parts: tuple[Tensor, ...] = values.split(lengths)
    return parts


def tree_logps(
    engine: Engine, trees: Sequence[Tree], tokens: int, on_progress: OnProgress = None
) -> list[Tensor]:
    """Summed log-probs [K] of every tree's continuations (nats), fp32 on the CPU."""

    def values(some: Sequence[Tree]) -> Sequence[Tensor]:
        return by_tree(engine.logps(some).sums_C(), some)

    return each_tree(engine.model, values, trees, tokens, on_progress)


def token_logps(
    engine: Engine, trees: Sequence[Tree], tokens: int, on_progress: OnProgress = None
) -> list[Tensor]:
    """Log-probs [S] at every tree's scored tokens, continuations in order, fp32 on the CPU."""

    def values(some: Sequence[Tree]) -> Sequence[Tensor]:
        return by_tree(engine.logps(some).tokens_S, some, scored=True)

    return each_tree(engine.model, values, trees, tokens, on_progress)


def token_kl(
    policy: Engine,
    reference: Engine,
    trees: Sequence[Tree],
    tokens: int,
    on_progress: OnProgress = None,
) -> list[Tensor]:
    """How far a policy is from a reference at every tree's tokens [S, 2], continuations in order (nats, fp32
    on the CPU): KL of all that may stand there given what stands before, and log π - log π_ref of the token
    that does. Summed over answers that the policy sampled, both are on average its KL from the reference;
    the first is the second without the chance of the last draw (Rao-Blackwell; Amini et al. 2025)."""

    def values(some: Sequence[Tree]) -> Sequence[Tensor]:
        own_SH, its_SH = policy.states(some)[0], reference.states(some)[0]
        target_S = torch.tensor([i for t in some for c in t.completions for i in c])
        target_S = target_S.to(own_SH.device)
        ratio_S = policy.head.logps(own_SH, target_S) - reference.head.logps(its_SH, target_S)
        kl_S = policy.head.kl(own_SH, reference.head, its_SH)
        return by_tree(torch.stack([kl_S, ratio_S], 1), some, scored=True)

    with evaluating(reference.model):
        return each_tree(policy.model, values, trees, tokens, on_progress)
