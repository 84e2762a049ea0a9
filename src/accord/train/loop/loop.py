"""The one loop: go on where a checkpoint was left, step, measure, log, checkpoint, stop.

What a step is, what is measured, and what moves beside the weights is the training's (`optimise` on data,
`on_policy` on a policy's own answers). Whatever measuring runs into, what was trained is kept: the step is
logged and saved without its measurement, which the next run owes first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from accord.core.errors import RunError
from accord.core.rundir import MetricsLog
from accord.train.loop import dist
from accord.train.loop.checkpoint import load_checkpoint, save_checkpoint
from accord.train.loop.trackers import Log, tracking

__all__ = ["Evaluate", "Loop", "Progress", "State", "check_finite"]

Evaluate = Callable[[int], Mapping[str, float]]  # after so many steps
Progress = Callable[[int, int, Mapping[str, float]], None]
MEND = "lower lr; the last checkpoint is kept"


class State(Protocol):
    """What moves from step to step beside weights and optimiser."""

    @property
    def ended(self) -> str:
        """Why it ends early, or ""."""

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds of it: tensors and plain data."""

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on from what was saved; nothing at the start of a run."""


class Stateless:
    """Of a training on data: what it draws is a function of the step."""

    ended = ""

    def saved(self) -> dict[str, Any]:
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None:
        pass


@dataclass(frozen=True)
class Loop:
    """How a run goes. `run` is a fingerprint: a checkpoint of another is refused. `folder` receives
    metrics.jsonl and checkpoints."""

    folder: Path
    steps: int
    save_every: int
    eval_every: int | None = None  # always once at the end
    run: str = ""
    trackers: Sequence[str] = ()
    on_step: Progress | None = None

    def go(
        self,
        parameters: Mapping[str, nn.Parameter],
        optimiser: torch.optim.Optimizer,
        step: Callable[[int], dict[str, float]],
        evaluate: Evaluate | None = None,
        state: State = Stateless(),
    ) -> None:
        """Call `step` (0-based) for every step that is left; what it measured is a row of the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        more: dict[str, Any] = {}
        start = load_checkpoint(self.folder, parameters, optimiser, self.run, more)
        state.restore(more)

        def due(done: int) -> bool:
            last = done == self.steps or bool(state.ended)
            return last or bool(self.eval_every and done % self.eval_every == 0)

        def save(done: int) -> None:
            save_checkpoint(self.folder, parameters, optimiser, done, self.run, state.saved())

        with tracking(
            self.trackers if dist.first() else (), self.folder.name, self.folder
        ) as track:
            log = _Rows(self.folder / "metrics.jsonl", start, track)
            if evaluate and due(start) and (owed := log.owed()):
                log.replace(start, owed | _measured(evaluate, start))
            for at in range(start, self.steps):
                if state.ended:
                    break
                row, done = step(at), at + 1
                if evaluate and due(done):
                    try:
                        row |= _measured(evaluate, done)
                    except BaseException:
                        log.write(done, row)
                        save(done)
                        raise
                check_finite(row, f"{self.folder} step {done}", MEND)
                log.add(done, row)
                if done % self.save_every == 0 or done == self.steps or state.ended:
                    save(done)
                if self.on_step and dist.first():
                    self.on_step(done, self.steps, row)


def _measured(evaluate: Evaluate, done: int) -> dict[str, float]:
    return {f"eval/{name}": value for name, value in evaluate(done).items()}


class _Rows:
    """The log and the trackers, written by the first process alone."""

    def __init__(self, path: Path, start: int, track: Log) -> None:
        self.path, self.start, self.track = path, start, track
        self.log = MetricsLog(path, start) if dist.first() else None

    def owed(self) -> dict[str, float]:
        """The row of the last step, where it was not measured; all processes agree on it."""
        rows = self.log.rows()[-1:] if self.log else []
        last = dist.everyone_s(rows)[0]
        measured = bool(last) and any(name.startswith("eval/") for name in last[0])
        there = bool(last) and last[0].pop("step") == self.start
        return last[0] if there and not measured else {}

    def write(self, done: int, row: dict[str, float]) -> None:
        if self.log:
            self.log.add(done, row)

    def add(self, done: int, row: dict[str, float]) -> None:
        self.write(done, row)
        self.track(done, row)

    def replace(self, done: int, row: dict[str, float]) -> None:
        check_finite(row, f"{self.path} step {done}", MEND)
        if self.log:
            self.log = MetricsLog(self.path, done - 1)
        self.add(done, row)


def check_finite(row: Mapping[str, float], where: str, mend: str) -> None:
    wrong = [f"{name} is {value}" for name, value in row.items() if not math.isfinite(value)]
    if wrong:
        raise RunError(", ".join(wrong), where=where, mend=mend)
