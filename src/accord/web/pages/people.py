"""Who works on a study, in which role: for managers and owners."""

from __future__ import annotations

import secrets
from typing import Annotated

import sqlalchemy as sa
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from accord.core.errors import ConfigError, DataError
from accord.web import tables
from accord.web.guard import accounts, throttle
from accord.web.guard.security import CheckedForm, Here, may, wanted
from accord.web.pages.render import page

__all__ = ["router"]

router = APIRouter(include_in_schema=False)
Manager = Annotated[Here, Depends(may("manage"))]
BELOW_OWNER = ("adjudicator", "annotator", "reader")  # roles a manager may give


@router.get("/studies/{study}/people")
def people(request: Request, here: Manager) -> Response:
    """Who has which role."""
    return _people_page(request, here)


def _people_page(
    request: Request, here: Here, notice: str = "", once: str = "", status: int = 200
) -> Response:
    r, a = tables.roles, tables.accounts
    rows = here.site.all(
        sa.select(a.c.name, a.c.disabled, r.c.role)
        .join_from(r, a, r.c.account == a.c.id)
        .where(r.c.study == here.study.name)
        .order_by(a.c.name)
    )
    roles = accounts.ROLES if here.may("own") else BELOW_OWNER
    shut = throttle.locked(here.site, [row.name for row in rows])
    people = [
        {**row._mapping, "locked": row.name in shut,
         "may_reset": accounts.below(here.site, here.study.name, row.name, roles) is not None}
        for row in rows
    ]  # fmt: skip
    return page(request, "people.html", here.who, here=here, people=people, roles=roles,
                notice=notice, once=once, status=status)  # fmt: skip


@router.post("/studies/{study}/people")
def set_person(request: Request, here: Manager, form: CheckedForm) -> Response:
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
def new_password(request: Request, here: Manager, form: CheckedForm) -> Response:
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
def unlock(request: Request, here: Manager, form: CheckedForm) -> Response:
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
