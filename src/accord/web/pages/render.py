"""Templates: autoescaped, with the few helpers pages need."""

from __future__ import annotations

import functools
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from accord.core.types import Metric
from accord.web.guard.accounts import Who
from accord.web.pages import texts
from accord.web.pages.answers import answer_line
from accord.web.work.drafts import written

__all__ = ["HERE", "letter", "page"]

HERE = Path(__file__).parents[1]


def moment(seconds: float | None) -> str:
    """A time as people read it, UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M") if seconds else ""


def figure(metric: Metric) -> str:
    """A value with its interval, or why there is none."""
    if metric.value is None:
        return f"– ({metric.note or 'no data'})"
    interval = (
        ""
        if metric.low is None or metric.high is None
        else f" [{metric.low:.2f}, {metric.high:.2f}]"
    )
    return f"{metric.value:.2f}{interval}"


def letter(k: int) -> str:
    """A for the response shown first; after Z, numbers: 27."""
    return chr(ord("A") + k) if k < 26 else str(k + 1)


def why(draft: str) -> str:
    """The reason in a draft."""
    return str(json.loads(draft).get("rationale", ""))


@functools.cache
def environment() -> Environment:
    env = Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    env.filters |= {
        "figure": figure, "letter": letter, "markdown": texts.markdown,
        "moment": moment, "plain": texts.plain, "raw": texts.raw, "answer_line": answer_line, "why": why,
        "written": written,
    }  # fmt: skip
    return env


def page(
    request: Request, template: str, who: Who | None = None, *, status: int = 200, **values: Any
) -> HTMLResponse:
    """A page; `who` is None before sign-in."""
    theme = request.cookies.get("theme", "")
    values = {"notice": "", "here": None, **values}
    text = environment().get_template(template).render(
        who=who, csrf=who.csrf if who else "", path=request.url.path,
        theme=theme if theme in ("light", "dark") else "", **values,
    )  # fmt: skip
    return HTMLResponse(text, status_code=status)
