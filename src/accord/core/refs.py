"""Where judgments are: a store, and a snapshot of it. STORE@SNAPSHOT, read the same way everywhere.

    study.db@v3                             a file; "@" in names is fine, for the file that exists is meant
    sqlite:///data/study.db@v3              the same by URL
    postgresql+psycopg://me@host/db@v3      a database: the first "@" after the host; in user, password and
                                            database "@", "/" and ":" are written %40, %2F and %3A

A password in a URL stays in this process's memory: what is written or shown is the URL without it, which
opens by PGPASSWORD or ~/.pgpass where no password was given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from accord.core.errors import ConfigError
from accord.core.rundir import user_path

__all__ = ["StoreRef", "hidden", "is_url", "revealed", "shown"]

SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(.*)", re.DOTALL)
URL = re.compile(r"([^:/]+://)([^/?]*)(.*)", re.DOTALL)  # scheme, user and host, the rest
SECRET = re.compile(r"([?&]\w*password=)[^&@]*", re.IGNORECASE)
DATA = {".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".gz", ".db", ".sqlite"}
_known: dict[str, str] = {}  # the URL by the URL without its password: in memory only


def is_url(where: str | Path) -> bool:
    return "://" in str(where)


@dataclass(frozen=True, repr=False)
class StoreRef:
    """A file or URL (as written, password and all), and a snapshot of it or None."""

    where: str
    snapshot: str | None = None

    @classmethod
    def parse(cls, text: str, folder: Path | None = None) -> StoreRef:
        """STORE or STORE@SNAPSHOT; files are looked for below `folder` (here, when not given)."""
        head, path = "", text
        if sqlite := SQLITE.fullmatch(text):
            head, path = sqlite.groups()
        elif is_url(text):
            return cls(*_of_database(text))
        for store, snapshot in _splits(path):
            if (_below(folder, store)).is_file():
                return cls(head + store, snapshot)
        store, at, snapshot = path.rpartition("@")
        named = PurePath(snapshot).suffix.lower() not in DATA and not re.search(r"[/\\]", snapshot)
        return cls(head + store, snapshot) if at and store and named else cls(text)

    def location(self, folder: Path) -> str:
        """What `Store` opens: the URL, or the file below `folder`."""
        return self.where if is_url(self.where) else str(_below(folder, self.where))

    def __str__(self) -> str:
        return hidden(self.where) + ("" if self.snapshot is None else f"@{self.snapshot}")

    __repr__ = __str__


def _below(folder: Path | None, path: str) -> Path:
    return (folder or Path()) / user_path(path)


def _splits(path: str) -> Iterator[tuple[str, str | None]]:
    """The whole path, then all before an "@" and what follows it, the last "@" first."""
    yield path, None
    for at in reversed([m.start() for m in re.finditer("@", path)]):
        if at:
            yield path[:at], path[at + 1 :]


def _of_database(text: str) -> tuple[str, str | None]:
    """A database's URL and the snapshot named after it."""
    match = URL.fullmatch(text)
    if match is None:
        return text, None
    scheme, place, rest = match.groups()
    port = all(re.fullmatch(r"(\[.*\]|[^:]*)(:\d*)?", host) for host in place.split(","))
    if "@" not in place and not port:
        raise ConfigError(
            "a password that holds / or ? is not a URL's", where=f"{scheme}…",
            mend="write @ as %40, / as %2F and ? as %3F, or leave it to PGPASSWORD or ~/.pgpass",
        )  # fmt: skip
    store, at, snapshot = rest.partition("@")
    return scheme + place + store, snapshot if at else None


def shown(where: str | Path) -> str:
    """A store's name for people: a URL without what may be a password."""
    text = str(where)
    return SECRET.sub(r"\1…", re.sub(r"//.*@", "//…@", text)) if is_url(text) else text


def hidden(where: str) -> str:
    """The URL without its password, to be written; this process keeps it. Files stay as they are."""
    match = URL.fullmatch(where)
    if match is None or SQLITE.fullmatch(where):
        return where
    scheme, place, rest = match.groups()
    user, at, host = place.rpartition("@")
    rest = re.sub(r"[?&]\w*password=[^&]*", "", rest, flags=re.IGNORECASE)
    rest = rest if "?" in rest else rest.replace("&", "?", 1)
    plain = scheme + user.partition(":")[0] + at + host + rest
    if plain != where:
        _known[plain] = where
    return plain


def revealed(where: str) -> str:
    """The URL to open: with the password this process was given for it, if any."""
    return _known.get(where, where)
