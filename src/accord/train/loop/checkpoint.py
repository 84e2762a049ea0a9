"""Checkpoints: everything a run needs to go on as if it had never stopped.

Parameters with gradients, optimiser state, RNG states and the step (the data cursor and the
schedule are functions of the step). Written beside and renamed, one kept: of several processes each
keeps its own, all of the same step.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from accord.core.errors import RunError
from accord.core.rundir import beside, drop_abandoned
from accord.train.loop import dist

__all__ = ["checkpoint_step", "load_checkpoint", "save_checkpoint"]

NAME = "checkpoint{}.pt"
MEND = "choose another directory, or delete it (on the command line: --fresh)"


def save_checkpoint(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    step: int,
    run: str = "",
    more: Mapping[str, Any] | None = None,
) -> None:
    """Replace the folder's checkpoint, atomically. `run` is what it is of (see `load_checkpoint`);
    `more` is what else the loop must know (tensors and plain data)."""
    state = {
        "more": dict(more or {}),
        "step": step,
        "run": run,
        "parameters": {name: p.detach().cpu() for name, p in parameters.items()},
        "optimiser": optimiser.state_dict(),
        "torch_rng": torch.get_rng_state(),
        "python_rng": random.getstate(),
        "numpy_rng": _numpy_rng(),
    }
    if torch.cuda.is_available():
        state["cuda_rng"] = torch.cuda.get_rng_state_all()
    path = _path(folder)
    new = beside(path)
    try:
        with new.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        dist.everyone_s(step)  # no process takes its old one away before all have the new one
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise RunError(
            f"the checkpoint can't be written ({error.strerror})",
            where=str(folder),
            mend="free disk space and run the same command again; it goes on from the last one",
        ) from None


def load_checkpoint(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimiser: torch.optim.Optimizer,
    run: str = "",
    more: dict[str, Any] | None = None,
) -> int:
    """Restore in place from the folder's checkpoint; the step it was taken at, 0 without one. `more`
    is filled with what was saved so. RunError when it is of another run: then its weights are not what
    was asked for."""
    path = _path(folder)
    drop_abandoned(path)
    if not path.exists():
        _agree(0, folder)
        return 0
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise RunError(
            f"the checkpoint is unreadable ({error})", where=str(path), mend=MEND
        ) from None
    saved = {name: value.shape for name, value in state["parameters"].items()}
    if saved != {name: p.shape for name, p in parameters.items()}:
        raise RunError("the checkpoint is of another model", where=str(path), mend=MEND)
    _agree(int(state["step"]), folder)
    if state["run"] != run:
        raise RunError(
            "the checkpoint is of a run on other data, weights or settings",
            where=str(path),
            mend=MEND,
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state["parameters"][name])
    optimiser.load_state_dict(state["optimiser"])
    if more is not None:
        more.update(state.get("more", {}))
    torch.set_rng_state(state["torch_rng"])
    random.setstate(state["python_rng"])
    name, keys, *rest = state["numpy_rng"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    if torch.cuda.is_available() and "cuda_rng" in state:
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return int(state["step"])


def _numpy_rng() -> tuple[Any, ...]:
    """numpy's global state (libraries still use it) as plain data, loadable without pickle."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return (name, np.asarray(keys).tolist(), *rest)


def _agree(step: int, folder: Path) -> None:
    """RunError where a kill came between the processes' checkpoints."""
    steps = dist.everyone_s(step)
    if len(set(steps)) > 1:
        what = f"the processes' checkpoints are of steps {', '.join(map(str, steps))}"
        raise RunError(what, where=str(folder), mend=MEND)


def _path(folder: Path) -> Path:
    return folder / NAME.format(f".{rank}" if (rank := dist.rank()) else "")


def checkpoint_step(folder: Path) -> int | None:
    """The step of the folder's checkpoint, None without one."""
    path = _path(folder)
    if not path.exists():
        return None
    return int(torch.load(path, map_location="cpu", weights_only=True)["step"])
