"""A recipe's stages, priced one by one, beside what finished ones took."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from accord.core.artifact import Data
from accord.core.rundir import is_done, make_dir, read_json
from accord.lm.model.load import load_shape
from accord.pipeline.folder import RunFolder, plan
from accord.pipeline.recipe import Node, Recipe
from accord.pipeline.runner import TIMING, run_stage, stage_context
from accord.pipeline.stage import Stage, kind_of
from accord.pipeline.work import Known
from accord.plan.memory import Estimate, Shape, estimate
from accord.plan.probe import Probe
from accord.plan.work import work_of
from accord.train.loop.memory import available, device_of_choice, in_use

__all__ = ["PlanRow", "plan_stages"]


@dataclass(frozen=True)
class PlanRow:
    """A stage's estimate, None of one that can't be counted; `took`: bytes and seconds of the finished stage,
    where there is one."""

    name: str
    estimate: Estimate | None
    took: tuple[float | None, float] | None = None
    notes: list[str] = field(default_factory=list)


class _Silent:
    """A reporter that says nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None


def plan_stages(
    recipe: Recipe,
    runs: Path,
    *,
    rate: float | None = None,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[list[PlanRow], float]:
    """Every stage that uses a model, in order, and the bytes there are. Data stages are taken from `runs`
    where they are done, and made in a temporary folder otherwise, if that asks, judges and spends nothing:
    nothing else runs, nothing is left."""
    for node in recipe.nodes:
        kind_of(node.config).function("run")  # what a run imports, for `base`
    began = time.perf_counter()
    config, tokenizer = load_shape(recipe.model)
    device = device_of_choice()
    base = float(in_use(device))
    there = base + available(device)
    shape, probe = Shape.of(config), Probe(config, tokenizer, device)
    lm = probe.small(1)
    first = time.perf_counter() - began  # imports, which a run's first stage waits for as well
    real, rows = plan(recipe, runs), list[PlanRow]()
    with tempfile.TemporaryDirectory() as name:
        folder, missing = _data(recipe, real, Path(name), tell)
        known = Known({n.name: n.config for n in recipe.nodes}, lm)
        for node in recipe.nodes:
            kind, took = kind_of(node.config), _took(real.stages[node.name])
            if kind.free:
                continue
            if why := _not_counted(node, kind, missing):
                rows.append(PlanRow(node.name, None, took, [why]))
                continue
            tell(f"pricing {node.name}")
            ctx = stage_context(recipe, node, folder, Path(name), _Silent())
            began = time.perf_counter()
            work = work_of(ctx, known)
            if work is None:
                rows.append(PlanRow(node.name, None, took, [_silent(kind)]))
                continue
            before = time.perf_counter() - began  # it reads and renders what the stage will
            priced = [row.estimate for row in rows if row.estimate]
            met = priced[-1].met if priced else 0
            estimated = estimate(work, shape, probe, base, there - base, rate, met)
            if not rate:
                estimated = replace(
                    estimated, seconds=estimated.seconds + before + (0.0 if priced else first)
                )
            rows.append(PlanRow(node.name, estimated, took, work.notes))
    return rows, there


def _silent(kind: Stage) -> str:
    return f"not counted: kind {kind.kind} does not say what it does"


def _not_counted(node: Node, kind: Stage, missing: set[str]) -> str:
    """Why a stage has no price, or ""."""
    if kind.work is None:
        return _silent(kind)
    if unknown := missing & set(node.parents):
        return f"not counted before {min(unknown)} is done, which a plan does not run"
    return ""


def _data(
    recipe: Recipe, real: RunFolder, place: Path, tell: Callable[[str], None]
) -> tuple[RunFolder, set[str]]:
    """Folders of all stages, and the stages of data that are not there. Only kinds that are `free` run. Of
    one that adds to other data, as `ask` does, those stand for it: its own are not known yet."""
    stages, missing = dict(real.stages), set[str]()
    folder = RunFolder(place, stages)
    for node in recipe.nodes:
        kind = kind_of(node.config)
        if not issubclass(kind.gives, Data) or is_done(stages[node.name]):
            continue
        data = [
            n for k, a in kind.reads.items() if issubclass(a, Data) for n in node.config.named(k)
        ]
        if kind.free and all(is_done(stages[parent]) for parent in node.parents):
            tell(f"making {node.name}")
            stages[node.name] = place / node.name
            make_dir(stages[node.name])
            run_stage(recipe, node, folder, place, _Silent())
        elif data and data[0] not in missing:
            stages[node.name] = stages[data[0]]
        else:
            missing.add(node.name)
    return folder, missing


def _took(place: Path) -> tuple[float | None, float] | None:
    """(bytes, seconds) of a finished stage."""
    if not is_done(place) or not (place / TIMING).is_file():
        return None
    facts = read_json(place / TIMING)
    return facts.get("peak"), facts["seconds"]
