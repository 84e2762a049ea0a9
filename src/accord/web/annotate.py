"""The annotator's pages: the quiz, the question, and what is done so far."""

from __future__ import annotations

from statistics import median
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from accord.core.errors import DataError
from accord.core.types import steps_of
from accord.feedback.study import Compare, Rank, Rate, Steps
from accord.web import leases, tables, texts
from accord.web.answers import answer_of, choices, fields_of
from accord.web.leases import Lease, Lost
from accord.web.pages import page
from accord.web.queue import left_for
from accord.web.security import Checked, Form, Here, may
from accord.web.site import document, new_id
from accord.web.studies import what_changed

__all__ = ["groups_of", "options_of", "qualified", "router"]

router = APIRouter(include_in_schema=False)
Annotator = Annotated[Here, Depends(may("annotate"))]
L = tables.leases
COUNT_EVERY = 30.0  # seconds
LOST = "Your time on that question ran out and it went to others; the answer was not counted."
NOTICES = {
    "lost": LOST,
    "skipped": "Skipped. You won't meet that question again.",
    "not-skipped": "Not skipped: you have answered that question, or were given it again.",
    "flagged": "Flagged. A reviewer will look at it.",
    "changed": "Your answer was changed.",
    "again": "That answer was kept already.",
    "nothing": "There is nothing to undo yet.",
}


# -- the question ---------------------------------------------------------------------------------


@router.get("/studies/{study}/annotate")
def annotate(request: Request, here: Annotator, notice: str = "") -> Response:
    """The next question, or the quiz before it, or what is done."""
    if here.study.quiz and not qualified(here):
        return RedirectResponse(f"/studies/{here.study.name}/quiz", status_code=303)
    lease = leases.claim(here.site, here.study, here.who)
    if lease is None:
        return RedirectResponse(f"/studies/{here.study.name}/done", status_code=303)
    return _show(request, here, lease, lease.draft, notice=NOTICES.get(notice, ""))


@router.get("/studies/{study}/annotate/{lease}")
def annotate_again(request: Request, here: Annotator, lease: str) -> Response:
    """A question answered before, to correct it."""
    found = _found(here, lease)
    if found.state == "held":
        return RedirectResponse(f"/studies/{here.study.name}/annotate", status_code=303)
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
    request: Request, here: Here, lease: Lease, values: Form, *, notice: str = "", status: int = 200
) -> HTMLResponse:
    ask = lease.ask
    shown = [r.text for r in lease.responses]
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
        pace=pace, news=news, base=here.site.opaque(lease.judgment) if lease.judgment else "",
    )  # fmt: skip


def options_of(ask: Any) -> list[dict[str, Any]]:
    """Radios of a kind with one group."""
    if isinstance(ask, Compare):
        return choices(ask)
    if ask.kind == "thumb":
        return [
            {"value": "up", "key": "1", "label": "Good", "side": "up"},
            {"value": "down", "key": "2", "label": "Bad", "side": "down"},
        ]
    return []


def groups_of(ask: Any, shown: list[str]) -> list[dict[str, Any]]:
    """Groups of radios of the other kinds: an axis, a response to rank, a step."""
    if isinstance(ask, Rate):
        points = [{"value": str(n), "key": str(n)} for n in range(1, ask.points + 1)]
        return [{"label": a.name, "help": a.text, "low": a.low, "high": a.high, "points": points}
                for a in ask.axes]  # fmt: skip
    if isinstance(ask, Rank):
        points = [{"value": str(n), "key": str(n)} for n in range(1, len(shown) + 1)]
        return [{"label": "ABCDEFGHI"[i], "text": t, "points": points} for i, t in enumerate(shown)]
    if isinstance(ask, Steps):
        points = [
            {"value": "good", "key": "1"}, {"value": "neutral", "key": "2"},
            {"value": "bad", "key": "3"},
        ]  # fmt: skip
        return [{"label": f"Step {i + 1}", "text": t, "points": points}
                for i, t in enumerate(steps_of(shown[0]))]  # fmt: skip
    return []


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
        rationale = form.get("rationale", "").strip()[:20_000]
        base, last = form.get("base", ""), found.judgment
        if last and base == here.site.opaque(last):
            base = last
        kept = leases.submit(
            here.site, here.study, here.who, lease, answer, base=base,
            seconds=_seconds(form.get("seconds", "")), rationale=rationale,
        )  # fmt: skip
    except DataError as error:
        return _show(request, here, found, form, notice=f"{error.where}: {error.what}.", status=422)
    except Lost:
        return _next(here, "lost")
    if kept is None:
        return _next(here, "again")
    return _next(here, "changed" if base else "")


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
    fields = {k: v for k, v in form.items() if k not in ("csrf", "base")}
    if leases.save_draft(here.site, here.study, here.who, lease, fields):
        return PlainTextResponse("Saved")
    found = _found(here, lease)
    if found.judgment:  # a correction is kept when it is submitted
        return PlainTextResponse("")
    return PlainTextResponse("Time ran out; submit to try for the seat again.", status_code=409)


