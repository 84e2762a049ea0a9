"""What the report says of a training on own answers."""

from __future__ import annotations

from typing import Any

from accord.pipeline.report import rlhf
from accord.pipeline.section import Section
from accord.pipeline.stages.on_policy import watching

__all__ = ["section"]


def section(named: str, done: Any) -> Section:
    """In one sentence what it did, its curves, and what its guard saw."""
    asked = rlhf.rlhf_sentences(done.name, done.config, done.result.facts, named)
    page = Section(asked=asked, curves=rlhf.curves(k for row in done.metrics_rows for k in row))
    if done.config.get("guard"):
        watching.tell(page, done)
    return page
