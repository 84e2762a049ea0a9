"""The one loop: exact accumulation, clipping, schedule, precision, logging, checkpoints, resume.

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
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from accord.core.config import Strict
from accord.core.errors import RunError
from accord.core.registry import NonNegative, Positive
from accord.core.rundir import MetricsLog
from accord.core.seeds import derive_seed, rng
from accord.core.types import Metric
from accord.lm.trees.engine import Precision
from accord.lm.trees.tree import bins
from accord.train.checkpoint import load_checkpoint, save_checkpoint
from accord.train.trackers import tracking

__all__ = [
    "Objective", "Optimise", "Sums", "adamw", "check_finite", "one_step", "optimise", "told", "total_steps",
]  # fmt: skip

Sums = dict[str, tuple[float, float]]  # metric -> (sum, count), averaged over the batch
Evaluate = Callable[[], Mapping[str, float]]
Progress = Callable[[int, int, Mapping[str, float]], None]
Count = Annotated[int, Field(ge=1)]


class Optimise(Strict):
    """How to train: the same keys for SFT, reward models and preferences."""

    renamed: ClassVar = {"clip": "max_grad_norm"}
    lr: Positive = 1e-4
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05  # share of the steps
    epochs: Positive = 1.0
    max_steps: Count | None = None
    batch_size: Count = 8  # items (demonstrations, prompts or pairs) a step
    tokens: Annotated[int, Field(ge=16)] | Literal["auto"] = 1024  # of one micro-batch
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    precision: Precision = "fp32"  # bf16: see Engine
    save_every: Count = 20  # steps between checkpoints
    eval_every: Count | None = None  # steps; always once at the end


@dataclass(frozen=True)
class Objective:
    """What is optimised, over items 0..n-1.

    sizes: tokens of each item. counts: what each item counts in the mean (scored tokens, pairs).
    loss: items -> (summed loss, unnormalised scalar; metric sums).
    whole: what a loss must know of its whole batch (a baseline that is a mean), however the batch is
    cut: computed once a batch, before the micro-batches, and given to `loss` as second argument.
    """

    sizes: Sequence[int]
    counts: Sequence[float]
    loss: Callable[..., tuple[Tensor, Sums]]
    whole: Callable[[Sequence[int]], Any] | None = None


def told(**metrics: Metric) -> dict[str, float]:
    """Held-out metrics as a row of the log holds them; undefined ones are left out."""
    return {name: m.value for name, m in metrics.items() if m.value is not None}


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
    evaluate: Evaluate | None = None,
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
    folder.mkdir(parents=True, exist_ok=True)
    assert cfg.tokens != "auto", "train.memory.budget decides before the loop begins"
    steps = total_steps(n, cfg)
    optimiser = adamw(parameters, cfg)
    start = load_checkpoint(folder, parameters, optimiser, run)
    log = MetricsLog(folder / "metrics.jsonl", start)
    with tracking(trackers, folder.name, folder) as track:
        for step in range(start, steps):
            torch.manual_seed(derive_seed(seed, "step", step))  # dropout
            for group in optimiser.param_groups:
                group["lr"] = cfg.lr * lr_scale(step, steps, cfg)
            row = one_step(
                parameters, objective, optimiser, batch_items(n, step, cfg, seed), cfg, folder
            )
            done = step + 1
            if evaluate and (done == steps or (cfg.eval_every and done % cfg.eval_every == 0)):
                try:
                    row |= {f"eval/{name}": value for name, value in evaluate().items()}
                except BaseException:  # what was trained is kept, whatever measuring runs into
                    log.add(done, row)
                    save_checkpoint(folder, parameters, optimiser, done, run)
                    raise
                check_finite(row, f"{folder} step {done}", "lower lr; the last checkpoint is kept")
            log.add(done, row)
            track(done, row)
            if done % cfg.save_every == 0 or done == steps:
                save_checkpoint(folder, parameters, optimiser, done, run)
            if on_step:
                on_step(done, steps, row)
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


def check_finite(row: Mapping[str, float], where: str, mend: str) -> None:
    wrong = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
    if wrong:
        raise RunError(", ".join(wrong), where=where, mend=mend)


def adamw(parameters: Mapping[str, nn.Parameter], cfg: Optimise) -> torch.optim.AdamW:
    if not parameters:
        raise RunError("nothing to train: no parameter has a gradient")
    return torch.optim.AdamW(  # fused: one pass over memory where the plain form takes ten
        list(parameters.values()), lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True
    )


def _accumulate(objective: Objective, items: Sequence[int], cfg: Optimise) -> dict[str, float]:
    """Gradients of (summed loss over the batch) / (what the batch counts), by micro-batches."""
    total = sum(objective.counts[i] for i in items)
    sums: dict[str, tuple[float, float]] = {}
    whole = (objective.whole(items),) if objective.whole else ()
    for micro in bins([objective.sizes[i] for i in items], cfg.tokens):
        loss, metrics = objective.loss([items[j] for j in micro], *whole)
        (loss / total).backward()  # type: ignore[no-untyped-call]
        for name, (value, count) in {"loss": (float(loss.detach()), 0.0), **metrics}.items():
            before = sums.get(name, (0.0, 0.0))
            sums[name] = (before[0] + value, before[1] + count)
    sums["loss"] = (sums["loss"][0], total)
    return {name: value / count for name, (value, count) in sums.items() if count}
