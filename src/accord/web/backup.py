"""Backup and restore, one command each: all tables as compressed JSON lines, whatever the database.

    {"accord": "backup", "schema": "0004"}
    {"table": "prompts", "row": {…}}          every row of every table
    {"end": n, "sha256": …}                   rows, and the hash of all lines before

Sessions and sign-in attempts stay behind. A backup holds password hashes and webhook secrets: keep it as safe
as the store. `restore` fills a new store, in one transaction, and verifies both hash chains.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from accord.core.errors import DataError, StoreError
from accord.core.refs import shown
from accord.core.rundir import private, user_path
from accord.store import Store, opened_or_new
from accord.store.db import schema
from accord.store.db.database import HEAD
from accord.web import tables
from accord.web.guard.audit import verify_events
from accord.web.site import Site

__all__ = ["backup", "restore"]

LEFT_OUT = {"sessions", "attempts"}
ORDER = (  # what is referred to comes first
    "settings", "accounts", "studies", "guidelines", "roles", "study_questions", "study_judgments",
    "leases", "flags", "qualifications", "talks", "events", "tokens", "webhooks", "deliveries",
)  # fmt: skip
BATCH = 500


def _all() -> list[sa.TableClause]:
    own = [tables._table(name) for name in ORDER]
    return [schema.metadata.tables[name] for name in schema.TABLES] + own


def backup(where: str, out: Path) -> int:
    """Write the file whole, or not at all; returns the number of rows. Writers wait meanwhile."""
    out = user_path(out)
    if out.exists():
        raise DataError("is there already", where=str(out), mend="name another file")
    digest, rows = hashlib.sha256(), 0
    beside = out.with_name(f".{out.name}.tmp")
    try:
        private(beside)
        with Store(where, create=False) as store, gzip.open(beside, "wb") as file:
            for line in _lines(store):
                rows += line.startswith(b'{"table"')
                digest.update(line)
                file.write(line)
            file.write(json.dumps({"end": rows, "sha256": digest.hexdigest()}).encode() + b"\n")
        beside.replace(out)
    except OSError as error:
        raise DataError(f"can't be written ({error.strerror})", where=str(out)) from None
    finally:
        beside.unlink(missing_ok=True)
    return rows


def _lines(store: Store) -> Iterator[bytes]:
    yield json.dumps({"accord": "backup", "schema": HEAD}).encode() + b"\n"
    with (
        store.database.writing() as connection
    ):  # nobody writes while it reads: one state of all tables
        for table in _all():
            order = [c for c in table.c if c.name in ("seq", "id", "name")][:1]
            for row in connection.execute(sa.select(table).order_by(*order)).mappings():
                yield json.dumps({"table": table.name, "row": dict(row)}).encode() + b"\n"


def restore(file: Path, where: str) -> tuple[int, int]:
    """Fill a new store from a backup; (judgments, audit events), both chains verified. StoreError when there
    is a store already, DataError for a file that is damaged."""
    file = user_path(file)
    if not file.is_file():
        raise DataError("no such file", where=str(file), mend="check the path")
    with opened_or_new(where) as store:
        if any(store.counts().values()):
            raise StoreError("holds something already", where=shown(where), mend="name a new store")
        with store.database.writing() as connection:
            _fill(connection, file)
        return store.verify(), verify_events(Site(store))


def _fill(connection: sa.Connection, file: Path) -> None:
    known = {table.name: table for table in _all()}
    digest, rows, ended = hashlib.sha256(), 0, False
    batch: list[dict[str, Any]] = []
    name = ""

    def flush() -> None:
        if batch:
            connection.execute(sa.insert(known[name]), batch)
            batch.clear()

    for line in _read(file):
        entry = _parsed(line, file)
        if "end" in entry:
            ended = (entry["end"], entry["sha256"]) == (rows, digest.hexdigest())
            break
        digest.update(line)
        if "accord" in entry:
            if entry.get("schema") != HEAD:
                raise DataError(f"is of schema {entry.get('schema')}, not {HEAD}", where=str(file),
                                mend="restore it with the accord that wrote it")  # fmt: skip
            continue
        if entry.get("table") not in known:
            raise DataError("is no backup of accord", where=str(file))
        if entry["table"] != name or len(batch) == BATCH:
            flush()
            name = entry["table"]
        batch.append(entry["row"])
        rows += 1
    flush()
    if not ended:
        raise DataError("is damaged or cut off", where=str(file), mend="use another backup")


def _read(file: Path) -> Iterator[bytes]:
    try:
        with gzip.open(file, "rb") as opened:
            yield from opened
    except (OSError, EOFError) as error:
        raise DataError(f"is no backup that can be read ({error})", where=str(file)) from None


def _parsed(line: bytes, file: Path) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict):
        raise DataError("is no backup of accord", where=str(file))
    return entry
