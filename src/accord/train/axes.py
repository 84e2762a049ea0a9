"""A reward model with one head for each axis: Bradley-Terry on every axis's comparisons at once.

One trunk reads a prompt and all its responses once; the loss is the sum over axes, so an axis with more
comparisons does not drown another when a prompt counts once on each (`average: prompt`).

Legend: A axes, C continuations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from accord.core.day import in_its_day
from accord.core.types import Edge, Group, Metric
from accord.lm.model.load import LanguageModel
from accord.lm.model.scalar_head import ScalarHead
from accord.losses import PairScores, reward_losses, soft
from accord.rewards.axes import AxesModel
from accord.rewards.learned import RewardModel
from accord.train.data import Limits, Trees, check_room, group_trees
from accord.train.edges import Average, edge_weights, flatten
from accord.train.optimise import Objective, Optimise, Progress, Sums, optimise, told
from accord.train.reward import HeldOut, accuracy
from accord.train.trainee import Trained, Tune, fingerprint, prepare

__all__ = ["merged", "train_axes"]

ByAxis = Mapping[str, Sequence[Group]]


def merged(by_axis: ByAxis) -> tuple[list[Group], list[dict[str, Group]]]:
    """Each prompt once with all its responses and all comparisons; and the same by axis."""
    found: dict[str, dict[str, Group]] = {}
    for axis, groups in by_axis.items():
        for group in groups:
            found.setdefault(group.prompt.id, {})[axis] = group
    whole, parts = [], []
    for by in found.values():
        responses = tuple(dict.fromkeys(r for g in by.values() for r in g.responses))
        placed = {axis: _placed(g, responses) for axis, g in by.items()}
        prompt = next(iter(by.values())).prompt
        edges = tuple(e for g in placed.values() for e in g.edges)
        whole.append(Group(prompt=prompt, responses=responses, edges=edges))
        parts.append(placed)
    return whole, parts


def _placed(group: Group, responses: Sequence[object]) -> Group:
    """The group over other (more) responses."""
    at = [responses.index(r) for r in group.responses]
    edges = tuple(
        Edge(**{**e.model_dump(), "better": at[e.better], "worse": at[e.worse]})
        for e in group.edges
    )
    return Group(prompt=group.prompt, responses=tuple(responses), edges=edges)  # type: ignore[arg-type]


def _objective(
    model: AxesModel, data: Trees, parts: Mapping[str, dict[str, Group]], average: Average
) -> Objective:
    loss_B = reward_losses.make("bradley_terry")

    def of(item: Group, axis: str) -> Group:
        """An item's comparisons on an axis, none where it has none."""
        empty = Group(prompt=item.prompt, responses=item.responses)
        return parts[item.prompt.id].get(axis, empty)

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        chosen = [data.items[i] for i in items]
        scores_CA = model.model.scores([data.trees[i] for i in items])
        total, sums = scores_CA.sum() * 0.0, {}
        for a, axis in enumerate(model.axes):
            edges = flatten([of(x, axis) for x in chosen], average, scores_CA)
            if not len(edges):
                continue
            better, worse = (
                scores_CA[:, a].index_select(0, i) for i in (edges.better, edges.worse)
            )
            pairs = PairScores(better, worse, edges.margin)
            total = total + (edges.weight * soft(loss_B, pairs, edges.p)).sum()
            hits = edges.hits((better - worse).detach())
            sums[f"accuracy of {axis}"] = (sum(hits), float(len(hits)))
        return total, sums

    counts = [
        sum(sum(edge_weights(g, average)) for g in parts[item.prompt.id].values())
        for item in data.items
    ]
    return Objective([tree.tokens for tree in data.trees], counts, loss)


@in_its_day
def train_axes(
    lm: LanguageModel,
    comparisons: ByAxis,
    *,
    run_dir: str | Path,
    tune: Tune,
    optimise_with: Optimise,
    average: Average = "prompt",
    limits: Limits = Limits(),
    eval_on: ByAxis = {},  # noqa: B006
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Trained:
    """Fit the heads on comparisons by axis; saved in run_dir/model. Held-out accuracy is told by axis."""
    folder, axes = Path(run_dir), tuple(comparisons)
    whole, parts = merged(comparisons)
    by_prompt = {g.prompt.id: p for g, p in zip(whole, parts, strict=True)}
    data = group_trees(lm.tokenizer, whole, limits).for_training()
    held_whole, held_parts = merged(eval_on)
    held_by = {g.prompt.id: p for g, p in zip(held_whole, held_parts, strict=True)}
    held = group_trees(lm.tokenizer, held_whole, limits)
    check_room(lm, data, held)
    trainee = prepare(lm, tune, seed, optimise_with.precision)
    head = ScalarHead(trainee.engine.head.width, seed, len(axes)).to(lm.device)
    model = AxesModel(RewardModel(trainee.engine, head, lm.tokenizer, limits.max_completion), axes)
    scores = model.model.scores
    optimise_with, memory = trainee.sized(optimise_with, data, folder, tell, scores)
    metrics: dict[str, Metric] = {}

    def evaluate() -> dict[str, float]:
        found = model.model.tree_scores(held.trees, optimise_with.tokens)
        for a, axis in enumerate(axes):
            some = [
                HeldOut(held_by[g.prompt.id][axis], tuple(row[a] for row in rows))  # type: ignore[index]
                for g, rows in zip(held.items, found, strict=True)
                if axis in held_by[g.prompt.id]
            ]
            metrics[f"accuracy of {axis}"] = accuracy(some)
        return told(**metrics)

    optimise(
        trainee.parameters(head),
        _objective(model, data, by_prompt, average),
        optimise_with,
        seed=seed,
        folder=folder,
        run=fingerprint(lm, tune, optimise_with, seed, data, [axes, average]),
        evaluate=evaluate if held.trees else None,
        trackers=trackers,
        on_step=on_step,
    )
    trainee.save(folder / "model", model.save)  # before anything else can fail
    if held.trees and not metrics:  # resumed after the last step
        evaluate()
    with torch.no_grad():  # training answers average 0 on every axis
        rows = model.model.tree_scores(data.trees, optimise_with.tokens)
        mean_A = torch.tensor([x for part in rows for x in part], dtype=torch.float64).mean(0)
        head.centre += mean_A.float().to(head.centre.device)
    trainee.save(folder / "model", model.save)
    memory.settle()
    return Trained(folder, metrics, trainee.engine.notes, data, held)
