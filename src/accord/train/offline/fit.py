"""One training on data, from a model to what is saved: set-up, memory plan, loop, model, measurement.

SFT, reward models (of answers, axes, steps) and preferences differ in what they read and what they optimise:
that is a `Task`, made once the model is ready.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

from torch import Tensor, nn

from accord.core.hashing import content_hash
from accord.core.types import Group, LabelledResponse, LabelledSteps, Metric
from accord.lm.model.load import LanguageModel
from accord.lm.trees.tree import Tree, hash_trees
from accord.train.loop.data import Trees, check_room
from accord.train.loop.loop import Progress
from accord.train.loop.optimise import Objective, Optimise, optimise
from accord.train.loop.saved import Trained
from accord.train.loop.trainee import Trainee, Tune, ready

__all__ = ["How", "Task", "Trained", "Trainee", "fit"]


class How(TypedDict, total=False):
    """What every training on data is told beside its data. `tell` hears, before the first step, what it will
    take."""

    run_dir: Required[str | Path]
    tune: Required[Tune]
    optimise_with: Required[Optimise]
    seed: int
    trackers: Sequence[str]
    on_step: Progress | None
    tell: Callable[[str], None] | None


@dataclass(frozen=True)
class Task:
    """objective: of a micro-batch's tokens, what is optimised; called once, before the first step.
    measure: likewise, what held-out data says; `logged` names those metrics that go to the log (all).
    more: what decides the weights beside model, data and settings.
    head: what trains on top of the model; values: what a micro-batch then computes, instead of log-probs;
    write: leaves the head beside the saved model.
    finish: what is done at the end; the model is saved before, and with a head once more after.
    """

    objective: Callable[[int], Objective]
    measure: Callable[[int], dict[str, Metric]]
    more: Any = None
    logged: Sequence[str] = ()
    head: nn.Module | None = None
    values: Callable[[Sequence[Tree]], Tensor] | None = None
    write: Callable[[Path], None] | None = None
    finish: Callable[[int], None] | None = None


def fit(
    lm: LanguageModel,
    data: Trees,
    held: Trees,
    task: Callable[[Trainee], Task],
    *,
    run_dir: str | Path,
    tune: Tune,
    optimise_with: Optimise,
    seed: int = 17,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    tell: Callable[[str], None] | None = None,
    borrow: bool = False,
) -> Trained:
    """Train `lm` on `data`, measure on `held`; the model is saved in run_dir/model."""
    folder = Path(run_dir)
    check_room(lm, data, held)
    with ready(lm, tune, seed, optimise_with.precision, borrow=borrow) as trainee:
        training = task(trainee)
        cfg, memory = trainee.sized(optimise_with, data, folder, tell, training.values)
        tokens, metrics = int(cfg.tokens), dict[str, Metric]()

        def evaluate() -> dict[str, float]:
            metrics.update(training.measure(tokens))
            shown = {name: metrics[name].value for name in training.logged or metrics}
            return {name: value for name, value in shown.items() if value is not None}

        def save() -> None:
            trainee.save(folder / "model", *([training.write] if training.write else []))

        optimise(
            trainee.parameters(*([training.head] if training.head else [])),
            training.objective(tokens),
            cfg,
            seed=seed,
            folder=folder,
            run=fingerprint(lm, tune, cfg, seed, data, training.more),
            evaluate=evaluate if held.trees else None,
            trackers=trackers,
            on_step=on_step,
        )
        save()  # before anything else can fail
        if held.trees and not metrics:  # resumed after the last step
            evaluate()
        if training.finish:
            training.finish(tokens)
        if training.finish and training.head:
            save()
        memory.settle()
        return Trained(folder, metrics, trainee.engine.notes, data, held)


def fingerprint(
    lm: LanguageModel, tune: Tune, cfg: Optimise, seed: int, data: Trees, more: Any = None
) -> str:
    """What decides a run's weights: model, data and settings. A checkpoint of another is refused."""
    settings = cfg.model_dump(exclude={"tokens", "save_every", "eval_every"})
    items = [_label(x) for x in data.items]
    return content_hash([lm.weights, tune, settings, seed, hash_trees(data.trees), items, more])


def _label(item: Any) -> Any:
    """What was said of an item, apart from its tokens."""
    if isinstance(item, Group):
        return item.edges
    if isinstance(item, LabelledSteps):
        return [item.labels, item.weight]
    return [item.desirable, item.weight] if isinstance(item, LabelledResponse) else item.weight
