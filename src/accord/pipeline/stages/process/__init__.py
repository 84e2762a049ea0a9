"""A process reward model: a score for every step of an answer."""

from __future__ import annotations

from typing import Any

from accord.core.artifact import Scorer
from accord.pipeline.section import Section
from accord.pipeline.stage import stage
from accord.pipeline.stages.training import READS, Member


def report(done: Any) -> Section:
    from accord.pipeline.report.training import trained

    return trained(done, "process reward model", "answers with labelled steps")


@stage(
    "process", version=2, reads=READS, gives=Scorer, run=f"{__name__}.run:run",
    work=f"{__name__}.run:work", report=report,
)  # fmt: skip
class Process(Member):
    """A process reward model fitted to the snapshot's labelled steps."""
