"""Write a snapshot for other tools; every row keeps the judgment ids it came from (`sources`).

    accord              lossless, our own types                        -> import
    preference          prompt, chosen, rejected as messages           TRL DPO, ORPO, reward; LLaMA-Factory
    preference_text     the same as text
    implicit            chosen, rejected as whole conversations        reward models, HH
    unpaired            prompt, completion, label                      TRL KTO, BCO
    prompt_completion   prompt, completion                             TRL SFT
    messages            messages                                       TRL SFT
    stepwise            prompt, completions, labels                    TRL stepwise supervision (PRM)
    argilla             records with everybody's responses             -> Argilla, import
    label_studio        tasks with annotations                         -> Label Studio, import

By the name of the target: .jsonl, .json, .csv, .parquet (.jsonl.gz and .json.gz too), else a `datasets`
folder. In a CSV no cell begins like a formula: such a text gets an apostrophe, which import takes off.
A conversation of several turns as text is a transcript ("\\n\\nHuman: …\\n\\nAssistant: …").
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from accord.core.errors import ConfigError, DataError
from accord.core.hashing import canonical_json
from accord.core.registry import Registry
from accord.core.rundir import beside, drop_abandoned, make_dir, private, user_path
from accord.core.types import (
    Demonstration,
    LabelledResponse,
    LabelledSteps,
    Message,
    Pair,
    Prompt,
    Response,
    steps_of,
)
from accord.store.db.database import holds_database
from accord.store.io.foreign.out import argilla_rows, label_studio_rows
from accord.store.io.formats import transcript
from accord.store.io.native import native_rows
from accord.store.io.readers import guarded
from accord.store.snapshot.frozen import Items, Snapshot

__all__ = ["Exported", "export", "row_format", "row_formats"]

row_formats: Registry = Registry("format")
row_format = row_formats.register
"""f(item, *, keys) -> a row. `read`: what of a snapshot its items are, f(snapshot) -> Items; `files`: the
endings that can hold such rows, where not all can."""

NESTED = {".json", ".jsonl", ".json.gz", ".jsonl.gz"}
NAMES = {"user": "Human", "assistant": "Assistant", "system": "System"}
Row = dict[str, Any]


def _turns(messages: Iterable[Message]) -> list[Row]:
    return [m.model_dump(mode="json") for m in messages]


def _reply(r: Response) -> list[Row]:
    return _turns([Message(role="assistant", content=r.text, tool_calls=r.tool_calls)])


def _tools(prompt: Prompt) -> Row:
    return {"tools": list(prompt.tools)} if prompt.tools else {}


def _text(prompt: Prompt) -> str:
    """The user's words when that is all there is, else a transcript."""
    first = prompt.messages[0]
    alone = len(prompt.messages) == 1 and first.role == "user" and not prompt.tools
    if alone and not transcript(first.content):
        return first.content
    unknown = {f"a {m.role} turn" for m in prompt.messages if m.role not in NAMES}
    unknown |= {"a tool call" for m in prompt.messages if m.tool_calls}
    unknown |= {"a list of tools"} if prompt.tools else set()
    if unknown:
        raise DataError(
            f"{min(unknown)} has no text form",
            where=f"prompt {prompt.id}",
            mend="export messages",
        )
    text = "".join(f"\n\n{NAMES[m.role]}: {m.content}" for m in prompt.messages)
    stripped = [(m.role, m.content.strip()) for m in prompt.messages]
    if [(m.role, m.content) for m in transcript(text)] != stripped:
        raise DataError(
            'a turn holds "\\n\\nHuman:" itself, which as text would be a turn of its own',
            where=f"prompt {prompt.id}",
            mend="export messages",
        )
    return f"{text}\n\nAssistant:"


def _alone(prompt: Prompt, answer: Response) -> str:
    """An answer as text, refused where it would be read as a transcript."""
    why = 'an answer begins with "\\n\\nHuman:" and would be read as a transcript'
    if answer.tool_calls or transcript(answer.text):
        raise DataError(
            "an answer's tool call has no text form" if answer.tool_calls else why,
            where=f"prompt {prompt.id}",
            mend="export messages",
        )
    return answer.text


def _facts(pair: Pair) -> Row:
    return {
        "p": pair.p,
        "weight": pair.weight,
        "agreement": pair.agreement,
        "sources": list(pair.sources),
    }


@row_format("preference", read=Snapshot.pairs)
def _preference(p: Pair) -> Row:
    chosen, rejected = _reply(p.chosen), _reply(p.rejected)
    prompt = _turns(p.prompt.messages)
    messages = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    return {**messages, **_tools(p.prompt), **_facts(p)}


@row_format("preference_text", read=Snapshot.pairs)
def _preference_text(p: Pair) -> Row:
    chosen, rejected = (_alone(p.prompt, r) for r in (p.chosen, p.rejected))
    return {"prompt": _text(p.prompt), "chosen": chosen, "rejected": rejected, **_facts(p)}


@row_format("implicit", read=Snapshot.pairs)
def _implicit(p: Pair) -> Row:
    chosen, rejected = ([*_turns(p.prompt.messages), *_reply(r)] for r in (p.chosen, p.rejected))
    return {"chosen": chosen, "rejected": rejected, **_tools(p.prompt), **_facts(p)}


@row_format("unpaired", read=Snapshot.labelled)
def _unpaired(r: LabelledResponse) -> Row:
    return {
        "prompt": _turns(r.prompt.messages),
        "completion": _reply(r.response),
        "label": r.desirable,
        **_tools(r.prompt),
        "weight": r.weight,
        "sources": list(r.sources),
    }


