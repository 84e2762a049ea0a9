"""What a judge must reach before it may label."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from accord.core.config import Strict

__all__ = ["Thresholds"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class Thresholds(Strict):
    """What a judge must reach in a part before it may label there."""

    accuracy: Share = 0.6
    """The lower end of its accuracy's interval."""
    kappa: Annotated[float, Field(ge=-1.0, le=1.0)] = 0.2
    """The lower end of κ's."""
    pairs: Annotated[int, Field(ge=1)] = 30
    """Judged by both."""
    risk: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """The error rate that it may have where it decides alone."""
