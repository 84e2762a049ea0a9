"""Signing in and out, the list of studies, one's own account."""

from __future__ import annotations

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from fastapi.responses import RedirectResponse, Response

from accord.core.errors import ConfigError
from accord.web import tables
from accord.web.guard import accounts
from accord.web.guard.accounts import MAY
from accord.web.guard.security import (
    CheckedForm,
    Form,
    Signed,
    TheSite,
    address_of,
    before_form,
    cookie_name,
    fresh_form_cookie,
    set_cookie,
)
from accord.web.guard.throttle import Throttled
from accord.web.pages.render import page
from accord.web.site import parse_study

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.get("/sign-in")
def sign_in_page(request: Request, site: TheSite, then: str = "/", notice: str = "") -> Response:
    return _form(request, site, then, "Signed out." if notice == "out" else "")


def _form(request: Request, site: TheSite, then: str, notice: str, status: int = 200) -> Response:
    cookie = request.cookies.get(cookie_name(site, before=True)) or fresh_form_cookie()
    token = accounts.form_token(site, cookie)
    response = page(
        request, "sign_in.html", token=token, then=_local(then), notice=notice, status=status
    )
    set_cookie(site, response, cookie, before=True)
    return response


def _local(path: str) -> str:
    """A path on this server, and nothing that only looks like one."""
    good = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if good and "\\" not in path else "/"


@router.post("/sign-in")
def sign_in(request: Request, site: TheSite, form: Form = Depends(before_form)) -> Response:
    """A new session, whatever cookie the browser came with."""
    then = _local(form.get("then", "/"))
    address = address_of(request, site)
    old = request.cookies.get(cookie_name(site))
    try:
        cookie = accounts.sign_in(
            site, form.get("name", "").strip(), form.get("password", ""), address, old
        )
    except Throttled as slow:
        notice = f"Too many tries. Wait {slow.seconds} seconds and try again."
        refused = _form(request, site, then, notice, 429)
        refused.headers["retry-after"] = str(slow.seconds)
        return refused
    if cookie is None:
        return _form(request, site, then, "That name and password don't go together.", 403)
    done = RedirectResponse(then, status_code=303)
    set_cookie(site, done, cookie)
    return done


@router.post("/sign-out")
def sign_out(site: TheSite, who: Signed, form: CheckedForm) -> Response:
    accounts.sign_out(site, who)
    done = RedirectResponse("/sign-in?notice=out", status_code=303)
    done.delete_cookie(cookie_name(site), secure=site.https, httponly=True, path="/")
    return done


@router.get("/")
def home(request: Request, site: TheSite, who: Signed) -> Response:
    """The studies one has a part in; straight to work where there is one and nothing else to do."""
    studies, roles = tables.studies, tables.roles
    query = sa.select(studies.c.config, sa.literal("owner").label("role"))
    if not who.admin:
        query = sa.select(studies.c.config, roles.c.role).where(
            roles.c.study == studies.c.name, roles.c.account == who.id
        )
    parts = [(parse_study(r.config), r.role) for r in site.all(query.order_by(studies.c.name))]
    if len(parts) == 1 and parts[0][1] == "annotator":
        return RedirectResponse(f"/studies/{parts[0][0].name}/annotate", status_code=303)
    rows = [(study, role, {what for what, who_may in MAY.items() if role in who_may})
            for study, role in parts]  # fmt: skip
    return page(request, "home.html", who, studies=rows)


@router.get("/account")
def account(request: Request, who: Signed, notice: str = "") -> Response:
    return page(request, "account.html", who, notice="Password changed." if notice else "")


@router.post("/account")
def change(request: Request, site: TheSite, who: Signed, form: CheckedForm) -> Response:
    """A new password ends every session; this browser gets a new one."""
    if not accounts.right_password(site, who.id, form.get("old", "")):
        return page(request, "account.html", who, notice="The old password is wrong.", status=403)
    try:
        accounts.change_password(site, who.id, who.name, form.get("new", ""))
    except ConfigError as error:
        notice = f"The new password is {error.what}; {error.allowed}."
        return page(request, "account.html", who, notice=notice, status=422)
    cookie = accounts.new_session(site, who.id, who.name, "password change", None)
    done = RedirectResponse("/account?notice=changed", status_code=303)
    set_cookie(site, done, cookie)
    return done
