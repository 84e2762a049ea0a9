"""`accord plan`: what more judgments would buy, where a budget should go, what a recipe takes, how many
prompts an evaluation needs."""

from __future__ import annotations

import typer

from accord.cli.plan.budget import budget
from accord.cli.plan.data import data
from accord.cli.plan.eval import evaluation
from accord.cli.plan.memory import memory

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Plan data and budgets before they are spent.")
for command in (data, budget, memory):
    app.command()(command)
app.command("eval")(evaluation)
