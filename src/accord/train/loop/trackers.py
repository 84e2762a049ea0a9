"""Metrics to TensorBoard, Weights & Biases or MLflow when asked, through accelerate's trackers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError

__all__ = ["TRACKERS", "tracking"]

TRACKERS = {"tensorboard": "TensorBoardTracker", "wandb": "WandBTracker", "mlflow": "MLflowTracker"}
Log = Callable[[int, Mapping[str, float]], None]


@contextlib.contextmanager
def tracking(names: Sequence[str], run: str, folder: Path) -> Iterator[Log]:
    """A function that logs a step's metrics to every named tracker; closes them at the end.

    Raises ConfigError for a tracker accord does not know or whose package is not installed.
    """
    trackers = [_start(name, run, folder) for name in names]

    def log(step: int, values: Mapping[str, float]) -> None:
        for tracker in trackers:
            tracker.log(dict(values), step=step)

    try:
        yield log
    finally:
        for tracker in trackers:
            tracker.finish()


def _start(name: str, run: str, folder: Path) -> Any:
    if name not in TRACKERS:
        raise ConfigError(
            f"unknown tracker {name!r}", where="trackers", allowed=", ".join(TRACKERS)
        )
    from accelerate import PartialState, tracking

    PartialState()
    kind = getattr(tracking, TRACKERS[name])
    try:
        if name == "wandb":
            tracker = kind(run, dir=str(folder))
        else:
            keys = {"tensorboard": {"run_name": run}, "mlflow": {"experiment_name": run}}[name]
            tracker = kind(**keys, logging_dir=str(folder / name))
        tracker.start()
    except ImportError as error:
        raise ConfigError(
            f"the package of {name} is not installed ({error.name})",
            where="trackers",
            mend=f"pip install {name}",
        ) from None
    return tracker
