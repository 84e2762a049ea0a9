"""Import a file, for good or for a look at it; find a prompt's row in it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.data import SNAPSHOT, START, STORE, finish
from accord.pipeline.stages.importing import ImportStage
from accord.store import ImportReport, Store, import_file, remove
from accord.store.io.formats import FORMATS, convert, detect
from accord.store.io.readers import BadRow, read_rows

__all__ = ["look", "row_of", "run"]


def run(ctx: StageContext[ImportStage]) -> StageResult:
    """Import a file and freeze what came in."""
    config = ctx.config
    path = ctx.path(config.file)
    remove(ctx.folder / STORE)
    with Store(ctx.folder / STORE) as store:
        report = bring_in(
            store,
            config,
            path,
            rejects_path=ctx.folder / f"{path.stem}.rejects.jsonl",
            on_progress=lambda done, total: ctx.reporter.progress(done, total, "reading rows"),
        )
        snapshot = store.freeze(SNAPSHOT)
        result = finish(ctx, snapshot, config.test)
        result.facts["import"] = report.counts()
        result.notes += str(report).splitlines()[1:]
        return result


def bring_in(store: Store, config: ImportStage, path: Path, **more: Any) -> ImportReport:
    return import_file(
        store,
        path,
        format=config.format,
        at=START.isoformat(timespec="seconds"),
        skip_bad=config.skip_bad,
        max_prompt_chars=config.max_prompt_chars,
        max_response_chars=config.max_response_chars,
        limit=config.limit,
        **more,
    )


def look(config: ImportStage, path: Path) -> list[str]:
    """What the import would say; nothing stays."""
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / STORE) as store:
        report = bring_in(store, config, path, rejects_path=Path(folder) / "rejects.jsonl")
    report.rejects_path = None
    return str(report).splitlines()


def row_of(config: ImportStage, path: Path, prompt: str) -> str:
    """Where in an imported file the first row of a prompt (its id) stands: `file:line `, or "" where it isn't
    found."""
    format = config.format
    for place, row in read_rows(path):
        with contextlib.suppress(BadRow, KeyError):
            if isinstance(row, BadRow):
                continue
            format = detect(row) if format == "auto" else format
            if FORMATS[format].read and convert(row, format).prompt.id == prompt:
                return f"{path}:{place} "
    return ""
