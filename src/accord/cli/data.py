"""`accord import`, `export`, `data`, `trust`: what stores hold, and what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from accord.cli.options import Plugins
from accord.core.errors import ConfigError, DataError

__all__ = ["app"]

app = typer.Typer()


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
        list[str] | None, typer.Option("--set", help="A key of the format: --set dtype=float16")
    ] = None,
    plugins: Plugins = None,
) -> None:
    """Write a snapshot for other tools, with the judgment ids each row came from; or a policy, as its
    adapters or as plain weights that transformers, vLLM and others read."""
    from accord.cli.export import export_policy, is_policy
    from accord.core.config import apply_sets
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
        config: dict[str, Any] = {"name": format or "preference"}
        apply_sets(config, keys or [])
        done = export_items(snapshot, out, format=config)
    print(f"{done.rows} rows written to {out}")
    for reason, n in done.left_out.items():
        print(f"  left out: {n} {reason}")


@app.command()
def data(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[lint] FILE",
            help="A store, or a file that could be imported; of lint: a file, or STORE@SNAPSHOT.",
        ),
    ],
    judgment: Annotated[
        str | None, typer.Option(help="Show one judgment and what it is about.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Of lint: print JSON.")] = False,
) -> None:
    """Summarise a store or a file: counts, raters, agreement, faults. `accord data lint FILE` looks for what
    would make a training on it go wrong (docs/doctor.md)."""
    from accord.cli.doctor import lint
    from accord.cli.show import show_data

    if words[0] == "lint" and len(words) == 2:
        lint(words[1], as_json)
    elif len(words) == 1:
        show_data(words[0], judgment)
    else:
        what = f"takes one file, and got {' '.join(words)}"
        raise ConfigError(
            what, where="accord data", allowed="accord data FILE, accord data lint FILE"
        )


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
    from accord.cli.trust import show_trust

    show_trust(
        store, gold=gold, json=json, without=quarantine or [], weigh=reweight, because=because,
        name=name, ties=ties, style=style,
    )  # fmt: skip
