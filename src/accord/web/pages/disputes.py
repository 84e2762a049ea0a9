"""Disputed and flagged questions side by side, and the adjudicator's answers to them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from accord.core.errors import DataError
from accord.core.types import Judgment, Prompt, Question
from accord.store.db import schema
from accord.web import tables
from accord.web.guard import audit
from accord.web.guard.security import CheckedForm, Form, Here, may
from accord.web.pages import texts
from accord.web.pages.answers import (
    answer_line,
    answer_of,
    fields_of,
    groups_of,
    options_of,
    text_in,
)
from accord.web.pages.render import page
from accord.web.site import rater_of
from accord.web.work import quality
from accord.web.work.judgments import keep

__all__ = ["router"]

router = APIRouter(include_in_schema=False, prefix="/studies/{study}")
Adjudicator = Annotated[Here, Depends(may("adjudicate"))]
Q, F = tables.study_questions, tables.flags
MOST = 200
DIFFERS = (
    "This question was decided since you opened it, and otherwise. The decision stands until you replace it: "
    "what you chose and wrote is below."
)


@router.get("/disputes")
def disputes(request: Request, here: Adjudicator, notice: str = "") -> Response:
    """Questions for an adjudicator: disputed, flagged, and those settled by one before."""
    name = here.study.name
    with here.site.db.reading() as connection:

        def listed(*where: Any) -> list[Any]:
            query = sa.select(Q, schema.prompts.c.messages)
            query = query.join_from(Q, schema.prompts, Q.c.prompt == schema.prompts.c.id)
            query = query.where(Q.c.study == name, *where).order_by(Q.c.answered.desc(), Q.c.id)
            return list(connection.execute(query.limit(MOST)))

        open_flags = sa.select(F.c.question).where(F.c.study == name, F.c.closed_at.is_(None))
        parts = {
            "Disputed": listed(Q.c.state == "disputed"),
            "Flagged": listed(Q.c.id.in_(open_flags)),
            "Adjudicated": listed(Q.c.verdict.is_not(None)),
        }
    text = "The judgment is kept." if notice else ""
    return page(request, "disputes.html", here.who, here=here, parts=parts, last=_last, notice=text,
                tally=json.loads)  # fmt: skip


def _last(messages: str) -> str:
    held = json.loads(messages)
    turns = held["messages"] if isinstance(held, dict) else held
    return str(turns[-1]["content"])


@router.get("/disputes/{question}")
def dispute(request: Request, here: Adjudicator, question: str) -> Response:
    """One question: the responses, every answer with its reason, and the adjudicator's own."""
    row = _asked(here, question)
    values: Form = {}
    if row.verdict:
        old = here.site.store.judgment(row.verdict).judgment
        values = {
            **fields_of(old.answer, here.study.questions[row.block]),
            "rationale": old.rationale or "",
        }
    return _dispute_page(request, here, row, values)


def _asked(here: Here, question: str) -> Any:
    row = here.site.one(sa.select(Q).where(Q.c.id == question, Q.c.study == here.study.name))
    if row is None:
        raise HTTPException(404, "There is no such question.")
    return row


def _shown(here: Here, row: Any) -> tuple[Prompt, list[str]]:
    """(prompt, texts in the study's order)."""
    prompt, responses = here.site.asked(row.prompt, json.loads(row.responses))
    return prompt, [r.text for r in responses]


def _dispute_page(
    request: Request, here: Here, row: Any, values: Form, notice: str = "", status: int = 200,
    base: str | None = None,
) -> Response:  # fmt: skip
    """`base` is the verdict the form was made from: the one there is, by default."""
    prompt, shown = _shown(here, row)
    ask = here.study.questions[row.block]
    flags = here.site.all(
        sa.select(F, tables.accounts.c.name)
        .join_from(F, tables.accounts, F.c.account == tables.accounts.c.id)
        .where(F.c.question == row.id)
        .order_by(F.c.at)
    )
    return page(
        request, "dispute.html", here.who, status=status, here=here, row=row, ask=ask, prompt=prompt,
        texts=shown, values=values, notice=notice, flags=flags, options=options_of(ask),
        groups=groups_of(ask, shown), tally=json.loads(row.tally),
        diff=texts.compared(*shown) if len(shown) == 2 else None,
        given=quality.answers(here.site, here.study.name, row.id), turned=_turned,
        base=_base(here, row) if base is None else base,
        kept=here.site.store.judgment(row.verdict) if row.verdict and status == 409 else None,
    )  # fmt: skip


