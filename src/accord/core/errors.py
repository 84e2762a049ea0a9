"""One exception tree. Every message is one line: where, what, what is allowed, what to do; of several faults
in one answer (`Faults`) a line each.

AccordError                 the CLI prints it and exits with code 2
├── ConfigError             a recipe, an option or a hyperparameter
│   └── Faults              all of them at once
├── DataError               a file or row that can't be read as what it should be
├── TemplateError           a chat template or token boundary that would shift the mask
├── StoreError              the judgment store: missing, locked, broken chain
├── ModelError              a model that can't be found, loaded or run as asked
└── RunError                a run directory, a stage, a checkpoint
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import ParamSpec, TypeVar

__all__ = [
    "DISTRIBUTION",
    "AccordError",
    "ConfigError",
    "DataError",
    "Faults",
    "ModelError",
    "RunError",
    "StoreError",
    "TemplateError",
    "door",
    "gather",
    "raise_all",
]

P = ParamSpec("P")
R = TypeVar("R")


DISTRIBUTION = "accord-align"
"""What pip calls this package; `accord` is its import, and somebody else's distribution."""


class AccordError(Exception):
    """What went wrong, in one line a user can act on.

    `where` is a place (file:line field), `allowed` the permitted values, `mend` what to do next.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", allowed: str = "", mend: str = "") -> None:
        self.what, self.where, self.allowed, self.mend = what, where, allowed, mend
        self.prompt = ""  # the id of the prompt it is about, for who knows its file
        line = f"{where}: {what}" if where else what
        if allowed:
            line += f"; allowed: {allowed}"
        if mend:
            line += f"; {mend}"
        super().__init__(" ".join(line.split()))

    @property
    def each(self) -> tuple[AccordError, ...]:
        """The faults it tells of: itself."""
        return (self,)


class ConfigError(AccordError):
    """A recipe, an option or a hyperparameter is wrong."""


class Faults(ConfigError):
    """Several faults in one answer, a line each; what it says of itself is the first."""

    def __init__(self, faults: Sequence[AccordError]) -> None:
        first = faults[0]
        super().__init__(first.what, where=first.where, allowed=first.allowed, mend=first.mend)
        self._each = tuple(faults)
        self.args = ("\n".join(map(str, faults)),)

    @property
    def each(self) -> tuple[AccordError, ...]:
        return self._each


@contextlib.contextmanager
def gather(faults: list[AccordError]) -> Iterator[None]:
    """Keep a fault and go on, so that the next one is told in the same answer (`raise_all`)."""
    try:
        yield
    except AccordError as error:
        faults.extend(error.each)


def raise_all(faults: Sequence[AccordError]) -> None:
    """Raise what was gathered, if anything was."""
    once = list({str(error): error for error in faults}.values())
    if once:
        raise once[0] if len(once) == 1 else Faults(once)


def door(function: Callable[P, R]) -> Callable[P, R]:
    """For what users call from Python: a fault of theirs ends in the line that names it, right below their
    own; the way it took in here says nothing to them (ACCORD_TRACEBACK=1 shows it)."""

    @functools.wraps(function)
    def entered(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except AccordError as error:
            if os.environ.get("ACCORD_TRACEBACK"):
                raise
            raise error.with_traceback(None) from None

    return entered


class DataError(AccordError):
    """A file or row can't be read as what it should be."""


class TemplateError(AccordError):
    """A chat template or token boundary would shift the loss mask."""


class StoreError(AccordError):
    """The judgment store is missing, locked or inconsistent."""


class ModelError(AccordError):
    """A model can't be found, loaded or run as asked."""


class RunError(AccordError):
    """A run directory, a stage or a checkpoint can't be used."""
