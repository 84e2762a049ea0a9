"""One exception tree. Every message is one line: where, what, what is allowed, what to do.

AccordError                 the CLI prints it and exits with code 2
├── ConfigError             a recipe, an option or a hyperparameter
├── DataError               a file or row that can't be read as what it should be
├── TemplateError           a chat template or token boundary that would shift the mask
├── StoreError              the judgment store: missing, locked, broken chain
├── ModelError              a model that can't be found, loaded or run as asked
└── RunError                a run directory, a stage, a checkpoint
"""

from __future__ import annotations

__all__ = [
    "DISTRIBUTION",
    "AccordError",
    "ConfigError",
    "DataError",
    "ModelError",
    "RunError",
    "StoreError",
    "TemplateError",
]


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


class ConfigError(AccordError):
    """A recipe, an option or a hyperparameter is wrong."""


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
