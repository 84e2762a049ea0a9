"""`accord collect`: the web app for judgments, and what keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["collect_app"]

collect_app = typer.Typer(help="Collect judgments from people in a browser.", no_args_is_help=True)
STORE = "study.db"
StoreAt = Annotated[str, typer.Option("--store", help="A file or URL of the judgment store.")]


@collect_app.command()
def serve(
    study: Annotated[Path, typer.Argument(help="The study's YAML file.")],
    store: StoreAt = STORE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    origin: Annotated[
        str | None, typer.Option(help="How browsers name it, when a proxy adds https.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the study.")
    ] = None,
) -> None:
    """Serve a study: annotators, reviewers and owners in a browser."""
    from accord.web.serving import serve_study

    serve_study(study, store, host, port, origin, sets or [])
