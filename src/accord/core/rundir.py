"""Run directories: where a stage leaves its outputs, safe against a kill at any moment.

Files appear whole or not at all (written beside, flushed, renamed). `DONE` is written last: a
directory without it is unfinished work that its stage may resume. `hold` keeps two processes from
writing the same directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from accord.core.errors import RunError
from accord.core.hashing import canonical_json

__all__ = [
    "FAILED",
    "MetricsLog",
    "beside",
    "drop_abandoned",
    "hold",
    "is_done",
    "make_dir",
    "mark_done",
    "private",
    "read_json",
    "read_jsonl",
    "user_path",
    "whole_folder",
    "write_json",
    "write_jsonl",
    "write_text",
]

DONE = "DONE"
FAILED = "failed.json"  # the error that a stage ended in


def user_path(text: str | Path) -> Path:
    """A path as a user writes it, with ~; RunError for one that no system takes."""
    try:
        path = Path(text).expanduser()
        path.exists()
        os.fsencode(path)
    except (OSError, RuntimeError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise RunError(
            f"this path can't be used ({why[:120]})",
            where=ascii(str(text))[1:-1][:80],
            mend="check it",
        ) from None
    return path


def named_folder(text: str, beside: Path) -> Path | None:
    """The folder that a recipe in the folder `beside` names: there, else from the working directory."""
    path = user_path(text)
    return next((p for p in (beside / path, path) if text and p.is_dir()), None)


def make_dir(path: Path, mend: str = "choose another with --runs DIR") -> Path:
    """Create a directory and its parents; RunError when it can't be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"can't create the directory ({error.strerror})"
        raise RunError(what, where=str(path), mend=mend) from None
    if not os.access(path, os.W_OK):
        raise RunError("is not writable", where=str(path), mend=mend)
    return path


def private(path: Path) -> None:
    """Make a file that its owner alone may read, before judgments or secrets are written into it."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
    path.chmod(0o600)


def beside(path: Path, token: str = "") -> Path:
    """The name to write under what then takes the place of `path`: the process is in it, so that what it
    leaves when it is killed can be told (`token`: of one that writes several at a time)."""
    return path.with_name(f".{path.name}.{os.getpid()}{token and '-'}{token}.tmp")


def drop_abandoned(path: Path) -> None:
    """Remove what processes that are gone began to write in the place of `path`."""
    name = re.compile(rf"\.{re.escape(path.name)}\.(\d+)(-\w+)?\.tmp(-wal|-shm|-journal)?")
    for left in path.parent.glob(".*.tmp*"):
        match = name.fullmatch(left.name)
        if match and not _lives(int(match[1])):
            left.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def write_text(path: Path, text: str, *, secret: bool = False) -> None:
    """Write a file whole or not at all, flushed to disk; a `secret` one for its owner alone."""
    new = beside(path)
    try:
        drop_abandoned(path)
        if secret:
            private(new)
        with new.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise RunError(f"can't be written ({error.strerror})", where=str(path)) from None


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into that takes the place of `folder` when all is written."""
    new = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir(parents=True)
        yield new
        shutil.rmtree(folder, ignore_errors=True)
        new.replace(folder)
    except OSError as error:
        raise RunError(f"can't be written ({error.strerror})", where=str(folder)) from None


def write_json(path: Path, value: Any) -> None:
    """Pretty JSON, keys sorted, written atomically."""
    plain = json.loads(canonical_json(value))
    write_text(path, json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Parsed JSON of a file accord wrote; RunError when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        mend = "was it moved or deleted? run again, with --fresh if need be"
        raise RunError("no such file", where=str(path), mend=mend) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RunError(f"can't be read ({error})", where=str(path)) from None


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """One JSON document a line, written atomically: texts and judgments, for their owner alone."""
    write_text(path, "".join(canonical_json(row) + "\n" for row in rows), secret=True)


def read_jsonl(path: Path) -> list[Any]:
    """All rows of a JSONL file accord wrote; [] when there is none, RunError when it is damaged."""
    if not path.exists():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        mend = "run this stage again: --only STAGE --fresh"
        raise RunError(f"can't be read ({error})", where=str(path), mend=mend) from None


def mark_done(folder: Path, facts: Any) -> None:
    """Write the DONE marker, last."""
    write_json(folder / DONE, facts)


def is_done(folder: Path) -> bool:
    return (folder / DONE).exists()


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold the directory alone; RunError when another process does. A kill releases it."""
    make_dir(folder)
    try:
        lock = (folder / ".lock").open("a+")
    except OSError as error:
        raise RunError(f".lock can't be used ({error.strerror})", where=str(folder)) from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise RunError(
                f"another process (pid {file.read().strip() or '?'}) is working here",
                where=str(folder),
                mend="wait for it or stop it",
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


class MetricsLog:
    """metrics.jsonl: one row a step. Reopening at a step drops the rows after it, so that a resumed
    run leaves the same rows as an undisturbed one (bytes, where it computes the same bits); wall-clock times
    go elsewhere."""

    def __init__(self, path: Path, step: int = 0) -> None:
        self.path = path
        kept = [row for row in _whole_rows(path) if row["step"] <= step]
        write_text(path, "".join(canonical_json(row) + "\n" for row in kept))

    def add(self, step: int, values: dict[str, float]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(canonical_json({"step": step, **values}) + "\n")

    def rows(self) -> list[dict[str, Any]]:
        return _whole_rows(self.path)


def _whole_rows(path: Path) -> list[dict[str, Any]]:
    """Rows up to the first torn one (a kill may cut the last line)."""
    rows: list[dict[str, Any]] = []
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows
