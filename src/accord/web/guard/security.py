"""What every request passes: headers, where it comes from, its form token, who sends it.

unsafe method   Origin (or Sec-Fetch-Site) must be ours and the form must carry the session's token
body            read only for somebody known: of /api/ after the token, of a form after the session
page            CSP without anything inline; no framing, no referrer, no sniffing
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Depends, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.requests import ClientDisconnect

from accord.core.errors import DataError, StoreError
from accord.feedback.study.definition import Study
from accord.web.guard import accounts, tokens
from accord.web.guard.accounts import MAY, Who
from accord.web.site import Site, is_address

__all__ = ["HEADERS", "Form", "Here", "Safe", "Signed", "may", "read_form", "set_cookie", "site_of"]

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer, browsers send "Origin: null"
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
LONGEST_BODY = 2 << 20  # bytes of a form
LONGEST_UNKNOWN = 8 << 10  # bytes of a form of nobody: a sign-in
PATIENCE = 30  # seconds until it must be here whole
MOST = 8 << 20  # bytes of anything
LONGEST_QUERY, LONGEST_RANGE = 2 << 10, 256  # bytes; parsed, they take a hundred times as much
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
Form = dict[str, str]


class Safe:
    """ASGI middleware: security headers on everything, and no unsafe request from elsewhere."""

    def __init__(self, app: Any, site: Site, not_kept: Callable[..., Response]) -> None:
        self.app, self.site, self.not_kept = app, site, not_kept

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        static = scope["path"].startswith("/static/")
        length = dict(scope["headers"]).get(b"content-length", b"0")
        unread = not length.isdigit() or int(length) > LONGEST_UNKNOWN

        async def reading() -> Any:
            nonlocal unread
            message = await receive()
            unread = unread and bool(message.get("more_body"))
            return message

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items()]
                if not static:
                    extra.append((b"cache-control", b"no-store"))
                if unread:  # what is still to come is not even thrown away: hang up
                    extra.append((b"connection", b"close"))
                if self.site.https:
                    extra.append((b"strict-transport-security", b"max-age=31536000"))
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            refused = self._refused(scope) or await run_in_threadpool(self._unknown, scope)
        except (StoreError, OSError) as error:  # the app's own handlers stand further in
            refused = self.not_kept(Request(scope), error)
        if refused is not None:
            await refused(scope, receive, with_headers)
            return
        await self.app(scope, reading, with_headers)

    def _refused(self, scope: MutableMapping[str, Any]) -> Response | None:
        """The answer to a request too large, under another host's name, or unsafe and from another site."""
        close = {"connection": "close"}
        if len(scope["query_string"]) > LONGEST_QUERY:
            return JSONResponse({"detail": "The address is too long."}, 400, headers=close)
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        if len(headers.get("range", "")) > LONGEST_RANGE:
            return Response("Those are too many ranges.", status_code=416, headers=close)
        if headers.get("host") not in {o.partition("//")[2] for o in self.site.origins}:
            return Response("This server is not called that.", status_code=421)
        if scope["method"] in UNSAFE:
            length = headers.get("content-length")
            if "transfer-encoding" in headers:
                return Response("Say how long it is.", status_code=411)
            if length and (not length.isdigit() or int(length) > MOST):
                return Response("That is too long.", status_code=413)
        unsafe = scope["method"] in UNSAFE and not scope["path"].startswith("/api/")
        if unsafe and not self._ours(headers):
            return Response("This request came from another site.", status_code=403)
        return None

    def _unknown(self, scope: MutableMapping[str, Any]) -> Response | None:
        """The answer to a body for the API from nobody known: it is not even read."""
        if scope["method"] not in UNSAFE or not scope["path"].startswith("/api/"):
            return None
        given = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
        kind, _, token = given.partition(" ")
        if kind.lower() == "bearer" and tokens.check(self.site, token.strip()):
            return None
        headers = {"www-authenticate": "Bearer"}
        return JSONResponse({"detail": "A token is needed."}, status_code=401, headers=headers)

    def _ours(self, headers: dict[str, str]) -> bool:
        """Both headers are checked when there; a request with neither is no browser's of today."""
        origin, fetch = headers.get("origin"), headers.get("sec-fetch-site")
        if origin is None and fetch is None:
            return False
        return (origin is None or origin in self.site.origins) and fetch in (
            None,
            "same-origin",
            "none",
        )


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


TheSite = Annotated[Site, Depends(site_of)]


def cookie_name(site: Site, before: bool = False) -> str:
    """`__Host-` needs https; on plain http (localhost) the cookie goes without it."""
    return f"{'__Host-' if site.https else ''}accord{'-form' if before else ''}"


