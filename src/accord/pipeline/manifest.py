"""The manifest: what a run ran on. Enough to tell two runs apart, to repeat one, and to find it again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from accord.core.errors import DISTRIBUTION, RunError
from accord.core.hashing import content_hash
from accord.core.rundir import is_done, read_json, user_path
from accord.pipeline.recipe import Recipe, recipe_from_resolved

__all__ = ["finished", "manifest"]

PACKAGES = (
    DISTRIBUTION, "torch", "transformers", "peft", "accelerate", "datasets", "tokenizers",
    "safetensors", "numpy", "scipy", "pydantic", "sqlalchemy",
)  # fmt: skip


def manifest(recipe: Any, folder: Any) -> dict[str, Any]:
    """Recipe, stage keys, code state, versions, seed and hardware as plain data."""
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "folder": str(recipe.folder),  # where the recipe's relative paths start
        "model": str(Path(recipe.model).resolve()) if Path(recipe.model).is_dir() else recipe.model,
        "stages": {name: place.name for name, place in folder.stages.items()},
        "order": [node.name for node in recipe.nodes],  # the file's keys are sorted
        "parents": {node.name: list(node.parents) for node in recipe.nodes},
        "code": _code(),
        "packages": {name: _version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
        "hardware": {
            "machine": platform.machine(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
    }


def finished(path: Path) -> tuple[Recipe, Path, dict[str, Path]]:
    """The recipe of an existing run, its directory, and the folders of its finished stages."""
    path = user_path(path).resolve()  # stages are found beside it
    if not (path / "recipe.json").is_file():
        raise RunError("this directory is no run", where=str(path), mend="name runs/NAME-HASH")
    try:
        facts = read_json(path / "manifest.json")
        recipe = recipe_from_resolved(read_json(path / "recipe.json"), path)
        stages = {n.name: path.parent / "stages" / facts["stages"][n.name] for n in recipe.nodes}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        what = f"recipe.json or manifest.json is not what was written ({error!r})"
        raise RunError(what, where=str(path), mend="run the recipe again") from None
    done = {n: p for n, p in stages.items() if is_done(p)}
    if not done:
        raise RunError(
            "no stage of this run is done, or its stages are gone",
            where=str(path),
            mend="run the recipe again",
        )
    return recipe, path, done


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git(*words: str) -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _code() -> dict[str, Any]:
    """Commit and a hash of what differs from it."""
    commit, diff = _git("rev-parse", "HEAD"), _git("diff", "HEAD")
    return {
        "commit": commit.strip() if commit else None,
        "dirty": bool(diff),
        "diff_sha256": content_hash(diff) if diff else None,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
