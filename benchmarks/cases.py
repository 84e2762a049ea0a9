"""What the preference benchmarks train on: the same token ids for every contender.

A row is (prompt ids, chosen ids, rejected ids). Real rows are rendered by accord with the model's chat
template; synthetic ones are random ids of given lengths.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.types import Pair, Prompt, Response
from accord.lm.chat import render_exchange

__all__ = ["CASES", "Case", "Row", "rows_of"]

Row = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
SHARED = Path(os.environ.get("ACCORD_SHARED", "../shared"))


@dataclass(frozen=True)
class Case:
    """Where rows come from, the lengths kept (tokens), and the batch."""

    pairs: Callable[[], Iterator[Pair]] | None
    prompt: tuple[int, int]
    completion: tuple[int, int]
    batch: int


def _hh() -> Iterator[Pair]:
    from accord.store import Store, import_file

    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "hh.db") as store:
        data = SHARED / "data" / "hh_rlhf" / "harmless-base.jsonl.gz"
        rejects = Path(folder) / "rejects.jsonl"
        import_file(store, data, format="implicit", skip_bad=True, rejects_path=rejects)
        store.freeze("all")
        yield from store.snapshot("all").pairs()


def _llama_factory() -> Iterator[Pair]:
    data = SHARED / "data" / "llama_factory_demos" / "dpo_en_demo.json"
    roles = {"human": "user", "gpt": "assistant"}
    for row in json.loads(data.read_text()):
        turns = [
            {"role": roles.get(t["from"], t["from"]), "content": t["value"]}
            for t in row["conversations"]
        ]
        chosen, rejected = (
            Response(text=row[side]["value"], source=side, finish="stop")
            for side in ("chosen", "rejected")
        )
        yield Pair(
            prompt=Prompt.model_validate({"messages": turns}), chosen=chosen, rejected=rejected
        )


CASES = {
    "hh": Case(_hh, (60, 140), (16, 56), 8),
    "p186": Case(_hh, (160, 212), (40, 124), 4),
    "llama_factory": Case(_llama_factory, (1, 256), (1, 256), 4),
    "ratio11": Case(None, (128, 128), (128, 128), 8),
    "ratio21": Case(None, (170, 170), (85, 85), 8),
    "ratio41": Case(None, (204, 204), (51, 51), 8),
    "long21": Case(None, (2048, 2048), (1024, 1024), 4),
    "short21": Case(None, (12, 12), (6, 6), 2),
}


def rows_of(case: Case, tokenizer: Any, n: int) -> list[Row]:
    """The first n rows whose lengths are within the case's, or n random ones."""
    if case.pairs is None:
        draw = random.Random(17)
        sizes = (case.prompt[0], case.completion[0], case.completion[0])
        ids = [
            [tuple(draw.randrange(10, 40_000) for _ in range(k)) for k in sizes] for _ in range(n)
        ]
        return [(a, b, c) for a, b, c in ids]
    kept: list[Row] = []
    for pair in case.pairs():
        first, second = (
            render_exchange(tokenizer, pair.prompt, r, max_completion=100_000)
            for r in (pair.chosen, pair.rejected)
        )
        prompt, (low, high) = first.prompt, case.completion
        fits = all(low <= len(x.completion) <= high for x in (first, second))
        if fits and case.prompt[0] <= len(prompt) <= case.prompt[1]:
            kept.append((prompt, first.completion, second.completion))
        if len(kept) == n:
            return kept
    return (kept * (n // len(kept) + 1))[:n]  # a small file goes round
