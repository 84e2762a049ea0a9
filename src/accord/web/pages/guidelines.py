"""The guidelines' page: their versions and what changed; for managers, the next version (text, criteria,
worked examples) and the quiz before the first question. A row whose texts are all empty is left out."""

from __future__ import annotations

import contextlib
import re
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from accord.core.config import validate
from accord.core.errors import ConfigError
from accord.core.hashing import canonical_json, content_hash
from accord.feedback.study.definition import Study
from accord.web import tables
from accord.web.guard.security import CheckedForm, Form, Here, may
from accord.web.pages.render import letter, page
from accord.web.site import document
from accord.web.work.studies import add_guideline, save_study, what_changed

__all__ = ["router"]

router = APIRouter(include_in_schema=False, prefix="/studies/{study}")
Reader = Annotated[Here, Depends(may("look"))]
Manager = Annotated[Here, Depends(may("manage"))]
NOTICES = {"published": "Published.", "quiz": "The quiz is saved."}
LONGEST = 200_000  # characters of a field


@router.get("/guidelines")
def guidelines(
    request: Request, here: Reader, a: int = 0, b: int = 0, notice: str = ""
) -> Response:
    """The versions, the newest one, and the difference between two."""
    return _page(request, here, a, b, notice=NOTICES.get(notice, ""))


def _page(
    request: Request, here: Here, a: int = 0, b: int = 0, *, notice: str = "", status: int = 200,
    written: dict[str, Any] | None = None, quiz: dict[str, Any] | None = None,
) -> Response:  # fmt: skip
    """With what was `written` but not taken, so that nothing is lost."""
    g = tables.guidelines
    versions = here.site.all(
        sa.select(g).where(g.c.study == here.study.name).order_by(g.c.number.desc())
    )
    by_number = {v.number: v for v in versions}
    newest = versions[0].number if versions else 0
    b, a = (b or newest), (a or newest - 1)
    before, shown = by_number.get(a), by_number.get(b)
    diff = what_changed(before.document, shown.document) if before and shown else []
    last = document(versions[0].document) if versions else here.study.guideline_document()
    held = here.study.quiz.model_dump() if here.study.quiz else {"questions": [], "pass_share": 0.8}
    return page(
        request, "guidelines.html", here.who, here=here, versions=versions, a=a, b=b, diff=diff,
        guideline=document(shown.document) if shown else None, newest=newest,
        written=_with_room(written or last), quiz=_with_room(quiz or held), notice=notice, status=status,
        quiz_base=_quiz_mark(here),
    )  # fmt: skip


BLANK: dict[str, list[dict[str, Any]]] = {  # rows to fill in
    "criteria": [{"name": "", "text": ""}] * 2,
    "examples": [{"prompt": "", "responses": [], "verdict": ""}],
    "questions": [{"prompt": "", "responses": ["", ""], "answer": "first", "why": ""}],
}


def _with_room(lists: dict[str, Any]) -> dict[str, Any]:
    return {k: [*v, *BLANK[k]] if k in BLANK else v for k, v in lists.items()}


@router.post("/guidelines")
def publish(request: Request, here: Manager, form: CheckedForm) -> Response:
    """A new version; questions given out from now on name it."""
    written = {
        "text": form.get("text", "").strip(),
        "criteria": [
            {"name": row["name"], "text": row["text"]}
            for row in sorted(_rows(form, "criterion", ("name", "text"), "place"), key=_place)
        ],
        "examples": [
            {
                "prompt": row["prompt"], "verdict": row["verdict"],
                "responses": [row[k] for k in RESPONSES if row[k]],
            }
            for row in _rows(form, "example", ("prompt", *RESPONSES, "verdict"))
        ],
    }  # fmt: skip
    changes = {k: written[k] for k in ("criteria", "examples")} | {"guidelines": written["text"]}
    try:
        _check_lengths(form)
        changed = validate(Study, {**here.study.model_dump(), **changes}, where="guidelines")
    except ConfigError as error:
        return _page(request, here, notice=str(error), written=written, status=422)
    newest = here.site.guideline(here.study.name)
    if newest and newest.document == canonical_json(changed.guideline_document()):
        return _back(here, "published")  # sent twice, or nothing is new
    if newest and form.get("base", str(newest.number)) != str(newest.number):
        notice = (
            f"Version {newest.number} was published by {newest.author} since you opened this page. What you "
            "wrote is below, and not published: compare the two, then publish again."
        )
        return _page(request, here, notice=notice, written=written, status=409)
    add_guideline(here.site, here.study.name, changed.guideline_document(), here.who.name)
    return _back(here, "published")


RESPONSES = tuple(f"response{letter(k)}" for k in range(100))


@router.post("/quiz-questions")
def save_quiz(request: Request, here: Manager, form: CheckedForm) -> Response:
    """The quiz's questions; without any there is no quiz. Who passed before has passed."""
    questions = [
        {
            "prompt": row["prompt"], "responses": [row["first"], row["second"]],
            "answer": row["answer"], "why": row["why"],
        }
        for row in _rows(form, "quiz", ("prompt", "first", "second", "why"), "answer")
    ]  # fmt: skip
    quiz: dict[str, Any] = {"questions": questions, "pass_share": form.get("pass_share", "")}
    with contextlib.suppress(ValueError):  # what is no number is told by `validate`
        quiz["pass_share"] = float(quiz["pass_share"])
    try:
        _check_lengths(form)
        edited = {**here.study.model_dump(), "quiz": quiz if questions else None}
        changed = validate(Study, edited, where="quiz")
    except ConfigError as error:
        return _page(request, here, notice=str(error), quiz=quiz, status=422)
    if form.get("base", now := _quiz_mark(here)) != now:
        notice = (
            "The quiz was changed since you opened this page. What you wrote is below, and not saved; "
            "save it again to replace the quiz there is."
        )
        return _page(request, here, notice=notice, quiz=quiz, status=409)
    save_study(here.site, changed, here.who.name)
    return _back(here, "quiz")


def _quiz_mark(here: Here) -> str:
    """Says which quiz a form was made from."""
    return content_hash(here.study.quiz)[:16]


def _check_lengths(form: Form) -> None:
    """ConfigError for a text that is too long, rather than a part of it."""
    for key, text in form.items():
        if len(text) > LONGEST:
            raise ConfigError(
                f"is {len(text):,} characters long", where=key, allowed=f"{LONGEST:,}"
            )


def _back(here: Here, notice: str) -> RedirectResponse:
    return RedirectResponse(
        f"/studies/{here.study.name}/guidelines?notice={notice}", status_code=303
    )


def _rows(form: Form, what: str, texts: tuple[str, ...], *others: str) -> list[dict[str, str]]:
    """The rows of fields named `what`-NUMBER-FIELD with a text in them, in their order."""
    matches = (re.fullmatch(rf"{what}-(\d{{1,3}})-\w+", key) for key in form)
    numbers = sorted({int(match[1]) for match in matches if match})
    rows = [
        {k: form.get(f"{what}-{n}-{k}", "").strip() for k in (*texts, *others)} for n in numbers
    ]
    return [row for row in rows if any(row[k] for k in texts)]


def _place(row: dict[str, str]) -> float:
    try:
        return float(row["place"])
    except ValueError:
        return float("inf")
