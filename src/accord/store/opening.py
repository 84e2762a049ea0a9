"""A store that appears whole: what is put into a new one is there altogether, or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from accord.core.errors import StoreError
from accord.core.rundir import user_path
from accord.store.database import remove
from accord.store.store import Store

__all__ = ["opened_or_new"]


@contextlib.contextmanager
def opened_or_new(where: str | Path) -> Iterator[Store]:
    """The store there, or a new one that appears with all that was put in, or, after an exception, not
    at all. StoreError when another process makes one of that name meanwhile."""
    path = None if "://" in str(where) else user_path(where)
    if path is None or path.exists() or not path.parent.is_dir():
        with Store(where) as store:
            yield store
        return
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with Store(beside, name=str(where)) as store:
            yield store
        _appear(beside, path)
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
        remove(beside)


def _appear(beside: Path, path: Path) -> None:
    """Give a file its name; FileExistsError when that is taken."""
    try:
        os.link(beside, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without links
        if path.exists():
            raise FileExistsError from None
        beside.rename(path)
