"""Opening by reference (STORE@SNAPSHOT), making a store whole or not at all, copying one that is in use."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from accord.core.errors import ConfigError, StoreError
from accord.core.refs import StoreRef, is_url
from accord.core.rundir import beside, drop_abandoned, user_path
from accord.store.db import schema
from accord.store.db.database import remove
from accord.store.db.store import Store
from accord.store.snapshot.frozen import Snapshot

__all__ = ["copy_store", "is_store", "opened_or_new", "opened_snapshot", "which_snapshot"]

AT_ONCE = 1000  # rows of a copy
SQLITE = b"SQLite format 3\x00"


@contextlib.contextmanager
def opened_snapshot(where: str, folder: Path | None = None) -> Iterator[Snapshot]:
    """The snapshot that STORE@SNAPSHOT names, its store open meanwhile; files are below `folder`."""
    ref = StoreRef.parse(where, folder)
    with Store(ref.location(folder or Path()), create=False) as store:
        if not ref.snapshot:
            raise _which(store, store.name, store.name)
        yield store.snapshot(ref.snapshot)


def which_snapshot(ref: StoreRef, folder: Path, where: str) -> ConfigError:
    """What to say of a reference that names a store and no snapshot of it."""
    with Store(ref.location(folder), create=False) as store:
        return _which(store, str(ref), where)


def _which(store: Store, ref: str, where: str) -> ConfigError:
    names = ", ".join(store.snapshot_names()) or "none yet"
    return ConfigError("which snapshot?", where=where, allowed=names, mend=f"name one: {ref}@NAME")


def is_store(path: Path) -> bool:
    """Whether a file is an SQLite database."""
    if not path.is_file():
        return False
    with path.open("rb") as opened:
        return opened.read(len(SQLITE)) == SQLITE


def copy_store(source: Store, target: Path) -> None:
    """All of a store, a file or a database, in a new file: read in one state through the database, so that
    others may write meanwhile. Accounts and studies stay behind."""
    with Store(target) as copy, copy.database.roomy(), source.database.reading() as connection:
        for name in schema.TABLES:
            table = schema.metadata.tables[name]
            first = next(iter(table.primary_key))
            selected = connection.execute(sa.select(table).order_by(first)).mappings()
            for rows in selected.partitions(AT_ONCE):
                copy.database.insert(table, [dict(row) for row in rows])


@contextlib.contextmanager
def opened_or_new(where: str | Path) -> Iterator[Store]:
    """The store there, or a new one that appears with all that was put in, or, after an exception, not
    at all. StoreError when another process makes one of that name meanwhile."""
    path = None if is_url(where) else user_path(where)
    if path is None or path.exists() or not path.parent.is_dir():
        with Store(where) as store:
            yield store
        return
    drop_abandoned(path)
    new = beside(path, secrets.token_hex(4))
    try:
        with Store(new, name=str(where)) as store:
            yield store
        _appear(new, path)
    except FileExistsError:
        raise StoreError(
            "another process made this store meanwhile", where=str(where), mend="run it again"
        ) from None
    except OSError as error:
        what = f"can't be made ({error.strerror})"
        raise StoreError(
            what, where=str(where), mend="check the path and its permissions"
        ) from None
    finally:
        remove(new)


def _appear(new: Path, path: Path) -> None:
    """Give a file its name; FileExistsError when that is taken."""
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError from None
        new.rename(path)
