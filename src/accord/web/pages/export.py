"""A study's judgments as files: accord's own, TRL's, Argilla's, Label Studio's, tables. Formula-safe CSV."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from accord.core.errors import DataError
from accord.core.types import Judgment
from accord.store import Snapshot
from accord.store import export as write_file
from accord.store.db import schema
from accord.store.io.readers import guarded
from accord.web import tables
from accord.web.guard import audit
from accord.web.guard.security import CheckedForm, Here, may
from accord.web.pages.answers import answer_line
from accord.web.pages.render import page
from accord.web.site import Site
from accord.web.work import quality

__all__ = ["router", "study_snapshot", "table"]

router = APIRouter(include_in_schema=False, prefix="/studies/{study}")
Exporter = Annotated[Here, Depends(may("export"))]
SUFFIXES = {".jsonl": "application/x-ndjson", ".json": "application/json", ".csv": "text/csv",
            ".parquet": "application/vnd.apache.parquet"}  # fmt: skip
WORDS = {
    "judgments": "every judgment, one a line, for a spreadsheet",
    "accord": "accord's own, lossless; accord import reads it",
    "preference": "TRL: prompt, chosen, rejected as messages",
    "preference_text": "TRL: the same as text",
    "implicit": "TRL: whole conversations, for reward models",
    "unpaired": "TRL: KTO, from thumbs",
    "stepwise": "TRL: stepwise supervision, from steps",
    "prompt_completion": "TRL: SFT, from what people wrote",
    "messages": "TRL: SFT as messages",
    "argilla": "Argilla's records with responses",
    "label_studio": "Label Studio's tasks with annotations",
}


def study_snapshot(site: Site, study: str, *, gold: bool = False) -> Snapshot:
    """The study's judgments as they stand: corrected ones left out; where an adjudicator decided, theirs
    alone; gold questions only when asked for. What was asked again is in it twice: whoever pools it counts a
    rater's last answer, and both tell how far the rater agrees with themselves."""
    q, j = tables.study_questions, schema.judgments
    settled = {
        row.id: Judgment.model_validate_json(row.body)
        for row in site.all(
            sa.select(q.c.id, q.c.gold, j.c.body)
            .join_from(q, j, q.c.verdict == j.c.id)
            .where(q.c.study == study)
        )
        if gold or row.gold is None
    }
    given = [g for g in quality.answers(site, study, repeats=True) if gold or not g.gold]
    chosen = [g.judgment for g in given if g.question not in settled]
    return Snapshot(site.store, study, [*chosen, *settled.values()])


def table(site: Site, study: str) -> bytes:
    """Every judgment as CSV, with nothing a spreadsheet would run."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(
        [
            "question",
            "kind",
            "category",
            "rater",
            "answer",
            "seconds",
            "at",
            "guideline",
            "order_shown",
            "gold",
            "right",
            "repeat",
            "rationale",
            "judgment",
        ]
    )
    for g in quality.answers(site, study, repeats=True):
        order = "".join("ABCDEFGHI"[i] for i in g.order)
        row = (
            g.question, g.kind, g.category, g.rater, answer_line(g.judgment.answer), g.seconds, g.judgment.at,
            g.guideline, order, g.gold, g.right, g.repeat, g.judgment.rationale or "", g.judgment.id,
        )  # fmt: skip
        writer.writerow(["" if v is None else guarded(str(v)) for v in row])
    return out.getvalue().encode()


@router.get("/export")
def choose(request: Request, here: Exporter, notice: str = "") -> Response:
    """What can be had, and a form to freeze a snapshot."""
    return page(
        request, "export.html", here.who, here=here, formats=WORDS, suffixes=list(SUFFIXES),
        snapshots=here.site.store.snapshot_names(), notice=notice[:200],
    )  # fmt: skip


@router.get("/export/{file}")
def download(here: Exporter, file: str) -> Response:
    """The file itself."""
    name = here.study.name
    format, _, suffix = file.partition(".")
    suffix = f".{suffix}"
    if suffix not in SUFFIXES or format not in WORDS:
        raise DataError("unknown format", where=file[:80], allowed=", ".join(WORDS))
    if format == "judgments":
        body, suffix = table(here.site, name), ".csv"
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}{suffix}"
            write_file(study_snapshot(here.site, name), path, format=format)
            body = path.read_bytes()
    audit.record(here.site, here.who.name, "exported", name, format=format, bytes=len(body))
    headers = {"content-disposition": f'attachment; filename="{name}-{format}{suffix}"'}
    return Response(body, media_type=SUFFIXES[suffix], headers=headers)


@router.post("/export/freeze")
def freeze(request: Request, here: Exporter, form: CheckedForm) -> Response:
    """Freeze the study's judgments, as its exports have them, under a name: what training reads."""
    name = form.get("name", "").strip()
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum() or len(name) > 64:
        raise DataError("is no name", where="name", allowed="letters, digits, - and _")
    chosen = study_snapshot(here.site, here.study.name).judgments
    snapshot = here.site.store.freeze(name, only=[j.id for j in chosen])
    audit.record(here.site, here.who.name, "snapshot frozen", here.study.name, name=name,
                 sha256=snapshot.sha256)  # fmt: skip
    notice = f"{name}: {len(snapshot)} judgments, sha256 {snapshot.sha256[:16]}…"
    return page(
        request, "export.html", here.who, here=here, formats=WORDS, suffixes=list(SUFFIXES),
        snapshots=here.site.store.snapshot_names(), notice=notice,
    )  # fmt: skip
