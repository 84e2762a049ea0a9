"""What detectors say of every policy of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.measure import Measure
from accord.detect import base as detect
from accord.detect.panel import looked
from accord.pipeline.auditing import context_of, replies_of
from accord.pipeline.stages.compare import CompareStage

__all__ = ["verdicts"]

Row = dict[str, Any]


def verdicts(
    config: CompareStage,
    answers: Mapping[str, Sequence[Row]],
    known: Mapping[str, Measure],
    before: Mapping[str, str],
) -> list[Row]:
    """What each detector says of each policy beside the one it is held against."""
    makes = [make for _, _, make in detect.configured(config.detectors or ())]
    seen = {policy: replies_of(rows) for policy, rows in answers.items()}
    return looked(makes, context_of(known), seen, list(before.items()))