def set_cookie(site: Site, response: Response, value: str, before: bool = False) -> None:
    response.set_cookie(
        cookie_name(site, before), value, httponly=True, secure=site.https, samesite="lax", path="/"
    )


def current(request: Request, site: TheSite) -> Who | None:
    """Who is signed in, if anybody."""
    cookie = request.cookies.get(cookie_name(site))
    return accounts.session(site, cookie) if cookie else None


class SignInFirst(Exception):
    """Nobody is signed in: to the sign-in page, and back to `path` after."""

    def __init__(self, path: str) -> None:
        self.path = path

    def response(self) -> RedirectResponse:
        return RedirectResponse(f"/sign-in?then={quote(self.path)}", status_code=303)


def signed(request: Request, who: Annotated[Who | None, Depends(current)]) -> Who:
    """Who is signed in; others are sent to the sign-in page."""
    if who is None:
        raise SignInFirst(request.url.path if request.method == "GET" else "/")
    return who


Signed = Annotated[Who, Depends(signed)]


async def raw_form(request: Request, who: Annotated[Who | None, Depends(current)]) -> Form:
    """The fields of a form, of a repeated one the last. 413 for one that is too long."""
    most = LONGEST_UNKNOWN if who is None else LONGEST_BODY
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > most:
        raise HTTPException(413, "That is too long.")
    body = bytearray()
    try:
        async with asyncio.timeout(PATIENCE if who is None else None):
            async for chunk in request.stream():
                body += chunk
                if len(body) > most:
                    raise HTTPException(413, "That is too long.")
    except TimeoutError:
        raise HTTPException(408, "The form took too long.", {"connection": "close"}) from None
    except ClientDisconnect:  # the page was left while it sent
        raise HTTPException(400, "The form did not come whole.") from None
    kind = request.headers.get("content-type", "").partition(";")[0]
    if kind != "application/x-www-form-urlencoded":
        raise HTTPException(415, "A form is expected.")
    return _parsed(body)


def _parsed(body: bytearray) -> Form:
    from urllib.parse import parse_qsl

    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, errors="strict", max_num_fields=500
        )
    except (ValueError, UnicodeDecodeError):
        raise HTTPException(400, "The form can't be read.") from None
    if any("\x00" in v for _, v in pairs):
        raise HTTPException(400, "The form can't be read.")
    return {k: v.replace("\r\n", "\n") for k, v in pairs}


RawForm = Annotated[Form, Depends(raw_form)]


def read_form(who: Signed, form: RawForm) -> Form:
    """The form of somebody signed in (asked first: nobody's is not read); 403 without the session's token."""
    if not hmac.compare_digest(form.get("csrf", "").encode(), who.csrf.encode()):
        raise HTTPException(403, "The form is from another session. Reload the page.")
    return form


CheckedForm = Annotated[Form, Depends(read_form)]


def before_form(request: Request, form: RawForm, site: TheSite) -> Form:
    """The sign-in form; 403 without the token bound to the browser's cookie."""
    cookie = request.cookies.get(cookie_name(site, before=True), "")
    token = form.get("csrf", "").encode()
    if not cookie or not hmac.compare_digest(token, accounts.form_token(site, cookie).encode()):
        raise HTTPException(403, "The page was too old. Reload it and sign in again.")
    return form


def address_of(request: Request, site: Site) -> str | None:
    """The browser's address: the connection's, or what a trusted proxy says it is; None where an unknown
    proxy stands between (one address for everybody)."""
    peer = request.client.host if request.client else ""
    if not site.proxied:
        return peer
    hops = [hop.strip() for hop in request.headers.get("x-forwarded-for", "").split(",")]
    for hop in (peer, *reversed(hops)):  # the last that no trusted proxy wrote is the browser's
        if not site.trusts(hop):
            return hop if hop != peer and is_address(hop) else None
    return None


def fresh_form_cookie() -> str:
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class Here:
    """A request to a study by somebody who may."""

    site: Site
    who: Who
    study: Study
    role: str

    def may(self, what: str) -> bool:
        return self.role in MAY[what]


def may(what: str) -> Callable[..., Here]:
    """A dependency: 404 for a study one has no part in, 403 for what one's role doesn't allow."""

    def check(study: str, site: TheSite, who: Signed) -> Here:
        role = accounts.role_in(site, who, study)
        definition = site.study(study) if role else None
        if role is None or definition is None:
            raise HTTPException(404, "There is no such study.")
        if role not in MAY[what]:
            raise HTTPException(403, f"This is not for {role}s.")
        return Here(site, who, definition, role)

    return check


def wanted(form: Form, key: str, most: int = 10_000) -> str:
    """A field that must be there; DataError otherwise."""
    text = form.get(key, "").strip()
    if not text or len(text) > most:
        raise DataError("is empty" if not text else "is too long", where=key, mend="fill it in")
    return text
