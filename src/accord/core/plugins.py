"""Code of others: packages register through the entry point `accord.plugins`, plain files by their path.

Loading a plug-in runs it; its decorators register stages, losses and rewards. What a plain file registers
is part of the key of every stage that uses it, so that an edited file runs those stages again.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from accord.core.errors import AccordError, ConfigError, gather, raise_all
from accord.core.hashing import content_hash, file_hash

__all__ = ["files_behind", "load_files", "load_installed", "registers"]

Registered = tuple[str, str]  # of a registry, and in it
PREFIX = "accord_plugin_"  # of the module that a plain file becomes
_loaded: dict[str, str] = {}  # module -> hash of the file it was made from
_names: dict[str, set[Registered]] = {}  # module -> what it registered
_owners: dict[Registered, str] = {}  # what is registered -> the module whose it is now
_installed: list[str] = []


def load_installed() -> None:
    """Load what installed packages declare, once."""
    if not _installed:
        _installed.append("done")
        for point in entry_points(group="accord.plugins"):
            try:
                point.load()
            except Exception as error:
                place = f"installed plug-in {point.name} ({point.value})"
                raise ConfigError(f"failed ({error!r})"[:200], where=place) from error


def load_files(paths: Sequence[Path]) -> None:
    """Run files for what they register; again where one has changed, or another file has taken its names.
    ConfigError for one that fails, and for two that register the same."""
    faults: list[AccordError] = []
    taken: dict[Registered, Path] = {}
    for path in paths:
        with gather(faults):
            for name in _load(path):
                if taken.setdefault(name, path) != path:
                    what = f"{name[0]} {name[1]!r} is registered by {taken[name]} too"
                    raise ConfigError(what, where=f"plugins: {path}", mend="give them two names")
    raise_all(faults)


def _load(path: Path) -> set[Registered]:
    if not path.is_file():
        raise ConfigError("no such file", where=f"plugins: {path}", mend="check the path")
    path = path.resolve()
    name, sha256 = f"{PREFIX}{path.stem}_{content_hash(str(path))[:8]}", file_hash(path)
    if _loaded.get(name) == sha256 and all(_owners[n] == name for n in _names[name]):
        return _names[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError("is no Python file", where=f"plugins: {path}", allowed="FILE.py")
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    _names[name] = set()
    try:
        spec.loader.exec_module(module)
    except AccordError:
        raise
    except Exception as error:
        line = next((f.lineno for f in reversed(traceback.extract_tb(error.__traceback__))
                     if f.filename == str(path)), getattr(error, "lineno", None))  # fmt: skip
        place = f"{path}:{line}" if line else str(path)
        raise ConfigError(f"the plug-in failed ({error!r})"[:200], where=place) from error
    _loaded[name] = sha256
    return _names[name]


def registers(module: str, registry: str, name: str, before: str | None) -> bool:
    """Note that a module registers a name; False when it, or one that is no plain file (`before`), has."""
    if before is not None and not (before.startswith(PREFIX) and module.startswith(PREFIX)):
        return False
    if module in _names:
        if (registry, name) in _names[module]:
            return False
        _names[module].add((registry, name))
        _owners[registry, name] = module
    return True


def files_behind(config: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the plain files that registered a name which stands in a stage's config."""
    used = set(_texts(config))
    return {
        n: _loaded[module]
        for (_, n), module in sorted(_owners.items())
        if n in used and module in _loaded
    }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
