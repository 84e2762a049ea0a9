"""`accord train`: one stage without a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accord.cli.options import RUNS, FreshOption, Plugins, Runs

__all__ = ["app"]

app = typer.Typer(help="Train one stage without a recipe.", no_args_is_help=True)


DataOption = Annotated[str, typer.Option("--data", help="STORE@SNAPSHOT, or a file to import.")]
Model = Annotated[
    str, typer.Option("--model", help="Hub id, directory, or a stage's model folder.")
]
RunName = Annotated[str | None, typer.Option(help="Name of the run; the command's by default.")]
Keys = Annotated[list[str] | None, typer.Option("--set", help="A key of the stage: --set lr=1e-4")]


def _command(kind: str, stage: str, help: str) -> None:
    """The command that trains one stage of that kind."""

    @app.command(kind, help=help)
    def train(
        data: DataOption, model: Model, name: RunName = None, sets: Keys = None, runs: Runs = RUNS,
        fresh: FreshOption = False, plugins: Plugins = None,
    ) -> None:  # fmt: skip
        from accord.pipeline import runner
        from accord.pipeline.recipe import build_recipe
        from accord.pipeline.terminal import Terminal

        plain = {
            "name": name or kind,
            "model": model,
            "stages": {stage: {"kind": kind, "data": data}},
        }
        roots = [s if s.split(".")[0] in plain else f"{stage}.{s}" for s in sets or []]
        recipe = build_recipe(plain, {}, f"accord train {kind}", Path.cwd(), roots, plugins or [])
        runner.run(recipe, runs, Terminal(), fresh=fresh)


_command("sft", "sft", "Supervised fine-tuning on demonstrations.")
_command("reward", "rm", "A Bradley-Terry reward model on comparisons.")
_command("preference", "preference", "DPO and its family on comparisons.")
