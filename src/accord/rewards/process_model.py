"""A process reward model: P(right) at the end of every step (Lightman et al. 2023).

Legend: S steps of all continuations of a batch, in order.

A step is a line. Its score is read where its last token has been read: the tree marks the token after it as
scored, and the engine gives the state from which that token would be predicted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from accord.core.errors import ModelError
from accord.core.rundir import read_json, write_json
from accord.core.types import Exchange, Prompt
from accord.lm.chat import render_exchange, render_prompt
from accord.lm.model.load import LanguageModel
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.room import positions
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import by_tree, each_tree
from accord.lm.trees.tree import Tree
from accord.rewards.learned import Playing, Trunk, max_read, trunk

__all__ = [
    "Aggregate",
    "ProcessModel",
    "aggregated",
    "cut_in_a_step",
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
    """Prompt and answer, the token after each step marked; None for an answer without a step. The last step
    of an answer that was cut off, or that is longer than `limit`, ends where it was cut."""
    prompt, ids = _answered(tokenizer, exchange, stops, sampled)
    ids = ids[:limit]
    after = {end + 1 for end in step_ends(tokenizer, ids)}
    if not after:
        return None
    ids = (*ids, stops[0])  # only so that the last step has a token after it; nothing sees it
    return Tree(prompt, (ids,), (tuple(at in after for at in range(len(ids))),))


def cut_in_a_step(tokenizer: Any, exchange: Exchange, stops: Sequence[int], limit: int) -> bool:
    """Whether a step of an answer has no end that is read: it was cut off before its line break, or ends
    beyond `limit`. A label on it would be one on a part of it."""
    _, ids = _answered(tokenizer, exchange, stops, False)
    ends = step_ends(tokenizer, ids)
    begun = exchange.response.text.rpartition("\n")[2].strip()
    return bool(ends) and (
        ends[-1] >= limit or (exchange.response.finish == "length" and begun != "")
    )


def _answered(
    tokenizer: Any, exchange: Exchange, stops: Sequence[int], sampled: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens of a prompt, and of the answer without the end of its turn."""
    done = render_exchange(tokenizer, exchange.prompt, exchange.response, sampled=sampled)
    ids = done.completion
    return done.prompt, ids[:-1] if ids and ids[-1] in stops else ids


def aggregated(steps: Sequence[float], how: Aggregate) -> float:
    """One score of P(right) at each step: the least sure, all right (independent), the last, the mean."""
    ways: dict[Aggregate, Callable[[Sequence[float]], float]] = {
        "min": min, "product": math.prod, "last": lambda x: x[-1], "mean": _mean,
    }  # fmt: skip
    return ways[how](steps)


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
        logits_S: Tensor = self.head(self.engine.states(trees)[0])
        return logits_S

    def step_scores(self, trees: Sequence[Tree], tokens: int) -> list[list[float]]:
        """P(right) at the steps of each tree, without gradients."""

        def values(some: Sequence[Tree]) -> Sequence[Tensor]:
            return by_tree(self.scores(some).sigmoid(), some, scored=True)

        with self.playing():
            return [x.tolist() for x in each_tree(self.engine.model, values, trees, tokens)]

    def __call__(self, exchanges: Sequence[Exchange], *, tokens: int = 1024) -> list[list[float]]:
        """P(right) at each step of each exchange; [] for an answer without one. Equal answers to a prompt are
        read once."""
        tokenizer, stops = self.lm.tokenizer, self.lm.eos_ids
        trees = [
            step_tree(tokenizer, e, stops, self.limit(e.prompt), sampled=True) for e in exchanges
        ]
        once = list(dict.fromkeys(tree for tree in trees if tree))
        scores_of = dict(zip(once, self.step_scores(once, tokens), strict=True))
        return [list(scores_of[tree]) if tree else [] for tree in trees]

    def limit(self, prompt: Prompt) -> int:
        """How many tokens of an answer are read; one position is for what stands after the last step."""
        ids = render_prompt(self.lm.tokenizer, prompt)
        return max_read(self.lm.model, self.max_completion + 1, ids) - 1

    def cut(self, exchanges: Sequence[Exchange]) -> list[bool]:
        """Of which answers it reads the beginning only."""
        tokenizer, stops = self.lm.tokenizer, self.lm.eos_ids
        sizes = [len(_answered(tokenizer, e, stops, True)[1]) for e in exchanges]
        return [n > self.limit(e.prompt) for n, e in zip(sizes, exchanges, strict=True)]

    def fits(self, prompt: Prompt) -> bool:
        """Whether it has positions for a prompt and a token of an answer."""
        return len(render_prompt(self.lm.tokenizer, prompt)) + 1 < positions(self.lm.model)

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
