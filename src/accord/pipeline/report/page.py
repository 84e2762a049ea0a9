"""The page's templates."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

__all__ = ["render", "style"]


def render(template: str, **view: Any) -> Markup:
    """A template of this folder, all text escaped."""
    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return Markup(page.from_string(_source(template)).render(view))


def style() -> Markup:
    """How the report looks, for pages of their own."""
    return Markup(_source("page.html.j2").partition("<style>")[2].partition("</style>")[0])


def _source(template: str) -> str:
    return files("accord.pipeline.report").joinpath(template).read_text(encoding="utf-8")
