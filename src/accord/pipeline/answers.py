"""Rows of answers.jsonl, and the figures over them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.measure import Measure
from accord.core.types import Exchange, Metric
from accord.evals.base import measured
from accord.worlds.base import World

__all__ = ["answer_row", "metrics_of", "true_figures"]


def answer_row(exchange: Exchange, world: World | None) -> dict[str, Any]:
    """An answer as it is kept; what evaluations say of it comes beside it."""
    row: dict[str, Any] = {
        "prompt_id": exchange.prompt.id,
        "prompt": exchange.prompt.model_dump(mode="json"),
        "response": exchange.response.model_dump(mode="json"),
        "words": len(exchange.response.text.split()),
    }
    if world and (case := world.by_prompt.get(exchange.prompt.id)):
        row["case"] = case.kind
        row |= {"cluster": case.group} if case.group else {}
    return row


def metrics_of(
    measures: Sequence[Measure], rows: Sequence[Mapping[str, float]], clusters: Sequence[str]
) -> dict[str, Metric]:
    """Every measure over the rows that have it; none where none has."""
    metrics = {}
    for m in measures:
        there = [(row[m.name], c) for row, c in zip(rows, clusters, strict=True) if m.name in row]
        if there:
            values, own = zip(*there, strict=True)
            metrics[m.name] = measured(m, values, own)
    return metrics


def true_figures(world: World, exchanges: Sequence[Exchange]) -> dict[str, float]:
    """The world's figures over the answers that each applies to."""
    known = [(world.by_prompt.get(e.prompt.id), e.response) for e in exchanges]
    rows = [world.gold(case, response) for case, response in known if case]
    metrics = metrics_of(world.measures, rows, [str(n) for n in range(len(rows))])
    return {name: m.value for name, m in metrics.items() if m.value is not None}
