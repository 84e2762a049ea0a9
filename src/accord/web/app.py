"""The app: routers, static files, and faults as pages."""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from accord.core.errors import AccordError, StoreError
from accord.core.version import __version__
from accord.web.guard.security import HEADERS, Safe, SignInFirst
from accord.web.pages.render import HERE, page
from accord.web.routes import ROOMS
from accord.web.site import Site

__all__ = ["create_app"]

WORDS = {
    401: "Signed out",
    403: "Not allowed",
    404: "Not found",
    413: "Too long",
    429: "Too many tries",
}
WORDS |= dict.fromkeys((500, 503, 507), "Not kept")
LOG = logging.getLogger("accord.web")
FULL = ("disk is full", "No space left", "Disk quota exceeded")  # SQLite's words, and the system's
DISK_FULL = (
    "The server's disk is full, so this could not be kept. Tell whoever runs it; then try again."
)
NOT_KEPT = "The server can't read or write its store now, so this could not be kept. Try again in a minute."
BROKEN = "Something went wrong on the server, and this may not have been kept. Try again."


def create_app(site: Site) -> FastAPI:
    """The whole web app over one site. Its API is described at /api/openapi.json."""
    app = FastAPI(
        title="accord collect", version=__version__, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
    )  # fmt: skip
    app.state.site = site
    app.add_middleware(Safe, site=site, not_kept=_not_kept)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    for room in ROOMS:
        app.include_router(room.router)
    app.add_exception_handler(SignInFirst, _sign_in_first)
    app.add_exception_handler(StarletteHTTPException, _fault)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(AccordError, _invalid)
    for machine in (StoreError, OSError):
        app.add_exception_handler(machine, _not_kept)
    app.add_exception_handler(Exception, _broken)
    return app


def _sign_in_first(request: Request, error: Exception) -> Response:
    """To the sign-in page; what sends a form is told, and stays where it is with what it holds."""
    assert isinstance(error, SignInFirst)
    if request.method == "GET":
        return error.response()
    return _say(request, 401, "You are signed out, so this was not sent.")


def _fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return _say(request, error.status_code, str(error.detail), dict(error.headers or {}))


def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _say(request, 422, f"{where}: {first['msg']}")


def _invalid(request: Request, error: Exception) -> Response:
    return _say(request, 422, str(error))


def _not_kept(request: Request, error: Exception) -> Response:
    """A fault of this machine: told plainly, without paths, and with them in the server's log."""
    full = any(sign in str(error) for sign in FULL)
    LOG.error("%s %s: %s", request.method, request.url.path, error, exc_info=not full)
    if full:
        return _say(request, 507, DISK_FULL)
    store = isinstance(error, StoreError)
    return _say(request, 503 if store else 500, NOT_KEPT if store else BROKEN)


def _broken(request: Request, error: Exception) -> Response:
    """A fault of ours; the server logs it with its traceback."""
    response = _say(request, 500, BROKEN)
    response.headers.update(HEADERS)  # this answer comes from outside of `Safe`
    return response


def _say(
    request: Request, status: int, what: str, headers: dict[str, str] | None = None
) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": what}, status_code=status, headers=headers)
    if "hx-request" in request.headers and status >= 400:  # beside the form, never in its place
        return PlainTextResponse(what, status, headers)
    response = page(
        request, "fault.html", status=status, title=WORDS.get(status, "Fault"), what=what
    )
    response.headers.update(headers or {})
    return response
