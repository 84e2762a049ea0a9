"""The steps of a worked answer: its lines that are not empty. What raters label and process models score."""

from __future__ import annotations

__all__ = ["split_steps"]


def split_steps(text: str) -> list[str]:
    """The steps in order, white space around them stripped."""
    return [line.strip() for line in text.split("\n") if line.strip()]
