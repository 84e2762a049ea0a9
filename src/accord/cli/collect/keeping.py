"""`accord collect verify`, `backup`, `restore`, `export`: what was collected, kept and given out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from accord.cli.collect.shared import Where, its_packages, site_of
from accord.core.errors import ConfigError
from accord.core.refs import shown
from accord.core.rundir import private

__all__ = ["backup", "export", "restore", "verify"]


def verify(store: Where) -> None:
    """Recompute both hash chains: the judgments' and the audit log's."""
    site = site_of(store)
    with site.store:
        judgments = site.store.verify()
        with its_packages():
            from accord.web.guard.audit import verify_events
        events = verify_events(site)
    print(f"{judgments} judgments and {events} audit events are what was written")


def backup(
    store: Where, out: Annotated[Path, typer.Argument(help="The file to write: NAME.jsonl.gz")]
) -> None:
    """Write everything to one file, while the server runs or not."""
    with its_packages():
        from accord.web.backup import backup as write
    print(f"{write(store, out)} rows written to {out}")


def restore(
    file: Annotated[Path, typer.Argument(help="What backup wrote.")],
    store: Annotated[str, typer.Argument(help="A new store: a file or an empty database.")],
) -> None:
    """Fill a new store from a backup and verify it."""
    with its_packages():
        from accord.web.backup import restore as read_back
    judgments, events = read_back(file, store)
    print(
        f"{judgments} judgments and {events} audit events restored to {shown(store)} and verified"
    )


def export(
    store: Where,
    study: Annotated[str, typer.Argument(help="The study's name.")],
    out: Annotated[Path, typer.Argument(help="A .jsonl, .json, .csv or .parquet file.")],
    format: Annotated[str, typer.Option(help="Name of an export format, or judgments.")] = "accord",
) -> None:
    """Write a study's judgments: corrections applied, adjudicated, gold questions left out."""
    from accord.store import export as write

    with its_packages():
        from accord.web.pages import export as exporting
    site = site_of(store)
    with site.store:
        if site.study(study) is None:
            raise ConfigError(f"no study {study!r}", where=site.store.name, mend="check the name")
        if format == "judgments":
            private(out)
            out.write_bytes(exporting.table(site, study))
            print(f"written to {out}")
            return
        done = write(exporting.study_snapshot(site, study), out, format=format)
    print(f"{done.rows} rows written to {out}")
