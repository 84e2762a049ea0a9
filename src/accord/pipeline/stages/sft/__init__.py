"""Supervised fine-tuning."""

from __future__ import annotations

from typing import Any, Literal

from accord.core.artifact import Policy
from accord.pipeline.section import Section
from accord.pipeline.stage import stage
from accord.pipeline.stages.training import READS, Training

CODE = f"{__name__}.run"


def report(done: Any) -> Section:
    from accord.pipeline.report.training import trained

    return trained(done, "supervised fine-tuning", "demonstrations")


@stage(
    "sft", version=7, reads=READS, gives=Policy, run=f"{CODE}:run", work=f"{CODE}:work",
    writes=f"{CODE}:writes", report=report,
)  # fmt: skip
class Sft(Training):
    """Supervised fine-tuning on the snapshot's demonstrations (or its chosen responses)."""

    on: Literal["demonstrations", "chosen"] = "demonstrations"
    all_turns: bool = True
