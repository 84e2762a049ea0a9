"""The annotator's pages: the quiz, the question, and what is done so far."""

from __future__ import annotations

import contextlib
from statistics import median
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from accord.core.errors import DataError
from accord.core.types import Answer, Judgment
from accord.feedback.study.definition import Ask
from accord.web import tables
from accord.web.guard.security import Checked, Form, Here, may
from accord.web.pages import texts
from accord.web.pages.answers import answer_of, fields_of, groups_of, in_words, options_of, said_in
from accord.web.pages.quiz import qualified
from accord.web.pages.render import page
from accord.web.site import document, new_id
from accord.web.work import leases
from accord.web.work.drafts import Elsewhere, differ, fields_in, mark_of, uncounted, written
from accord.web.work.leases import Lease, Lost
from accord.web.work.queue import left_for
from accord.web.work.studies import what_changed

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
Annotator = Annotated[Here, Depends(may("annotate"))]
L = tables.leases
COUNT_EVERY = 30.0  # seconds
LOST = "Your time on that question ran out and it went to others; the answer was not counted."
KEPT_ASIDE = " What you had written is kept under Your work."
STAYS = " What you have written here stays on this page, and in this browser."
TIME_RAN_OUT = (
    "Your time on this question ran out. Submit to be counted all the same, if a seat is free."
)
DIFFERS = (
    "You have answered this question already, on another page, and the two answers differ. Which one counts? "
    "The kept one stands until you replace it."
)
ELSEWHERE = (
    "Another page of yours has something else written on this question. What is here stays here: submit it "
    "to choose."
)
BOTH = (
    "Another page of yours has something else written on this question; it is shown below, and stays there "
    "until you submit again: then what is here replaces it."
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


# -- the question ---------------------------------------------------------------------------------


@router.get("/studies/{study}/annotate")
def annotate(request: Request, here: Annotator, notice: str = "") -> Response:
    """The next question, or the quiz before it, or what is done."""
    if here.study.quiz and not qualified(here):
        return RedirectResponse(f"/studies/{here.study.name}/quiz", status_code=303)
    lease = leases.claim(here.site, here.study, here.who)
    if lease is None:
        tail = f"?notice={notice}" if notice in NOTICES else ""
        return RedirectResponse(f"/studies/{here.study.name}/done{tail}", status_code=303)
    told = NOTICES.get(notice, "") or (LOST + KEPT_ASIDE if _just_lost(here, lease) else "")
    return _show(request, here, lease, lease.draft, notice=told)


def _just_lost(here: Here, lease: Lease) -> bool:
    """Whether the question this rater had before was begun and went to others."""
    late = uncounted(here.site, here.study, here.who)
    mine = (L.c.study == here.study.name, L.c.account == here.who.id, L.c.id != lease.id)
    before = here.site.one(sa.select(L.c.id).where(*mine).order_by(L.c.at.desc()).limit(1))
    return bool(late) and before is not None and late[0][0].id == before.id


@router.get("/studies/{study}/annotate/{lease}")
def annotate_again(request: Request, here: Annotator, lease: str) -> Response:
    """A question answered before, to correct it; or one whose time ran out, with what was written."""
    found = leases.read_lease(here.site, here.study, here.who, lease)
    if found is None or found.state == "held":  # somebody else has signed in: to their own work
        return RedirectResponse(f"/studies/{here.study.name}/annotate", status_code=303)
    if found.state == "expired":
        return _show(request, here, found, found.draft, notice=TIME_RAN_OUT)
    if found.judgment is None:
        raise HTTPException(404, "There is no answer to correct.")
    old = here.site.store.judgment(found.judgment).judgment
    values = {**fields_of(old.answer, found.ask), "rationale": old.rationale or ""}
    notice = "This is your last answer. Submit again to correct it; until then it stands."
    return _show(request, here, found, values, notice=notice)


def _found(here: Here, lease: str) -> Lease:
    found = leases.read_lease(here.site, here.study, here.who, lease)
    if found is None:
        raise HTTPException(404, "There is no such question of yours.")
    return found


def _show(
    request: Request, here: Here, lease: Lease, values: Form, *, notice: str = "", status: int = 200,
    base: str | None = None, kept: Judgment | None = None, other: Form | None = None,
) -> HTMLResponse:  # fmt: skip
    """`base` is what the form was made from (now, by default), `kept` the answer or `other` the draft that it
    would replace."""
    ask = lease.ask
    shown = [r.shown for r in lease.responses]
    guideline = here.site.guideline(here.study.name, lease.guideline)
    pace = _pace(here)
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
        other_said=in_words(ask, other) if other else "",
        tab=values.get("tab") if status != 200 else new_id(),
        after=values.get("after") if status != 200 else mark_of(lease.draft),
    )  # fmt: skip


