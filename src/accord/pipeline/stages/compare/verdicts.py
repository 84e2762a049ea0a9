"""What detectors say of every policy of a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.errors import DataError
from accord.core.measure import Measure
from accord.core.rundir import read_json
from accord.detect import base as detect
from accord.detect.panel import looked
from accord.pipeline.auditing import context_of, replies_of
from accord.pipeline.context import StageContext
from accord.pipeline.probing import Probed
from accord.pipeline.reading import read_by
from accord.pipeline.stages.compare import CompareStage

__all__ = ["verdicts"]

Row = dict[str, Any]


def verdicts(
    ctx: StageContext[CompareStage],
    answers: Mapping[str, Sequence[Row]],
    known: Mapping[str, Measure],
    before: Mapping[str, str],
) -> list[Row]:
    """What each detector says of each policy beside the one it is held against. Those that need the reward
    model to read the answers are asked where one is named: "all" are those that need no more than answers."""
    config = ctx.config
    chosen = [(name, make) for name, _, make in detect.configured(config.detectors or ())]
    seen = {policy: replies_of(rows) for policy, rows in answers.items()}
    context = context_of(known)
    if config.detectors == "all":
        chosen = [(name, make) for name, make in chosen if detect.needs(name) != detect.READING]
    elif config.reward and any(detect.needs(name) == detect.READING for name, _ in chosen):
        model = ctx.stages[config.reward]
        at = Probed(model / "model", ctx.stages[read_json(model / "config.json")["data"]])
        try:
            seen, context = read_by(seen, context, [at], ctx.reporter.progress)
        except DataError as few:  # after all trainings: the other detectors look
            ctx.reporter.note(str(few))
    return looked([make for _, make in chosen], context, seen, list(before.items()))
