"""What Inspect AI finds of accord."""

from __future__ import annotations

from typing import Any

from inspect_ai.model import modelapi

from accord.inspect.tasks import evaluation, measured_by_accord

__all__ = ["accord", "evaluation", "measured_by_accord"]


@modelapi(name="accord")
def accord() -> type[Any]:
    """The provider, imported when a model of it is asked for."""
    from accord.inspect.provider import AccordAPI

    return AccordAPI
