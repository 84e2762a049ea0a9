"""`accord run`, `demo`, `sweep`, `report`: recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from accord.cli.options import RUNS, Check, FreshOption, Only, Plugins, Runs, Sets

__all__ = ["app"]

app = typer.Typer()


@app.command()
def demo(
    full: Annotated[
        bool, typer.Option("--full", help="Up to an hour: the assistant reads policy lines.")
    ] = False,
    runs: Runs = RUNS, sets: Sets = None, fresh: FreshOption = False, plugins: Plugins = None,
) -> None:  # fmt: skip
    """Run the embedded default: Harbor & Pine, from judgments to a report."""
    _run("support" if full else "closed_book", runs, sets, None, fresh, False, plugins)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    sets: Sets = None,
    only: Only = None,
    fresh: FreshOption = False,
    check: Check = False,
    mitigate: Annotated[
        str | None,
        typer.Option(
            help="Write the recipe with what a finding of its run advises beside the old one, and run "
            "nothing: a cause of accord doctor (number or check), an alarm of accord audit (detector), "
            "or guard=STORE@SNAPSHOT, judgments that a guard asked for."
        ),
    ] = None,
    runs: Runs = RUNS,
    plugins: Plugins = None,
) -> None:
    """Run a recipe, or a run's own by its directory; finished stages are skipped, a killed run goes on where
    it was."""
    if mitigate:
        _mitigate(recipe, runs, sets, plugins, mitigate)
        return
    _run(recipe, runs, sets, only, fresh, check, plugins)


def _run(
    recipe: str, runs: Path, sets: Any, only: Any, fresh: bool, check: bool, plugins: Any = None
) -> None:
    from accord.pipeline import folder, runner
    from accord.pipeline import recipe as recipes
    from accord.pipeline.terminal import Terminal

    parsed = recipes.read_recipe(recipes.find_recipe(recipe), sets or [], plugins or [])
    if check:
        print("\n".join(folder.check(parsed, runs)))
        return
    runner.run(parsed, runs, Terminal(), only=only or [], fresh=fresh)


def _mitigate(recipe: str, runs: Path, sets: Any, plugins: Any, name: str) -> None:
    """Write the changed recipe and show what changed."""
    from accord.pipeline import folder, mitigation
    from accord.pipeline import recipe as recipes

    path = recipes.find_recipe(recipe)
    parsed = recipes.read_recipe(path, sets or [], plugins or [])
    run = folder.plan(parsed, runs).path
    result = mitigation.mitigate(path, parsed, run, name)
    print(result.diff)
    for why in result.why:
        print(f"why: {why}")
    print(f"written: {result.path}; accord run {result.path}")


@app.command()
def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe with a preference stage.")],
    over: Annotated[
        list[str] | None, typer.Option("--over", help="A key and its values: --over lr=1e-4,3e-4")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Which preference stage.")] = None,
    sets: Sets = None,
    fresh: FreshOption = False,
    check: Check = False,
    runs: Runs = RUNS,
    plugins: Plugins = None,
) -> None:
    """Train a preference stage at every point of a grid and compare them in one table."""
    from accord.cli.sweep import run_sweep

    run_sweep(
        recipe, over or [], stage, sets or [], runs, fresh=fresh, check=check,
        plugins=plugins or [],
    )  # fmt: skip


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's directory.")],
) -> None:
    """Write the report of a run again, from what its stages left."""
    from accord.pipeline.runner import rewrite_report

    print(f"report: {rewrite_report(run)}")
