"""Your work: what a rater has done, and what they had begun and was not counted."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response

from accord.feedback.study.definition import Ask
from accord.web import tables
from accord.web.guard.security import Here
from accord.web.pages.answers import in_words
from accord.web.pages.question import NOTICES, Annotator
from accord.web.pages.render import page
from accord.web.work import leases
from accord.web.work.drafts import uncounted
from accord.web.work.pace import pace_of
from accord.web.work.queue import left_for

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/studies/{study}/done")
def done(request: Request, here: Annotator, notice: str = "") -> Response:
    """What this rater has done, and what they had begun and was not counted."""
    rows = here.site.all(leases.submitted(here.study, here.who).limit(50))
    judgments = {
        j: line.judgment for j, line in here.site.store.lineage([r.judgment for r in rows]).items()
    }
    pace = pace_of(here.site, here.study.name, here.who.id)
    with here.site.db.reading() as connection:
        pace["left"] = left_for(connection, here.study.name, here.who.id)
    late = [
        (row, in_words(_ask(here, row.question), fields))
        for row, fields in uncounted(here.site, here.study, here.who)
    ]
    return page(request, "done.html", here.who, here=here, rows=rows, judgments=judgments, pace=pace,
                late=late, notice=NOTICES.get(notice, ""))  # fmt: skip


def _ask(here: Here, question: str) -> Ask:
    q = tables.study_questions
    row = here.site.one(sa.select(q.c.block).where(q.c.id == question))
    assert row  # a lease's question stays
    return here.study.questions[int(row.block)]
