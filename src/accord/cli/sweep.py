"""`accord sweep`: a recipe's preference stage as a grid, and the points in one table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from accord.core.config import read_values, read_yaml
from accord.core.errors import AccordError, ConfigError, gather, raise_all
from accord.core.rundir import read_json
from accord.core.types import Metric
from accord.pipeline import folder, runner
from accord.pipeline.recipe import Recipe, build_recipe, find_recipe
from accord.pipeline.stage import kind_of, kinds
from accord.pipeline.stages.preference import PreferenceStage
from accord.pipeline.terminal import Terminal

__all__ = ["run_sweep"]

COLUMNS = ("accuracy", "margin", "chosen_shift", "rejected_shift", "kl")


def run_sweep(
    recipe: str,
    over: Sequence[str],
    stage: str | None,
    sets: Sequence[str],
    runs: Path,
    *,
    fresh: bool,
    check: bool,
    plugins: Sequence[Path] = (),
) -> None:
    """Run the sweep and what it reads, write the report, print the table."""
    parsed, name = _as_sweep(find_recipe(recipe), over, stage, sets, plugins)
    if check:
        print("\n".join(folder.check(parsed, runs)))
        return
    done = runner.run(parsed, runs, Terminal(), fresh=fresh)
    Console(highlight=False).print(_table(read_json(done.stages[name] / "sweep.json")))


def _as_sweep(
    path: Path, over: Sequence[str], stage: str | None, sets: Sequence[str], plugins: Sequence[Path]
) -> tuple[Recipe, str]:
    """The recipe with that stage as a sweep, and only the stages it reads."""
    data, lines = read_yaml(path)
    given = data.get("stages")
    stages: dict[str, Any] = given if isinstance(given, dict) else {}
    name = _which(stages, stage, path)
    grid: dict[str, list[Any]] = {}
    faults: list[AccordError] = []
    for item in over:
        with gather(faults):
            key, equals, values = item.partition("=")
            if not equals or not key:
                raise ConfigError(f"can't read {item!r}", where="--over", allowed="key=value,value")
            grid[key.strip()] = read_values(values, f"--over {item}")
    raise_all(faults)
    if not grid and stages[name].get("kind") != "sweep":
        raise ConfigError("a sweep needs values", where="--over", allowed="--over lr=1e-4,3e-4")
    if grid:
        stages[name] = {**stages[name], "kind": "sweep", "over": grid}
    kept, waiting = set(), [name]
    while waiting:
        at = waiting.pop()
        kept.add(at)
        waiting += [
            r for k in ("init", "data") if (r := stages[at].get(k)) in stages and r not in kept
        ]
    data["stages"] = {n: s for n, s in stages.items() if n in kept}
    data["name"] = f"{data.get('name')}-sweep"
    return build_recipe(data, lines, str(path), path.resolve().parent, sets, plugins), name


def _which(stages: dict[str, Any], stage: str | None, path: Path) -> str:
    grids = [kind for kind, known in kinds().items() if issubclass(known.config, PreferenceStage)]
    fitting = [n for n, s in stages.items() if isinstance(s, dict) and s.get("kind") in grids]
    if stage is None and len(fitting) == 1:
        return fitting[0]
    if stage in fitting and stage is not None:
        return stage
    what = "which stage is swept?" if stage is None else f"{stage!r} is no preference stage"
    allowed = ", ".join(fitting) or "the recipe has no preference stage"
    raise ConfigError(
        what, where=str(path), allowed=allowed, mend="" if not fitting else "use --stage"
    )


def _table(points: Sequence[dict[str, Any]]) -> Table:
    apart = any(p.get("apart") for p in points)
    known = kind_of("sweep").declared()
    table = Table(
        "point",
        *(["chosen by: accuracy"] if apart else []),
        *(known[c].title for c in COLUMNS),
    )
    for p in points:
        metrics = {k: Metric.model_validate(m) for k, m in p["metrics"].items()}
        cells = [str(metrics[c]).replace(" n=", "\nn=") if c in metrics else "" for c in COLUMNS]
        if apart:
            chosen = p["chosen_by"].get("accuracy")
            shown = "" if chosen is None else str(Metric.model_validate(chosen))
            cells.insert(0, shown.replace(" n=", "\nn="))
        if p["failed"]:
            cells = [f"failed: {p['failed']}", *[""] * (len(cells) - 1)]
        table.add_row(f"{p['label']}{' (used)' if p['picked'] else ''}", *cells)
    return table
