"""A study made in the browser, by an administrator."""

from __future__ import annotations

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from accord.core.config import parse_yaml, validate
from accord.core.errors import ConfigError, DataError
from accord.feedback.study.definition import Study
from accord.web.guard.security import CheckedForm, Signed, TheSite
from accord.web.pages.render import page
from accord.web.work.studies import load_study

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
EXAMPLE = """\
name: my-study
title: Which answer is better?
guidelines: |
  Choose the answer you would rather have sent.
overlap: {min: 2, max: 4}
questions:
  - kind: compare
    points: 7
    items:
      - prompt: "Hi, do you ship to Norway?"
        responses: ["Yes, in 6 days.", "No idea."]
"""


def _administrator(who: Signed) -> None:
    if not who.admin:
        raise HTTPException(403, "This is for administrators.")


@router.get("/studies", dependencies=[Depends(_administrator)])
def new_study(request: Request, who: Signed) -> Response:
    return page(request, "new_study.html", who, text=EXAMPLE)


@router.post("/studies", dependencies=[Depends(_administrator)])
def make_study(request: Request, site: TheSite, who: Signed, form: CheckedForm) -> Response:
    """A study from YAML; it may hold items, and name no file of this machine."""
    text = form.get("text", "")
    try:
        data, lines = parse_yaml(text, "study")
        study = validate(Study, data, source="study", lines=lines)
        if (
            study.folder
            or study.scorers
            or any(ask.file or ask.run or ask.prompts for ask in study.questions)
        ):
            raise ConfigError(
                "a study made here can't read files", where="study",
                mend="use items, or push questions through the API",
            )  # fmt: skip
        if site.study(study.name) is not None:
            raise ConfigError("is taken", where=f"the name {study.name!r}", mend="choose another")
        load_study(site, study, who.name)
    except (ConfigError, DataError) as error:
        return page(request, "new_study.html", who, text=text, notice=str(error), status=422)
    return RedirectResponse(f"/studies/{study.name}", status_code=303)
