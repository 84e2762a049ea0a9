"""Code of others: packages register through the entry point `accord.plugins`, plain files by their path.

Loading a plug-in runs it; its decorators register stages, losses and rewards. What a plain file registers
is part of the key of every stage that uses it, so that an edited file runs those stages again.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from accord.core.errors import AccordError, ConfigError
from accord.core.hashing import content_hash, file_hash

__all__ = ["PREFIX", "files_behind", "load_file", "load_installed", "registers"]

PREFIX = "accord_plugin_"  # of the module that a plain file becomes
_loaded: dict[str, str] = {}  # module -> hash of the file it was made from
_names: dict[str, set[str]] = {}  # module -> names that it registered
_installed: list[str] = []


def load_installed() -> None:
    """Load what installed packages declare, once."""
    if not _installed:
        _installed.append("done")
        for point in entry_points(group="accord.plugins"):
            point.load()


def load_file(path: Path) -> None:
    """Run a file for what it registers; again where it has changed. ConfigError for one that fails."""
    if not path.is_file():
        raise ConfigError("no such file", where=f"plugins: {path}", mend="check the path")
    path = path.resolve()
    name, sha256 = f"{PREFIX}{path.stem}_{content_hash(str(path))[:8]}", file_hash(path)
    if _loaded.get(name) == sha256:
        return
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


def registers(module: str, name: str, before: str | None) -> bool:
    """Note that a module registers a name; False when another one (`before`) has it already."""
    if before is not None and not (before == module and module.startswith(PREFIX)):
        return False
    if module in _names:
        _names[module].add(name)
    return True


def files_behind(config: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the plain files that registered a name which stands in a stage's config."""
    used = set(_texts(config))
    found = {m: names & used for m, names in _names.items() if m in _loaded}
    return {n: _loaded[m] for m, names in found.items() for n in sorted(names)}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)
