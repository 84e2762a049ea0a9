"""A process reward model: P(right) at the end of every step (Lightman et al. 2023).

Legend: S steps of all continuations of a batch, in order.

A step is a line. Its score is read where its last token has been read: the tree marks the token after it as
scored, and the engine gives the state from which that token would be predicted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from accord.core.errors import ModelError
from accord.core.rundir import read_json, write_json
from accord.core.types import Exchange
from accord.lm.chat import render_exchange
from accord.lm.engine import Engine
from accord.lm.load import LanguageModel
from accord.lm.scalar_head import ScalarHead
from accord.lm.score import by_tree, each_tree
from accord.lm.tree import Tree
from accord.rewards.learned import Playing, Trunk, trunk

__all__ = [
    "Aggregate",
    "ProcessModel",
    "aggregated",
    "load_process_model",
    "step_ends",
    "step_tree",
]

FILE = "process_model.json"
Aggregate = Literal["min", "product", "last", "mean"]


def step_ends(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Index of the token that ends each step: the one with its line break, or the last."""
    ends: list[int] = []
    begun = False
    for at, token in enumerate(ids):
        head, broken, tail = str(tokenizer.decode([token])).rpartition("\n")
        if broken and (begun or head.strip()):
            ends.append(at)
        begun = bool(tail.strip()) or (begun and not broken)
    return [*ends, len(ids) - 1] if begun else ends


def step_tree(
    tokenizer: Any, exchange: Exchange, stops: Sequence[int], limit: int, *, sampled: bool = False
) -> Tree | None:
    """Prompt and answer, the token after each step marked; None for an answer without a step."""
    done = render_exchange(
        tokenizer, exchange.prompt, exchange.response, max_completion=limit, sampled=sampled
    )
    ids = done.completion
    ids = ids[:-1] if ids and ids[-1] in stops else ids
    after = {end + 1 for end in step_ends(tokenizer, ids)}
    if not after:
        return None
    ids = (*ids, stops[0])  # only so that the last step has a token after it; nothing sees it
    return Tree(done.prompt, (ids,), (tuple(at in after for at in range(len(ids))),))


def aggregated(steps: Sequence[float], how: Aggregate) -> float:
    """One score of P(right) at each step: the least sure, all right (independent), the last, the mean."""
    return {"min": min, "product": math.prod, "last": lambda x: x[-1], "mean": _mean}[how](steps)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


class ProcessModel:
    """Engine and scalar head; call it with exchanges to get P(right) at each step of each."""

    def __init__(
        self, engine: Engine, head: ScalarHead, lm: LanguageModel, max_completion: int,
        playing: Playing = nullcontext,
    ) -> None:  # fmt: skip
        self.engine, self.head, self.lm, self.max_completion = engine, head, lm, max_completion
        self.playing = playing

    def scores(self, trees: Sequence[Tree]) -> Tensor:
        """Logits of P(right) [S], with gradients."""
        found: Tensor = self.head(self.engine.states(trees)[0])
        return found

    def step_scores(self, trees: Sequence[Tree], tokens: int) -> list[list[float]]:
        """P(right) at the steps of each tree, without gradients."""

        def values(some: Sequence[Tree]) -> Sequence[Tensor]:
            return by_tree(self.scores(some).sigmoid(), some, scored=True)

        with self.playing():
            return [x.tolist() for x in each_tree(self.engine.model, values, trees, tokens)]

    def __call__(self, exchanges: Sequence[Exchange], *, tokens: int = 1024) -> list[list[float]]:
        """P(right) at each step of each exchange; [] for an answer without one."""
        stops = self.lm.eos_ids
        limit = self.max_completion
        trees = [step_tree(self.lm.tokenizer, e, stops, limit, sampled=True) for e in exchanges]
        found = iter(self.step_scores([t for t in trees if t], tokens))
        return [next(found) if tree else [] for tree in trees]

    def save(self, folder: Path) -> None:
        """Write the head and the limit it was trained with beside the saved language model."""
        self.head.save(folder)
        write_json(folder / FILE, {"max_completion": self.max_completion})


def load_process_model(
    folder: str | Path, *, device: str | None = None, on: Trunk | None = None
) -> ProcessModel:
    """The model a `process` stage saved; ModelError for any other folder. `on`: as of a reward model."""
    folder = Path(folder)
    if not (folder / FILE).is_file():
        raise ModelError(
            "is no process reward model", where=str(folder), mend="train one: kind: process"
        )
    on = on or trunk(folder, device)
    head, limit = ScalarHead.load(folder), int(read_json(folder / FILE)["max_completion"])
    return ProcessModel(on.engine, head.to(on.lm.device), on.lm, limit, on.playing)
