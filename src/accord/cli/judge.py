"""`accord judge`: models that judge, measured before they are believed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord.cli.options import Plugins, table_console
from accord.core.errors import ConfigError

if TYPE_CHECKING:
    from accord.core.types import Metric
    from accord.judges.check import CheckReport
    from accord.judges.published import PublishedFigure, StoredVerdicts

__all__ = ["app"]

app = typer.Typer(
    help="Models that judge, measured before they are believed.", no_args_is_help=True
)

Where = Annotated[str, typer.Argument(help="STORE@SNAPSHOT")]
Who = Annotated[
    str,
    typer.Option(
        "--judge", help="A folder, a hub name, http://host:8000/v1#model, or stand-in:longest."
    ),
]
Sets = Annotated[
    list[str] | None, typer.Option("--set", help="A key of the judge: --set rationale=true")
]
CacheFile = Annotated[
    Path, typer.Option("--cache", help="Replies are kept here: nothing is asked twice.")
]
AtOnce = Annotated[
    int, typer.Option("--at-once", min=1, help="Requests to a server under way together.")
]
Rate = Annotated[
    float, typer.Option("--per-second", min=0, help="Most requests that begin in a second.")
]
Tokens = Annotated[
    int | None, typer.Option("--tokens", min=1, help="Stop after so many; run again to go on.")
]
Axes = Annotated[
    list[str] | None, typer.Option("--axis", help="Of a rating or a rubric; of a comparison one.")
]
Examples = Annotated[
    Path | None, typer.Option("--examples", help="JSONL it is shown: prompt, responses, verdict.")
]
References = Annotated[
    Path | None, typer.Option("--references", help="JSONL of prompt and reference.")
]
CACHE = Path("judged.cache")


def _keys(
    texts: list[str] | None, option: str, plugins: list[Path] | None = None
) -> dict[str, Any]:
    """KEY=VALUE as keys; values are YAML."""
    import yaml

    from accord.core.plugins import load_files

    load_files([path.absolute() for path in plugins or []])
    keys: dict[str, Any] = {}
    for text in texts or []:
        key, is_one, value = text.partition("=")
        try:
            keys[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            is_one = ""
        if not is_one:
            raise ConfigError(f"is {text!r}", where=option, allowed="KEY=VALUE")
    return keys


@app.command("run")
def run(
    where: Where,
    judge: Who,
    name: Annotated[
        str | None, typer.Option("--name", help="Freeze a snapshot with its judgments.")
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option("--gate", help="What judge check wrote: label only what that allows."),
    ] = None,
    axis: Axes = None,
    examples: Examples = None,
    references: References = None,
    sets: Sets = None,
    cache: CacheFile = CACHE,
    at_once: AtOnce = 16,
    per_second: Rate = 0.0,
    tokens: Tokens = None,
    cost: Annotated[
        float | None, typer.Option("--cost", min=0, help="Stop after so much, by --price.")
    ] = None,
    price: Annotated[
        tuple[float, float], typer.Option("--price", help="Of a million tokens read, and written.")
    ] = (0.0, 0.0),
    plugins: Plugins = None,
) -> None:
    """Have a judge answer a snapshot's questions; its judgments land in the store beside people's."""
    from accord.judges import door

    done = door.judge(
        where, judge, how=_keys(sets, "--set", plugins), name=name, gate=gate, axes=axis or (), cache=cache,
        examples=examples, references=references, tokens=tokens, cost=cost, prices=price,
        at_once=at_once, per_second=per_second,
    )  # fmt: skip
    print(done)
    for reason, n in done.missing.items():
        print(f"  missing, {n}: {' '.join(reason.split())[:160]}")
    if done.spent.failed:
        print("  what was not answered is asked when the same command is run again")
    if name:
        print(
            f"snapshot {name} is frozen; train on it with data: {where.rpartition('@')[0]}@{name}"
        )


@app.command("check")
def check(
    where: Where,
    judge: Who,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the report (JSON), for --gate.")
    ] = None,
    gold: Annotated[Path | None, typer.Option("--gold", help="Gold answers (YAML).")] = None,
    own: Annotated[
        list[str] | None, typer.Option("--own", help="A source that is the judge itself.")
    ] = None,
    retest: Annotated[
        int, typer.Option("--retest", min=0, help="Ask so many pairs again, by another seed.")
    ] = 0,
    thresholds: Annotated[
        list[str] | None,
        typer.Option("--threshold", help="accuracy=0.6, kappa=0.2, pairs=30, risk=0.1"),
    ] = None,
    axis: Axes = None,
    examples: Examples = None,
    references: References = None,
    sets: Sets = None,
    cache: CacheFile = CACHE,
    at_once: AtOnce = 16,
    per_second: Rate = 0.0,
    tokens: Tokens = None,
    plugins: Plugins = None,
) -> None:
    """Measure a judge on what people judged: accuracy, κ, biases, calibration, and what it may label."""
    from accord.judges import door

    report, spent = door.check_judge(
        where, judge, how=_keys(sets, "--set", plugins), thresholds=_keys(thresholds, "--threshold"),
        gold=gold, own=own or (), retest=retest, axes=axis or (), examples=examples, references=references,
        out=out, cache=cache, tokens=tokens, at_once=at_once, per_second=per_second,
    )  # fmt: skip
    _show(report)
    if spent.failed:
        print(
            f"{len(spent.failed)} requests were not answered; run the same command again to ask them"
        )


@app.command("winrate")
def winrate(
    where: Where,
    of: Annotated[str, typer.Option("--of", help="A source of answers: model:dpo")],
    over: Annotated[str, typer.Option("--over", help="The other: model:sft")],
    judge: Annotated[str, typer.Option("--judge", help="How the judge's name begins.")] = "",
) -> None:
    """How often one source of answers beats another by a judge: raw, and corrected for its errors."""
    from accord.judges.verdict import RULE
    from accord.judges.winrate import win_rate
    from accord.store import opened_snapshot

    with opened_snapshot(where, Path()) as snapshot:
        rate = win_rate(snapshot, judge, of, over)
    print(f"{rate.of} over {rate.over} by {rate.judge} ({rate.even} pairs even, left out)")
    print(f"Rule: {RULE}.")
    print(f"as the judge says it: {rate.raw}")
    known = rate.corrected.note if rate.corrected.value is not None else ""
    of_people = known or f"corrected for its errors on {rate.both} pairs that people judged"
    print(f"{of_people}: {rate.corrected}")
    print(f"as the judge says it, between answers of equal length: {rate.equal_length}")


@app.command("verdicts")
def verdicts(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="LLMBar: a judge's results. PandaLM: people's labels and judges' results, together."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Write the figures (JSON).")] = None,
) -> None:
    """Figures published of a judge, from its stored verdicts: accuracy, agreement of orders, κ."""
    from accord.judges.published import published_figures, read_verdicts

    stored = read_verdicts(files)
    figures = [published_figures(s) for s in stored]
    for one, rows in zip(stored, figures, strict=True):
        _show_published(one, rows)
    if out:
        import json

        kept = [
            {"form": one.form, "judge": one.judge, "figures": [_row(f) for f in rows]}
            for one, rows in zip(stored, figures, strict=True)
        ]
        out.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _row(figure: PublishedFigure) -> dict[str, Any]:
    return {"key": figure.key, "title": figure.title, **figure.metric.model_dump()}


def _show_published(stored: StoredVerdicts, figures: list[PublishedFigure]) -> None:
    from rich.table import Table

    form = {"llmbar": "LLMBar", "pandalm": "PandaLM"}[stored.form]
    lost, split = stored.unread, stored.undecided
    who = f"Judge {stored.judge}" if stored.judge else "People's labels"
    console = table_console()
    console.print(
        f"{who}: {len(stored.pairs)} pairs in {form}'s form"
        + f"; {lost} with a reply that does not parse" * bool(stored.judge)
        + f"; on {split} no label was given most, the first person's counts" * bool(split),
        markup=False,
    )
    table = Table("published as", "figure", "value [95% interval]")
    for f in figures:
        value = "" if f.metric.value is None else f"{f.metric.value:.4f}"
        ends = "" if f.metric.low is None else f" [{f.metric.low:.3f}, {f.metric.high:.3f}]"
        shown = f"{value}{ends} n={f.metric.n}" if value else str(f.metric)
        table.add_row(f.key or "-", f.title, shown)
    console.print(table)


FIGURES = {
    "consistency": "both orders the same", "place": "first place", "length": "longer", "own": "own",
    "concrete": "details", "nested": "to its judge", "retest": "asked again", "calibration": "ECE",
}  # fmt: skip


def _brief(metric: Metric) -> str:
    """For a cell of many: "0.45 [0.31, 0.6]", a dash where it is not known."""
    if metric.value is None:
        return "-"
    ends = "" if metric.low is None else f" [{metric.low:.2g}, {metric.high:.2g}]"
    return f"{metric.value:.2g}{ends}"


def _show(report: CheckReport) -> None:
    from rich.table import Column, Table

    console = table_console()
    stand_in = "stand-in:" in report.judge
    console.print(
        f"Judge {report.judge} on {report.snapshot}{' (a stand-in, no judge)' if stand_in else ''}"
    )
    lost = sum(report.missing.values())
    console.print(f"Missing verdicts: {lost}. Rule: {report.rule}.")
    table = Table("part", "accuracy", "κ", "missing", "may label")
    for part in report.parts:
        table.add_row(part.within, str(part.accuracy), str(part.kappa), str(part.missing),
                      "yes" if part.passes else f"no: {part.why}")  # fmt: skip
    console.print(table)
    for name, metric in (
        ("accuracy in one order", report.one_order), ("both orders say the same", report.consistency),
        ("drawn to the first place", report.place), ("drawn to the longer answer", report.length),
        ("drawn to its own answers", report.own), ("drawn to the one with more details", report.concrete),
        ("drawn to the one that speaks to its judge", report.nested),
        ("accuracy on easy less on hard pairs", report.ceiling), ("says the same asked again", report.retest),
        ("calibration error", report.calibration),
    ):  # fmt: skip
        console.print(f"{name}: {metric}")
    parts = report.parts[1:]
    known = [n for n in FIGURES if any(p.figures[n].value is not None for p in parts)]
    if known:
        heads = (Column(head, no_wrap=True) for head in ("part", "pairs"))
        table = Table(*heads, *(FIGURES[n] for n in known))
        for p in parts:
            table.add_row(p.within, str(p.accuracy.n), *(_brief(p.figures[n]) for n in known))
        console.print(table)
    for step in report.diagram:
        console.print(
            f"  confidence {step.low:.2f}-{step.high:.2f}: said {step.predicted:.2f}, right {step.observed}"
        )
    console.print(report.alone)
