"""How far a study is, how far people agree, and its raters: for reviewers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from accord.web.guard.security import Here, may
from accord.web.pages.render import page
from accord.web.work import quality

__all__ = ["router"]

router = APIRouter(include_in_schema=False, prefix="/studies/{study}")
Reader = Annotated[Here, Depends(may("look"))]


@router.get("")
def overview(request: Request, here: Reader) -> Response:
    """How far the study is, and how far people agree."""
    given = quality.answers(here.site, here.study.name)
    return page(
        request, "overview.html", here.who, here=here,
        progress=quality.progress(here.site, here.study.name),
        agreement=quality.agreement(here.site, here.study.name, given),
    )  # fmt: skip


@router.get("/raters")
def raters(request: Request, here: Reader, measure: bool = False) -> Response:
    """Every rater: amount, pace, gold, side, agreement; with `measure`, reliability and biases too."""
    given = quality.answers(here.site, here.study.name, repeats=True)
    rows = quality.rater_rows(here.site, here.study.name, given)
    reports = quality.reports(here.site, here.study.name, given) if measure else None
    return page(request, "raters.html", here.who, here=here, raters=rows, reports=reports)
