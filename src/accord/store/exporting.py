"""Write a snapshot for other tools; every row keeps the judgment ids it came from (`sources`).

    accord              lossless, our own types                        -> import
    preference          prompt, chosen, rejected as messages           TRL DPO, ORPO, reward; LLaMA-Factory
    preference_text     the same as text
    implicit            chosen, rejected as whole conversations        reward models, HH
    unpaired            prompt, completion, label                      TRL KTO, BCO
    prompt_completion   prompt, completion                             TRL SFT
    messages            messages                                       TRL SFT

By the name of the target: .jsonl, .json, .csv, .parquet (.jsonl.gz and .json.gz too), else a `datasets`
folder. A conversation of several turns as text is a transcript ("\\n\\nHuman: …\\n\\nAssistant: …").
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError, DataError
from accord.core.hashing import canonical_json
from accord.core.rundir import make_dir
from accord.core.types import Demonstration, LabelledResponse, Message, Pair, Prompt
from accord.store.formats import transcript
from accord.store.native import native_rows
from accord.store.snapshot import Snapshot

__all__ = ["EXPORTS", "export"]

NAMES = {"user": "Human", "assistant": "Assistant", "system": "System"}
Row = dict[str, Any]


def _turns(messages: Iterable[Message]) -> list[Row]:
    return [{"role": m.role, "content": m.content} for m in messages]


def _said(text: str) -> list[Row]:
    return [{"role": "assistant", "content": text}]


def _text(prompt: Prompt) -> str:
    """The user's words when that is all there is, else a transcript."""
    first = prompt.messages[0]
    if len(prompt.messages) == 1 and first.role == "user" and not transcript(first.content):
        return first.content
    unknown = {m.role for m in prompt.messages} - set(NAMES)
    if unknown:
        raise DataError(
            f"a {unknown.pop()} turn has no text form",
            where=f"prompt {prompt.id}",
            mend="export messages",
        )
    said = "".join(f"\n\n{NAMES[m.role]}: {m.content}" for m in prompt.messages)
    stripped = [(m.role, m.content.strip()) for m in prompt.messages]
    if [(m.role, m.content) for m in transcript(said)] != stripped:
        raise DataError(
            'a turn holds "\\n\\nHuman:" itself, which as text would be a turn of its own',
            where=f"prompt {prompt.id}",
            mend="export messages",
        )
    return f"{said}\n\nAssistant:"


def _alone(prompt: Prompt, text: str) -> str:
    """An answer as text, refused where it would be read as a transcript."""
    if transcript(text):
        raise DataError(
            'an answer begins with "\\n\\nHuman:" and would be read as a transcript',
            where=f"prompt {prompt.id}",
            mend="export messages",
        )
    return text


def _facts(pair: Pair) -> Row:
    return {
        "p": pair.p,
        "weight": pair.weight,
        "agreement": pair.agreement,
        "sources": list(pair.sources),
    }


def _preference(snapshot: Snapshot) -> list[Row]:
    return [
        {
            "prompt": _turns(p.prompt.messages),
            "chosen": _said(p.chosen.text),
            "rejected": _said(p.rejected.text),
            **_facts(p),
        }
        for p in snapshot.pairs()
    ]


def _preference_text(snapshot: Snapshot) -> list[Row]:
    return [
        {
            "prompt": _text(p.prompt),
            "chosen": _alone(p.prompt, p.chosen.text),
            "rejected": _alone(p.prompt, p.rejected.text),
            **_facts(p),
        }
        for p in snapshot.pairs()
    ]


def _implicit(snapshot: Snapshot) -> list[Row]:
    return [
        {
            "chosen": [*_turns(p.prompt.messages), *_said(p.chosen.text)],
            "rejected": [*_turns(p.prompt.messages), *_said(p.rejected.text)],
            **_facts(p),
        }
        for p in snapshot.pairs()
    ]


def _unpaired(snapshot: Snapshot) -> list[Row]:
    def row(r: LabelledResponse) -> Row:
        return {
            "prompt": _turns(r.prompt.messages),
            "completion": _said(r.response.text),
            "label": r.desirable,
            "weight": r.weight,
            "sources": list(r.sources),
        }

    return [row(r) for r in snapshot.labelled()]


def _prompt_completion(snapshot: Snapshot) -> list[Row]:
    def row(d: Demonstration) -> Row:
        return {
            "prompt": _turns(d.prompt.messages),
            "completion": _said(d.response.text),
            "sources": list(d.sources),
        }

    return [row(d) for d in snapshot.demonstrations()]


def _messages(snapshot: Snapshot) -> list[Row]:
    def row(d: Demonstration) -> Row:
        return {
            "messages": [*_turns(d.prompt.messages), *_said(d.response.text)],
            "sources": list(d.sources),
        }

    return [row(d) for d in snapshot.demonstrations()]


EXPORTS: dict[str, Callable[[Snapshot], Iterable[Row]]] = {
    "accord": native_rows,
    "preference": _preference,
    "preference_text": _preference_text,
    "implicit": _implicit,
    "unpaired": _unpaired,
    "prompt_completion": _prompt_completion,
    "messages": _messages,
}


def export(snapshot: Snapshot, path: str | Path, *, format: str = "preference") -> int:
    """Write the snapshot's rows; returns how many. A file appears whole or not at all."""
    path = Path(path)
    if format not in EXPORTS:
        raise ConfigError(f"unknown format {format!r}", where="format", allowed=", ".join(EXPORTS))
    rows = list(EXPORTS[format](snapshot))
    if not rows:
        raise DataError(
            f"snapshot {snapshot.name} holds nothing of format {format}",
            where=snapshot.store.name,
            mend="accord data STORE tells what is in it",
        )
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    if format == "accord" and suffix not in {".jsonl", ".jsonl.gz"}:
        raise ConfigError(
            "rows of several types need JSON lines", where=str(path), allowed=".jsonl, .jsonl.gz"
        )
    make_dir(path.parent)
    write = WRITERS.get(suffix)
    if write is None and suffix:
        raise ConfigError(
            f"can't write {suffix} files",
            where=str(path),
            allowed=", ".join(WRITERS) + ", or a folder",
        )
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        if write is None:
            _write_dataset(path, rows)
        else:
            beside.write_bytes(write(rows))
            beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise DataError(f"can't be written ({error.strerror})", where=str(path)) from None
    return len(rows)


def _jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(canonical_json(row) + "\n" for row in rows).encode()


def _json(rows: Sequence[Row]) -> bytes:
    return (json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n").encode()


def _csv(rows: Sequence[Row]) -> bytes:
    """Cells are text: lists and objects as JSON."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()})
    return out.getvalue().encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def _write_dataset(path: Path, rows: Sequence[Row]) -> None:
    import datasets

    datasets.disable_progress_bars()
    datasets.Dataset.from_list(list(rows)).save_to_disk(str(path))


WRITERS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl.gz": lambda rows: gzip.compress(_jsonl(rows), mtime=0),
    ".json.gz": lambda rows: gzip.compress(_json(rows), mtime=0),
}
