"""Training on data: exact accumulation, clipping, schedule, precision.

A training method is an `Objective`: how large each item is, how much it counts, and the summed loss
of some items. `optimise` draws batches, cuts them into micro-batches by token budget, and divides by
what the whole batch counts, so the step is the same whatever the micro-batch. Every source of
randomness is derived from (seed, step), so a resumed run repeats an undisturbed one: on one machine's
CPU bit for bit; on CUDA up to rounding, for its kernels add up in whatever order threads come.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accord.core.errors import RunError
from accord.core.seeds import rng
from accord.lm.trees.tree import bins
from accord.train.loop import dist
from accord.train.loop.dist import Sums
from accord.train.loop.loop import Loop, Progress, check_finite
from accord.train.settings import Optimise

__all__ = [
    "Objective", "Optimise", "Progress", "Sums", "adamw", "one_step", "optimise", "total_steps",
]  # fmt: skip

Held = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Objective:
    """What is optimised, over items 0..n-1.

    sizes: tokens of each item. counts: what each item counts in the mean (scored tokens, pairs).
    loss: items -> (summed loss, unnormalised scalar; metric sums).
    whole: what a loss must know of its whole batch (a baseline that is a mean), however the batch is
    cut: computed once a batch, before the micro-batches, and given to `loss` as second argument.
    own: its items are this process's alone (what it sampled itself), not known to all processes.
    """

    sizes: Sequence[int]
    counts: Sequence[float]
    loss: Callable[..., tuple[Tensor, Sums]]
    whole: Callable[[Sequence[int]], Any] | None = None
    own: bool = False


def total_steps(n: int, cfg: Optimise) -> int:
    """Optimiser steps for n items: whole batches per epoch, the last one possibly smaller."""
    steps = math.ceil(math.ceil(n / cfg.batch_size) * cfg.epochs - 1e-9)
    return max(1, min(steps, cfg.max_steps or steps))


def batch_items(n: int, step: int, cfg: Optimise, seed: int) -> list[int]:
    """The items of step `step` (0-based): each epoch is a fresh permutation of all items."""
    per_epoch = math.ceil(n / cfg.batch_size)
    epoch, place = divmod(step, per_epoch)
    order = list(range(n))
    rng(seed, "epoch", epoch).shuffle(order)
    return order[place * cfg.batch_size : (place + 1) * cfg.batch_size]


def lr_scale(step: int, steps: int, cfg: Optimise) -> float:
    """Learning-rate factor in (0, 1] at step `step` (0-based): linear warm-up, then the schedule."""
    warm = math.ceil(cfg.warmup * steps)
    if step < warm:
        return (step + 1) / (warm + 1)
    left = (steps - step) / (steps - warm)
    if cfg.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (1 - left)))
    return left if cfg.schedule == "linear" else 1.0


def optimise(
    parameters: Mapping[str, nn.Parameter],
    objective: Objective,
    cfg: Optimise,
    *,
    seed: int,
    folder: Path,
    run: str = "",
    evaluate: Held | None = None,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
) -> int:
    """Train `parameters` in place. `folder` receives metrics.jsonl and checkpoints; when it holds a
    checkpoint of the same `run` (a fingerprint), training goes on from there. Returns the number of
    steps.

    Raises RunError when a loss, gradient or metric is not finite, and for a checkpoint of another run.
    """
    n = len(objective.sizes)
    if n == 0:
        raise RunError("no item is left to train on", where=str(folder), mend="raise the limits")
    steps, optimiser = total_steps(n, cfg), adamw(parameters, cfg)

    def step(at: int) -> dict[str, float]:
        torch.manual_seed(dist.seed(seed, "step", at))  # dropout
        for group in optimiser.param_groups:
            group["lr"] = cfg.lr * lr_scale(at, steps, cfg)
        items = batch_items(n, at, cfg, seed)
        return one_step(parameters, objective, optimiser, items, cfg, folder)

    Loop(folder, steps, cfg.save_every, cfg.eval_every, run, trackers, on_step).go(
        parameters, optimiser, step, (lambda _: evaluate()) if evaluate else None
    )
    return steps


def one_step(
    parameters: Mapping[str, nn.Parameter],
    objective: Objective,
    optimiser: torch.optim.Optimizer,
    items: Sequence[int],
    cfg: Optimise,
    folder: Path,
) -> dict[str, float]:
    """One optimiser step on a batch; what it measured."""
    row = _accumulate(objective, items, cfg)
    dist.add_gradients(parameters)
    gradients = {name: p.grad for name, p in parameters.items() if p.grad is not None}
    norm = nn.utils.get_total_norm(gradients.values())
    row["grad_norm"] = float(norm)
    where = "" if math.isfinite(row["grad_norm"]) else f"first in {_broken(gradients)}; "
    mend = f"{where}look at items {list(items)}, or lower lr; the last checkpoint is kept"
    check_finite(row, str(folder), mend)
    nn.utils.clip_grads_with_norm_(parameters.values(), cfg.max_grad_norm, norm)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return row | {"lr": optimiser.param_groups[0]["lr"]}


def _broken(gradients: Mapping[str, Tensor]) -> str:
    """The first gradient that is not finite; where all are, their squares are too large to add up."""
    broken = (name for name, g in gradients.items() if not bool(g.isfinite().all()))
    return next(broken, "the sum over all")


def adamw(parameters: Mapping[str, nn.Parameter], cfg: Optimise) -> torch.optim.AdamW:
    if not parameters:
        raise RunError("nothing to train: no parameter has a gradient")
    return torch.optim.AdamW(  # fused: one pass over memory where the plain form takes ten
        list(parameters.values()), lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True
    )


def _accumulate(objective: Objective, items: Sequence[int], cfg: Optimise) -> dict[str, float]:
    """Gradients of (summed loss over the batch) / (what the batch counts), by micro-batches."""
    whole = (objective.whole(items),) if objective.whole else ()
    mine = items if objective.own else dist.share(items)
    total = dist.total(sum(objective.counts[i] for i in mine))
    sums: Sums = {"loss": (0.0, 0.0)}
    assert cfg.tokens != "auto", "train.memory.budget decides before the loop begins"
    for micro in bins([objective.sizes[i] for i in mine], cfg.tokens):
        loss, metrics = objective.loss([mine[j] for j in micro], *whole)
        (loss / total).backward()
        for name, (value, count) in {"loss": (float(loss.detach()), 0.0), **metrics}.items():
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + value, before[1] + count)
    sums = dist.merged(sums)
    sums["loss"] = (sums["loss"][0], total)
    return {name: value / count for name, (value, count) in sums.items() if count}