def _base(here: Here, lease: Lease) -> str:
    return here.site.opaque(lease.judgment) if lease.judgment else ""


def _pace(here: Here) -> dict[str, Any]:
    """How many are done, how many are left, the median of the last 20 in seconds, and the guideline version
    of the last."""
    mine = (L.c.study == here.study.name, L.c.account == here.who.id, L.c.state == "submitted")
    with here.site.db.reading() as connection:
        done = connection.execute(
            sa.select(sa.func.count()).select_from(L).where(*mine)
        ).scalar_one()
        last = connection.execute(
            sa.select(L.c.seconds, L.c.guideline)
            .where(*mine)
            .order_by(L.c.ended_at.desc())
            .limit(20)
        ).all()
        seconds = [row.seconds for row in last if row.seconds is not None]
        left = _left(here, connection, done)
    held = 1  # the question on the page wants this rater no more, but is not done
    middle = round(median(seconds)) if seconds else None
    version = int(last[0].guideline.removeprefix("v")) if last else None
    return {"done": done, "left": left + held, "seconds": middle, "version": version}


def _left(here: Here, connection: sa.Connection, done: int) -> int:
    """How many questions are left: counted twice a minute, in between by what was done since."""
    key = (here.study.name, here.who.id)
    at, left, then = here.site.left.get(key, (0.0, 0, 0))
    if not 0 <= here.site.now() - at <= COUNT_EVERY:
        at, left, then = here.site.now(), left_for(connection, *key), done
        here.site.left[key] = (at, left, then)
    return max(0, left - (done - then))


# -- what comes back ------------------------------------------------------------------------------


@router.post("/studies/{study}/annotate/{lease}")
def submit(request: Request, here: Annotator, form: Checked, lease: str) -> Response:
    """Keep an answer and go on to the next question."""
    found = _found(here, lease)
    try:
        answer = answer_of(found.ask, form, [r.text for r in found.responses])
        rationale = said_in(form, "rationale")
        if differ(found.draft, {**form, "after": form.get("over") or form.get("after", "")}):
            base = form.get("base")
            return _show(
                request, here, found, form, notice=BOTH, status=409, base=base, other=found.draft
            )
        base, last = form.get("base", ""), found.judgment
        if last and base == here.site.opaque(last):
            base = last
        kept = leases.submit(
            here.site, here.study, here.who, lease, answer, base=base,
            seconds=_seconds(form.get("seconds", "")), rationale=rationale,
        )  # fmt: skip
    except DataError as error:
        told = f"{error.where}: {error.what}."
        return _show(request, here, found, form, notice=told, status=422, base=form.get("base"))
    except Lost:
        return _gone(
            request, here, lease, form, "was-skipped" if found.state == "skipped" else "lost"
        )
    if kept is None:
        return _twice(request, here, _found(here, lease), form, answer, rationale)
    return _next(here, "changed" if base else "")


def _twice(
    request: Request, here: Here, lease: Lease, form: Form, answer: Answer, rationale: str
) -> Response:
    """A form of a question that has an answer by now: the same one again, or the rater chooses."""
    if lease.judgment is None:
        return _next(here, "lost")
    old = here.site.store.judgment(lease.judgment).judgment
    if (old.answer, old.rationale or "") == (answer, rationale):
        return _next(here, "again")
    return _show(request, here, lease, form, notice=DIFFERS, status=409, kept=old)


def _keep(here: Here, lease: str, form: Form) -> bool:
    """Keep what is written on the question's page, wherever its form was sent; whether it is kept now."""
    with contextlib.suppress(Elsewhere):
        if set(fields_in(form)) - {"seconds"}:
            leases.save_draft(here.site, here.study, here.who, lease, fields_in(form))
    return written(form) in ({}, written(_found(here, lease).draft))


def _gone(request: Request, here: Here, lease: str, form: Form, notice: str) -> Response:
    """On to the next question; what could not be kept stays on its page."""
    if _keep(here, lease, form):
        return _next(here, notice)
    told = LOST if notice == "lost" else NOTICES[notice]
    return _not_told(request, here, lease, form, told + STAYS, 409)


