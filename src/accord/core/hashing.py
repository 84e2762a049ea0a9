"""Content hashing: the same content has the same name, on every machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

__all__ = ["canonical_json", "content_hash", "file_hash", "text_hash", "tree_hash"]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Path):
        return value.as_posix()
    raise TypeError(f"can't hash a {type(value).__name__}")


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare spaces; NaN is refused, for it equals nothing."""
    return _ENCODER.encode(value)


def content_hash(value: Any) -> str:
    """sha256 (hex) of the canonical JSON of plain data or pydantic models."""
    return text_hash(canonical_json(value))


def text_hash(text: str) -> str:
    """sha256 (hex) of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 (hex) of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tree_hash(folder: Path) -> str:
    """sha256 (hex) over the names and contents of all files below a folder."""
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return content_hash([[p.relative_to(folder).as_posix(), file_hash(p)] for p in files])
