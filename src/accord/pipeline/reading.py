"""What reward models say of kept answers beside a score: how far they are from what was learned, whether they
are paid more than that, and how much several models disagree.

Legend: M models, E answers.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from accord.core.errors import ConfigError, DataError
from accord.core.rundir import read_jsonl, user_path
from accord.core.types import Exchange
from accord.detect.base import DetectorContext, Reply
from accord.pipeline.context import data_store
from accord.pipeline.probing import Probed, of_groups, reward_at
from accord.rewards.base import named_models
from accord.rewards.learned import load_reward_model
from accord.rewards.neighbours import Neighbours

__all__ = ["named", "read_as_paid", "read_by"]

TRAINING, HELD_OUT = 500, 200  # answers at most; more change little and cost a minute
Progress = Callable[[int, int, str], None]
Answers = Mapping[str, Sequence[Reply]]


def read_by(
    answers: Answers, context: DetectorContext, models: Sequence[Probed], on_progress: Progress | None = None
) -> tuple[dict[str, list[Reply]], DetectorContext]:  # fmt: skip
    """The same answers with what the reward models say of each, the first one's score among it.

    Args:
        models: at least one, of the first the data too that it learned from; loaded one after the other.

    Raises:
        DataError: fewer than 20 answers that it learned from, or was held out on.
    """
    first, *others = models
    training, held_out = _learned(models)
    every = [r.exchange for side in answers.values() for r in side]

    def progress(what: str) -> Callable[[int, int], None] | None:
        return (lambda done, n: on_progress(done, n, what)) if on_progress else None

    known = Neighbours(
        load_reward_model(first.model), training, held_out, progress("what the reward model knows")
    )
    readings = known(every, progress("answers"))
    scores = [
        {k: float(getattr(r, k)) for k in ("reward", "distance", "above", "far", "overpaid")}
        for r in readings
    ]
    if others:
        usual_ME = [known.held_out_reward.tolist()]
        score_ME = [[r.reward for r in readings]]
        for number, other in enumerate(others, start=2):
            model = load_reward_model(other.model)
            both = model([*held_out, *every], on_progress=progress(f"reward model {number}"))
            usual_ME.append(both[: len(held_out)])
            score_ME.append(both[len(held_out) :])
        for row, apart in zip(scores, _apart(score_ME, usual_ME), strict=True):
            row["disagreement"] = apart
    each = iter(zip(scores, readings, strict=True))
    read = {
        policy: [
            dataclasses.replace(reply, scores={**reply.scores, **own}, near=reading.near)
            for reply, (own, reading) in zip(side, each, strict=False)
        ]
        for policy, side in answers.items()
    }
    return read, dataclasses.replace(context, proxy="reward")


def read_as_paid(
    answers: Answers, context: DetectorContext, rewards: Sequence[Mapping[str, Any]], run: Path
) -> tuple[dict[str, list[Reply]], DetectorContext]:
    """The same by the reward models of a run's recipe that its policies were paid by; as they are where none
    is a stage."""
    paid = [name for entry in rewards for name in named_models(entry) if "/" not in name]
    if not paid:
        return {policy: list(side) for policy, side in answers.items()}, context
    return read_by(answers, context, named(paid, run))


def named(names: Sequence[str], run: Path | None = None) -> list[Probed]:
    """Reward models by RUN:stage, or by a stage of `run`; each once. ConfigError: none is there, or one
    without the data it learned from."""
    models = {at.model.resolve(): at for at in (_at(name, run) for name in names)}
    return list(models.values())


def _at(name: str, run: Path | None) -> Probed:
    own = run is not None and ":" not in name and not user_path(name).is_dir()
    at = reward_at(f"{run}:{name}" if own else name) if name else None
    if at is None or at.data is None:
        what = "a reward model by itself does not tell what it learned from" if name else "is empty"
        allowed = "RUN:stage, or a stage of the run"
        raise ConfigError(what, where=f"--reward {name}".rstrip(), allowed=allowed)
    return at


def _taught(at: Probed) -> set[tuple[str, str]]:
    """Prompt and text of every answer that it learned from."""
    rows = read_jsonl(at.model.parent / "trained_on.jsonl")
    return {(r["prompt"], r[side]) for r in rows for side in ("better", "worse") if side in r}


def _learned(models: Sequence[Probed]) -> tuple[list[Exchange], list[Exchange]]:
    """Some of the answers that the first learned from; and of those that its data holds out some that none of
    them did."""
    first = models[0]
    opened, facts = data_store(first.data)  # type: ignore[arg-type]
    with opened as store:
        groups = store.snapshot(facts["snapshot"]).groups(even="keep")
        _, held = groups.split(test=facts["test"], seed=facts["seed"])
        every, held_out = of_groups(groups, len(groups)), of_groups(held, len(groups))
    own, others = _taught(first), set().union(*map(_taught, models))
    training = [e for e in every if (e.prompt.id, e.response.text) in own]
    fresh = [e for e in held_out if (e.prompt.id, e.response.text) not in others]
    return _some(training, TRAINING), _some(fresh, HELD_OUT)


def _some(exchanges: list[Exchange], most: int) -> list[Exchange]:
    return exchanges if len(exchanges) <= most else random.Random(0).sample(exchanges, most)


def _apart(score_ME: Sequence[Sequence[float]], usual_ME: Sequence[Sequence[float]]) -> list[float]:
    """The standard deviation over models of each answer's scores, each model's in the spread of its own on
    held-out answers, as a multiple of what it is on those."""
    usual, score = np.array(usual_ME), np.array(score_ME)
    centre, spread = usual.mean(1, keepdims=True), usual.std(1, keepdims=True)
    if not spread.all():
        raise DataError("a reward model scores all held-out answers alike")
    apart = [((x - centre) / spread).std(0, ddof=1) for x in (usual, score)]
    return [float(x) for x in apart[1] / apart[0].mean()]
