"""`accord audit`: what a policy's answers show beside those of the one before it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from accord.cli.options import Plugins, table_console
from accord.core.errors import ConfigError, DataError
from accord.core.rundir import user_path

__all__ = ["app"]

app = typer.Typer()
SHOWN = 240  # characters of an example


@app.command()
def audit(
    answers: Annotated[
        list[Path],
        typer.Argument(help="A run's directory; or files of answers, the baseline's first."),
    ],
    detector: Annotated[
        list[str] | None, typer.Option(help="This detector only (repeatable); all by default.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Hold all against this policy, not each against the last.")
    ] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(
            help="A reward model that reads the answers: a stage of the run, or RUN:stage. Of several "
            "also how much they disagree."
        ),
    ] = None,
    examples: Annotated[int, typer.Option(min=0, max=5, help="Of each alarm.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print all verdicts as JSON.")] = False,
    fail_on: Annotated[
        Literal["warn", "fail"] | None, typer.Option(help="Exit with 1 where it came to this.")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Look for signs that a policy games its reward, in answers that were kept. Two policies that are one
    raise an alarm in at most one of 20 audits."""
    from accord.core.plugins import load_files
    from accord.core.types import Verdict
    from accord.detect.panel import ORDER, worst
    from accord.pipeline import auditing

    load_files(plugins or [])
    paths = [user_path(p) for p in answers]
    if len(paths) == 1 and not paths[0].is_dir():
        what = "one file of answers, and an audit holds one policy against another"
        raise ConfigError(
            what, where=str(paths[0]), mend="name a run, or the baseline's file first"
        )
    run = paths[0] if len(paths) == 1 else None
    known, context = auditing.of_run(run) if run else auditing.of_files(paths)
    if reward:
        known, context = _read(known, context, reward, run)
    rows = auditing.audit(known, context, detector or "all", baseline)
    if as_json:
        print(json.dumps(rows, ensure_ascii=False, indent=2))
    else:
        _show(rows, examples)
    for note in auditing.notes(known, rows):
        print(f"note: {note}", file=sys.stderr if as_json else sys.stdout)
    gravest = worst([Verdict.model_validate(row["verdict"]) for row in rows])
    if fail_on and gravest == "undefined":
        what = "nothing could be looked at, so nothing passed"
        raise DataError(
            what,
            where=" ".join(map(str, answers)),
            mend="; ".join(dict.fromkeys(row["verdict"]["summary"] for row in rows)),
        )
    if fail_on and ORDER.index(gravest) >= ORDER.index(fail_on):
        raise typer.Exit(1)


def _read(known: Any, context: Any, reward: list[str], run: Path | None) -> tuple[Any, Any]:
    """The answers as the reward models see them, with progress."""
    from rich.console import Console

    from accord.pipeline.reading import named, read_by
    from accord.pipeline.terminal import Terminal

    models = named(reward, run)
    terminal = Terminal(Console(stderr=True, highlight=False))
    terminal.start("audit")
    try:
        return read_by(known, context, models, terminal.progress)
    finally:
        terminal.close()


def _show(rows: list[dict[str, Any]], examples: int) -> None:
    """A table for each pair of policies, the alarms first, then examples of each alarm."""
    from rich.markup import escape
    from rich.table import Table

    from accord.core.types import Verdict
    from accord.detect.panel import ORDER

    console = table_console()
    for pair in dict.fromkeys((row["policy"], row["before"]) for row in rows):
        own = [
            Verdict.model_validate(row["verdict"])
            for row in rows
            if (row["policy"], row["before"]) == pair
        ]
        table = Table(title=escape("{} against {}".format(*pair)), title_justify="left", box=None)
        for column in ("detector", "verdict", "before", "after", "change [95%]", "p, adjusted"):
            table.add_column(column)
        own.sort(key=lambda v: -ORDER.index(v.outcome))
        for v in (v for v in own if v.outcome != "undefined"):
            figures = [v.metrics.get(k) for k in ("before", "after", "change")]
            shown = [f"{m.value:.3g}" if m and m.value is not None else "" for m in figures[:2]]
            change = (
                str(figures[2])
                if figures[2]
                else "; ".join(f"{k} {m}" for k, m in v.metrics.items())
            )
            p = "" if v.p is None else f"{v.p:.3g}"
            table.add_row(v.detector, v.outcome, *shown, escape(change), p)
        console.print(table)
        reasons = {v.detector: v.summary for v in own if v.outcome == "undefined"}
        for why in dict.fromkeys(reasons.values()):
            names = ", ".join(name for name, reason in reasons.items() if reason == why)
            console.print(f"nothing to look at for {names}: {escape(why)}")
        for v in (v for v in own if v.outcome in ("warn", "fail")):
            console.print(f"\n{v.outcome}: {v.detector}: {escape(v.summary)}")
            for example in v.evidence[:examples]:
                for key in ("prompt", "before", "response"):
                    if text := example.get(key):
                        console.print(f"  {key}: {escape(_short(str(text)))}")
                for near in example.get("near", [])[:1]:
                    text = f"{near['response']} (paid {near['reward']:.3g})"
                    console.print(f"  nearest that was learned: {escape(_short(text))}")
        console.print()


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= SHOWN else plain[: SHOWN - 1] + "…"
