"""Options that several commands share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["RUNS", "Check", "FreshOption", "Only", "Plugins", "Runs", "Sets", "table_console"]

Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: --set dpo.loss.beta=0.3")
]
Runs = Annotated[Path, typer.Option("--runs", help="Where runs are kept.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Run this stage only (repeatable).")]
FreshOption = Annotated[
    bool, typer.Option("--fresh", help="Forget earlier outputs of these stages.")
]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file that registers things of your own (repeatable)."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Validate recipe, data and disk; run nothing.")
]
RUNS = Path("runs")
WIDTH = 118


def table_console() -> Console:
    """A console for tables: as wide as the terminal, or wide enough for all columns in a file."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
