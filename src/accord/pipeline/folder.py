"""Where everything of a run is: stages keyed by content.

    runs/stages/<name>-<key>/     what a stage left; shared by all runs with the same key
    runs/<recipe>-<hash>/         recipe.json, manifest.json, links to its stages, report.html

A stage's key hashes its config, its parents' keys, the files it reads, the model, the seed and the
stage's version.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from accord.core.errors import AccordError, RunError, gather, raise_all
from accord.core.hashing import content_hash, file_hash, tree_hash
from accord.core.plugins import files_behind
from accord.core.rundir import is_done, user_path
from accord.pipeline.recipe import Node, Recipe
from accord.pipeline.stage import kind_of

__all__ = ["RunFolder", "check", "check_disk", "input_of", "plan"]

FREE_BYTES = 2 << 30  # asked for before a run starts


@dataclass(frozen=True)
class RunFolder:
    """A run: its directory and the folder of every stage."""

    path: Path
    stages: dict[str, Path]

    @property
    def report(self) -> Path:
        return self.path / "report.html"


def plan(recipe: Recipe, runs: Path) -> RunFolder:
    """Where everything of this run is or will be; reads input files to hash them, runs nothing."""
    keys: dict[str, str] = {}
    model = _model_identity(recipe.model)
    faults: list[AccordError] = []
    for node in recipe.nodes:
        inputs: dict[str, str] = {}
        with gather(faults):
            inputs = _input_hashes(node, recipe)
        kind, config = kind_of(node.config), node.config.hashed()
        facts = {
            "kind": kind.kind,
            "version": kind.version,
            "config": config,
            "parents": {p: keys[p] for p in node.parents},
            "inputs": inputs | files_behind(config),
            "seed": recipe.seed,
            "model": model if kind.uses_model else None,
        }
        keys[node.name] = content_hash(facts)[:12]
    raise_all(faults)
    stages = {
        name: runs / "stages" / f"{name.replace('/', '-')}-{key}" for name, key in keys.items()
    }
    return RunFolder(runs / f"{recipe.name}-{content_hash(sorted(keys.items()))[:8]}", stages)


def _model_identity(name: str) -> str:
    from accord.lm.model.chain import identity_or_name

    return identity_or_name(name)


def _input_hashes(node: Node, recipe: Recipe) -> dict[str, str]:
    from accord.store.io.readers import inputs

    hashes = node.config.inputs(node.name, recipe.folder)
    path = input_of(node, recipe)
    if path is None:
        return hashes
    try:
        read = {p.name: tree_hash(p) if p.is_dir() else file_hash(p) for p in inputs(path)}
        return hashes | {"input": read.get(path.name) or content_hash(read)}
    except OSError as error:
        what = f"can't be read ({error.strerror})"
        raise RunError(
            what, where=f"stage {node.name}: {path}", mend="check its permissions"
        ) from None


def input_of(node: Node, recipe: Recipe) -> Path | None:
    """The file a stage reads; RunError when it is not there."""
    key = kind_of(node.config).file
    if key is None or getattr(node.config, key) is None:
        return None
    from accord.store.io.readers import inputs

    path = _absolute(getattr(node.config, key), recipe)
    if not inputs(path):
        key_path = f"--set {node.name}.{key}=PATH"
        raise RunError(
            "no such file",
            where=f"stage {node.name}, {key}: {path}",
            mend="put it there, or name another"
            + (" as data" if node.implied else f" with {key_path}"),
        )
    return path


def _absolute(text: str, recipe: Recipe) -> Path:
    path = user_path(text)
    return path if path.is_absolute() else recipe.folder / path


def check(recipe: Recipe, runs: Path) -> list[str]:
    """What `--check` tells: model, inputs read row by row, what would run, disk space. Raises
    AccordError on a fault; nothing is left behind."""
    from accord.lm.model.find import where_is

    folder = plan(recipe, runs)
    free = check_disk(runs)
    lines = [
        f"recipe {recipe.name}: {len(recipe.nodes)} stages",
        f"model {recipe.model}: {where_is(recipe.model)}",
    ]
    for node in recipe.nodes:
        state = "done " if is_done(folder.stages[node.name]) else "to do"
        lines.append(f"  {state}  {node.name} ({node.config.kind})")
        if path := input_of(node, recipe):
            lines += [f"         {line}" for line in node.config.look(path)]
    lines.append(f"disk: {free / 2**30:.1f} GiB free, at least {FREE_BYTES / 2**30:.0f} GiB asked")
    return lines


def check_disk(runs: Path) -> int:
    place = next(p for p in (runs, *runs.resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    if free < FREE_BYTES:
        raise RunError(
            f"only {free / 2**30:.1f} GiB free on this disk",
            where=str(place),
            allowed=f"at least {FREE_BYTES / 2**30:.0f} GiB",
            mend="free some space, or choose another disk with --runs DIR",
        )
    return free
