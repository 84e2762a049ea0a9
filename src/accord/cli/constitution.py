"""`accord constitution`: the principles that answers are held to, and what each of them labelled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accord.cli.options import table_console

__all__ = ["app"]

app = typer.Typer(
    help="The principles that answers are held to, and what each of them labelled.",
    no_args_is_help=True,
)
File = Annotated[str, typer.Argument(help="A file, or default.")]


@app.command("show")
def show(
    where: File = "default",
    whole: Annotated[bool, typer.Option("--whole", help="Every text.")] = False,
) -> None:
    """The principles of a constitution."""
    from rich.table import Table

    from accord.constitution.principles import read_constitution

    constitution, console = read_constitution(where), table_console()
    console.print(
        f"{constitution.name}, version {constitution.version}: {len(constitution.principles)} principles"
    )
    if whole:
        for p in constitution.principles:
            console.print(f"\n{p.id} ({p.category}, weight {p.weight:g}, version {p.version})")
            for key in ("text", "critique", "revision", "question"):
                console.print(f"  {key}: {getattr(p, key)}", highlight=False)
        return
    table = Table("id", "category", "weight", "text")
    for p in constitution.principles:
        table.add_row(p.id, p.category, f"{p.weight:g}", p.text)
    console.print(table)


@app.command("check")
def check(where: File = "default") -> None:
    """Whether a constitution can be used, and what a reader should look at."""
    from accord.constitution.principles import read_constitution, wrong

    constitution = read_constitution(where)
    notes = wrong(constitution)
    for line in notes:
        print(line)
    categories = ", ".join(sorted(set(constitution.categories.values())))
    print(f"{len(constitution.principles)} principles ({categories}); {len(notes)} to look at")


@app.command("diff")
def diff(old: File, new: File) -> None:
    """What changed from one constitution to another."""
    from accord.constitution.principles import differences, read_constitution

    lines = differences(read_constitution(old), read_constitution(new))
    print("\n".join(lines) or "no difference")


@app.command("labels")
def labels(
    where: Annotated[str, typer.Argument(help="STORE@SNAPSHOT")],
    without: Annotated[
        list[str] | None, typer.Option("--without", help="A principle's id: labels without it.")
    ] = None,
) -> None:
    """What each principle labelled, and what the labels would be without some."""
    from rich.table import Table

    from accord.judges.principles import ablated, principle_rows
    from accord.store import opened_snapshot

    console = table_console()
    with opened_snapshot(where, Path()) as snapshot:
        table = Table(
            "principle", "labels", "share of pairs", "sure", "wins", "disagrees", "without"
        )
        for row in principle_rows(snapshot):
            cells = (row.labels, row.share, row.sure, row.wins, row.disagrees, row.without)
            table.add_row(row.principle, *map(str, cells))
        console.print(table)
        if without:
            left = ablated(snapshot, without)
            console.print(
                f"Without {', '.join(without)}: of {left.pairs} labelled pairs {left.lost} have no label "
                f"left, {left.turned} name the other side, p moved by {left.moved}."
            )