def _next(here: Here, notice: str = "") -> RedirectResponse:
    tail = f"?notice={notice}" if notice else ""
    return RedirectResponse(f"/studies/{here.study.name}/annotate{tail}", status_code=303)


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < 86_400 else None


@router.post("/studies/{study}/annotate/{lease}/draft")
def draft(here: Annotator, form: Checked, lease: str) -> Response:
    """Autosave; holds the lease as long again."""
    try:
        if leases.save_draft(here.site, here.study, here.who, lease, fields_in(form)):
            return PlainTextResponse("Saved")
    except Elsewhere:
        return PlainTextResponse(ELSEWHERE, status_code=409)
    found = _found(here, lease)
    if found.judgment:  # a correction is kept when it is submitted
        return PlainTextResponse("")
    return PlainTextResponse("Time ran out; submit to try for the seat again.", status_code=409)


@router.post("/studies/{study}/annotate/{lease}/skip")
def skip(request: Request, here: Annotator, form: Checked, lease: str) -> Response:
    """Leave the question to others."""
    _keep(here, lease, form)
    try:
        done = leases.skip(here.site, here.study, here.who, lease, said_in(form, "reason"))
    except DataError as error:
        return _not_told(request, here, lease, form, f"Not skipped: {error.where}: {error.what}.")
    return _next(here, "skipped") if done else _gone(request, here, lease, form, "not-skipped")


@router.post("/studies/{study}/annotate/{lease}/flag")
def flag(request: Request, here: Annotator, form: Checked, lease: str) -> Response:
    """Tell the reviewers; the question stays where it is."""
    found = _found(here, lease)
    _keep(here, lease, form)
    try:
        reason = said_in(form, "reason") or "no reason given"
    except DataError as error:
        return _not_told(request, here, lease, form, f"Not flagged: {error.where}: {error.what}.")
    row = {
        "id": new_id(), "study": here.study.name, "question": found.study_question,
        "account": here.who.id, "at": here.site.now(), "closed_at": None, "reason": reason,
    }  # fmt: skip
    here.site.run(sa.insert(tables.flags).values(**row))
    return _next(here, "flagged")


def _not_told(
    request: Request, here: Here, lease: str, form: Form, notice: str, status: int = 422
) -> Response:
    """The question again, with what was answered on it so far."""
    found = _found(here, lease)
    values = fields_in(form) if written(form) else found.draft
    return _show(request, here, found, values, notice=notice, status=status, base=form.get("base"))


@router.post("/studies/{study}/annotate/{lease}/preview")
def preview(request: Request, here: Annotator, form: Checked, lease: str) -> Response:
    """What is written, rendered, and its difference from the response it edits."""
    found = _found(here, lease)
    text = form.get("text", "")
    shown = found.responses[0].text if found.responses else None
    diff = None if shown is None else texts.compared(shown, text, texts.EDIT)
    return page(request, "preview.html", here.who, text=text, diff=diff)


@router.post("/studies/{study}/undo")
def undo(here: Annotator, form: Checked) -> Response:
    """Back to the last submission; a new answer to it will supersede the old one."""
    if "lease" in form:
        _keep(here, form["lease"], form)
    last = leases.last_submitted(here.site, here.study, here.who)
    if last is None:
        return _next(here, "nothing")
    return RedirectResponse(f"/studies/{here.study.name}/annotate/{last}", status_code=303)


# -- done -----------------------------------------------------------------------------------------


@router.get("/studies/{study}/done")
def done(request: Request, here: Annotator, notice: str = "") -> Response:
    """What this rater has done, and what they had begun and was not counted."""
    rows = here.site.all(leases.submitted(here.study, here.who).limit(50))
    said = {
        j: line.judgment for j, line in here.site.store.lineage([r.judgment for r in rows]).items()
    }
    pace = _pace(here)
    with here.site.db.reading() as connection:
        pace["left"] = left_for(connection, here.study.name, here.who.id)
    late = [
        (row, in_words(_ask(here, row.question), fields))
        for row, fields in uncounted(here.site, here.study, here.who)
    ]
    return page(request, "done.html", here.who, here=here, rows=rows, said=said, pace=pace, late=late,
                notice=NOTICES.get(notice, ""))  # fmt: skip


def _ask(here: Here, question: str) -> Ask:
    q = tables.study_questions
    block: int = here.site.one(sa.select(q.c.block).where(q.c.id == question)).block
    return here.study.questions[block]
