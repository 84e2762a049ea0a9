"""The quiz before the first question."""

from __future__ import annotations

from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from accord.web import tables
from accord.web.guard.security import CheckedForm, Form, Here, may
from accord.web.pages.render import page
from accord.web.site import document, new_id

__all__ = ["qualified", "router"]

router = APIRouter(include_in_schema=False)
Annotator = Annotated[Here, Depends(may("annotate"))]


def _to_work(here: Here) -> RedirectResponse:
    return RedirectResponse(f"/studies/{here.study.name}/annotate", status_code=303)


def qualified(here: Here) -> bool:
    """Whether this account passed the study's quiz."""
    q = tables.qualifications
    passed = (q.c.study == here.study.name, q.c.account == here.who.id, q.c.passed.is_(sa.true()))
    return here.site.one(sa.select(q.c.id).where(*passed)) is not None


@router.get("/studies/{study}/quiz")
def quiz(request: Request, here: Annotator) -> Response:
    """The guidelines and the questions about them."""
    if here.study.quiz is None or qualified(here):
        return _to_work(here)
    return _quiz_page(request, here, {}, None)


def _quiz_page(request: Request, here: Here, answers: Form, right: int | None) -> HTMLResponse:
    guideline = here.site.guideline(here.study.name)
    return page(
        request, "quiz.html", here.who, here=here, quiz=here.study.quiz, answers=answers, right=right,
        guideline=document(guideline.document) if guideline else None,
    )  # fmt: skip


@router.post("/studies/{study}/quiz")
def answer_quiz(request: Request, here: Annotator, form: CheckedForm) -> Response:
    """Count what is right; go on when it is enough, else show why."""
    quiz = here.study.quiz
    if quiz is None:
        return _to_work(here)
    right = sum(form.get(f"quiz-{i}") == q.answer for i, q in enumerate(quiz.questions))
    passed = right >= quiz.pass_share * len(quiz.questions)
    row = {
        "id": new_id(), "study": here.study.name, "account": here.who.id, "passed": passed,
        "right": right, "asked": len(quiz.questions), "at": here.site.now(),
    }  # fmt: skip
    here.site.run(sa.insert(tables.qualifications).values(**row))
    return _to_work(here) if passed else _quiz_page(request, here, form, right)
