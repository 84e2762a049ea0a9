"""The app: routers, static files, and faults as pages."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException as StarletteHTTPException

from accord import __version__
from accord.core.errors import AccordError
from accord.web import admin, annotate, api, arena, export, guidelines, home, review
from accord.web.pages import HERE, page
from accord.web.security import Safe, SignInFirst
from accord.web.site import Site

__all__ = ["ROOMS", "create_app"]

ROOMS = (home, annotate, review, guidelines, admin, export, arena, api)
WORDS = {403: "Not allowed", 404: "Not found", 413: "Too long", 429: "Too many tries"}


def create_app(site: Site) -> FastAPI:
    """The whole web app over one site. Its API is described at /api/openapi.json."""
    app = FastAPI(
        title="accord collect", version=__version__, docs_url=None, redoc_url=None,
        openapi_url="/api/openapi.json",
    )  # fmt: skip
    app.state.site = site
    app.add_middleware(Safe, site=site)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    for room in ROOMS:
        app.include_router(room.router)
    app.add_exception_handler(SignInFirst, _sign_in_first)
    app.add_exception_handler(StarletteHTTPException, _fault)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(AccordError, _told)
    return app


def _sign_in_first(request: Request, error: Exception) -> Response:
    assert isinstance(error, SignInFirst)
    return error.response()


def _fault(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    return _say(request, error.status_code, str(error.detail), dict(error.headers or {}))


def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return _say(request, 422, f"{where}: {first['msg']}")


def _told(request: Request, error: Exception) -> Response:
    return _say(request, 422, str(error))


def _say(
    request: Request, status: int, what: str, headers: dict[str, str] | None = None
) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"detail": what}, status_code=status, headers=headers)
    made = page(request, "fault.html", status=status, title=WORDS.get(status, "Fault"), what=what)
    made.headers.update(headers or {})
    return made
