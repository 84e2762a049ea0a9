"""`accord collect`: the web app for judgments, and what keeps it."""

from __future__ import annotations

import typer

from accord.cli.collect.keeping import backup, export, restore, verify
from accord.cli.collect.people import token, user
from accord.cli.collect.serve import serve

__all__ = ["app"]

app = typer.Typer(help="Collect judgments from people in a browser.", no_args_is_help=True)
for command in (serve, user, verify, backup, restore, export, token):
    app.command()(command)
