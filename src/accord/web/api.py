"""The JSON API: push questions, pull judgments. A token in `Authorization: Bearer`; never a cookie."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from accord.core.types import Judgment
from accord.feedback.study.definition import Item, Study
from accord.store import Lineage
from accord.store.db import schema
from accord.web import tables
from accord.web.guard import tokens
from accord.web.guard.security import TheSite
from accord.web.site import Site
from accord.web.work import quality
from accord.web.work.studies import add_items

__all__ = ["router"]

Q, L = tables.study_questions, tables.leases
bearer = HTTPBearer(auto_error=False, description="A token of the study's settings page.")


class Fault(BaseModel):
    """What went wrong, in one line."""

    detail: str


class Push(BaseModel):
    """Questions for one block (kind) of the study; nothing is added when one is wrong."""

    model_config = ConfigDict(extra="forbid")

    block: Annotated[int, Field(ge=0, le=1000)] = 0
    items: Annotated[list[Item], Field(max_length=1000)]


class Pushed(BaseModel):
    new: int
    """Items that were there already are not added twice."""


class StudyProgress(BaseModel):
    """`votes` are those in the arena: no question waits for them, and `judgments` leaves them out."""

    questions: int
    states: dict[str, int]
    judgments: int
    wanted: int
    votes: int
    gold: int
    skipped: int
    flags: int
    at_work: int


class AskedQuestion(BaseModel):
    """A question as it stands. `tally`: answers by axis and category."""

    id: str
    kind: str
    category: str
    state: str
    answered: int
    wanted: int
    gold: bool
    tally: dict[str, dict[str, int]]


class Pulled(BaseModel):
    """Some judgments; go on with `next` as `after` until it is null."""

    judgments: list[AnsweredQuestion]
    next: int | None


class AnsweredQuestion(BaseModel):
    """A judgment with all it is about. `responses` and the answer's indices are in the order shown. A vote in
    the arena answers no `study_question`."""

    seq: int
    id: str
    hash: str
    judgment: Judgment
    rater: str
    prompt: list[dict[str, str]]
    responses: list[dict[str, Any]]
    study_question: str | None
    gold: bool
    superseded: bool


FAULTS: dict[int | str, dict[str, Any]] = {
    code: {"model": Fault, "description": what}
    for code, what in (
        (400, "The body can't be read, or the address is too long."),
        (401, "No token, or one that opens nothing."),
        (403, "The token has not this scope."), (404, "No such study, or not this token's."),
        (422, "Something in the request is wrong."),
    )
}  # fmt: skip


def known_keys(request: Request) -> None:
    """422 for a query parameter that there is not."""
    allowed = (
        {"after", "limit"} if request.url.path.endswith(("/questions", "/judgments")) else set()
    )
    unknown = sorted(set(request.query_params) - (allowed if request.method == "GET" else set()))
    if unknown:
        raise HTTPException(422, f"unknown query parameter {unknown[0][:80]!r}")


router = APIRouter(
    prefix="/api/v1/studies/{study}", responses=FAULTS, tags=["study"],
    dependencies=[Depends(known_keys)],
)  # fmt: skip


def scope(name: str) -> Callable[..., tuple[Site, Study]]:
    """A dependency: the study, for a token of it that has this scope."""

    def check(
        study: Annotated[str, Path(max_length=64, pattern=r"^[a-z0-9][a-z0-9_-]*$")],
        site: TheSite,
        given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
    ) -> tuple[Site, Study]:
        token = tokens.check(site, given.credentials) if given else None
        if token is None:
            raise HTTPException(401, "A token is needed.", {"www-authenticate": "Bearer"})
        definition = site.study(study) if token.study == study else None
        if definition is None:
            raise HTTPException(404, "There is no such study for this token.")
        if name not in json.loads(token.scopes):
            raise HTTPException(403, f"The token lacks the scope {name}.")
        return site, definition

    return check


MayWrite = Annotated[tuple[Site, Study], Depends(scope("questions:write"))]
Looking = Annotated[tuple[Site, Study], Depends(scope("questions:read"))]
Pulling = Annotated[tuple[Site, Study], Depends(scope("judgments:read"))]
Limit = Annotated[int, Query(ge=1, le=1000)]


@router.post("/questions", operation_id="push_questions")
def push(at: MayWrite, body: Push) -> Pushed:
    """Push questions: of every item the prompt, the responses and, if known, scores and gold answer."""
    site, study = at
    if body.block >= len(study.questions):
        raise HTTPException(422, f"There are only {len(study.questions)} blocks, counted from 0.")
    items = [(f"items.{i}", item) for i, item in enumerate(body.items)]
    return Pushed(new=add_items(site, study, body.block, items, "api"))


@router.get("/questions", operation_id="list_questions")
def questions(
    at: Looking, after: Annotated[str, Query(max_length=40)] = "", limit: Limit = 100
) -> list[AskedQuestion]:
    """Questions by id; go on with the last one's id as `after`."""
    site, study = at
    query = (
        sa.select(Q).where(Q.c.study == study.name, Q.c.id > after).order_by(Q.c.id).limit(limit)
    )
    return [
        AskedQuestion(
            id=r.id, kind=r.kind, category=r.category, state=r.state, answered=r.answered,
            wanted=r.wanted, gold=r.gold is not None, tally=json.loads(r.tally),
        )
        for r in site.all(query)
    ]  # fmt: skip


@router.get("/progress", operation_id="progress")
def progress(at: Looking) -> StudyProgress:
    """How far the study is."""
    site, study = at
    return StudyProgress(**quality.progress(site, study.name))


@router.get("/judgments", operation_id="pull_judgments")
def judgments(
    at: Pulling, after: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0, limit: Limit = 100
) -> Pulled:
    """Judgments given in this study (answers, decisions, votes) in the order they were kept, corrections
    among them."""
    site, study = at
    j, mine = schema.judgments, tables.study_judgments
    with site.db.reading() as connection:
        rows = connection.execute(
            sa.select(j.c.id, j.c.seq, mine.c.question, Q.c.gold)
            .join_from(mine, j, mine.c.judgment == j.c.id)
            .outerjoin(Q, mine.c.question == Q.c.id)
            .where(mine.c.study == study.name, j.c.seq > after)
            .order_by(j.c.seq)
            .limit(limit)
        ).all()
        lineages = site.store.lineage([row.id for row in rows])
        later = set(_superseded(connection, [line.question.id for line in lineages.values()]))
    pulled = [_answered(row, lineages[row.id], row.id in later) for row in rows]
    return Pulled(judgments=pulled, next=rows[-1].seq if len(rows) == limit else None)


def _answered(row: Any, line: Lineage, superseded: bool) -> AnsweredQuestion:
    return AnsweredQuestion(
        seq=row.seq, id=row.id, hash=line.hash, judgment=line.judgment, rater=line.rater.name,
        prompt=[m.model_dump() for m in line.prompt.messages],
        responses=[{"id": i, **r.model_dump(mode="json")}
                   for i, r in zip(line.question.responses, line.responses, strict=True)],
        study_question=row.question, gold=row.gold is not None, superseded=superseded,
    )  # fmt: skip


def _superseded(connection: sa.Connection, questions: list[str]) -> list[str]:
    """Ids that a later judgment on these questions corrects."""
    j = schema.judgments
    bodies = connection.execute(
        sa.select(j.c.body).where(j.c.question.in_(set(questions)))
    ).scalars()
    old = (json.loads(body)["supersedes"] for body in bodies)
    return [id for id in old if id]
