"""The day of a run. A chat template may write today's date: a run that goes on after midnight has to read
what it read before, so its day is kept in its folder when it is first asked for."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path
from typing import ParamSpec, TypeVar

from accord.core.rundir import make_dir, write_text

__all__ = ["BEGAN", "dated", "in_its_day", "today"]

BEGAN = "began"  # the file that keeps it
P = ParamSpec("P")
T = TypeVar("T")

_RUN: ContextVar[Path | None] = ContextVar("run", default=None)


@contextlib.contextmanager
def dated(folder: Path) -> Iterator[None]:
    """Inside, `today` is when the run in `folder` first asked for it (in a run within another, that one)."""
    token = _RUN.set(_RUN.get() or folder)
    try:
        yield
    finally:
        _RUN.reset(token)


def in_its_day(train: Callable[P, T]) -> Callable[P, T]:
    """A training that is `dated` by its run_dir."""

    @functools.wraps(train)
    def inside(*args: P.args, **kwargs: P.kwargs) -> T:
        with dated(Path(str(kwargs["run_dir"]))):
            return train(*args, **kwargs)

    return inside


def today() -> datetime:
    """Now, or when the run under way began."""
    folder = _RUN.get()
    if folder is None:
        return datetime.now()
    file = folder / BEGAN
    if not file.exists():
        write_text(make_dir(folder) / BEGAN, datetime.now().isoformat(timespec="seconds") + "\n")
    return datetime.fromisoformat(file.read_text(encoding="utf-8").strip())
