"""`accord doctor`: why a run went wrong; and the same of data, before anything is trained on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accord.cli.options import Plugins
from accord.core.rundir import user_path

if TYPE_CHECKING:
    from accord.pipeline.doctor.base import Finding, StageRecord

__all__ = ["app", "lint"]

app = typer.Typer()


@app.command()
def doctor(
    run: Annotated[Path | None, typer.Argument(help="A run's directory.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    fail_on_serious: Annotated[
        bool, typer.Option("--fail-on-serious", help="Exit with 1 where a cause is serious.")
    ] = False,
    test: Annotated[
        int | None,
        typer.Option(
            help="Run the command that tests cause N of the list in a short run of its own."
        ),
    ] = None,
    trl: Annotated[
        Path | None,
        typer.Option(help="Instead of a run: an output folder of TRL or LLaMA-Factory."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="With --trl: the file it was trained on.")
    ] = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Ask the model a preference training began from about its pairs too."
        ),
    ] = False,
    plugins: Plugins = None,
) -> None:
    """Say why a run may have gone wrong: causes with evidence, the surest first, what to change, and a cheap
    command that tests each (--test N runs it; accord run RECIPE --mitigate CAUSE writes the changed recipe).
    Reads what stages left, and loads no model but with --deep."""
    from accord.core.errors import ConfigError
    from accord.core.plugins import load_files
    from accord.pipeline.doctor.other_trainers import of_folder
    from accord.pipeline.doctor.reading import of_run

    load_files(plugins or [])
    if (run is None) == (trl is None) or (run and data) or (trl and (deep or test is not None)):
        allowed = (
            "RUN, with --deep or --test N if you like; or --trl DIR, with --data FILE if you like"
        )
        raise ConfigError("can't tell what to look at", where="accord doctor", allowed=allowed)
    if trl is not None:
        cases = of_folder(trl, data)
    else:
        assert run
        cases = of_run(user_path(run))
    if run and deep:
        from accord.pipeline.doctor.deep import deepened

        cases = deepened(user_path(run), cases)
    if run and test is not None:
        _try(user_path(run), cases, test, as_json)
        return
    findings = _show(cases, as_json)
    if fail_on_serious and any(f.serious for f in findings):
        raise typer.Exit(1)


def _try(run: Path, cases: Sequence[StageRecord], number: int, as_json: bool) -> None:
    """Test a cause, and print its figure before and after."""
    import json
    import sys
    from dataclasses import asdict

    from rich.console import Console

    from accord.pipeline.doctor import trial
    from accord.pipeline.doctor.base import examined
    from accord.pipeline.terminal import Terminal

    finding = trial.chosen(examined(cases), number)
    reporter = Terminal(Console(highlight=False, file=sys.stderr if as_json else sys.stdout))
    result = trial.tried(run, finding, reporter)
    if as_json:
        shown = {**asdict(result), "run": str(result.run), "check": finding.check}
        print(json.dumps(shown, ensure_ascii=False, indent=2))
        return
    print(f"{number}. {finding.cause} ({finding.check}, {finding.stage})")
    for name in ("command", "run", "before", "after"):
        if value := getattr(result, name):
            print(f"   {name}: {value}")
    print(f"   verdict: {result.verdict}: {result.why}")
    if result.run is None and finding.test:
        print(f"   run it yourself: {finding.test}")


def lint(where: str, as_json: bool) -> None:
    """Look at data before anything is trained on it; exit code 1 where a cause is serious."""
    from accord.pipeline.doctor.reading import of_data

    if any(f.serious for f in _show(of_data(where), as_json)):
        raise typer.Exit(1)


def _show(cases: Sequence[StageRecord], as_json: bool) -> list[Finding]:
    """Print the findings, the surest first, and what was looked at without one."""
    from rich.console import Console
    from rich.markup import escape

    from accord.pipeline.doctor.base import examined

    examination = examined(cases)
    findings = examination.findings
    if as_json:
        import json

        shown = {
            "findings": [f.model_dump() for f in findings],
            "clear": examination.clear,
            "unseen": examination.unseen,
        }
        print(json.dumps(shown, ensure_ascii=False, indent=2))
        return findings
    console = Console(highlight=False, soft_wrap=True)
    for number, f in enumerate(findings, 1):
        follows = number > 1 and f.confidence < 0.5  # as what is named after a likelier cause does
        mark = "serious" if f.serious else "may follow from another" if follows else "perhaps"
        console.print(
            f"{number}. {escape(f.cause)}  [{mark}, {f.confidence:.0%}; {f.check}, {f.stage}]",
            markup=False,
        )
        for name, text in (
            ("shown by", f.number), ("example", f.example), ("change", f.change), ("recipe", f.line),
            ("test", f.test),
        ):  # fmt: skip
            if text:
                console.print(f"   {name}: {text}", markup=False)
    for case in dict.fromkeys(c.name for c in cases):
        for what, of in (
            ("no sign of", examination.clear),
            ("too little to tell", examination.unseen),
        ):
            if names := [check for stage, check in of if stage == case]:
                console.print(f"{case}: {what}: {', '.join(names)}", markup=False)
    return findings
