"""Losses over full rankings: the order of a group's answers, and the objective.

Legend: G groups, K answers of the longest ranking, C continuations of the batch's trees, in order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from accord.core.types import Group
from accord.lm.trees.engine import Engine
from accord.losses import RankedLogps
from accord.train.loop.data import Trees
from accord.train.loop.optimise import Objective, Sums
from accord.train.offline.edges import Average, flatten
from accord.train.offline.pairs import watched
from accord.train.offline.scored import score

__all__ = ["only_ranked", "order_of", "ranking_objective"]


def order_of(group: Group) -> list[int] | None:
    """Indices of the responses, best first; None when the comparisons do not give one full order (a
    pair is missing or split evenly, or they go round in a circle)."""
    size = len(group.responses)
    wins = [0] * size
    decided = set()
    for e in group.edges:
        if e.p == 0.5 or frozenset((e.better, e.worse)) in decided:
            return None
        decided.add(frozenset((e.better, e.worse)))
        wins[e.better if e.p > 0.5 else e.worse] += 1
    complete = size > 1 and len(decided) == size * (size - 1) // 2
    order = sorted(range(size), key=lambda k: -wins[k])
    return order if complete and sorted(wins) == list(range(size)) else None


def only_ranked(data: Trees) -> Trees:
    """The groups that are full rankings; the others are counted as left out."""
    kept = [i for i, group in enumerate(data.items) if order_of(group)]
    more = Counter({"not one full ranking": len(data.items) - len(kept)})
    return Trees(
        [data.trees[i] for i in kept],
        [data.items[i] for i in kept],
        data.left_out + more,
        data.truncated,
    )


def _ranked(values_C: Tensor, sizes: Sequence[int], orders: Sequence[Sequence[int]]) -> Tensor:
    """The groups' values [G, K], best first, padded with zeros."""
    parts = values_C.split(list(sizes))
    rows = [part[torch.tensor(order)] for part, order in zip(parts, orders, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def ranking_objective(
    engine: Engine,
    data: Trees,
    reference: Sequence[Tensor] | None,
    loss_G: Callable[[RankedLogps], Tensor],
    average: Average,
) -> Objective:
    """Weighted sum of ranking losses, each divided by its K - 1 choices and weighing 1 ("prompt": a prompt
    counts once), or counted by them and weighing what its comparisons do on average ("pair"). Of soft labels
    only the order is used."""
    orders = [order_of(group) or [] for group in data.items]
    choices = [float(len(order) - 1) for order in orders]
    weights = [
        1.0 / n if average == "prompt" else sum(e.weight for e in g.edges) / len(g.edges)
        for n, g in zip(choices, data.items, strict=True)
    ]

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        kept = None if reference is None else [reference[i] for i in items]
        scored = score(engine, [data.trees[i] for i in items], kept)
        sizes = [len(orders[i]) for i in items]
        policy_GK, reference_GK = (
            _ranked(x, sizes, [orders[i] for i in items])
            for x in (scored.policy_C(), scored.reference_C())
        )
        present_GK = _ranked(torch.ones(sum(sizes)), sizes, [orders[i] for i in items]) > 0
        loss_of_G = loss_G(RankedLogps(policy_GK, reference_GK, present_GK.to(policy_GK.device)))
        weight_G = loss_of_G.new_tensor([weights[i] for i in items])
        edges = flatten([data.items[i] for i in items], "pair", scored.policy_S)
        return (weight_G * loss_of_G).sum(), watched(scored, edges)

    counts = [n * w for n, w in zip(choices, weights, strict=True)]
    return Objective([tree.tokens for tree in data.trees], counts, loss)
