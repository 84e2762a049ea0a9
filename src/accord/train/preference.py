"""Preference optimisation without RL: any registered preference loss over token trees.

Legend: B comparisons, C continuations.

All comparisons of a prompt share one tree (`share: prompt`): a response that stands in several pairs
is computed once. The loss and its gradient are those of the separate pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from accord.core.types import Group, Metric, Pair
from accord.lm.engine import Engine
from accord.lm.load import LanguageModel
from accord.lm.score import tree_logps
from accord.losses import PairLogps, preference_losses, soft
from accord.stats.intervals import cluster_mean
from accord.train.data import Limits, Trees, check_room, group_by_prompt, group_trees
from accord.train.edges import Average, Edges, edge_weights, flatten, hit
from accord.train.optimise import Objective, Optimise, Progress, Sums, optimise, told
from accord.train.reference import reference_logps
from accord.train.trainee import Trained, Tune, fingerprint, prepare

__all__ = ["preference_objective", "train_preference"]


def pair_logps(
    policy_C: Tensor, reference_C: Tensor, lengths: Sequence[int], e: Edges
) -> PairLogps:
    """The log-probs of the edges' two sides."""
    tokens_C = torch.tensor(lengths, dtype=policy_C.dtype, device=policy_C.device)
    return PairLogps(
        *(x.index_select(0, side) for x in (policy_C, reference_C) for side in (e.better, e.worse)),
        *(tokens_C[side] for side in (e.better, e.worse)),
    )


def _metrics(lp: PairLogps, edges: Edges) -> Sums:
    """What to watch: implicit accuracy, margin, and how far each side moved (displacement)."""
    margin_B = lp.margin_B().detach()
    n, hits = len(margin_B), edges.hits(margin_B)
    return {
        "accuracy": (sum(hits), len(hits)),
        "margin": (float(margin_B.sum()), n),
        "chosen_shift": (float((lp.policy_chosen - lp.ref_chosen).detach().sum()), n),
        "rejected_shift": (float((lp.policy_rejected - lp.ref_rejected).detach().sum()), n),
    }


def preference_objective(
    engine: Engine,
    data: Trees,
    reference: Sequence[Tensor],
    loss_B: Callable[[PairLogps], Tensor],
    average: Average,
) -> Objective:
    """Weighted sum of pair losses, counted in pair weight ("pair") or prompts ("prompt")."""

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        logps = engine.logps([data.trees[i] for i in items])
        policy_C = logps.sums_C()
        reference_C = torch.cat([reference[i] for i in items]).to(policy_C.device)
        edges = flatten([data.items[i] for i in items], average, policy_C.device)
        lp = pair_logps(policy_C, reference_C, logps.lengths, edges)
        return (edges.weight * soft(loss_B, lp, edges.p)).sum(), _metrics(lp, edges)

    counts = [sum(edge_weights(group, average)) for group in data.items]
    return Objective([tree.tokens for tree in data.trees], counts, loss)


def _one_by_one(groups: Sequence[Group], average: Average) -> list[Group]:
    """Each comparison as a group of its own, weighing what it weighs in the average."""
    return [
        group_by_prompt([pair.model_copy(update={"weight": weight})])[0]
        for group in groups
        for pair, weight in zip(group.pairs(), edge_weights(group, average), strict=True)
    ]


def _implicit_accuracy(
    engine: Engine, data: Trees, reference: Sequence[Tensor], tokens: int
) -> Metric:
    """Share of held-out comparisons whose margin has the right sign, interval by prompt."""
    policy = tree_logps(engine, data.trees, tokens)
    hits: list[float] = []
    prompts: list[str] = []
    for group, new, old in zip(data.items, policy, reference, strict=True):
        shift = (new - old).tolist()
        for e in group.edges:
            value = hit(shift[e.better] - shift[e.worse], e.p)
            if value is not None:
                hits.append(value)
                prompts.append(group.prompt.id)
    return cluster_mean(hits, prompts)


def train_preference(
    lm: LanguageModel,
    comparisons: Sequence[Pair | Group],
    *,
    run_dir: str | Path,
    tune: Tune,
    optimise_with: Optimise,
    loss: dict[str, Any] | None = None,
    average: Average = "pair",
    share: Literal["prompt", "pair"] = "prompt",
    limits: Limits = Limits(),
    eval_on: Sequence[Pair | Group] = (),
    seed: int = 17,
    cache: Path | None = None,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    on_reference: Callable[[int, int], None] | None = None,
) -> Trained:
    """Train `lm` on comparisons; its own weights at the start are the reference. The model is saved
    in run_dir/model. Reference-free losses compute no reference."""
    folder = Path(run_dir)
    chosen = loss or {"name": "dpo"}
    entry, loss_B = preference_losses.configured(chosen, "loss")
    needs_reference = entry.facts["needs_reference"]
    grouped = group_by_prompt(comparisons)
    if share == "pair":  # weights first: what a prompt's pairs count is known only together
        grouped, average = _one_by_one(grouped, average), "pair"
    data = group_trees(lm.tokenizer, grouped, limits).for_training()
    held = group_trees(lm.tokenizer, group_by_prompt(eval_on), limits)
    check_room(lm, data, held)
    trainee = prepare(lm, tune, seed, optimise_with.precision)
    engine, tokens = trainee.engine, optimise_with.tokens

    def reference_of(part: Trees) -> list[Tensor]:
        if not needs_reference:
            return [torch.zeros(len(tree.completions)) for tree in part.trees]
        store = cache or folder / "reference"
        return reference_logps(engine, part.trees, lm.weights, tokens, store, on_reference)

    reference = reference_of(data)
    held_reference = reference_of(held) if held.trees else []
    metrics: dict[str, Metric] = {}

    def evaluate() -> dict[str, float]:
        metrics["accuracy"] = _implicit_accuracy(engine, held, held_reference, tokens)
        return told(accuracy=metrics["accuracy"])

    optimise(
        trainee.parameters(),
        preference_objective(engine, data, reference, loss_B, average),
        optimise_with,
        seed=seed,
        folder=folder,
        run=fingerprint(lm, tune, optimise_with, seed, data, [chosen, average]),
        evaluate=evaluate if held.trees else None,
        trackers=trackers,
        on_step=on_step,
    )
    if held.trees and not metrics:  # resumed after the last step
        evaluate()
    trainee.save(folder / "model")
    return Trained(folder, metrics, engine.notes, data, held)
