"""What a stage will do, as work that can be counted before it is done.

Texts are real: data stages are made (they take seconds), rendered and counted. What a policy will write is
not known before it does: it is taken to be as long as what it was taught.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from accord.core.types import Group, Prompt
from accord.lm.chat import render_prompt
from accord.lm.model.load import LanguageModel
from accord.lm.room import check_some, fitting, left_out_notes
from accord.lm.trees.tree import Tree
from accord.pipeline.context import StageContext
from accord.pipeline.stage import StageConfig, kind_of
from accord.train.loop.data import Limits, Trees, group_by_prompt, group_trees
from accord.train.loop.optimise import Optimise, total_steps
from accord.train.loop.trainee import Tune

__all__ = [
    "Known",
    "Learn",
    "Read",
    "Sample",
    "Work",
    "answered",
    "evaluations",
    "fit",
    "learnt",
    "limits_of",
    "placeholder",
    "read",
    "scored",
    "together",
]  # fmt: skip


@dataclass(frozen=True)
class Learn:
    """Forward and backward over `items` of the trees, batch by batch."""

    trees: Sequence[Tree]
    items: float
    cfg: Optimise
    tune: Tune
    scalar: bool = False  # a head of one number instead of the vocabulary's


@dataclass(frozen=True)
class Read:
    """The forward pass alone, `times` over all trees."""

    trees: Sequence[Tree]
    tokens: int
    times: float = 1.0
    scalar: bool = False


@dataclass(frozen=True)
class Sample:
    """Sampling: `n` answers to each prompt, as long as `lengths` (tokens; any number of them, all equally
    likely) and at most `most`, `times` over, by a model that trains an adapter as `tune` says: its products
    come on top."""

    prompts: Sequence[Prompt]
    n: int
    lengths: Sequence[int]
    most: int
    batch: int
    times: float = 1.0
    tune: Tune | None = None


@dataclass
class Work:
    """All of a stage. `uses`: the models it loads, by name (none: its `init` or `policy`); `models`: whole
    models held at once; `adapters`: ranks of further adapters on the base;
    `merged`: layers whose weights an earlier stage's adapter was merged into: on a CPU those are copies,
    beside the file that the base is mapped from. `loads`: how often a model is loaded; `stacked`: the layers
    of each adapter that is then merged."""

    parts: list[Learn | Read | Sample] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    models: int = 1
    adapters: int = 0
    merged: int = 0
    loads: int = 0
    stacked: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """What is known beside a stage: all stages' configs by name; a model lends tokenizer and config. What a
    policy was taught is read once."""

    configs: dict[str, StageConfig]
    lm: LanguageModel
    taught: dict[str, list[int]] = field(default_factory=dict)

    def written(self, ctx: StageContext[Any], policy: str, most: int) -> Sequence[int]:
        """Lengths of a policy's answers, cut at `most` tokens, as its kind of stage says: else those of what
        it started from. One that was taught none goes on to the limit."""
        config = self.configs.get(policy)
        if config is None:
            return [most]
        kind = kind_of(config)
        if kind.writes:
            return list(kind.call("writes", ctx, self, policy, most))
        init = getattr(config, "init", None)
        return self.written(ctx, init, most) if init else [most]


def limits_of(config: Any) -> Limits:
    return Limits(
        max_prompt=config.max_prompt,
        max_completion=config.max_completion,
        skip_bad=bool(config.skip_bad),
    )


def answered(
    lm: LanguageModel, prompts: Sequence[Prompt], n: int, lengths: Sequence[int]
) -> list[Tree]:
    """The prompts with n answers of these lengths in turn, whatever they say."""
    turn = itertools.cycle(lengths)
    return [
        Tree(tuple(render_prompt(lm.tokenizer, p)), tuple((1,) * next(turn) for _ in range(n)))
        for p in prompts
    ]


def placeholder(lengths: Sequence[int]) -> str:
    """A text of about their mean in tokens, for what is not written yet and will be read."""
    return " a" * max(1, round(sum(lengths) / len(lengths)))


def together(sides: Sequence[Sequence[Tree]]) -> list[Tree]:
    """The same prompts' trees, each prompt once with the answers of all sides."""
    return [
        Tree(same[0].prompt, tuple(c for tree in same for c in tree.completions))
        for same in zip(*sides, strict=True)
    ]


def learnt(config: Any, trees: Sequence[Tree], *, scalar: bool = False) -> Learn:
    cfg = Optimise(**config.optimise_keys())
    items = min(total_steps(len(trees), cfg) * cfg.batch_size, len(trees) * config.epochs)
    return Learn(trees, items, cfg, config.tune, scalar)


def read(config: Any, trees: Sequence[Tree], times: float = 1.0, *, scalar: bool) -> Read:
    tokens = 1024 if config.tokens == "auto" else config.tokens
    return Read(trees, tokens, times, scalar)


def evaluations(config: Any, n: int) -> int:
    """How often the held-out items are measured on."""
    steps = total_steps(n, Optimise(**config.optimise_keys()))
    return math.ceil(steps / config.eval_every) if config.eval_every else 1


def fit(
    known: Known, prompts: Sequence[Prompt], how: Any, stage: str
) -> tuple[list[Prompt], list[str]]:
    """The prompts that a stage will answer, and what is said of those that are too long for it."""
    kept, left_out = fitting(known.lm, prompts, how.max_new_tokens, how.max_prompt)
    check_some(kept, left_out, f"stage {stage}")
    return kept, left_out_notes(left_out)


def scored(config: Any, known: Known, sides: Sequence[Sequence[Group]]) -> tuple[Work, Trees]:
    """Training a reward model on groups (training, held out), and the training trees."""
    train, held = (
        group_trees(known.lm.tokenizer, group_by_prompt(part), limits_of(config)) for part in sides
    )
    times = evaluations(config, len(train.trees))
    parts: list[Learn | Read | Sample] = [
        learnt(config, train.for_training().trees, scalar=True),
        read(config, held.trees, times, scalar=True),
    ]
    return Work(parts), train
