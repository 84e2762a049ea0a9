"""A study's settings and questions for managers; for owners tokens, webhooks and the audit log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from accord.core.config import validate
from accord.core.errors import ConfigError, DataError
from accord.core.hashing import content_hash
from accord.feedback.study.definition import Arms, Item, Overlap, Study
from accord.web.guard import audit, tokens
from accord.web.guard.security import CheckedForm, Here, may, wanted
from accord.web.pages.render import page
from accord.web.work import hooks
from accord.web.work.scoring import check_arm
from accord.web.work.studies import add_items, save_study

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
Manager = Annotated[Here, Depends(may("manage"))]
Owner = Annotated[Here, Depends(may("own"))]
CHANGED = (
    "The settings were changed since you opened this page. What you wrote is below, and not saved: look, "
    "then save it again."
)


def _back(here: Here, tail: str) -> RedirectResponse:
    return RedirectResponse(f"/studies/{here.study.name}/{tail}", status_code=303)


@router.get("/studies/{study}/settings")
def settings(request: Request, here: Manager, notice: str = "") -> Response:
    """Overlap, assignment, gold; for owners tokens, webhooks and the audit log."""
    return _settings_page(request, here, "Saved." if notice else "")


def _settings_page(
    request: Request, here: Here, notice: str = "", once: str = "", status: int = 200
) -> Response:
    owner = here.may("own")
    return page(
        request, "settings.html", here.who, here=here, notice=notice, once=once, status=status,
        scopes=tokens.SCOPES, tokens=tokens.listed(here.site, here.study.name) if owner else [],
        webhooks=hooks.listed(here.site, here.study.name) if owner else [],
        hosts=here.site.hooks_allowed, base=content_hash(here.study),
    )  # fmt: skip


@router.post("/studies/{study}/settings")
def save_settings(request: Request, here: Manager, form: CheckedForm) -> Response:
    """Change how questions are given out; what is out already stays as it was."""
    try:
        changed = validate(
            Study, {**here.study.model_dump(), **_settings(form)}, where="settings"
        )  # fmt: skip
        check_arm(here.site, changed)
    except (ConfigError, DataError, ValueError) as error:
        return _settings_page(request, here, str(error), status=422)
    if form.get("base", now := content_hash(here.study)) != now:
        return _settings_page(request, here, CHANGED, status=409)
    save_study(here.site, changed, here.who.name)
    return _back(here, "settings?notice=saved")


def _settings(form: dict[str, str]) -> dict[str, Any]:
    number = {
        k: float(form.get(k, ""))
        for k in ("confidence", "dispute_below", "gold_rate", "repeat_rate", "lease_minutes")
    }
    arms = {k: float(form.get(k, "")) for k in ("random", "disagreement", "information")}
    overlap = Overlap(
        min=int(form.get("min", "")), max=int(form.get("max", "")),
        confidence=number["confidence"], dispute_below=number["dispute_below"],
    )  # fmt: skip
    return {
        "title": form.get("title", "").strip()[:200], "overlap": overlap.model_dump(),
        "assignment": Arms(**arms).model_dump(), "gold_rate": number["gold_rate"],
        "repeat_rate": number["repeat_rate"], "lease_minutes": number["lease_minutes"],
    }  # fmt: skip


@router.post("/studies/{study}/questions")
def add_questions(request: Request, here: Manager, form: CheckedForm) -> Response:
    """Questions as JSON lines, for one of the study's blocks."""
    try:
        block = int(form.get("block", "0"))
        if not 0 <= block < len(here.study.questions):
            raise DataError("there is no such block", where="block")
        items = [
            (f"line {n}", validate(Item, json.loads(line), where=f"line {n}"))
            for n, line in enumerate(form.get("lines", "").splitlines(), 1)
            if line.strip()
        ]
        new = add_items(here.site, here.study, block, items, here.who.name)
    except (ConfigError, DataError, ValueError) as error:
        return _settings_page(request, here, str(error), status=422)
    return _settings_page(request, here, f"{new} new questions.")


@router.post("/studies/{study}/tokens")
def add_token(request: Request, here: Owner, form: CheckedForm) -> Response:
    """A new API token, shown once."""
    scopes = [s for s in tokens.SCOPES if form.get(f"scope-{s}")]

    def add() -> str:
        name = wanted(form, "name", 64)
        return tokens.add(here.site, here.study.name, name, scopes, here.who.name)

    return _shown_once(request, here, "token", add)


@router.post("/studies/{study}/tokens/{token}/revoke")
def revoke_token(here: Owner, form: CheckedForm, token: str) -> Response:
    tokens.revoke(here.site, here.study.name, token, here.who.name)
    return _back(here, "settings")


@router.post("/studies/{study}/webhooks")
def add_webhook(request: Request, here: Owner, form: CheckedForm) -> Response:
    """A webhook to an allowed host; its signing secret is shown once."""

    def add() -> str:
        return hooks.add(here.site, here.study.name, wanted(form, "url", 500), here.who.name)

    return _shown_once(request, here, "signing secret", add)


def _shown_once(request: Request, here: Here, what: str, add: Callable[[], str]) -> Response:
    """The settings with the secret that `add` makes, or with what it refuses."""
    try:
        once = add()
    except DataError as error:
        return _settings_page(request, here, str(error), status=422)
    return _settings_page(request, here, f"This {what} is shown once. Keep it now.", once)


@router.post("/studies/{study}/webhooks/{hook}/close")
def close_webhook(here: Owner, form: CheckedForm, hook: str) -> Response:
    hooks.close(here.site, here.study.name, hook, here.who.name)
    return _back(here, "settings")


@router.get("/studies/{study}/audit")
def audit_log(request: Request, here: Owner) -> Response:
    """Who did what, newest first."""
    events = audit.newest(here.site, here.study.name)
    return page(request, "audit.html", here.who, here=here, events=events)