@router.post("/studies/{study}/annotate/{lease}/skip")
def skip(request: Request, here: Annotator, form: Checked, lease: str) -> Response:
    """Leave the question to others."""
    try:
        done = leases.skip(here.site, here.study, here.who, lease, form.get("reason", ""))
    except DataError as error:
        found = _found(here, lease)
        return _show(request, here, found, form, notice=f"To skip, {error.what}.", status=422)
    return _next(here, "skipped" if done else "not-skipped")


@router.post("/studies/{study}/annotate/{lease}/flag")
def flag(here: Annotator, form: Checked, lease: str) -> Response:
    """Tell the reviewers; the question stays where it is."""
    found = _found(here, lease)
    row = {
        "id": new_id(), "study": here.study.name, "question": found.study_question,
        "account": here.who.id, "at": here.site.now(), "closed_at": None,
        "reason": form.get("reason", "").strip()[:2000] or "no reason given",
    }  # fmt: skip
    here.site.run(sa.insert(tables.flags).values(**row))
    return _next(here, "flagged")


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
    last = leases.last_submitted(here.site, here.study, here.who)
    if last is None:
        return _next(here, "nothing")
    return RedirectResponse(f"/studies/{here.study.name}/annotate/{last}", status_code=303)


# -- the quiz -------------------------------------------------------------------------------------


def qualified(here: Here) -> bool:
    """Whether this account passed the study's quiz."""
    q = tables.qualifications
    passed = (q.c.study == here.study.name, q.c.account == here.who.id, q.c.passed.is_(sa.true()))
    return here.site.one(sa.select(q.c.id).where(*passed)) is not None


@router.get("/studies/{study}/quiz")
def quiz(request: Request, here: Annotator) -> Response:
    """The guidelines and the questions about them."""
    if here.study.quiz is None or qualified(here):
        return _next(here)
    return _quiz_page(request, here, {}, None)


def _quiz_page(request: Request, here: Here, said: Form, right: int | None) -> HTMLResponse:
    guideline = here.site.guideline(here.study.name)
    return page(
        request, "quiz.html", here.who, here=here, quiz=here.study.quiz, said=said, right=right,
        guideline=document(guideline.document) if guideline else None,
    )  # fmt: skip


@router.post("/studies/{study}/quiz")
def answer_quiz(request: Request, here: Annotator, form: Checked) -> Response:
    """Count what is right; go on when it is enough, else show why."""
    found = here.study.quiz
    if found is None:
        return _next(here)
    right = sum(form.get(f"quiz-{i}") == q.answer for i, q in enumerate(found.questions))
    passed = right >= found.pass_share * len(found.questions)
    row = {
        "id": new_id(), "study": here.study.name, "account": here.who.id, "passed": passed,
        "right": right, "asked": len(found.questions), "at": here.site.now(),
    }  # fmt: skip
    here.site.run(sa.insert(tables.qualifications).values(**row))
    return _next(here) if passed else _quiz_page(request, here, form, right)


# -- done -----------------------------------------------------------------------------------------


@router.get("/studies/{study}/done")
def done(request: Request, here: Annotator) -> Response:
    """What this rater has done."""
    rows = here.site.all(leases.submitted(here.study, here.who).limit(50))
    said = {
        j: line.judgment for j, line in here.site.store.lineage([r.judgment for r in rows]).items()
    }
    pace = _pace(here)
    with here.site.db.reading() as connection:
        pace["left"] = left_for(connection, here.study.name, here.who.id)
    return page(request, "done.html", here.who, here=here, rows=rows, said=said, pace=pace)
