"""Supervised fine-tuning: the mean negative log-likelihood of assistant tokens, packed.

Every scored token of a batch counts the same (token-exact), whatever the packing. A demonstration's
weight multiplies its tokens' share.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch

from accord.core.day import in_its_day
from accord.core.types import Demonstration, Metric
from accord.lm.model.load import LanguageModel
from accord.lm.trees.engine import Engine, evaluating
from accord.lm.trees.tree import bins
from accord.stats.intervals import cluster_mean
from accord.train.loop.data import Limits, Trees, demonstration_trees
from accord.train.loop.optimise import Objective, Sums
from accord.train.offline.fit import How, Task, Trained, Trainee, fit

__all__ = ["sft_objective", "train_sft"]


def sft_objective(engine: Engine, data: Trees) -> Objective:
    """-sum of scored log-probs, counted in (weighted) scored tokens."""
    scored = [sum(tree.mask(0)) for tree in data.trees]
    weights = [float(item.weight) for item in data.items]

    def loss(items: Sequence[int]) -> tuple[torch.Tensor, Sums]:
        logps = engine.logps([data.trees[i] for i in items])
        weight_C = torch.tensor([weights[i] for i in items], device=logps.tokens_S.device)
        total = -(logps.sums_C() * weight_C).sum()
        return total, {"token_logp": (float(logps.tokens_S.detach().sum()), len(logps.tokens_S))}

    counts = [n * w for n, w in zip(scored, weights, strict=True)]
    return Objective([tree.tokens for tree in data.trees], counts, loss)


def held_out_nll(engine: Engine, data: Trees, tokens: int) -> Metric:
    """Mean negative log-likelihood per token on held-out demonstrations (nats), by prompt."""
    values: list[float] = []
    prompts: list[str] = []
    with evaluating(engine.model):
        for members in bins([tree.tokens for tree in data.trees], tokens):
            logps = engine.logps([data.trees[i] for i in members])
            parts = logps.tokens_S.cpu().split(list(logps.lengths))
            for i, part in zip(members, parts, strict=True):
                values += (-part).tolist()
                prompts += [data.items[i].prompt.id] * len(part)
    return cluster_mean(values, prompts, share=False)


@in_its_day
def train_sft(
    lm: LanguageModel,
    demonstrations: Sequence[Demonstration],
    *,
    limits: Limits = Limits(),
    all_turns: bool = True,
    eval_on: Sequence[Demonstration] = (),
    **how: Unpack[How],
) -> Trained:
    """Fine-tune on demonstrations; the model is saved in run_dir/model."""
    render = partial(demonstration_trees, lm.tokenizer, limits=limits, all_turns=all_turns)
    data, held = render(demonstrations).for_training(), render(eval_on)

    def task(trainee: Trainee) -> Task:
        return Task(
            lambda tokens: sft_objective(trainee.engine, data),
            lambda tokens: {"nll": held_out_nll(trainee.engine, held, tokens)},
        )

    return fit(lm, data, held, task, **how)
