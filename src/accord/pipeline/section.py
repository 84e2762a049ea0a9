"""What the report says of a stage: plain data that the page lays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Section"]

Plotted = tuple[tuple[str, ...], str, str]  # keys of metrics.jsonl, name, how to read it


@dataclass
class Section:
    """Every part may be left out. Sections of one title stand together, `intro` once above them."""

    first: str = ""  # what must be read before anything else of the page
    asked: str = ""  # one sentence: what the recipe wanted of it
    came_out: Sequence[dict[str, str]] = ()  # text, and its tone: better, worse, changed or unclear
    curves: Sequence[Plotted] | None = None  # of a stage that trains
    title: str = ""  # of a part of the page of its own, with all that follows
    nav: str = ""  # the same in one word
    intro: str = ""
    subtitle: str = ""  # of this stage, under the title
    text: Sequence[str] = ()  # paragraphs
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = field(default=())
    body: str = ""  # finished HTML (markupsafe.Markup), for what a table can't show
