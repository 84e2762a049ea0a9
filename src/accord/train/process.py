"""Process reward model: P(right) at the end of each step, fitted to labelled steps.

Lightman et al. 2023, section 2.6: a classifier at every step, here log-loss with a neutral label as one half
(they count neutral as right). An answer counts once, whatever its number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

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
from accord.train.data import Limits, Trees, check_room, understood
from accord.train.optimise import Objective, Optimise, Progress, Sums, optimise, told
from accord.train.trainee import Trained, Tune, fingerprint, prepare

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
            told = lm.tokenizer, exchange, lm.eos_ids, limits.max_completion
            if cut_in_a_step(*told):
                out.left_out["cut off inside a labelled step"] += 1
                continue
            tree = step_tree(*told)
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
    run_dir: str | Path,
    tune: Tune,
    optimise_with: Optimise,
    limits: Limits = Limits(),
    eval_on: Sequence[LabelledSteps] = (),
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> Trained:
    """Fit a process reward model from `lm`; saved in run_dir/model with its head. `accuracy` is that of
    held-out steps, and `accuracy of wrong steps` of those labelled wrong, which are few."""
    folder = Path(run_dir)
    data = step_trees(lm, steps, limits).for_training()
    held = step_trees(lm, eval_on, limits)
    check_room(lm, data, held)
    trainee = prepare(lm, tune, seed, optimise_with.precision)
    head = ScalarHead(trainee.engine.head.width, seed).to(lm.device)
    model = ProcessModel(trainee.engine, head, lm, limits.max_completion)
    optimise_with, memory = trainee.sized(optimise_with, data, folder, tell, model.scores)
    metrics: dict[str, Metric] = {}

    def evaluate() -> dict[str, float]:
        found = model.step_scores(held.trees, optimise_with.tokens)
        rows = [
            (_hit(p - 0.5, label), label, item.prompt.id)
            for item, scores in zip(held.items, found, strict=True)
            for p, label in zip(scores, item.labels, strict=True)
        ]
        for name, some in (("accuracy", (1, -1)), ("accuracy of wrong steps", (-1,))):
            kept = [(h, prompt) for h, label, prompt in rows if label in some and h is not None]
            metrics[name] = cluster_mean([h for h, _ in kept], [prompt for _, prompt in kept])
        return told(accuracy=metrics["accuracy"])

    optimise(
        trainee.parameters(head),
        process_objective(model, data),
        optimise_with,
        seed=seed,
        folder=folder,
        run=fingerprint(lm, tune, optimise_with, seed, data, "process"),
        evaluate=evaluate if held.trees else None,
        trackers=trackers,
        on_step=on_step,
    )
    trainee.save(folder / "model", model.save)
    if held.trees and not metrics:  # resumed after the last step
        evaluate()
    memory.settle()
    return Trained(folder, metrics, trainee.engine.notes, data, held)
