"""`accord reward`: what a reward model pays for, before anything is optimised."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from accord.cli.options import Plugins, table_console

if TYPE_CHECKING:
    from accord.detect.probe import ProbeReport
    from accord.evals.reward_bench import BenchReport

__all__ = ["app"]

app = typer.Typer(help="What a reward model pays for.", no_args_is_help=True)
ORDER = ("undefined", "pass", "warn", "fail")
SHOWN = 200  # characters of an example


@app.callback()
def _group() -> None:
    """What a reward model pays for."""


@app.command("probe")
def probe(
    model: Annotated[str, typer.Argument(help="RUN:stage, or a reward model's folder.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Answers to perturb: FILE or STORE@SNAPSHOT; its held-out ones if unset."
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="This perturbation only (repeatable).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Prompts at most.")] = 200,
    examples: Annotated[int, typer.Option(min=0, max=3, help="Of each alarm.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    fail_on: Annotated[
        Literal["warn", "fail"] | None, typer.Option(help="Exit with 1 where it came to this.")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Pad, list, hedge, flatter… held-out answers and see what the model pays for it: what a policy that is
    trained on it will find. A model that is indifferent raises an alarm in at most one of 20 probes."""
    from accord.core.plugins import load_files
    from accord.pipeline import probing
    from accord.rewards.learned import load_reward_model

    load_files(plugins or [])
    names = probing.known_names(only or [])
    at = probing.reward_at(model)
    answers = probing.answers_of(at, data, limit)
    report = probing.probe_of(
        load_reward_model(at.model), answers, probing.world_at(at.data), names
    )
    if as_json:
        print(report.model_dump_json(indent=2))
    else:
        _show(report, examples)
    if fail_on and any(ORDER.index(p.outcome) >= ORDER.index(fail_on) for p in report.pays):
        raise typer.Exit(1)


@app.command("bench")
def bench(
    model: Annotated[str, typer.Argument(help="RUN:stage, or a reward model's folder.")],
    data: Annotated[
        str, typer.Argument(help="FILE of prompt, chosen, rejected (a text or a list), subset.")
    ],
    tag: Annotated[
        str, typer.Option("--by", help="The column that figures are told by.")
    ] = "subset",
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many rows.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """How often the right answer scores highest: RewardBench's accuracy, and best of k, by subset."""
    from accord.evals.reward_bench import bench as benched
    from accord.pipeline import probing
    from accord.pipeline.benching import bench_rows
    from accord.rewards.learned import load_reward_model

    at = probing.reward_at(model)
    rows, left_out = bench_rows(data, tag, limit)
    report = benched(rows, load_reward_model(at.model), left_out)
    if as_json:
        print(json.dumps(report.plain(), indent=2, ensure_ascii=False))
        return
    _show_bench(report, tag)


def _show_bench(report: BenchReport, tag: str) -> None:
    from rich.table import Table

    table = Table(tag, "accuracy [95%]", box=None)
    for name, metric in (*report.subsets.items(), ("all rows", report.overall)):
        table.add_row(name, str(metric))
    for name, value in report.sections.items():
        table.add_row(f"section {name}", f"{value:.3g}")
    if report.total is not None:
        table.add_row("RewardBench, mean of sections", f"{report.total:.3g}")
    for name, part in vars(report.ties).items() if report.ties else ():
        if name != "score":  # told as a subset
            table.add_row(f"ties: {name}", str(part) if name != "margin" else f"{part:.3g}")
    if report.mean is not None:
        table.add_row("RewardBench 2, mean of subsets", f"{report.mean:.3g}")
    table_console().print(table, markup=False)
    if report.left_out:
        print(
            f"{report.left_out} rows left out: several right answers, or of Ties in one form alone"
        )


def _show(report: ProbeReport, examples: int) -> None:
    """The table, then examples of each alarm."""
    from rich.markup import escape
    from rich.table import Table

    console = table_console()
    title = (
        f"{report.answers} answers to {report.prompts} prompts; pay in units of {report.spread:.3g}"
    )
    table = Table(title=title, title_justify="left", box=None)
    known = any(p.truth for p in report.pays)
    columns = ["perturbation", "verdict", "pay [95%]", *["truth [95%]"] * known, "p, adjusted", ""]
    for column in columns:
        table.add_column(column)
    for p in report.pays:
        worth = [str(p.truth or "")] * known
        cells = (p.perturbation, p.outcome, str(p.pay), *worth, f"{p.p:.3g}", p.summary)
        table.add_row(*map(escape, cells))
    console.print(table)
    for p in (p for p in report.pays if p.outcome in ("warn", "fail")):
        console.print(f"\n{p.outcome}: {p.perturbation}: {escape(p.what)}")
        for example in p.examples[:examples]:
            console.print(f"  prompt: {escape(_short(example.prompt))}")
            console.print(f"  {example.paid_before:+.3f}: {escape(_short(example.before))}")
            console.print(f"  {example.paid_after:+.3f}: {escape(_short(example.after))}")
    for note in report.notes:
        console.print(f"note: {note}")


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= SHOWN else plain[: SHOWN - 1] + "…"
