"""`accord plan memory`: what a recipe takes before it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from accord.cli.options import Plugins, Sets, table_console

__all__ = ["memory"]


def memory(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or a shipped recipe's name.")],
    runs: Annotated[
        Path, typer.Option(help="Where runs are: finished stages are set beside.")
    ] = Path("runs"),
    tflops: Annotated[
        float | None,
        typer.Option(min=0.001, help="TFLOP/s another machine sustains: its time, not this one's."),
    ] = None,
    sets: Sets = None,
    plugins: Plugins = None,
) -> None:
    """Memory, compute and time of every stage of a recipe, before anything runs."""
    from accord.pipeline.recipe import find_recipe, read_recipe
    from accord.pipeline.terminal import clock
    from accord.plan.stages import plan_stages

    parsed = read_recipe(find_recipe(recipe), sets or [], plugins or [])
    console = table_console()
    rows, there = plan_stages(
        parsed,
        runs,
        rate=tflops and tflops * 1e12,
        tell=lambda text: console.print(f"[dim]{text}[/]"),
    )
    ran = any(row.took for row in rows)
    table = Table(box=None, pad_edge=False)
    for name in (
        "stage",
        "TFLOP",
        "memory",
        "time",
        *(("it took", "in") if ran else ()),
        "of the memory",
    ):
        table.add_column(name, justify="left" if name in ("stage", "of the memory") else "right")
    for row in rows:
        took = [_gb(row.took[0]), clock(row.took[1])] if row.took else ["", ""]
        cost = row.estimate
        table.add_row(
            row.name,
            *(
                [f"{cost.flop / 1e12:,.2f}", _gb(cost.peak), clock(cost.seconds)]
                if cost
                else [""] * 3
            ),
            *(took if ran else ()),
            _largest(cost.memory) if cost else "",
        )
    console.print(table)
    costs = [row.estimate for row in rows if row.estimate]
    peak, seconds = max((c.peak for c in costs), default=0.0), sum(c.seconds for c in costs)
    where = f"at {tflops:g} TFLOP/s" if tflops else "on this machine"
    console.print(f"\n{clock(seconds)} {where}, {_gb(peak)} at the peak; there are {_gb(there)}")
    for row in rows:
        notes = list(row.notes)
        if row.estimate and row.estimate.peak > there:
            notes.append("does not fit: lower tokens, or tune fewer layers")
        for line in notes:
            console.print(f"{row.name}: {line}")


def _largest(memory: dict[str, float]) -> str:
    """The three largest shares."""
    first = sorted(memory.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {_gb(size)}" for name, size in first)


def _gb(size: float | None) -> str:
    return "" if size is None else f"{size / 2**30:.2f} GB"
