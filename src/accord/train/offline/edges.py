"""The comparisons of a batch of groups as flat index tensors over its continuations.

Legend: B comparisons (edges), C continuations of the batch's trees, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from accord.core.types import Group

__all__ = ["Average", "Edges", "edge_weights", "flatten", "hit"]

Average = Literal["pair", "prompt"]


def hit(gap: float, p: float) -> float | None:
    """1 when a score gap (better minus worse) has the order of the label P(better wins) = p, 1/2 when
    it is 0; None for p = 1/2, which orders nothing."""
    if p == 0.5:
        return None
    return 0.5 if gap == 0 else float((gap > 0) == (p > 0.5))


@dataclass(frozen=True)
class Edges:
    """Continuation index of the better and worse side, soft label, weight and margin, each [B]."""

    better: Tensor
    worse: Tensor
    p: Tensor
    weight: Tensor
    margin: Tensor

    def __len__(self) -> int:
        return len(self.better)

    def hits(self, gap_B: Tensor) -> list[float]:
        """`hit` of each comparison that has an order."""
        hits = map(hit, gap_B.tolist(), self.p.tolist())
        return [value for value in hits if value is not None]


def edge_weights(group: Group, average: Average) -> list[float]:
    """Weights of a group's edges: as given ("pair"), or scaled to sum to 1 so that a prompt counts
    once however many responses it has ("prompt"; InstructGPT, Ouyang et al. 2022, eq. 1)."""
    weights = [e.weight for e in group.edges]
    total = sum(weights) if average == "prompt" else 1.0
    return [w / total for w in weights]


def flatten(groups: Sequence[Group], average: Average, like: Tensor) -> Edges:
    """All edges of the groups, with indices into their concatenated responses; on the device and in the
    precision of `like`."""
    rows: list[tuple[int, int, float, float, float]] = []
    start = 0
    for group in groups:
        for e, w in zip(group.edges, edge_weights(group, average), strict=True):
            rows.append((start + e.better, start + e.worse, e.p, w, e.margin))
        start += len(group.responses)
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), (), ()]
    index = [torch.tensor(c, dtype=torch.long, device=like.device) for c in columns[:2]]
    values = [torch.tensor(c, dtype=like.dtype, device=like.device) for c in columns[2:]]
    return Edges(*index, *values)
