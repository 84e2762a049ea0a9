"""A model's name becomes a directory: a local one, a package's, the hub's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from accord.core.errors import ModelError
from accord.core.rundir import user_path
from accord.lm.model.hub import find_on_hub
from accord.lm.model.packaged import (
    CONVERSION,
    PackagedModel,
    find_packaged,
    packaged_models,
    packaged_path,
)

__all__ = [
    "ADAPTER_FILE",
    "MODEL_FILE",
    "PACKAGED",
    "bases",
    "bases_at",
    "local",
    "resolve",
    "source_of",
    "where_is",
]

MODEL_FILE = "accord_model.json"
ADAPTER_FILE = "adapter_config.json"
PACKAGED = "packaged/"

_BASES: ContextVar[tuple[str, ...]] = ContextVar("bases", default=())


@contextlib.contextmanager
def bases_at(*names: str) -> Iterator[None]:
    """Inside, what a trained stage stands on is looked for here too, should it have been moved."""
    before = _BASES.set((*names, *_BASES.get()))
    try:
        yield
    finally:
        _BASES.reset(before)


def bases() -> tuple[str, ...]:
    return _BASES.get()


def where_is(name: str) -> str:
    """Where `load` would take a model from, in words; nothing is loaded, converted or downloaded.

    Raises ModelError as `load` does for a model that can't be had.
    """
    if local(name):
        return "local directory"
    if name.startswith(PACKAGED):
        return find_packaged(name.removeprefix(PACKAGED)).note
    path, problem = find_on_hub(name, download=False)
    if path is None and problem:
        return f"{PACKAGED}{_stand_in(name, problem).name} instead of the hub's"
    return "in the local hub cache" if path else "on the hub, to be downloaded"


def source_of(name: str) -> Path | str:
    """The directory of a model, or what tells one version of a hub's or a package's model from the next.
    Nothing is converted or downloaded; a model that is yet to be downloaded is known by its name."""
    if folder := local(name):
        return folder
    if name.startswith(PACKAGED):
        packaged = find_packaged(name.removeprefix(PACKAGED))
    else:
        path, problem = find_on_hub(name, download=False)
        if path or not problem:
            return f"{name}@{path.name}" if path else name  # the hub's cache: the commit
        packaged = _stand_in(name, problem)
    return f"{PACKAGED}{packaged.name}@{packaged.version}-c{CONVERSION}"


def resolve(name: str) -> tuple[Path, tuple[str, ...]]:
    """The local directory of model `name`, and notes about how it was found."""
    if folder := local(name):
        return folder, ()
    if name.startswith(PACKAGED):
        return packaged_path(name.removeprefix(PACKAGED)), ()
    path, problem = find_on_hub(name)
    if path is not None:
        return path, ()
    packaged = _stand_in(name, problem)
    note = f"{name} was not to be had ({problem}): using {PACKAGED}{packaged.name} instead"
    return packaged_path(packaged.name), (note,)


def local(name: str) -> Path | None:
    """The directory a name means; None for a packaged model or a hub id."""
    if not name:
        raise ModelError("no model is named", mend="give a directory, a hub id or packaged/NAME")
    folder = user_path(name)
    if folder.is_dir():
        if any((folder / file).is_file() for file in ("config.json", MODEL_FILE, ADAPTER_FILE)):
            return folder.resolve()
        raise ModelError(
            "this directory holds no model",
            where=name,
            allowed=f"config.json or {MODEL_FILE} or {ADAPTER_FILE} in it",
        )
    if name.startswith(PACKAGED):
        return None
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError("no such directory", where=name, mend="give a directory or a hub id")
    return None


def _stand_in(name: str, problem: str) -> PackagedModel:
    """The installed package that carries a hub model which was not to be had."""
    for packaged in packaged_models().values():
        if packaged.hub_id == name:
            return packaged
    ready = [PACKAGED + known for known in packaged_models()]
    raise ModelError(
        f"model not found: no directory of that name, not in the local hub cache, and {problem}",
        where=name,
        mend="give a model directory, download the model where there is a network"
        + (f", or use {ready[0]}" if ready else ""),
    )
