"""`accord eval`: any policy on any prompts, by every evaluation asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord.cli.options import RUNS, Plugins, Runs, table_console
from accord.core.errors import ConfigError

if TYPE_CHECKING:
    from accord.core.types import Metric
    from accord.pipeline.eval_report import EvalCost, EvalReport
    from accord.pipeline.tax import Outside

__all__ = ["app"]

app = typer.Typer()

Forms = Annotated[
    list[str] | None,
    typer.Option(
        help="Write figures and samples to --out as lm-eval or inspect does (repeatable)."
    ),
]
OtherResults = Annotated[
    list[Path] | None,
    typer.Option(help="Results of lm-eval or a log of Inspect, of this policy (repeatable)."),
]
BaselineResults = Annotated[
    list[Path] | None, typer.Option(help="The same of the baseline: differences to it.")
]


@app.command("eval")
def evaluate(
    policy: Annotated[
        str, typer.Argument(help="A model, RUN[:stage], or http://host:8000/v1#model.")
    ],
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompts", help="FILE, STORE@SNAPSHOT, WORLD.yaml or RUN (repeatable)."),
    ] = None,
    evals: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME,NAME or {name: NAME, key: value} (repeatable); gold and length if unset."
        ),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="A second policy: differences to it, paired by prompt.")
    ] = None,
    by: Annotated[
        str | None, typer.Option(help="A tag of the prompts to tell figures by: category.")
    ] = None,
    cluster: Annotated[
        str, typer.Option(help="A tag whose values hang together: the behaviour a prompt is of.")
    ] = "",
    n: Annotated[int, typer.Option("--n", min=1, help="Replies to each prompt.")] = 1,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 256,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    seed: Annotated[int, typer.Option()] = 17,
    system: Annotated[
        str | None, typer.Option(help="System message of prompts without one.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="The first so many prompts.")] = None,
    price: Annotated[
        tuple[float, float], typer.Option("--price", help="Of a million tokens read, and written.")
    ] = (0.0, 0.0),
    at_once: Annotated[
        int, typer.Option(min=1, help="Requests to a server under way together.")
    ] = 16,
    batch_size: Annotated[int, typer.Option(min=1, help="Of a local model.")] = 32,
    check: Annotated[bool, typer.Option("--check", help="Say what it takes; ask nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder for answers.jsonl and eval.json.")
    ] = None,
    form: Forms = None,
    results: OtherResults = None,
    against_results: BaselineResults = None,
    runs: Runs = RUNS,
    plugins: Plugins = None,
) -> None:
    """Evaluate a policy. Replies are kept under runs/cache: what was answered is not asked again.
    Results that other tools made of it stand beside its own, or alone where no prompts are named."""
    from accord.core.plugins import load_files
    from accord.evals.base import DEFAULT
    from accord.pipeline.eval_forms import check_forms, write_form
    from accord.pipeline.tax import outside

    load_files(plugins or [])
    if not prompts and not results:
        raise ConfigError("names nothing", where="accord eval", allowed="--prompts, --results")
    if form and not (out and prompts):
        raise ConfigError("is of --prompts, into --out", where="--form", mend="name both")
    check_forms(form or [])
    others = outside(results or [], against_results or [])
    if not prompts:
        _tell_others(policy, others, out, as_json)
        return
    keys: dict[str, Any] = {
        "evals": _chosen(evals) if evals else DEFAULT, "prompts": prompts, "n": n, "system": system,
        "cluster": cluster, "limit": limit, "cache": runs / "cache", "prices": price,
        "batch_size": batch_size, "at_once": at_once, "max_new_tokens": max_new_tokens,
        "temperature": temperature, "seed": seed,
    }  # fmt: skip
    report = _run(policy, keys, check)
    other = _run(against, keys, check) if against else None
    if not check:
        _tell(report, other, by, out, as_json, others)
        for name in form or []:
            for file in write_form(name, report, out or Path()):
                print(f"written as {name} does: {file}", file=sys.stderr)


def _run(name: str, keys: Mapping[str, Any], check: bool) -> EvalReport:
    """Evaluate one policy, with progress; with `check` only what it takes is said."""
    from accord.pipeline.evaluating import run_evals

    progress = _Progress()

    def before(cost: EvalCost) -> bool:
        print(f"{name}: {cost}", file=sys.stderr)
        return not check

    try:
        return run_evals(name, before=before, on_progress=progress, **keys)
    finally:
        progress.close()


def _tell(
    report: EvalReport,
    other: EvalReport | None,
    by: str | None,
    out: Path | None,
    as_json: bool,
    others: Outside,
) -> None:
    """Write and print it: the baseline first, then the policy, then their differences."""
    from accord.core.rundir import write_json

    plain, differences = report.plain(by), report.over(other) if other else {}
    if other:
        values = {
            k: {m: x.model_dump(mode="json") for m, x in v.items()} for k, v in differences.items()
        }
        plain |= {"against": other.plain(by), "differences": values}
    reports = [r for r in (other, report) if r]
    plain |= {"outside": others.plain()} if others.after else {}
    if out:
        report.write(out, by)
        if other:
            other.write(out / "against", by)
    if as_json:
        print(json.dumps(plain, ensure_ascii=False, indent=2))
    else:
        for one in reports:
            _show(one, by)
        if other:
            title = f"{report.policy} - {other.policy}, paired by prompt; 95% for all at once"
            _show_differences(title, differences)
        _show_others(report.policy, others)
    if out and others.after:
        write_json(out / "outside.json", others.plain())
    for one in reports:
        for reason, k in one.missing.items():
            text = " ".join(reason.split())[:200]
            what = f"no reply to {k} prompts ({text}); the same command asks them again"
            print(f"{one.policy}: {what}", file=sys.stderr)


def _tell_others(policy: str, others: Outside, out: Path | None, as_json: bool) -> None:
    """Write and print results that other tools made, alone."""
    from accord.core.rundir import make_dir, write_json

    if out:
        write_json(make_dir(out, "choose another with --out DIR") / "outside.json", others.plain())
    if as_json:
        print(
            json.dumps({"policy": policy, "outside": others.plain()}, ensure_ascii=False, indent=2)
        )
    else:
        _show_others(policy, others)


def _show_others(policy: str, others: Outside) -> None:
    """Tables of what other tools measured, and of the differences to the baseline's."""
    for name, figures, of in (
        ("baseline", others.baseline, others.before), (policy, others.metrics, others.after)
    ):  # fmt: skip
        if figures:
            _table(f"{name}, as measured by others: {', '.join(r.model for r in of)}", figures)
    if others.differences:
        title = f"{policy} - baseline, by what others measured; 95% for all at once"
        _show_differences(title, others.differences)
    for note in others.tax.notes if others.tax else ():
        print(note)


