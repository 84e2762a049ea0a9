"""What a judge has answered, on disk: a killed run goes on without asking anything twice.

A key is the hash of (model, template and version, what is read, sampling). Only answers are kept: a request
that failed is asked again.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from accord.core.errors import RunError

__all__ = ["Cache", "JudgeReply"]

AT_ONCE = 500  # keys of a query


@dataclass(frozen=True)
class JudgeReply:
    """What came back: the options' log-probs (None where none are told), texts; tokens read and written."""

    logps: tuple[float, ...] | None = None
    texts: tuple[str, ...] = ()
    read: int = 0
    written: int = 0


class Cache:
    """A file, or ":memory:"."""

    def __init__(self, path: str | Path) -> None:
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(str(path), check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")  # a killed process loses nothing
            self._db.execute(
                "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL)"
            )
        except sqlite3.DatabaseError as error:
            self._db.close()
            raise RunError(
                f"is no cache of a judge ({error})", where=str(path), mend="name another file"
            ) from None

    def __enter__(self) -> Cache:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def known(self, keys: Collection[str]) -> dict[str, JudgeReply]:
        """The replies known to these keys."""
        wanted = list(keys)
        replies: dict[str, JudgeReply] = {}
        for at in range(0, len(wanted), AT_ONCE):
            some = wanted[at : at + AT_ONCE]
            marks = ",".join("?" * len(some))
            with self._lock:
                rows = self._db.execute(
                    f"SELECT key, reply FROM replies WHERE key IN ({marks})", some
                ).fetchall()
            replies |= {key: _reply(reply) for key, reply in rows}
        return replies

    def keep(self, replies: Mapping[str, JudgeReply]) -> None:
        """Kept when this returns; a key that has a reply keeps it."""
        rows = [(key, json.dumps(vars(reply))) for key, reply in replies.items()]
        with self._lock, self._db:
            self._db.executemany("INSERT OR IGNORE INTO replies VALUES (?, ?)", rows)


def _reply(text: str) -> JudgeReply:
    raw = json.loads(text)
    logps = None if raw["logps"] is None else tuple(raw["logps"])
    return JudgeReply(logps, tuple(raw["texts"]), raw["read"], raw["written"])
