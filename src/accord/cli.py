"""The command line. Every error a user can cause is one line on stderr and exit code 2."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from accord.cli_collect import collect_app
from accord.cli_plan import plan_app
from accord.cli_world import world_app
from accord.core.errors import AccordError, DataError

__all__ = ["app", "main"]

app = typer.Typer(
    help="Align language models: ask, judge, train, check, report.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
train_app = typer.Typer(help="Train one stage without a recipe.", no_args_is_help=True)
app.add_typer(train_app, name="train")
app.add_typer(collect_app, name="collect")
app.add_typer(plan_app, name="plan")
app.add_typer(world_app, name="world")

Sets = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key: --set dpo.loss.beta=0.3")
]
Runs = Annotated[Path, typer.Option("--runs", help="Where runs are kept.")]
Only = Annotated[list[str] | None, typer.Option("--only", help="Run this stage only (repeatable).")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Forget earlier outputs of these stages.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option("--plugin", help="A Python file that registers things of your own (repeatable)."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Validate recipe, data and disk; run nothing.")
]
RUNS = Path("runs")


@app.command()
def demo(
    runs: Runs = RUNS, sets: Sets = None, fresh: Fresh = False, plugins: Plugins = None
) -> None:
    """Run the embedded default: Harbor & Pine, from judgments to a report."""
    _run("support", runs, sets, None, fresh, False, plugins)


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    sets: Sets = None,
    only: Only = None,
    fresh: Fresh = False,
    check: Check = False,
    runs: Runs = RUNS,
    plugins: Plugins = None,
) -> None:
    """Run a recipe; finished stages are skipped, a killed run goes on where it was."""
    _run(recipe, runs, sets, only, fresh, check, plugins)


def _run(
    recipe: str, runs: Path, sets: Any, only: Any, fresh: bool, check: bool, plugins: Any = None
) -> None:
    from accord.pipeline import recipe as recipes
    from accord.pipeline import runner
    from accord.pipeline.terminal import Terminal

    found = recipes.read_recipe(recipes.find_recipe(recipe), sets or [], plugins or [])
    if check:
        print("\n".join(runner.check(found, runs)))
        return
    runner.run(found, runs, Terminal(), only=only or [], fresh=fresh)


@app.command()
def sweep(
    recipe: Annotated[str, typer.Argument(help="A recipe with a preference stage.")],
    over: Annotated[
        list[str] | None, typer.Option("--over", help="A key and its values: --over lr=1e-4,3e-4")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="Which preference stage.")] = None,
    sets: Sets = None,
    fresh: Fresh = False,
    check: Check = False,
    runs: Runs = RUNS,
    plugins: Plugins = None,
) -> None:
    """Train a preference stage at every point of a grid and compare them in one table."""
    from accord.cli_sweep import run_sweep

    run_sweep(
        recipe, over or [], stage, sets or [], runs, fresh=fresh, check=check,
        plugins=plugins or [],
    )  # fmt: skip


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSONL, JSON, .gz, Parquet or a datasets folder.")],
    store: Annotated[
        str, typer.Option("--store", help="A file or URL; made when it is not there.")
    ],
    format: Annotated[str, typer.Option(help="auto, or the name of a format.")] = "auto",
    rater: Annotated[
        str | None, typer.Option(help="Who judged; the file's name by default.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Put bad rows in a rejects file and go on.")
    ] = False,
    max_prompt_chars: Annotated[
        int | None, typer.Option(min=1, help="Leave out longer prompts.")
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="Freeze a snapshot afterwards.")] = None,
) -> None:
    """Bring judgments, pairs, thumbs or demonstrations into a store."""
    from accord.store import import_file, opened_or_new

    with opened_or_new(store) as opened, opened.transaction():
        report = import_file(
            opened, file, format=format, rater=rater, skip_bad=skip_bad,
            max_prompt_chars=max_prompt_chars,
        )  # fmt: skip
        if snapshot and not opened.counts()["judgments"]:
            raise DataError("nothing came in, so there is nothing to freeze", where=str(file))
        frozen = opened.freeze(snapshot) if snapshot else None
    print(report)
    if frozen:
        print(f"snapshot {snapshot}: sha256 {frozen.sha256}")


@app.command()
def export(
    store: Annotated[
        str, typer.Argument(help="STORE@SNAPSHOT, or a policy: RUN:stage, a model's folder.")
    ],
    out: Annotated[Path, typer.Argument(help="A .jsonl or .parquet file, or a folder.")],
    format: Annotated[
        str | None,
        typer.Option(help="Of a snapshot: preference (default)…; of a policy: an exporter."),
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Of a policy: plain weights, all adapters merged.")
    ] = False,
    dtype: Annotated[str, typer.Option(help="Of merged weights.")] = "float32",
    base: Annotated[
        str | None, typer.Option(help="Of a policy: where its base is now, if it was moved.")
    ] = None,
    push_to_hub: Annotated[
        str | None,
        typer.Option("--push-to-hub", help="Of a policy: upload to this repository too."),
    ] = None,
    keys: Annotated[
        list[str] | None, typer.Option("--set", help="A key of the exporter: --set dtype=float16")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Write a snapshot for other tools, with the judgment ids each row came from; or a policy, as its
    adapters or as plain weights that transformers, vLLM and others read."""
    from accord.cli_export import export_policy, is_policy
    from accord.core.plugins import load_files

    load_files([path.absolute() for path in plugins or []])
    if merged or is_policy(store):
        return export_policy(
            store, out, merged=merged, dtype=dtype, base=base, push_to_hub=push_to_hub,
            format=format, keys=keys or [],
        )  # fmt: skip
    from accord.store import export as export_items
    from accord.store import opened_snapshot

    with opened_snapshot(store) as snapshot:
        done = export_items(snapshot, out, format=format or "preference")
    print(f"{done.rows} rows written to {out}")
    for reason, n in done.left_out.items():
        print(f"  left out: {n} {reason}")


