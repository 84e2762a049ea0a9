"""Rows of a data file with the place of each: JSONL, JSON, CSV, TSV, Parquet; .gz too; folders.

A reader yields (place, row) where row is a dict, or a `BadRow` that says what is wrong there. Faults of
the whole file (missing, empty, not what its name says) are DataErrors.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import gzip
import io
import json
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from accord.core.errors import DataError
from accord.core.rundir import user_path
from accord.store.io.folders import data_files, saved_rows

__all__ = ["REJECTS", "BadRow", "count_rows", "guarded", "inputs", "loads", "read_rows"]

REJECTS = ".rejects.jsonl"  # how a file of rows that were left out is named
MAX_LINE = 5 << 20  # bytes
SPACE = b" \t\r\n\xef\xbb\xbf"
FORMULA = ("=", "+", "-", "@", "\t", "\r")
Row = dict[str, Any]


@dataclass(frozen=True)
class BadRow(Exception):
    """What is wrong with a row: the field (may be empty), why, what is allowed, the raw text."""

    field: str
    reason: str
    allowed: str = ""
    raw: str = ""


Rows = Iterator[tuple[str, Row | BadRow]]


def read_rows(path: Path) -> Rows:
    """(place, row) for every row of the file; the place is what follows the file's name."""
    files = inputs(path)
    if not files:
        raise DataError("no such file", where=str(path), mend="check the path")
    if files != [path]:
        for file in files:
            yield from ((f"{file.name}:{place}", row) for place, row in read_rows(file))
        return
    if path.is_dir():
        yield from _folder(path)
        return
    reader = READERS.get(_suffix(path))
    if reader is None:
        raise DataError(
            f"can't tell the format of a {path.suffix or 'nameless'} file",
            where=str(path),
            allowed=", ".join(sorted(READERS))
            + ", each with .gz too, or a folder of datasets or the hub",
        )
    try:
        yield from reader(path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"the .gz is damaged ({error})", where=str(path)) from None
    except OSError as error:
        raise DataError(f"can't be read ({error.strerror or error})", where=str(path)) from None


def inputs(path: Path) -> list[Path]:
    """The file or folder of this name, or the files that a pattern (`data/train-*.parquet`) finds."""
    if user_path(path).exists():
        return [path]
    files = sorted(path.parent.glob(path.name)) if "*" in path.name else []
    return [f for f in files if not f.name.endswith(REJECTS)]


def _folder(path: Path) -> Rows:
    """Rows of a folder: of `datasets`, else of the data files of a snapshot of the hub."""
    files = data_files(path, tuple(READERS))
    if not files:
        yield from saved_rows(path)
    for file in files:
        for place, row in read_rows(file):
            yield f"{file.relative_to(path)}:{place}", row


def count_rows(path: Path) -> int:
    """Lines of a line-based file, 0 when unknown: for progress."""
    if path.is_dir() or _suffix(path) not in {".jsonl", ".ndjson", ".csv", ".tsv"}:
        return 0
    with contextlib.suppress(OSError, EOFError, zlib.error), _open(path) as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    return 0  # reading it will tell why


def _suffix(path: Path) -> str:
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")  # type: ignore[return-value]


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """(number, line); None for a line over the limit, which is never held in memory."""
    number = 0
    while line := file.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            while line and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE)
            yield number, None
        else:
            yield number, line


def _jsonl(path: Path) -> Rows:
    with _open(path) as file:
        for number, line in _lines(file):
            if line is None:
                yield str(number), BadRow("", f"the line is longer than {MAX_LINE >> 20} MB")
            elif line.strip(SPACE):
                yield str(number), _parse(line)


def _parse(line: bytes) -> Row | BadRow:
    """One JSON object, or what is wrong with the line."""
    try:
        text = line.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        shown = line.decode("utf-8", errors="replace").strip()
        return BadRow("", f"is not UTF-8 (byte {error.start + 1})", "UTF-8; see iconv", shown)
    try:
        value = loads(text)
    except json.JSONDecodeError as error:
        return BadRow("", f"is not JSON ({error.msg}, column {error.colno})", raw=text)
    except (ValueError, RecursionError) as error:
        return BadRow("", f"is not JSON ({error})", raw=text)
    return _checked(value, text, escaped="\\u" in text)


