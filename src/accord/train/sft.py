"""Supervised fine-tuning: the mean negative log-likelihood of assistant tokens, packed.

Every scored token of a batch counts the same (token-exact), whatever the packing. A demonstration's
weight multiplies its tokens' share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from accord.core.day import in_its_day
from accord.core.types import Demonstration, Metric
from accord.lm.model.load import LanguageModel
from accord.lm.trees.engine import Engine, evaluating
from accord.lm.trees.tree import bins
from accord.stats.intervals import cluster_mean
from accord.train.data import Limits, Trees, check_room, demonstration_trees
from accord.train.optimise import Objective, Optimise, Progress, Sums, optimise, told
from accord.train.trainee import Trained, Tune, fingerprint, prepare

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
    run_dir: str | Path,
    tune: Tune,
    optimise_with: Optimise,
    limits: Limits = Limits(),
    all_turns: bool = True,
    eval_on: Sequence[Demonstration] = (),
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Trained:
    """Fine-tune on demonstrations; the model is saved in run_dir/model."""
    folder = Path(run_dir)
    data = demonstration_trees(
        lm.tokenizer, demonstrations, limits, all_turns=all_turns
    ).for_training()
    held = demonstration_trees(lm.tokenizer, eval_on, limits, all_turns=all_turns)
    check_room(lm, data, held)
    trainee = prepare(lm, tune, seed, optimise_with.precision)
    optimise_with, memory = trainee.sized(optimise_with, data, folder, tell)
    metrics: dict[str, Metric] = {}

    def evaluate() -> dict[str, float]:
        metrics["nll"] = held_out_nll(trainee.engine, held, optimise_with.tokens)
        return told(nll=metrics["nll"])

    optimise(
        trainee.parameters(),
        sft_objective(trainee.engine, data),
        optimise_with,
        seed=seed,
        folder=folder,
        run=fingerprint(lm, tune, optimise_with, seed, data),
        evaluate=evaluate if held.trees else None,
        trackers=trackers,
        on_step=on_step,
    )
    trainee.save(folder / "model")
    if held.trees and not metrics:  # resumed after the last step
        evaluate()
    memory.settle()
    return Trained(folder, metrics, trainee.engine.notes, data, held)
