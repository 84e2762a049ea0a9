"""Run a recipe: finished stages skipped, a killed run resumed, the report written.

A stage's folder holds partial work (checkpoints) until DONE is written, last.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from accord.core.day import BEGAN, dated
from accord.core.errors import AccordError, RunError
from accord.core.rundir import FAILED, hold, is_done, make_dir, mark_done, write_json, write_text
from accord.core.seeds import derive_seed
from accord.pipeline.context import Reporter, StageContext, read_result
from accord.pipeline.folder import RunFolder, check_disk, input_of, plan
from accord.pipeline.manifest import finished, manifest
from accord.pipeline.recipe import Node, Recipe
from accord.pipeline.stage import kind_of

__all__ = ["rewrite_report", "run", "stage_seed"]

TIMING = "timing.json"  # seconds, and the most memory held (bytes)


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
    check_disk(runs)
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
        matching = {n for n in names if n == item or n.startswith(f"{item}/")}
        if not matching:
            raise RunError(
                f"there is no stage {item!r}", where="--only", allowed=", ".join(sorted(names))
            )
        wanted |= matching
    return wanted or names


def stage_seed(recipe: Recipe, node: Node) -> int:
    """The seed that a stage is given: of one that trains, of its kind and its own `seed`."""
    kind, own = kind_of(node.config), getattr(node.config, "seed", None)
    stream = (kind.kind,) if own is None else (kind.kind, own)
    return derive_seed(recipe.seed, *stream) if kind.uses_model else recipe.seed


def stage_context(
    recipe: Recipe, node: Node, folder: RunFolder, runs: Path, reporter: Reporter
) -> StageContext[Any]:
    """What the stage is given: its own seed, its folder, the folders it reads."""
    return StageContext(
        name=node.name,
        config=node.config,
        seed=stage_seed(recipe, node),
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
    from accord.lm.model.find import bases_at
    from accord.train.loop.memory import measuring

    ctx = stage_context(recipe, node, folder, runs, reporter)
    reporter.start(node.name)
    (place / FAILED).unlink(missing_ok=True)
    began = time.perf_counter()
    try:
        with measuring() as peak, bases_at(recipe.model):
            result = kind_of(node.config).call("run", ctx)
    except (AccordError, KeyboardInterrupt) as error:
        reporter.failed(node.name)
        if isinstance(error, AccordError):
            with suppress(OSError, RunError):  # a full disk: the error itself is what is told
                write_json(place / FAILED, {"error": str(error)})
            if error.prompt:
                raise _with_its_row(error, node, recipe) from None
        raise
    seconds = time.perf_counter() - began
    result.write(place)
    write_json(place / "config.json", {"name": node.name, **node.config.model_dump(mode="json")})
    write_json(place / TIMING, {"seconds": round(seconds, 2), "peak": peak()})
    mark_done(place, {"stage": node.name, "key": place.name.rpartition("-")[2]})
    reporter.finished(node.name, result.headline, seconds, result.notes)


def _with_its_row(error: AccordError, node: Node, recipe: Recipe) -> AccordError:
    """The error about a prompt with the file and row that prompt came from, where it came from a file."""
    for parent in recipe.nodes:
        if parent.name in node.parents and (file := input_of(parent, recipe)):
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
