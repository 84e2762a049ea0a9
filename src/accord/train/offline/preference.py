"""Preference optimisation without RL: any registered loss over pairs, single answers or rankings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from accord.core.day import in_its_day
from accord.core.types import Metric
from accord.lm.model.load import LanguageModel
from accord.train.loop.data import Limits
from accord.train.loop.optimise import Objective
from accord.train.offline.edges import Average
from accord.train.offline.family import PreferenceFamily
from accord.train.offline.fit import How, Task, Trained, Trainee, fit
from accord.train.offline.material import Judged, Material, Weighting
from accord.train.offline.reference import reference_logps

__all__ = ["Judged", "Material", "train_on", "train_preference"]

REFERENCE_TOKENS = (
    2048  # at a time, whatever a training's own budget: points of a sweep share the cache
)


@in_its_day
def train_preference(
    lm: LanguageModel,
    items: Sequence[Judged],
    *,
    loss: dict[str, Any] | None = None,
    average: Average = "pair",
    share: Weighting = "prompt",
    limits: Limits = Limits(),
    eval_on: Sequence[Judged] = (),
    cache: Path | None = None,
    on_reference: Callable[[int, int], None] | None = None,
    **how: Unpack[How],
) -> Trained:
    """Train `lm` on what was judged; its own weights at the start are the reference. The model is saved
    in run_dir/model. Losses without a reference compute none."""
    material = Material(lm, items, eval_on, limits, average, share)
    return train_on(material, loss=loss, cache=cache, on_reference=on_reference, **how)


def train_on(
    material: Material,
    *,
    loss: dict[str, Any] | None = None,
    cache: Path | None = None,
    on_reference: Callable[[int, int], None] | None = None,
    borrow: bool = False,
    **how: Unpack[How],
) -> Trained:
    """`train_preference` on material that is rendered already. With `borrow` its language model is
    afterwards what it was before, ready for the next training."""
    lm, settings = material.lm, loss or {"name": "dpo"}
    chosen, data, held = material.ready(settings, how["optimise_with"].batch_size)
    average, kept = material.weighing(chosen), cache or Path(how["run_dir"]) / "reference"
    at_the_end: dict[str, Metric] = {}

    def task(trainee: Trainee) -> Task:
        references = partial(
            reference_logps, trainee.engine, weights=lm.weights, tokens=REFERENCE_TOKENS, cache=kept,
            on_progress=on_reference,
        )  # fmt: skip
        run = PreferenceFamily(trainee.engine, chosen, references, average)
        reported = material.last_word(chosen)
        before: dict[str, Sequence[Tensor]] = {}

        def objective(tokens: int) -> Objective:
            """Log-probs of the start are computed here, before the first step."""
            goal = run.objective(data, tokens)
            before["held"], before["reported"] = (run.before(x, tokens) for x in (held, reported))
            return goal

        def finish(tokens: int) -> None:
            if reported.trees:
                at_the_end.update(run.measure(reported, before["reported"], tokens))

        return Task(
            objective,
            lambda tokens: run.measure(held, before["held"], tokens),
            more=[settings, average],
            finish=finish,
        )

    return replace(fit(lm, data, held, task, borrow=borrow, **how), reported=at_the_end)
