"""Process reward model: P(right) at the end of each step, fitted to labelled steps.

Lightman et al. 2023, section 2.6: a classifier at every step, here log-loss with a neutral label as one half
(they count neutral as right). An answer counts once, whatever its number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch
import torch.nn.functional as F
from torch import Tensor

from accord.core.day import in_its_day
from accord.core.types import Exchange, LabelledSteps, Metric
from accord.lm.chat import render_prompt
from accord.lm.model.load import LanguageModel
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.trees.tree import scored_tokens
from accord.rewards.process_model import ProcessModel, cut_in_a_step, step_tree
from accord.stats.intervals import cluster_mean
from accord.train.loop.data import Limits, Trees, understood
from accord.train.loop.optimise import Objective, Sums
from accord.train.offline.fit import How, Task, Trained, Trainee, fit

__all__ = ["process_objective", "step_trees", "train_process"]


def step_trees(lm: LanguageModel, items: Sequence[LabelledSteps], limits: Limits) -> Trees:
    """One tree per answer. An answer that was cut short of a labelled step, or inside one, is left out."""
    out = Trees()
    for item in items:
        with understood(out, item.prompt, limits):
            if len(render_prompt(lm.tokenizer, item.prompt)) > limits.max_prompt:
                out.left_out[f"prompt over {limits.max_prompt} tokens"] += 1
                continue
            exchange = Exchange(prompt=item.prompt, response=item.response)
            args = lm.tokenizer, exchange, lm.eos_ids, limits.max_completion
            if cut_in_a_step(*args):
                out.left_out["cut off inside a labelled step"] += 1
                continue
            tree = step_tree(*args)
            if tree is None or scored_tokens(tree) != [len(item.labels)]:
                out.left_out["steps and labels differ in number"] += 1
                continue
            out.trees.append(tree)
            out.items.append(item)
    return out


def process_objective(model: ProcessModel, data: Trees) -> Objective:
    """Weighted sum over answers of the mean log-loss of their steps."""

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        chosen = [data.items[i] for i in items]
        logits_S = model.scores([data.trees[i] for i in items])
        labels = [x for item in chosen for x in item.labels]
        each = [item.weight / len(item.labels) for item in chosen for _ in item.labels]
        target_S = (torch.tensor(labels, device=logits_S.device) + 1) / 2
        weight_S = torch.tensor(each, device=logits_S.device)
        loss_S = F.binary_cross_entropy_with_logits(logits_S, target_S, reduction="none")
        right = [_hit(x, y) for x, y in zip(logits_S.detach().tolist(), labels, strict=True)]
        known = [x for x in right if x is not None]
        return (weight_S * loss_S).sum(), {"accuracy": (sum(known), float(len(known)))}

    return Objective([t.tokens for t in data.trees], [x.weight for x in data.items], loss)


def _hit(logit: float, label: int) -> float | None:
    """Whether the sign is the label's; a neutral step has none."""
    return None if label == 0 else float((logit > 0) == (label > 0))


@in_its_day
def train_process(
    lm: LanguageModel,
    steps: Sequence[LabelledSteps],
    *,
    limits: Limits = Limits(),
    eval_on: Sequence[LabelledSteps] = (),
    **how: Unpack[How],
) -> Trained:
    """Fit a process reward model from `lm`; saved in run_dir/model with its head. `accuracy` is that of
    held-out steps, and `accuracy of wrong steps` of those labelled wrong, which are few."""
    data = step_trees(lm, steps, limits).for_training()
    held = step_trees(lm, eval_on, limits)

    def task(trainee: Trainee) -> Task:
        head = ScalarHead(trainee.engine.head.width, trainee.seed).to(lm.device)
        model = ProcessModel(trainee.engine, head, lm, limits.max_completion)
        return Task(
            lambda tokens: process_objective(model, data),
            lambda tokens: measure_steps(model, held, tokens),
            more="process",
            logged=["accuracy"],
            head=head,
            values=model.scores,
            write=model.save,
        )

    return fit(lm, data, held, task, **how)


def measure_steps(model: ProcessModel, held: Trees, tokens: int) -> dict[str, Metric]:
    """How many held-out steps are on their label's side, and how many of the wrong ones."""
    probs = model.step_scores(held.trees, tokens)
    rows = [
        (_hit(p - 0.5, label), label, item.prompt.id)
        for item, scores in zip(held.items, probs, strict=True)
        for p, label in zip(scores, item.labels, strict=True)
    ]
    metrics = {}
    for name, some in (("accuracy", (1, -1)), ("accuracy of wrong steps", (-1,))):
        kept = [(h, prompt) for h, label, prompt in rows if label in some and h is not None]
        metrics[name] = cluster_mean([h for h, _ in kept], [prompt for _, prompt in kept])
    return metrics