@app.command()
def data(
    file: Annotated[str, typer.Argument(help="A store, or a file that could be imported.")],
    judgment: Annotated[
        str | None, typer.Option(help="Show one judgment and what it is about.")
    ] = None,
) -> None:
    """Summarise a store or a file: counts, raters, agreement, faults."""
    from accord.cli_data import show_data

    show_data(file, judgment)


@app.command()
def trust(
    store: Annotated[str, typer.Argument(help="STORE or STORE@SNAPSHOT.")],
    gold: Annotated[
        Path | None, typer.Option("--gold", help="YAML: question or prompt id -> expected answer.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Every figure as JSON.")] = False,
    quarantine: Annotated[
        list[str] | None, typer.Option(help="Freeze a snapshot without this rater (repeatable).")
    ] = None,
    reweight: Annotated[
        bool,
        typer.Option("--reweight", help="Freeze a snapshot with votes weighed by reliability."),
    ] = False,
    because: Annotated[str, typer.Option(help="The reason, recorded with the decision.")] = "",
    name: Annotated[str | None, typer.Option("--as", help="Name of that snapshot.")] = None,
    ties: Annotated[str, typer.Option(help="half, davidson or rao_kupper.")] = "davidson",
    style: Annotated[
        bool, typer.Option("--style/--no-style", help="Rank sources at equal length and markdown.")
    ] = True,
) -> None:
    """Say how far judgments can be trusted: agreement, raters and their biases, noise, ranking."""
    from accord.cli_trust import show_trust

    show_trust(
        store, gold=gold, json=json, without=quarantine or [], weigh=reweight, because=because,
        name=name, ties=ties, style=style,
    )  # fmt: skip


