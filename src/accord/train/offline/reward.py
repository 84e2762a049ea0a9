"""Reward model: a scalar head on the language model, fitted to comparisons (Bradley-Terry, K-wise).

One prompt and its K responses are one tree; the comparisons of a prompt are averaged so that a
prompt counts once (Ouyang et al. 2022, eq. 1). Scores are centred afterwards: reference answers
score 0 on average.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, Unpack

import torch
from torch import Tensor

from accord.core.day import in_its_day
from accord.core.types import Demonstration, Edge, Exchange, Group, Metric, Pair
from accord.lm.model.load import LanguageModel
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.room import left_out_notes
from accord.losses import PairScores, reward_losses, soft
from accord.rewards.learned import RewardModel, read
from accord.stats.intervals import cluster_mean
from accord.train.loop.data import Limits, Trees, group_by_prompt, group_trees, understood
from accord.train.loop.optimise import Objective, Sums
from accord.train.offline.edges import Average, edge_weights, flatten, hit
from accord.train.offline.fit import How, Task, Trained, Trainee, fit

__all__ = ["HeldOut", "accuracy", "reward_objective", "some", "train_reward"]

CENTRED = 256  # answers at most: their mean is known to a sixteenth of their spread
T = TypeVar("T")


def some(items: Sequence[T]) -> Sequence[T]:
    """At most CENTRED of them, evenly spaced."""
    return items[:: max(1, -(-len(items) // CENTRED))]


def reward_objective(
    model: RewardModel, data: Trees, loss_B: Callable[[PairScores], Tensor], average: Average
) -> Objective:
    """Weighted sum of pair losses, counted in pair weight ("pair") or prompts ("prompt")."""

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        scores_C = model.scores([data.trees[i] for i in items])
        edges = flatten([data.items[i] for i in items], average, scores_C)
        better_B, worse_B = (scores_C.index_select(0, i) for i in (edges.better, edges.worse))
        pairs = PairScores(better_B, worse_B, edges.margin)
        gap_B = (pairs.chosen - pairs.rejected).detach()
        hits = edges.hits(gap_B)
        sums: Sums = {
            "accuracy": (sum(hits), len(hits)),
            "margin": (float(gap_B.sum()), len(edges)),
        }
        return (edges.weight * soft(loss_B, pairs, edges.p)).sum(), sums

    counts = [sum(edge_weights(group, average)) for group in data.items]
    return Objective([tree.tokens for tree in data.trees], counts, loss)


@dataclass(frozen=True)
class HeldOut:
    """A held-out group and the model's score of each of its responses."""

    group: Group
    scores: tuple[float, ...]

    def gap(self, edge: Edge) -> float:
        """Score of the better response minus that of the worse."""
        return self.scores[edge.better] - self.scores[edge.worse]


def accuracy(held: Sequence[HeldOut]) -> Metric:
    """Share of comparisons that the scores order as the raters did (equal scores half), by prompt.
    Comparisons that the raters split evenly have no order and do not count."""
    hits = [(hit(h.gap(e), e.p), h.group.prompt.id) for h in held for e in h.group.edges]
    counted = [(value, prompt) for value, prompt in hits if value is not None]
    return cluster_mean([value for value, _ in counted], [prompt for _, prompt in counted])


@in_its_day
def train_reward(
    lm: LanguageModel,
    comparisons: Sequence[Pair | Group],
    *,
    loss: dict[str, Any] | None = None,
    average: Average = "prompt",
    limits: Limits = Limits(),
    centre_on: Sequence[Demonstration] = (),
    eval_on: Sequence[Pair | Group] = (),
    **how: Unpack[How],
) -> Trained:
    """Fit a reward model from `lm` (the SFT checkpoint); saved in run_dir/model with its head."""
    chosen = loss or {"name": "bradley_terry"}
    _, loss_B = reward_losses.configured(chosen, "loss")
    data = group_trees(lm.tokenizer, group_by_prompt(comparisons), limits).for_training()
    held = group_trees(lm.tokenizer, group_by_prompt(eval_on), limits)
    scored: list[HeldOut] = []

    def task(trainee: Trainee) -> Task:
        head = ScalarHead(trainee.engine.head.width, trainee.seed).to(lm.device)
        model = RewardModel(trainee.engine, head, lm.tokenizer, limits.max_completion)
        centre = _to_centre_on(model, centre_on, data, limits, how.get("tell"))

        def measure(tokens: int) -> dict[str, Metric]:
            scores = model.tree_scores(held.trees, tokens)
            scored[:] = [HeldOut(g, tuple(s)) for g, s in zip(held.items, scores, strict=True)]
            return {"accuracy": accuracy(scored)}

        return Task(
            lambda tokens: reward_objective(model, data, loss_B, average),
            measure,
            more=[chosen, average],
            head=head,
            values=model.scores,
            write=model.save,
            finish=lambda tokens: _centre(model, centre, tokens),
        )

    return replace(fit(lm, data, held, task, **how), held_out=tuple(scored))


def _to_centre_on(
    model: RewardModel, reference: Sequence[Demonstration], data: Trees, limits: Limits,
    tell: Callable[[str], None] | None,
) -> Sequence[Exchange]:  # fmt: skip
    """Reference answers within the limits of training and the model's positions, else training responses;
    `some` of them. Read here, so that what can't be read is known before training and not after it; `data`
    counts it."""
    exchanges, left_out = [], Counter[str]()
    for item in some(reference):
        exchange = Exchange(prompt=item.prompt, response=item.response)
        with understood(data, item.prompt, limits):
            tokens = len(read(model.tokenizer, exchange).prompt)
            if tokens > limits.max_prompt:
                left_out[f"to centre on: prompt over {limits.max_prompt} tokens"] += 1
            elif not model.fits(item.prompt):
                left_out["to centre on: prompt over the model's positions"] += 1
            else:
                exchanges.append(exchange)
    data.left_out.update(left_out)
    for text in left_out_notes(left_out, "answers"):
        if tell:
            tell(text)
    return exchanges or some(
        [Exchange(prompt=g.prompt, response=r) for g in data.items for r in g.responses]
    )


def _centre(model: RewardModel, exchanges: Sequence[Exchange], tokens: int) -> None:
    """Set the head's centre so that these average 0."""
    scores = torch.tensor(model(exchanges, tokens=tokens), dtype=torch.float64)
    model.head.centre += scores.mean().float().to(model.head.centre.device)
