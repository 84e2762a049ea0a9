"""`accord frontier`: policies on two axes, the Pareto front, and the one a rule picks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord.cli.options import Plugins, table_console
from accord.core.errors import ConfigError

if TYPE_CHECKING:
    from accord.pipeline.frontier import Standing

__all__ = ["app"]

app = typer.Typer()


@app.command()
def frontier(
    policies: Annotated[
        list[str], typer.Argument(help="RUN (all its policies), RUN:POLICY, or an answers.jsonl.")
    ],
    axes: Annotated[
        str, typer.Option(help="Two measures: what the limit is of, then what is picked by.")
    ] = "harm,helpful",
    limit: Annotated[
        str | None, typer.Option(help="The first axis may be no worse: 0.02, or 2%.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write chart, table and samples here (HTML).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 17,
    plugins: Plugins = None,
) -> None:
    """Show which policies no other one beats on both axes, how surely, and which one a rule picks."""
    from accord.core.plugins import load_files
    from accord.pipeline.frontier import read_policies, standing, write_page

    load_files([path.absolute() for path in plugins or []])
    known = read_policies(policies)
    stands = standing(known, [a.strip() for a in axes.split(",")], _number(limit), seed=seed)
    if out:
        write_page(out, known, stands)
    if as_json:
        print(json.dumps(stands.plain(), ensure_ascii=False, indent=2))
        return
    _show(stands)
    if out:
        print(f"written: {out}")


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ConfigError(f"is {text!r}", where="--limit", allowed="a number, or 2%") from None


def _show(stands: Standing) -> None:
    from rich.table import Table

    x, y = stands.axes
    heads = [f"{m.title} [95%]" for m in (x, y)]
    limited = stands.limit is not None
    odds = ["P(front)", *(["P(limit)"] if limited else []), "P(picked)"]
    table = Table("policy", *heads, *odds, "", box=None)
    for i, (name, (fx, fy)) in enumerate(zip(stands.names, stands.figures, strict=True)):
        front, within, picked = (
            f"{p[i]:.2f}" for p in (stands.front.on_front, stands.front.within, stands.front.picked)
        )
        cells = [front, *([within] if limited else []), picked, stands.note(i)]
        table.add_row(name, str(fx), str(fy), *cells)
    table_console().print(table, markup=False)
    print(stands.outcome)
