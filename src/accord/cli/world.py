"""`accord world`: worlds whose truth is known, from a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accord.cli.options import Plugins
from accord.core.errors import raise_all

__all__ = ["app"]

app = typer.Typer(help="Worlds whose truth is known.", no_args_is_help=True)


@app.callback()
def world() -> None:
    """Worlds whose truth is known."""


@app.command("check")
def check(
    file: Annotated[Path, typer.Argument(help="A world's YAML file.")],
    plugins: Plugins = None,
) -> None:
    """Tell every fault of a world's file: its form, and answers that do not score as what they are."""
    from accord.core.plugins import load_files
    from accord.worlds.base import faults, open_world

    load_files([path.absolute() for path in plugins or []])
    raise_all(faults(file))
    print(f"{file}: {open_world(file).about()}, no fault")
