"""The managers' and owners' pages: people, settings, tokens, webhooks, the audit log."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from accord.core.config import parse_yaml, validate
from accord.core.errors import ConfigError, DataError
from accord.core.hashing import content_hash
from accord.feedback.study.definition import Arms, Item, Overlap, Study
from accord.web import tables
from accord.web.guard import accounts, audit, throttle, tokens
from accord.web.guard.security import Checked, Here, Signed, TheSite, may, wanted
from accord.web.pages.render import page
from accord.web.work import hooks
from accord.web.work.scoring import check_arm
from accord.web.work.studies import add_items, load_study, save_study

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
Manager = Annotated[Here, Depends(may("manage"))]
Owner = Annotated[Here, Depends(may("own"))]
CHANGED = (
    "The settings were changed since you opened this page. What you wrote is below, and not saved: look, "
    "then save it again."
)
BELOW_OWNER = ("adjudicator", "annotator", "reader")  # roles a manager may give


def _back(here: Here, tail: str) -> RedirectResponse:
    return RedirectResponse(f"/studies/{here.study.name}/{tail}", status_code=303)


# -- people ---------------------------------------------------------------------------------------


@router.get("/studies/{study}/people")
def people(request: Request, here: Manager) -> Response:
    """Who has which role."""
    return _people_page(request, here)


def _people_page(
    request: Request, here: Here, notice: str = "", once: str = "", status: int = 200
) -> Response:
    r, a = tables.roles, tables.accounts
    found = here.site.all(
        sa.select(a.c.name, a.c.disabled, r.c.role)
        .join_from(r, a, r.c.account == a.c.id)
        .where(r.c.study == here.study.name)
        .order_by(a.c.name)
    )
    roles = accounts.ROLES if here.may("own") else BELOW_OWNER
    shut = throttle.locked(here.site, [row.name for row in found])
    people = [
        {**row._mapping, "locked": row.name in shut,
         "may_reset": accounts.below(here.site, here.study.name, row.name, roles) is not None}
        for row in found
    ]  # fmt: skip
    return page(request, "people.html", here.who, here=here, people=people, roles=roles,
                notice=notice, once=once, status=status)  # fmt: skip


@router.post("/studies/{study}/people")
def set_person(request: Request, here: Manager, form: Checked) -> Response:
    """Give somebody a role, or take it; a new name gets an account with a password shown once."""
    try:
        name, role = wanted(form, "name", 64), form.get("role") or None
        _may_give(here, name, role)
        with here.site.db.writing():  # no account whose password nobody was shown
            once = _new_account(here, name) if role else ""
            accounts.set_role(here.site, here.study.name, name, role, here.who.name)
    except (ConfigError, DataError) as error:
        return _people_page(request, here, str(error), status=422)
    done = f"{name} is {role} now." if role else f"{name} has no role any more."
    return _people_page(request, here, done, f"{name}: {once}" if once else "")


def _new_account(here: Here, name: str) -> str:
    """The password of an account made for somebody new, else nothing."""
    if here.site.one(sa.select(tables.accounts.c.id).where(tables.accounts.c.name == name)):
        return ""
    once = secrets.token_urlsafe(12)
    accounts.add_account(here.site, name, once, by=here.who.name)
    return once


@router.post("/studies/{study}/people/password")
def new_password(request: Request, here: Manager, form: Checked) -> Response:
    """A new password for somebody who forgot theirs, shown once. 403 for an account that reaches further than
    this study, or than what this person may give."""
    name = form.get("name", "")[:64]
    roles = accounts.ROLES if here.may("own") else BELOW_OWNER
    account = accounts.below(here.site, here.study.name, name, roles)
    if account is None:
        raise HTTPException(403, "Only an administrator gives that account a new password.")
    once = secrets.token_urlsafe(12)
    accounts.change_password(
        here.site, account, name, once, by=here.who.name, study=here.study.name
    )
    return _people_page(request, here, f"{name} has a new password.", f"{name}: {once}")


@router.post("/studies/{study}/people/unlock")
def unlock(request: Request, here: Manager, form: Checked) -> Response:
    """Somebody with a role here need not wait after wrong passwords any more."""
    name = form.get("name", "")[:64]
    r, a = tables.roles, tables.accounts
    mine = sa.select(a.c.id).join_from(r, a, r.c.account == a.c.id).where(
        r.c.study == here.study.name, a.c.name == name
    )  # fmt: skip
    if here.site.one(mine) is None:
        raise HTTPException(404, "Nobody of that name works here.")
    accounts.unlock(here.site, name, here.who.name, here.study.name)
    return _people_page(request, here, f"{name} may try again.")


def _may_give(here: Here, name: str, role: str | None) -> None:
    """403 when a manager would make, or unmake, an owner or a manager."""
    r, a = tables.roles, tables.accounts
    old = here.site.one(
        sa.select(r.c.role)
        .join_from(r, a, r.c.account == a.c.id)
        .where(r.c.study == here.study.name, a.c.name == name)
    )
    given = {role, old.role if old else None} - {None}
    if not here.may("own") and not given <= set(BELOW_OWNER):
        raise HTTPException(403, "Only an owner gives or takes that role.")


# -- settings -------------------------------------------------------------------------------------


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
def save_settings(request: Request, here: Manager, form: Checked) -> Response:
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
def add_questions(request: Request, here: Manager, form: Checked) -> Response:
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


# -- owners ---------------------------------------------------------------------------------------


@router.post("/studies/{study}/tokens")
def add_token(request: Request, here: Owner, form: Checked) -> Response:
    """A new API token, shown once."""
    scopes = [s for s in tokens.SCOPES if form.get(f"scope-{s}")]

    def add() -> str:
        name = wanted(form, "name", 64)
        return tokens.add(here.site, here.study.name, name, scopes, here.who.name)

    return _shown_once(request, here, "token", add)


@router.post("/studies/{study}/tokens/{token}/revoke")
def revoke_token(here: Owner, form: Checked, token: str) -> Response:
    tokens.revoke(here.site, here.study.name, token, here.who.name)
    return _back(here, "settings")


@router.post("/studies/{study}/webhooks")
def add_webhook(request: Request, here: Owner, form: Checked) -> Response:
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
def close_webhook(here: Owner, form: Checked, hook: str) -> Response:
    hooks.close(here.site, here.study.name, hook, here.who.name)
    return _back(here, "settings")


@router.get("/studies/{study}/audit")
def audit_log(request: Request, here: Owner) -> Response:
    """Who did what, newest first."""
    events = audit.newest(here.site, here.study.name)
    return page(request, "audit.html", here.who, here=here, events=events)


# -- new studies ----------------------------------------------------------------------------------


def _administrator(who: Signed) -> None:
    if not who.admin:
        raise HTTPException(403, "This is for administrators.")


@router.get("/studies", dependencies=[Depends(_administrator)])
def new_study(request: Request, who: Signed) -> Response:
    return page(request, "new_study.html", who, text=EXAMPLE)


@router.post("/studies", dependencies=[Depends(_administrator)])
def make_study(request: Request, site: TheSite, who: Signed, form: Checked) -> Response:
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
