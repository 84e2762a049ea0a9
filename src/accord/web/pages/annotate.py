"""What comes back from a question's page: answers, drafts, skips, flags, corrections."""

from __future__ import annotations

import contextlib

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from accord.core.errors import DataError
from accord.core.types import Answer
from accord.web import tables
from accord.web.guard.security import CheckedForm, Form, Here
from accord.web.pages import texts
from accord.web.pages.answers import answer_of, text_in
from accord.web.pages.question import LOST, NOTICES, Annotator, lease_of, show
from accord.web.pages.render import page
from accord.web.site import new_id
from accord.web.work import leases
from accord.web.work.drafts import Elsewhere, differ, fields_in, written
from accord.web.work.leases import Lease, Lost

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
STAYS = " What you have written here stays on this page, and in this browser."
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


@router.post("/studies/{study}/annotate/{lease}")
def submit(request: Request, here: Annotator, form: CheckedForm, lease: str) -> Response:
    """Keep an answer and go on to the next question."""
    leased = lease_of(here, lease)
    try:
        answer = answer_of(leased.ask, form, [r.text for r in leased.responses])
        rationale = text_in(form, "rationale")
        if differ(leased.draft, {**form, "after": form.get("over") or form.get("after", "")}):
            base = form.get("base")
            return show(
                request, here, leased, form, notice=BOTH, status=409, base=base, other=leased.draft
            )
        base, last = form.get("base", ""), leased.judgment
        if last and base == here.site.opaque(last):
            base = last
        kept = leases.submit(
            here.site, here.study, here.who, lease, answer, base=base,
            seconds=_seconds(form.get("seconds", "")), rationale=rationale,
        )  # fmt: skip
    except DataError as error:
        notice = f"{error.where}: {error.what}."
        return show(request, here, leased, form, notice=notice, status=422, base=form.get("base"))
    except Lost:
        return _gone(
            request, here, lease, form, "was-skipped" if leased.state == "skipped" else "lost"
        )
    if kept is None:
        return _twice(request, here, lease_of(here, lease), form, answer, rationale)
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
    return show(request, here, lease, form, notice=DIFFERS, status=409, kept=old)


def _keep(here: Here, lease: str, form: Form) -> bool:
    """Keep what is written on the question's page, wherever its form was sent; whether it is kept now."""
    with contextlib.suppress(Elsewhere):
        if set(fields_in(form)) - {"seconds"}:
            leases.save_draft(here.site, here.study, here.who, lease, fields_in(form))
    return written(form) in ({}, written(lease_of(here, lease).draft))


def _gone(request: Request, here: Here, lease: str, form: Form, notice: str) -> Response:
    """On to the next question; what could not be kept stays on its page."""
    if _keep(here, lease, form):
        return _next(here, notice)
    reason = LOST if notice == "lost" else NOTICES[notice]
    return _shown_again(request, here, lease, form, reason + STAYS, 409)


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
def draft(here: Annotator, form: CheckedForm, lease: str) -> Response:
    """Autosave; holds the lease as long again."""
    try:
        if leases.save_draft(here.site, here.study, here.who, lease, fields_in(form)):
            return PlainTextResponse("Saved")
    except Elsewhere:
        return PlainTextResponse(ELSEWHERE, status_code=409)
    leased = lease_of(here, lease)
    if leased.judgment:  # a correction is kept when it is submitted
        return PlainTextResponse("")
    return PlainTextResponse("Time ran out; submit to try for the seat again.", status_code=409)


@router.post("/studies/{study}/annotate/{lease}/skip")
def skip(request: Request, here: Annotator, form: CheckedForm, lease: str) -> Response:
    """Leave the question to others."""
    _keep(here, lease, form)
    try:
        done = leases.skip(here.site, here.study, here.who, lease, text_in(form, "reason"))
    except DataError as error:
        return _shown_again(
            request, here, lease, form, f"Not skipped: {error.where}: {error.what}."
        )
    return _next(here, "skipped") if done else _gone(request, here, lease, form, "not-skipped")


@router.post("/studies/{study}/annotate/{lease}/flag")
def flag(request: Request, here: Annotator, form: CheckedForm, lease: str) -> Response:
    """Tell the reviewers; the question stays where it is."""
    leased = lease_of(here, lease)
    _keep(here, lease, form)
    try:
        reason = text_in(form, "reason") or "no reason given"
    except DataError as error:
        return _shown_again(
            request, here, lease, form, f"Not flagged: {error.where}: {error.what}."
        )
    row = {
        "id": new_id(), "study": here.study.name, "question": leased.study_question,
        "account": here.who.id, "at": here.site.now(), "closed_at": None, "reason": reason,
    }  # fmt: skip
    here.site.run(sa.insert(tables.flags).values(**row))
    return _next(here, "flagged")


def _shown_again(
    request: Request, here: Here, lease: str, form: Form, notice: str, status: int = 422
) -> Response:
    """The question again, with what was answered on it so far."""
    leased = lease_of(here, lease)
    values = fields_in(form) if written(form) else leased.draft
    return show(request, here, leased, values, notice=notice, status=status, base=form.get("base"))


@router.post("/studies/{study}/annotate/{lease}/preview")
def preview(request: Request, here: Annotator, form: CheckedForm, lease: str) -> Response:
    """What is written, rendered, and its difference from the response it edits."""
    leased = lease_of(here, lease)
    text = form.get("text", "")
    shown = leased.responses[0].text if leased.responses else None
    diff = None if shown is None else texts.compared(shown, text, texts.EDIT)
    return page(request, "preview.html", here.who, text=text, diff=diff)


@router.post("/studies/{study}/undo")
def undo(here: Annotator, form: CheckedForm) -> Response:
    """Back to the last submission; a new answer to it will supersede the old one."""
    if "lease" in form:
        _keep(here, form["lease"], form)
    last = leases.last_submitted(here.site, here.study, here.who)
    if last is None:
        return _next(here, "nothing")
    return RedirectResponse(f"/studies/{here.study.name}/annotate/{last}", status_code=303)
