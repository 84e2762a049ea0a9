"""The page's templates."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

__all__ = ["render"]


def render(template: str, **view: Any) -> Markup:
    """A template of this folder, all text escaped."""
    page = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files("accord.pipeline.report").joinpath(template).read_text(encoding="utf-8")
    return Markup(page.from_string(source).render(view))
