"""`accord data`: what is in a store, or what a file would bring."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from accord.core.errors import DataError
from accord.core.refs import is_url
from accord.core.rundir import user_path

__all__ = ["show_data"]


def show_data(where: str, judgment: str | None) -> None:
    """Print the summary of a store; a data file is imported into a store that is thrown away."""
    from accord.feedback.trust.card import data_card
    from accord.store import Store, import_file
    from accord.store.io.readers import inputs
    from accord.store.opening import is_store

    console = Console(highlight=False)
    file = Path(where) if is_url(where) else user_path(where)
    if not is_url(where) and not inputs(file):
        raise DataError("no such file", where=where, mend="check the path")
    if is_url(where) or is_store(file):
        with Store(where, create=False) as store:
            if judgment:
                _tree(console, store.judgment(judgment))
                return
            _tree(console, data_card(store))
        return
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "look.db") as store:
        report = import_file(
            store, file, skip_bad=True, rejects_path=Path(folder) / "rejects.jsonl"
        )
        console.print(escape(str(report)))
        _tree(console, data_card(store))


def _tree(console: Console, value: Any, title: str = "") -> None:
    """Nested plain data as tables: scalars in one, each nested part under its name."""
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
        table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
        keys = list(dict.fromkeys(k for row in value for k in row))
        for key in keys:
            table.add_column(key)
        for row in value:
            table.add_row(*(escape(_text(row.get(k))) for k in keys))
        console.print(table)
        return
    if isinstance(value, dict):
        flat = {k: v for k, v in value.items() if not _nested(v)}
        if flat:
            table = Table(title=title or None, title_justify="left", box=None, show_header=False)
            for key, item in flat.items():
                table.add_row(escape(str(key)), escape(_text(item)))
            console.print(table)
        for key, item in value.items():
            if _nested(item):
                _tree(console, item, f"{title} {key}".strip())


def _nested(value: Any) -> bool:
    if hasattr(value, "model_dump") and not hasattr(value, "method"):
        return True
    if isinstance(value, dict):
        return not _is_metric(value)
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _is_metric(value: Any) -> bool:
    return isinstance(value, dict) and {"value", "n", "level"} <= set(value)


def _text(value: Any) -> str:
    from accord.core.types import Metric

    if _is_metric(value):
        return str(Metric.model_validate(value))
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else str(value)