def _base(here: Here, row: Any) -> str:
    return here.site.opaque(row.verdict) if row.verdict else ""


def _turned(given: quality.GivenAnswer) -> str:
    """An answer in the study's letters, whatever order its rater saw."""
    answer, order = given.judgment.answer, given.order
    if answer.kind == "preference" and answer.better is not None:
        sides = "AB"[order[answer.better]]
        return f"{sides} better" + (f" ({'+' * answer.strength})" if answer.strength > 1 else "")
    if answer.kind == "ranking":
        ranks = {order[k]: rank for k, rank in enumerate(answer.ranks)}
        return ", ".join(f"{'ABCDEFGHI'[i]} {ranks[i]}" for i in sorted(ranks))
    return answer_line(answer)


@router.post("/disputes/{question}")
def adjudicate(request: Request, here: Adjudicator, form: CheckedForm, question: str) -> Response:
    """Keep the adjudicator's judgment; the question is closed by it."""
    row = _asked(here, question)
    prompt, shown = _shown(here, row)
    try:
        answer = answer_of(here.study.questions[row.block], form, shown)
        rationale = text_in(form, "rationale") or None
    except DataError as error:
        notice, base = f"{error.where}: {error.what}.", form.get("base")
        return _dispute_page(request, here, row, form, notice, 422, base)
    store, site = here.site.store, here.site
    rater = rater_of(here.who.name, adjudicator=True)
    newest = site.guideline(here.study.name)
    asked = Question(
        prompt=prompt.id, responses=tuple(json.loads(row.responses)), kind=row.kind,
        guideline=f"v{newest.number if newest else 1}",
    )  # fmt: skip
    with site.db.writing() as connection:
        row = _asked(here, question)
        old = store.judgment(row.verdict) if row.verdict else None
        if old and form.get("base", _base(here, row)) != _base(here, row):
            if (old.judgment.answer, old.judgment.rationale) == (answer, rationale):
                return RedirectResponse(
                    f"/studies/{here.study.name}/disputes?notice=kept", status_code=303
                )
            return _dispute_page(request, here, row, form, DIFFERS, 409)
        same = old is not None and (old.question.id, old.rater.id) == (asked.id, rater.id)
        judgment = Judgment(
            question=asked.id, rater=rater.id, answer=answer,
            at=datetime.fromtimestamp(site.now(), UTC).isoformat(),
            rationale=rationale,
            supersedes=row.verdict if same else None,
        )  # fmt: skip
        keep(site, here.study.name, asked, rater, judgment, row.id)
        state = "adjudicated" if row.gold is None else row.state  # gold goes on serving as gold
        values = {"state": state, "verdict": judgment.id}
        connection.execute(sa.update(Q).where(Q.c.id == question).values(**values))
        closed = {"closed_at": site.now()}
        connection.execute(sa.update(F).where(F.c.question == question).values(**closed))
        audit.record(site, here.who.name, "adjudicated", here.study.name, question=question,
                     judgment=judgment.id)  # fmt: skip
    return RedirectResponse(f"/studies/{here.study.name}/disputes?notice=kept", status_code=303)


@router.post("/disputes/{question}/close")
def close_flags(here: Adjudicator, form: CheckedForm, question: str) -> Response:
    """The flags on a question are seen; the question stays as it is."""
    _asked(here, question)
    here.site.run(
        sa.update(F).where(F.c.question == question, F.c.study == here.study.name)
        .values(closed_at=here.site.now())
    )  # fmt: skip
    return RedirectResponse(f"/studies/{here.study.name}/disputes", status_code=303)
