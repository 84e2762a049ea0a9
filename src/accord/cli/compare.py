"""`accord compare`: routes from feedback to a policy, over the seeds of several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accord.cli.options import Plugins

__all__ = ["app"]

app = typer.Typer()


@app.command()
def compare(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Finished runs of one recipe, a seed each: directories, or what --record wrote."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="Write the table here (Markdown).")] = None,
    page: Annotated[Path | None, typer.Option(help="Write it here as a page (HTML).")] = None,
    record: Annotated[
        Path | None,
        typer.Option(help="Keep what is read of the runs here (JSON): it stands for them later."),
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Hold every route from feedback to a policy against the others: what each took, what came of it, over
    seeds, and with fewer judgments. Without --out the table is printed."""
    from accord.core.plugins import load_files
    from accord.core.rundir import write_text
    from accord.pipeline.routes.record import keep_records, read_records
    from accord.pipeline.routes.table import route_table, write_routes_page

    load_files([path.absolute() for path in plugins or []])
    records = read_records(runs)
    table = route_table(records)
    if record:
        keep_records(record, records)
    if out:
        write_text(out, table.markdown())
    else:
        print(table.markdown(), end="")
    if page:
        write_routes_page(page, table)
    for path in (out, page, record):
        if path:
            print(f"written: {path}")
