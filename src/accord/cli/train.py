"""`accord train`: one stage without a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from accord.cli.options import RUNS, Fresh, Runs

__all__ = ["app"]

app = typer.Typer(help="Train one stage without a recipe.", no_args_is_help=True)


def _train(kind: str, data: str, model: str, name: str, sets: Any, runs: Path, fresh: bool) -> None:
    from accord.pipeline import runner
    from accord.pipeline.recipe import build_recipe
    from accord.pipeline.terminal import Terminal

    stage = {"sft": "sft", "reward": "rm", "preference": "preference"}[kind]
    plain = {"name": name, "model": model, "stages": {stage: {"kind": kind, "data": data}}}
    roots = [s if s.split(".")[0] in plain else f"{stage}.{s}" for s in sets or []]
    recipe = build_recipe(plain, {}, f"accord train {kind}", Path.cwd(), roots)
    runner.run(recipe, runs, Terminal(), fresh=fresh)


Data = Annotated[str, typer.Option("--data", help="STORE@SNAPSHOT, or a file to import.")]
Model = Annotated[
    str, typer.Option("--model", help="Hub id, directory, or a stage's model folder.")
]
Name = Annotated[str, typer.Option(help="Name of the run.")]
Keys = Annotated[list[str] | None, typer.Option("--set", help="A key of the stage: --set lr=1e-4")]


@app.command("sft")
def train_sft(
    data: Data, model: Model, name: Name = "sft", sets: Keys = None, runs: Runs = RUNS,
    fresh: Fresh = False,
) -> None:  # fmt: skip
    """Supervised fine-tuning on demonstrations."""
    _train("sft", data, model, name, sets, runs, fresh)


@app.command("reward")
def train_reward(
    data: Data, model: Model, name: Name = "reward", sets: Keys = None, runs: Runs = RUNS,
    fresh: Fresh = False,
) -> None:  # fmt: skip
    """A Bradley-Terry reward model on comparisons."""
    _train("reward", data, model, name, sets, runs, fresh)


@app.command("preference")
def train_preference(
    data: Data, model: Model, name: Name = "preference", sets: Keys = None, runs: Runs = RUNS,
    fresh: Fresh = False,
) -> None:  # fmt: skip
    """DPO and its family on comparisons."""
    _train("preference", data, model, name, sets, runs, fresh)