@row_format("prompt_completion", read=Snapshot.demonstrations)
def _prompt_completion(d: Demonstration) -> Row:
    prompt, completion = _turns(d.prompt.messages), _reply(d.response)
    return {
        "prompt": prompt,
        "completion": completion,
        **_tools(d.prompt),
        "sources": list(d.sources),
    }


@row_format("messages", read=Snapshot.demonstrations)
def _messages(d: Demonstration) -> Row:
    messages = [*_turns(d.prompt.messages), *_reply(d.response)]
    return {"messages": messages, **_tools(d.prompt), "sources": list(d.sources)}


@row_format("stepwise", read=Snapshot.stepped)
def _stepwise(x: LabelledSteps) -> Row:
    """A step is right unless more raters marked it bad than good; neutral counts as right (Lightman et
    al. 2023, appendix)."""
    right = [label >= 0 for label in x.labels]
    steps, sources = steps_of(x.response.text), list(x.sources)
    return {"prompt": _text(x.prompt), "completions": steps, "labels": right, "sources": sources}


@row_format("accord", read=lambda s: Items[Any](native_rows(s)), files={".jsonl", ".jsonl.gz"})
@row_format("argilla", read=lambda s: Items[Any](argilla_rows(s)), files=NESTED)
@row_format("label_studio", read=lambda s: Items[Any](label_studio_rows(s)), files=NESTED)
def _as_it_is(row: Row) -> Row:
    return row


class Exported(NamedTuple):
    """Rows written, and what was left out, by reason."""

    rows: int
    left_out: dict[str, int]


def export(
    snapshot: Snapshot, path: str | Path, *, format: str | Mapping[str, Any] = "preference"
) -> Exported:
    """Write the snapshot's rows. A file appears whole or not at all.

    Args:
        snapshot: of a store.
        path: a .jsonl or .parquet file.
        format: "preference", or another that docs/data.md lists; {name: …, its keys} for one that has keys.

    Raises:
        ConfigError: an unknown format, or a file that can't hold its rows.
        DataError: the snapshot holds nothing of it.
    """
    path = user_path(path)
    config = {"name": format} if isinstance(format, str) else format
    entry, row_of = row_formats.configured(config, "format")
    suffix = "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix
    files = entry.facts.get("files")
    if files and suffix not in files:
        raise ConfigError(
            f"can't hold rows of format {entry.name}",
            where=str(path),
            allowed=", ".join(sorted(files)),
        )
    items = entry.facts["read"](snapshot)
    rows = [row_of(item) for item in items]
    left_out = {reason: n for reason, n in items.notes.items() if n}
    if not rows:
        but = "".join(f"; left out: {n} {reason}" for reason, n in left_out.items())
        raise DataError(
            f"snapshot {snapshot.name} holds nothing of format {entry.name}{but}",
            where=snapshot.store.name,
            mend="accord data STORE tells what is in it",
        )
    _check_target(path)
    write = WRITERS.get(suffix)
    if write is None and suffix:
        raise ConfigError(
            f"can't write {suffix} files",
            where=str(path),
            allowed=", ".join(WRITERS) + ", or a folder",
        )
    new = beside(path)
    try:
        drop_abandoned(path)
        if write is None:
            _write_dataset(path, rows)
        else:
            private(new)
            new.write_bytes(write(rows))
            new.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise DataError(f"can't be written ({error.strerror})", where=str(path)) from None
    return Exported(len(rows), left_out)


def _check_target(path: Path) -> None:
    """Refuse a target that is no name for a file, or that holds a store."""
    if not path.name or (path.is_file() and holds_database(path)):
        what = (
            "holds a database, perhaps the store itself" if path.name else "is no name for a file"
        )
        raise ConfigError(what, where=str(path), mend="name another file to write to")
    make_dir(path.parent, "name a file in a directory that can be written")


def _jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(canonical_json(row) + "\n" for row in rows).encode()


def _json(rows: Sequence[Row]) -> bytes:
    return (json.dumps(list(rows), ensure_ascii=False, indent=1) + "\n").encode()


def _csv(rows: Sequence[Row]) -> bytes:
    """Cells are text: lists and objects as JSON."""
    out = io.StringIO(newline="")
    rows = _columns(rows)
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    for row in rows:
        writer.writerow(
            {k: guarded(v) if isinstance(v, str) else json.dumps(v) for k, v in row.items()}
        )
    return out.getvalue().encode()


def _columns(rows: Sequence[Row]) -> list[Row]:
    """Rows for a table: the same columns in each, and tools and arguments, which are shaped as each tool
    likes, as JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return [{name: _cell(name, row.get(name)) for name in names} for row in rows]


def _cell(name: str, value: Any) -> Any:
    if name == "tools" and value:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return [_cell("", item) for item in value]
    if isinstance(value, dict):
        inside = {k: _cell(k, v) for k, v in value.items()}
        if "arguments" in value:
            inside["arguments"] = json.dumps(value["arguments"], ensure_ascii=False)
        return inside
    return value


def _parquet(rows: Sequence[Row]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_columns(rows)), out)
    return out.getvalue()


def _write_dataset(path: Path, rows: Sequence[Row]) -> None:
    import datasets

    path.mkdir(mode=0o700, exist_ok=True)
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(_columns(rows)).save_to_disk(str(path))


WRITERS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
    ".jsonl.gz": lambda rows: gzip.compress(_jsonl(rows), mtime=0),
    ".json.gz": lambda rows: gzip.compress(_json(rows), mtime=0),
}
