"""`accord eval`: any policy on any prompts, by every evaluation asked for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from accord.cli.options import RUNS, Plugins, Runs, table_console
from accord.core.errors import ConfigError

if TYPE_CHECKING:
    from accord.pipeline.evaluating import EvalCost, EvalReport

__all__ = ["app"]

app = typer.Typer()


@app.command("eval")
def evaluate(
    policy: Annotated[
        str, typer.Argument(help="A model, RUN[:stage], or http://host:8000/v1#model.")
    ],
    prompts: Annotated[
        list[str],
        typer.Option("--prompts", help="FILE, STORE@SNAPSHOT, WORLD.yaml or RUN (repeatable)."),
    ],
    evals: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME,NAME or {name: NAME, key: value} (repeatable); gold and length if unset."
        ),
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
    runs: Runs = RUNS,
    plugins: Plugins = None,
) -> None:
    """Evaluate a policy. Replies are kept under runs/cache: what was answered is not asked again."""
    from accord.core.plugins import load_files
    from accord.evals.base import DEFAULT
    from accord.pipeline.evaluating import run_evals

    load_files(plugins or [])
    progress = _Progress()

    def before(cost: EvalCost) -> bool:
        print(f"{policy}: {cost}", file=sys.stderr)
        return not check

    report = run_evals(
        policy, _chosen(evals) if evals else DEFAULT, prompts=prompts, n=n, system=system,
        cluster=cluster, limit=limit, cache=runs / "cache", prices=price, batch_size=batch_size,
        at_once=at_once, before=before, on_progress=progress, max_new_tokens=max_new_tokens,
        temperature=temperature, seed=seed,
    )  # fmt: skip
    progress.close()
    if check:
        return
    if out:
        report.write(out, by)
    if as_json:
        print(json.dumps(report.plain(by), ensure_ascii=False, indent=2))
    else:
        _show(report, by)
    for reason, k in report.missing.items():
        text = " ".join(reason.split())[:200]
        print(
            f"no reply to {k} prompts ({text}); the same command asks them again", file=sys.stderr
        )


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
    from rich.markup import escape
    from rich.table import Table

    console = table_console()
    title = f"{report.policy}: {len(report.replies)} replies to {len(report.asked.prompts)} prompts"
    table = Table(title=escape(title), title_justify="left", box=None)
    for column in ("evaluation", "measure", *([by] if by else []), "value [95%]", "n", ""):
        table.add_column(escape(column))

    tagged = report.by(by) if by else {}
    for name, figures in report.metrics.items():
        for measure, figure in figures.items():
            rows = [("all", figure), *((v, m[name][measure]) for v, m in tagged.items()
                                       if measure in m.get(name, {}))]  # fmt: skip
            for value, each in rows:
                shown, _, n = str(each).rpartition(" n=")
                first = (name, measure) if value == "all" else ("", "")
                meaning = each.measure.meaning if each.measure and first[0] else ""
                table.add_row(*map(escape, (*first, *([value] if by else []), shown, n, meaning)))
    console.print(table)
    for name in report.silent:
        console.print(f"{name}: nothing to say of these prompts")
