"""The question: what its page shows, and the next one."""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from accord.core.types import Judgment
from accord.web import tables
from accord.web.guard.security import Form, Here, may
from accord.web.pages import texts
from accord.web.pages.answers import fields_of, groups_of, in_words, options_of
from accord.web.pages.quiz import qualified
from accord.web.pages.render import page
from accord.web.site import document, new_id
from accord.web.work import leases
from accord.web.work.drafts import mark_of, uncounted
from accord.web.work.leases import Lease
from accord.web.work.pace import pace_of
from accord.web.work.studies import what_changed

__all__ = ["LOST", "NOTICES", "Annotator", "lease_of", "router", "show"]

router = APIRouter(include_in_schema=False)
Annotator = Annotated[Here, Depends(may("annotate"))]
L = tables.leases
LOST = "Your time on that question ran out and it went to others; the answer was not counted."
KEPT_ASIDE = " What you had written is kept under Your work."
TIME_RAN_OUT = (
    "Your time on this question ran out. Submit to be counted all the same, if a seat is free."
)
NOTICES = {
    "lost": LOST + KEPT_ASIDE,
    "skipped": "Skipped. You won't meet that question again.",
    "not-skipped": "Not skipped: you have answered that question, or were given it again.",
    "flagged": "Flagged. A reviewer will look at it.",
    "changed": "Your answer was changed.",
    "again": "That answer was kept already.",
    "nothing": "There is nothing to undo yet.",
    "was-skipped": "You had skipped that question; the answer was not counted.",
}


@router.get("/studies/{study}/annotate")
def annotate(request: Request, here: Annotator, notice: str = "") -> Response:
    """The next question, or the quiz before it, or what is done."""
    if here.study.quiz and not qualified(here):
        return RedirectResponse(f"/studies/{here.study.name}/quiz", status_code=303)
    lease = leases.claim(here.site, here.study, here.who)
    if lease is None:
        tail = f"?notice={notice}" if notice in NOTICES else ""
        return RedirectResponse(f"/studies/{here.study.name}/done{tail}", status_code=303)
    text = NOTICES.get(notice, "") or (LOST + KEPT_ASIDE if _just_lost(here, lease) else "")
    return show(request, here, lease, lease.draft, notice=text)


def _just_lost(here: Here, lease: Lease) -> bool:
    """Whether the question this rater had before was begun and went to others."""
    late = uncounted(here.site, here.study, here.who)
    mine = (L.c.study == here.study.name, L.c.account == here.who.id, L.c.id != lease.id)
    before = here.site.one(sa.select(L.c.id).where(*mine).order_by(L.c.at.desc()).limit(1))
    return bool(late) and before is not None and late[0][0].id == before.id


@router.get("/studies/{study}/annotate/{lease}")
def annotate_again(request: Request, here: Annotator, lease: str) -> Response:
    """A question answered before, to correct it; or one whose time ran out, with what was written."""
    leased = leases.read_lease(here.site, here.study, here.who, lease)
    if leased is None or leased.state == "held":  # somebody else has signed in: to their own work
        return RedirectResponse(f"/studies/{here.study.name}/annotate", status_code=303)
    if leased.state == "expired":
        return show(request, here, leased, leased.draft, notice=TIME_RAN_OUT)
    if leased.judgment is None:
        raise HTTPException(404, "There is no answer to correct.")
    old = here.site.store.judgment(leased.judgment).judgment
    values = {**fields_of(old.answer, leased.ask), "rationale": old.rationale or ""}
    notice = "This is your last answer. Submit again to correct it; until then it stands."
    return show(request, here, leased, values, notice=notice)


def lease_of(here: Here, lease: str) -> Lease:
    leased = leases.read_lease(here.site, here.study, here.who, lease)
    if leased is None:
        raise HTTPException(404, "There is no such question of yours.")
    return leased


def show(
    request: Request, here: Here, lease: Lease, values: Form, *, notice: str = "", status: int = 200,
    base: str | None = None, kept: Judgment | None = None, other: Form | None = None,
) -> HTMLResponse:  # fmt: skip
    """`base` is what the form was made from (now, by default), `kept` the answer or `other` the draft that it
    would replace."""
    ask = lease.ask
    shown = [r.shown for r in lease.responses]
    guideline = here.site.guideline(here.study.name, lease.guideline)
    pace = pace_of(here.site, here.study.name, here.who.id)
    old = pace["version"]
    before = here.site.guideline(here.study.name, old) if old and old < lease.guideline else None
    news = what_changed(before.document, guideline.document) if before and guideline else []
    return page(
        request, "annotate.html", here.who, status=status, here=here, lease=lease, ask=ask,
        texts=shown, values=values, notice=notice, groups=groups_of(ask, shown),
        options=options_of(ask), diff=texts.compared(*shown) if len(shown) == 2 else None,
        guideline=document(guideline.document) if guideline else None, version=lease.guideline,
        pace=pace, news=news, base=_base(here, lease) if base is None else base, kept=kept,
        late=len(uncounted(here.site, here.study, here.who)), other=other, over=mark_of(lease.draft),
        other_answer=in_words(ask, other) if other else "",
        tab=values.get("tab") if status != 200 else new_id(),
        after=values.get("after") if status != 200 else mark_of(lease.draft),
    )  # fmt: skip


def _base(here: Here, lease: Lease) -> str:
    return here.site.opaque(lease.judgment) if lease.judgment else ""
