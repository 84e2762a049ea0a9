"""Run a recipe: stages keyed by content, finished ones skipped, a killed run resumed.

    runs/stages/<name>-<key>/     what a stage left; shared by all runs with the same key
    runs/<recipe>-<hash>/         recipe.json, manifest.json, links to its stages, report.html

A stage's key hashes its config, its parents' keys, the files it reads, the model, the seed and the
stage's version. Its folder holds partial work (checkpoints) until DONE is written, last.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.day import BEGAN, dated
from accord.core.errors import AccordError, RunError, gather, raise_all
from accord.core.hashing import content_hash, file_hash, tree_hash
from accord.core.plugins import files_behind
from accord.core.rundir import (
    hold,
    is_done,
    make_dir,
    mark_done,
    read_json,
    user_path,
    write_json,
    write_text,
)  # fmt: skip
from accord.core.seeds import derive_seed
from accord.pipeline.context import Reporter, StageContext, read_result
from accord.pipeline.manifest import manifest
from accord.pipeline.recipe import Node, Recipe
from accord.pipeline.stage import kind_of

__all__ = ["RunFolder", "check", "finished", "rewrite_report", "run"]

TIMING = "timing.json"  # seconds, and the most memory held (bytes)
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

    found = node.config.inputs(node.name, recipe.folder)
    path = _input(node, recipe)
    if path is None:
        return found
    try:
        read = {p.name: tree_hash(p) if p.is_dir() else file_hash(p) for p in inputs(path)}
        return found | {"input": read.get(path.name) or content_hash(read)}
    except OSError as error:
        what = f"can't be read ({error.strerror})"
        raise RunError(
            what, where=f"stage {node.name}: {path}", mend="check its permissions"
        ) from None


def _input(node: Node, recipe: Recipe) -> Path | None:
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
    from accord.lm.model.load import where_is

    folder = plan(recipe, runs)
    free = _free_bytes(runs)
    lines = [
        f"recipe {recipe.name}: {len(recipe.nodes)} stages",
        f"model {recipe.model}: {where_is(recipe.model)}",
    ]
    for node in recipe.nodes:
        state = "done " if is_done(folder.stages[node.name]) else "to do"
        lines.append(f"  {state}  {node.name} ({node.config.kind})")
        if path := _input(node, recipe):
            lines += [f"         {line}" for line in node.config.look(path)]
    lines.append(f"disk: {free / 2**30:.1f} GiB free, at least {FREE_BYTES / 2**30:.0f} GiB asked")
    return lines


def _free_bytes(runs: Path) -> int:
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


def run(
    recipe: Recipe,
    runs: Path,
    reporter: Reporter,
    *,
    only: Sequence[str] = (),
    fresh: bool = False,
) -> RunFolder:
    """Run what is not done yet and write the report. `only` stages need their parents done."""
    from accord.lm.model.find import resolve, source_of

    make_dir(runs)
    _free_bytes(runs)
    folder, wanted = plan(recipe, runs), _wanted(recipe, only)
    todo = [n for n in recipe.nodes if n.name in wanted and not is_done(folder.stages[n.name])]
    if any(kind_of(n.config).uses_model for n in todo):
        to_come = source_of(recipe.model) == recipe.model
        resolve(recipe.model)  # refused, or downloaded, before anything runs
        folder = plan(recipe, runs) if to_come else folder
    make_dir(folder.path)
    write_text(folder.path / "recipe.json", json.dumps(recipe.resolved, indent=2) + "\n")
    if fresh and not only:
        (folder.path / BEGAN).unlink(missing_ok=True)
    started = time.time()
    write_json(folder.path / "manifest.json", manifest(recipe, folder))
    for node in recipe.nodes:
        if node.name not in wanted:
            continue
        place = folder.stages[node.name]
        with hold(place):
            if fresh:
                _empty(place)
            _link(folder, node.name)
            if is_done(place):
                left = read_result(place)
                if not node.config.moved(left.facts, recipe.folder):
                    reporter.skipped(node.name, left.headline)
                    continue
            with dated(folder.path):
                run_stage(recipe, node, folder, runs, reporter)
    _report(recipe, folder, reporter, time.time() - started)
    return folder


def _wanted(recipe: Recipe, only: Sequence[str]) -> set[str]:
    names = {n.name for n in recipe.nodes}
    wanted: set[str] = set()
    for item in only:
        found = {n for n in names if n == item or n.startswith(f"{item}/")}
        if not found:
            raise RunError(
                f"there is no stage {item!r}", where="--only", allowed=", ".join(sorted(names))
            )
        wanted |= found
    return wanted or names


def stage_context(
    recipe: Recipe, node: Node, folder: RunFolder, runs: Path, reporter: Reporter
) -> StageContext[Any]:
    """What the stage is given: its own seed, its folder, the folders it reads."""
    seed, kind = recipe.seed, kind_of(node.config)
    own = getattr(node.config, "seed", None)
    stream = (kind.kind,) if own is None else (kind.kind, own)
    return StageContext(
        name=node.name,
        config=node.config,
        seed=derive_seed(seed, *stream) if kind.uses_model else seed,
        model=recipe.model,
        folder=folder.stages[node.name],
        recipe_folder=recipe.folder,
        stages=folder.stages,
        reporter=reporter,
        trackers=recipe.trackers,
        cache_folder=runs / "cache",
    )


def run_stage(
    recipe: Recipe, node: Node, folder: RunFolder, runs: Path, reporter: Reporter
) -> None:
    place = folder.stages[node.name]
    for parent in node.parents:
        if not is_done(folder.stages[parent]):
            raise RunError(
                f"stage {parent} is not done yet",
                where=f"stage {node.name}",
                mend=f"run without --only, or with --only {parent} first",
            )
    from accord.lm.kernels.allocator import release_freed_memory
    from accord.lm.model.find import bases_at
    from accord.train.memory import device_of_choice, peak, reset_peak

    ctx = stage_context(recipe, node, folder, runs, reporter)
    device = device_of_choice()
    release_freed_memory()  # what the stage before held
    reset_peak(device)
    reporter.start(node.name)
    began = time.perf_counter()
    try:
        with bases_at(recipe.model):
            result = kind_of(node.config).call("run", ctx)
    except (AccordError, KeyboardInterrupt) as error:
        reporter.failed(node.name)
        if isinstance(error, AccordError) and error.prompt:
            raise _with_its_row(error, node, recipe) from None
        raise
    seconds = time.perf_counter() - began
    result.write(place)
    write_json(place / "config.json", {"name": node.name, **node.config.model_dump(mode="json")})
    write_json(place / TIMING, {"seconds": round(seconds, 2), "peak": peak(device)})
    mark_done(place, {"stage": node.name, "key": place.name.rpartition("-")[2]})
    reporter.finished(node.name, result.headline, seconds, result.notes)


def _with_its_row(error: AccordError, node: Node, recipe: Recipe) -> AccordError:
    """The error about a prompt with the file and row that prompt came from, where it came from a file."""
    for parent in recipe.nodes:
        if parent.name in node.parents and (file := _input(parent, recipe)):
            where = parent.config.row_of(file, error.prompt) + error.where
            return type(error)(error.what, where=where, allowed=error.allowed, mend=error.mend)
    return error


def _empty(place: Path) -> None:
    for item in place.iterdir():
        if item.name == ".lock":
            continue
        shutil.rmtree(item) if item.is_dir() and not item.is_symlink() else item.unlink()


def _link(folder: RunFolder, name: str) -> None:
    """runs/<run>/<stage> -> ../stages/<stage>-<key>"""
    link = folder.path / name.replace("/", "-")
    target = os.path.relpath(folder.stages[name], folder.path)
    if link.is_symlink() and os.readlink(link) != target:
        link.unlink()
    if not link.is_symlink():
        try:
            link.symlink_to(target)
        except OSError as error:
            what = f"can't be made a link ({error.strerror})"
            raise RunError(what, where=str(link), mend="move what is there away") from None


def _report(recipe: Recipe, folder: RunFolder, reporter: Reporter, seconds: float) -> None:
    from accord.pipeline.report import write_report

    done: dict[str, Any] = {n: p for n, p in folder.stages.items() if is_done(p)}
    write_report(recipe, folder.path, done)
    reporter.report(folder.report, seconds)


def rewrite_report(path: Path) -> Path:
    """The report of an existing run, written again from what its stages left."""
    from accord.pipeline.report import write_report

    recipe, path, done = finished(path)
    return write_report(recipe, path, done)


def finished(path: Path) -> tuple[Recipe, Path, dict[str, Path]]:
    """The recipe of an existing run, its directory, and the folders of its finished stages."""
    from accord.pipeline.recipe import recipe_from_resolved

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
