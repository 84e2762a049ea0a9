"""A recipe's stages, priced one by one, beside what finished ones took."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from accord.core.rundir import is_done, make_dir, read_json
from accord.lm.load import load_shape
from accord.pipeline.kinds import DATA, Ask
from accord.pipeline.recipe import Recipe
from accord.pipeline.runner import TIMING, RunFolder, plan, run_stage, stage_context
from accord.plan.memory import Estimate, Shape, estimate
from accord.plan.probe import Probe
from accord.plan.work import work_of
from accord.plan.written import Known
from accord.train.memory import available, device_of_choice, in_use

__all__ = ["Row", "plan_stages"]


@dataclass(frozen=True)
class Row:
    """A stage's estimate; `took`: bytes and seconds of the finished stage, where there is one."""

    name: str
    estimate: Estimate
    took: tuple[float | None, float] | None = None
    said: list[str] = field(default_factory=list)


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
) -> tuple[list[Row], float]:
    """Every stage that uses a model, in order, and the bytes there are. Data stages are taken from `runs`
    where they are done, and made in a temporary folder otherwise: nothing else runs, nothing is left."""
    from accord.pipeline.stages import STAGES  # noqa: F401 - what a run imports, for `base`

    began = time.perf_counter()
    config, tokenizer = load_shape(recipe.model)
    device = device_of_choice()
    base = float(in_use(device))
    there = base + available(device)
    shape, probe = Shape.of(config), Probe(config, tokenizer, device)
    lm = probe.small(1)
    first = time.perf_counter() - began  # imports, which a run's first stage waits for as well
    real, rows = plan(recipe, runs), list[Row]()
    with tempfile.TemporaryDirectory() as name:
        folder = _data(recipe, real, Path(name), tell)
        known = Known({n.name: n.config for n in recipe.nodes}, lm)
        for node in recipe.nodes:
            if node.config.kind in DATA and not isinstance(node.config, Ask):
                continue
            tell(f"pricing {node.name}")
            ctx = stage_context(recipe, node, folder, Path(name), _Silent())
            began = time.perf_counter()
            work = work_of(ctx, known)
            before = time.perf_counter() - began  # it reads and renders what the stage will
            met = rows[-1].estimate.met if rows else 0
            found = estimate(work, shape, probe, base, there - base, rate, met)
            if not rate:
                found = replace(found, seconds=found.seconds + before + (0.0 if rows else first))
            rows.append(Row(node.name, found, _took(real.stages[node.name]), work.said))
    return rows, there


def _data(recipe: Recipe, real: RunFolder, place: Path, tell: Callable[[str], None]) -> RunFolder:
    """Folders of all stages. An `ask` stage has what the data it adds to has: its own is not known yet."""
    stages = dict(real.stages)
    folder = RunFolder(place, stages)
    for node in recipe.nodes:
        kind = node.config.kind
        if kind not in DATA or is_done(stages[node.name]):
            continue
        if isinstance(node.config, Ask):
            stages[node.name] = stages[node.config.data]
            continue
        tell(f"making {node.name}")
        stages[node.name] = place / node.name
        make_dir(stages[node.name])
        run_stage(recipe, node, folder, place, _Silent())
    return folder


def _took(place: Path) -> tuple[float | None, float] | None:
    """(bytes, seconds) of a finished stage."""
    if not is_done(place) or not (place / TIMING).is_file():
        return None
    facts = read_json(place / TIMING)
    return facts.get("peak"), facts["seconds"]
