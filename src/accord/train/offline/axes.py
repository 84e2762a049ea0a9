"""A reward model with one head for each axis: Bradley-Terry on every axis's comparisons at once.

One trunk reads a prompt and all its responses once; the loss is the sum over axes, so an axis with more
comparisons does not drown another when a prompt counts once on each (`average: prompt`).

Legend: A axes, C continuations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import torch
from torch import Tensor

from accord.core.day import in_its_day
from accord.core.types import Group, Metric, Response
from accord.lm.model.load import LanguageModel
from accord.lm.model.scalar_head import ScalarHead
from accord.losses import PairScores, reward_losses, soft
from accord.rewards.axes import AxesModel
from accord.rewards.learned import RewardModel
from accord.train.loop.data import Limits, Trees, group_trees
from accord.train.loop.optimise import Objective, Sums
from accord.train.offline.edges import Average, edge_weights, flatten
from accord.train.offline.fit import How, Task, Trained, Trainee, fit
from accord.train.offline.reward import HeldOut, accuracy

__all__ = ["merged", "train_axes"]

ByAxis = Mapping[str, Sequence[Group]]


def merged(by_axis: ByAxis) -> tuple[list[Group], list[dict[str, Group]]]:
    """Each prompt once with all its responses and all comparisons; and the same by axis."""
    by_prompt: dict[str, dict[str, Group]] = {}
    for axis, groups in by_axis.items():
        for group in groups:
            by_prompt.setdefault(group.prompt.id, {})[axis] = group
    whole, parts = [], []
    for by in by_prompt.values():
        responses = tuple(dict.fromkeys(r for g in by.values() for r in g.responses))
        placed = {axis: _placed(g, responses) for axis, g in by.items()}
        prompt = next(iter(by.values())).prompt
        edges = tuple(e for g in placed.values() for e in g.edges)
        whole.append(Group(prompt=prompt, responses=responses, edges=edges))
        parts.append(placed)
    return whole, parts


def _placed(group: Group, responses: tuple[Response, ...]) -> Group:
    """The group over other (more) responses."""
    at = [responses.index(r) for r in group.responses]
    edges = tuple(
        e.model_copy(update={"better": at[e.better], "worse": at[e.worse]}) for e in group.edges
    )
    return Group(prompt=group.prompt, responses=responses, edges=edges)


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
    average: Average = "prompt",
    limits: Limits = Limits(),
    eval_on: ByAxis = {},  # noqa: B006
    **how: Unpack[How],
) -> Trained:
    """Fit the heads on comparisons by axis; saved in run_dir/model. Held-out accuracy is told by axis."""
    axes = tuple(comparisons)
    whole, parts = merged(comparisons)
    by_prompt = {g.prompt.id: p for g, p in zip(whole, parts, strict=True)}
    data = group_trees(lm.tokenizer, whole, limits).for_training()
    held_whole, held_parts = merged(eval_on)
    held_by = {g.prompt.id: p for g, p in zip(held_whole, held_parts, strict=True)}
    held = group_trees(lm.tokenizer, held_whole, limits)

    def task(trainee: Trainee) -> Task:
        head = ScalarHead(trainee.engine.head.width, trainee.seed, len(axes)).to(lm.device)
        rewards = RewardModel(trainee.engine, head, lm.tokenizer, limits.max_completion)
        model = AxesModel(rewards, axes)

        def measure(tokens: int) -> dict[str, Metric]:
            metrics, scores = {}, rewards.tree_scores(held.trees, tokens)
            for a, axis in enumerate(axes):
                some = [
                    HeldOut(held_by[g.prompt.id][axis], tuple(row[a] for row in rows))  # type: ignore[index]
                    for g, rows in zip(held.items, scores, strict=True)
                    if axis in held_by[g.prompt.id]
                ]
                metrics[f"accuracy of {axis}"] = accuracy(some)
            return metrics

        @torch.no_grad()
        def finish(tokens: int) -> None:
            """Training answers average 0 on every axis."""
            rows = rewards.tree_scores(data.trees, tokens)
            mean_A = torch.tensor([x for part in rows for x in part], dtype=torch.float64).mean(0)
            head.centre += mean_A.float().to(head.centre.device)

        return Task(
            lambda tokens: _objective(model, data, by_prompt, average),
            measure,
            more=[axes, average],
            head=head,
            values=rewards.scores,
            write=model.save,
            finish=finish,
        )

    return fit(lm, data, held, task, **how)