def _checked(value: Any, raw: str, *, escaped: bool = True) -> Row | BadRow:
    """The value if it is an object of whole characters; without an escape in it, it can hold no others."""
    if not isinstance(value, dict):
        return BadRow("", f"is a JSON {type(value).__name__}", "an object {…}", raw)
    if escaped:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            shown = raw.encode(errors="backslashreplace").decode()
            what = "holds half of a surrogate pair (\\ud8xx)"
            return BadRow("", what, "whole characters", shown)
        except (ValueError, RecursionError):
            return BadRow("", "is nested too deep", raw=raw)
    return value


def loads(text: str) -> Any:
    """JSON without a number too large to hold or a key that appears twice (of which one would be lost).
    NaN, as Python and pandas write it where a number is missing, is read as it is."""
    value: Any = _DECODER.decode(text)
    return value


def _unique(items: list[tuple[str, Any]]) -> Row:
    row = dict(items)
    if len(row) != len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} appears twice")
    return row


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:40]} is a number that is too large")
    return number


_DECODER = json.JSONDecoder(parse_float=_finite, object_pairs_hook=_unique)


def _json(path: Path) -> Rows:
    """A list of objects; also JSON lines, for many a file of them is named so."""
    with _open(path) as file:
        raw = file.read()
    try:
        value = loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(
            f"is not UTF-8 (byte {error.start + 1})", where=str(path), mend="convert it with iconv"
        ) from None
    except json.JSONDecodeError as error:
        if error.msg == "Extra data" and error.lineno > 1 and raw.lstrip(SPACE)[:1] == b"{":
            yield from _jsonl(path)
            return
        raise DataError(
            f"is not JSON ({error.msg}, column {error.colno})", where=f"{path}:{error.lineno}",
            allowed="a list [{…}], or an object a line",
        ) from None  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise DataError(f"is not JSON ({error})", where=str(path)) from None
    if isinstance(value, dict) and b"\n" not in raw.strip(
        SPACE
    ):  # JSON lines, of which there is one
        yield from _jsonl(path)
        return
    if not isinstance(value, list):
        raise DataError(
            f"holds a JSON {type(value).__name__}", where=str(path), allowed="a list [{…}]"
        )
    for number, item in enumerate(value, 1):
        yield f"item {number}", _checked(item, str(item)[:200])


def _csv(path: Path, delimiter: str = ",") -> Rows:
    csv.field_size_limit(MAX_LINE)
    with _open(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(text, strict=True, delimiter=delimiter)
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except UnicodeDecodeError as error:  # read ahead of the rows: the line is not known
                raise DataError(f"is not CSV in UTF-8 ({error})", where=str(path)) from None
            except csv.Error as error:
                where = f"{path}:{reader.reader.line_num}"
                raise DataError(f"is not CSV ({error})", where=where) from None
            names = list(reader.fieldnames or [])
            if len(set(names)) < len(names):
                twice = next(n for n in names if names.count(n) > 1)
                raise DataError(f"the column {twice!r} appears twice", where=f"{path}:1")
            if None in row or None in row.values():
                yield (
                    str(reader.line_num),
                    BadRow("", f"has not {len(names)} columns as the header", raw=str(row)),
                )
            else:
                if "sources" in names:  # our own export
                    row = {k: _unguarded(v) for k, v in row.items()}
                yield str(reader.line_num), row


def guarded(text: str) -> str:
    """A CSV cell that no spreadsheet takes for a formula: an apostrophe before what would be one. Exactly
    undone by `_unguarded`."""
    return f"'{text}" if text.lstrip("'")[:1] in FORMULA else text


def _unguarded(text: str) -> str:
    is_guarded = text[:1] == "'" and text.lstrip("'")[:1] in FORMULA
    return text[1:] if is_guarded else text


def _parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=1000)
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield f"row {number}", row
    except (pyarrow.ArrowException, ValueError, OverflowError) as error:
        raise DataError(f"is not Parquet that can be read ({error})", where=str(path)) from None


READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".tsv": functools.partial(_csv, delimiter="\t"),
    ".parquet": _parquet,
}