def _train(
    kind: str, data: str, model: str, name: str, sets: Any, runs: Path, fresh: bool, plugins: Any
) -> None:
    from accord.pipeline import runner
    from accord.pipeline.recipe import build_recipe
    from accord.pipeline.terminal import Terminal

    stage = {"sft": "sft", "reward": "rm", "preference": "preference"}[kind]
    plain = {"name": name, "model": model, "stages": {stage: {"kind": kind, "data": data}}}
    roots = [s if s.split(".")[0] in plain else f"{stage}.{s}" for s in sets or []]
    recipe = build_recipe(plain, {}, f"accord train {kind}", Path.cwd(), roots, plugins or [])
    runner.run(recipe, runs, Terminal(), fresh=fresh)


Data = Annotated[str, typer.Option("--data", help="STORE@SNAPSHOT, or a file to import.")]
Model = Annotated[
    str, typer.Option("--model", help="Hub id, directory, or a stage's model folder.")
]
Name = Annotated[str, typer.Option(help="Name of the run.")]
Keys = Annotated[list[str] | None, typer.Option("--set", help="A key of the stage: --set lr=1e-4")]


@train_app.command("sft")
def train_sft(
    data: Data, model: Model, name: Name = "sft", sets: Keys = None, runs: Runs = RUNS,
    fresh: Fresh = False, plugins: Plugins = None,
) -> None:  # fmt: skip
    """Supervised fine-tuning on demonstrations."""
    _train("sft", data, model, name, sets, runs, fresh, plugins)


@train_app.command("reward")
def train_reward(
    data: Data, model: Model, name: Name = "reward", sets: Keys = None, runs: Runs = RUNS,
    fresh: Fresh = False, plugins: Plugins = None,
) -> None:  # fmt: skip
    """A Bradley-Terry reward model on comparisons."""
    _train("reward", data, model, name, sets, runs, fresh, plugins)


@train_app.command("preference")
def train_preference(
    data: Data, model: Model, name: Name = "preference", sets: Keys = None, runs: Runs = RUNS,
    fresh: Fresh = False, plugins: Plugins = None,
) -> None:  # fmt: skip
    """DPO and its family on comparisons."""
    _train("preference", data, model, name, sets, runs, fresh, plugins)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's directory.")],
) -> None:
    """Write the report of a run again, from what its stages left."""
    from accord.pipeline.runner import rewrite_report

    print(f"report: {rewrite_report(run)}")


@app.command()
def chat(
    policies: Annotated[list[str], typer.Argument(help="RUN[:stage], a model, or two to compare.")],
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 128,
    temperature: Annotated[float, typer.Option(min=0.0)] = 0.0,
    system: Annotated[str | None, typer.Option(help="System message.")] = None,
) -> None:
    """Talk to a policy in the terminal; with two, compare their answers side by side."""
    from accord.cli_chat import chat_loop

    chat_loop(policies, max_new_tokens, temperature, system)


def main() -> None:
    """Entry point: AccordError and usage errors become one line on stderr, exit code 2."""
    try:
        code = app(standalone_mode=False)
    except AccordError as error:
        _fail(*map(str, error.each))
    except typer.Exit as error:
        code = error.exit_code
    except OSError as error:
        _fail(f"{error.filename or ''}: {error.strerror or error}; check the path".lstrip(": "))
    except UnicodeEncodeError as error:
        _fail(f"{ascii(error.object)[:80]}: is not UTF-8; rename it")
    except (typer.Abort, KeyboardInterrupt):
        print(f"stopped; {_how_to_go_on(sys.argv[1:])}", file=sys.stderr)
        code = 130
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _fail(f"{error.format_message()} Try 'accord --help'.")
    sys.exit(code or 0)


GOES_ON = {"demo", "run", "sweep", "train"}


def _how_to_go_on(words: list[str]) -> str:
    """What is kept of a stopped command, and the words that go on from there."""
    if not GOES_ON & set(words[:1]):
        return "run the same command again"
    again = shlex.join(["accord", *(w for w in words if w != "--fresh")])
    return f"finished stages and the last checkpoint are kept, go on with: {again}"


def _fail(*lines: str) -> None:
    for line in lines:
        print(f"accord: {' '.join(line.split())}", file=sys.stderr)
    sys.exit(AccordError.exit_code)