def _chosen(texts: list[str]) -> list[str | dict[str, Any]]:
    """Names with commas between, or an evaluation with its keys in braces."""
    import yaml

    chosen: list[str | dict[str, Any]] = []
    for text in texts:
        if not text.lstrip().startswith("{"):
            chosen += [name.strip() for name in text.split(",") if name.strip()]
            continue
        try:
            config = yaml.safe_load(text)
        except yaml.YAMLError:
            config = None
        if not isinstance(config, dict):
            raise ConfigError(
                f"is {text!r}", where="--evals", allowed="NAME or {name: NAME, key: value}"
            )
        chosen.append(config)
    return chosen


class _Progress:
    """A line on stderr with the time left, from the first few answers on; of a pipe one now and then."""

    def __init__(self) -> None:
        from rich.console import Console

        from accord.pipeline.terminal import Terminal

        self.terminal = Terminal(Console(stderr=True, highlight=False))
        self.started = False

    def __call__(self, done: int, total: int) -> None:
        if not self.started:
            self.terminal.start("eval")
            self.started = True
        self.terminal.progress(done, total, "answers")

    def close(self) -> None:
        self.terminal.close()


def _show(report: EvalReport, by: str | None) -> None:
    """A table of all figures; with `by` a column of what each is over."""
    title = f"{report.policy}: {len(report.replies)} replies to {len(report.asked.prompts)} prompts"
    _table(title, report.metrics, by, report.by(by) if by else {})
    for name in report.silent:
        table_console().print(f"{name}: nothing to say of these prompts")


def _table(
    title: str,
    metrics: Mapping[str, Mapping[str, Metric]],
    by: str | None = None,
    tagged: Mapping[str, Mapping[str, Mapping[str, Metric]]] = {},
) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=escape(title), title_justify="left", box=None)
    for column in ("evaluation", "measure", *([by] if by else []), "value [95%]", "n", ""):
        table.add_column(escape(column))
    for name, figures in metrics.items():
        for measure, figure in figures.items():
            rows = [("all", figure), *((v, m[name][measure]) for v, m in tagged.items()
                                       if measure in m.get(name, {}))]  # fmt: skip
            for value, each in rows:
                shown, _, n = str(each).rpartition(" n=")
                first = (name, measure) if value == "all" else ("", "")
                meaning = each.measure.meaning if each.measure and first[0] else ""
                table.add_row(*map(escape, (*first, *([value] if by else []), shown, n, meaning)))
    table_console().print(table)


def _show_differences(title: str, differences: Mapping[str, Mapping[str, Metric]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(title),
        title_justify="left",
        box=None,
    )
    for column in ("evaluation", "measure", "difference", "n", ""):
        table.add_column(column)
    for name, figures in differences.items():
        for measure, figure in figures.items():
            shown, _, n = str(figure).rpartition(" n=")
            clear = (
                figure.low is not None
                and figure.high is not None
                and not figure.low <= 0 <= figure.high
            )
            way = (
                figure.measure.way(figure.value or 0.0) if clear and figure.measure else "not clear"
            )
            table.add_row(*map(escape, (name, measure, shown, n, way)))
    table_console().print(table)
