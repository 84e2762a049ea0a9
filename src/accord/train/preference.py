"""Preference optimisation without RL: any registered loss over pairs, single answers or rankings.

All comparisons of a prompt share one token tree (`share: prompt`): a response that stands in several
pairs is computed once. The loss and its gradient are those of the separate pairs.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from accord.core.day import in_its_day
from accord.core.errors import ConfigError, DataError
from accord.core.types import Group, LabelledResponse, Metric, Pair
from accord.lm.model.load import LanguageModel
from accord.lm.trees.score import token_logps
from accord.lm.trees.tree import Tree
from accord.losses import ChosenLoss, choose_loss
from accord.train.data import Limits, Trees, check_room, group_by_prompt, group_trees
from accord.train.edges import Average, edge_weights
from accord.train.optimise import Objective, Optimise, Progress, optimise, told
from accord.train.pairs import measure_pairs, preference_objective
from accord.train.rankings import only_ranked, ranking_objective
from accord.train.reference import reference_logps
from accord.train.trainee import Trained, Trainee, Tune, fingerprint, prepare
from accord.train.unpaired import (
    labelled_trees,
    measure_unpaired,
    one_by_one,
    unpaired_objective,
)

__all__ = ["Judged", "Material", "train_on", "train_preference"]

Judged = Pair | Group | LabelledResponse
REFERENCE_TOKENS = (
    2048  # at a time, whatever a training's own budget: points of a sweep share the cache
)
Share = Literal["prompt", "pair"]
References = Callable[[Sequence[Tree]], list[Tensor]]


def _one_pair_each(groups: Sequence[Group], average: Average) -> list[Group]:
    """Each comparison as a group of its own, weighing what it weighs in the average."""
    return [
        group_by_prompt([pair.model_copy(update={"weight": weight})])[0]
        for group in groups
        for pair, weight in zip(group.pairs(), edge_weights(group, average), strict=True)
    ]


@dataclass
class Material:
    """What was judged, rendered to token trees once for each family of losses: a sweep renders once."""

    lm: LanguageModel
    items: Sequence[Judged]
    held: Sequence[Judged] = ()
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    average: Average = "pair"
    share: Share = "prompt"
    assorted: bool = False  # a loss of comparisons leaves single answers to those that read them
    reported: Sequence[Judged] = ()  # measured once, at the end: what nothing was chosen by
    _made: dict[str, tuple[Trees, Trees]] = field(default_factory=dict)

    def trees(self, loss: ChosenLoss) -> tuple[Trees, Trees]:
        """Training and held-out trees in the form that the loss reads."""
        if loss.family not in self._made:
            data = self._render(self.items, loss, self.share).for_training()
            held = self._render(self.held, loss, "prompt")
            check_room(self.lm, data, held)
            self._made[loss.family] = data, held
        return self._made[loss.family]

    def ready(self, loss: Mapping[str, Any], batch_size: int) -> tuple[ChosenLoss, Trees, Trees]:
        """The loss, and what it trains and is measured on; DataError or ConfigError where they don't fit."""
        chosen = choose_loss(loss)
        data, held = self.trees(chosen)
        if chosen.family == "unpaired":
            data = _batches_of_two(data, batch_size)
        return chosen, data, held

    def _render(self, items: Sequence[Judged], loss: ChosenLoss, share: Share) -> Trees:
        if loss.family == "unpaired":
            return labelled_trees(self.lm.tokenizer, one_by_one(items), self.limits)
        pairs = [x for x in items if not isinstance(x, LabelledResponse)]
        single = len(items) - len(pairs)
        if single and not (self.assorted and pairs):
            raise DataError(
                f"{loss.name} learns from comparisons, and {single} items are single labelled responses",
                where="loss.name",
                mend="use kto or bco",
            )
        groups = group_by_prompt(pairs)
        if share == "pair" and loss.family == "pairs":
            groups = _one_pair_each(groups, self.average)
        trees = group_trees(self.lm.tokenizer, groups, self.limits)
        trees.left_out += Counter({"single labelled response": single} if single else {})
        return only_ranked(trees) if loss.family == "rankings" else trees

    def last_word(self, loss: ChosenLoss) -> Trees:
        """The trees of what is `reported`."""
        trees = self._render(self.reported, loss, "prompt") if self.reported else Trees()
        check_room(self.lm, trees)
        return trees

    def weighing(self, loss: ChosenLoss) -> Average:
        """How the trees' comparisons are averaged: with one pair a tree, their weights say it all."""
        return "pair" if self.share == "pair" and loss.family == "pairs" else self.average


def _batches_of_two(data: Trees, size: int) -> Trees:
    """The data without an item that would be alone in the last batch; ConfigError for batches of 1."""
    if size == 1:
        raise ConfigError(
            "must be at least 2: the loss compares with the mean of its batch", where="batch_size"
        )
    if len(data.items) % size != 1:
        return data
    left_out = data.left_out + Counter({"alone in the last batch": 1})
    fewer = Trees(data.trees[:-1], data.items[:-1], left_out, data.truncated)
    return fewer.for_training()


@dataclass(frozen=True)
class _Run:
    """What the three families share while training."""

    trainee: Trainee
    loss: ChosenLoss
    references: References
    average: Average
    tokens: int

    def objective(self, data: Trees) -> Objective:
        engine, function = self.trainee.engine, self.loss.function
        if self.loss.family == "unpaired":
            return unpaired_objective(
                engine,
                data,
                self.references,
                function,
                reads=self.loss.facts["reads"],
                tokens=self.tokens,
            )
        reference = self.references(data.trees) if self.loss.facts["needs_reference"] else None
        if self.loss.family == "rankings":
            return ranking_objective(engine, data, reference, function, self.average)
        return preference_objective(
            engine, data, reference, function, self.average, self.loss.facts
        )

    def before(self, held: Trees) -> Sequence[Tensor]:
        """Held-out token log-probs at the start: what later ones are measured from. A loss without a
        reference gets them from the policy before its first step, and nothing is kept."""
        if not held.trees:
            return ()
        if self.loss.facts["needs_reference"]:
            return self.references(held.trees)
        return token_logps(self.trainee.engine, held.trees, self.tokens)

    def measure(self, held: Trees, before: Sequence[Tensor]) -> dict[str, Metric]:
        engine = self.trainee.engine
        if self.loss.family == "unpaired":
            return measure_unpaired(engine, held, before, self.tokens)
        return measure_pairs(engine, held, before, self.tokens, self.loss.facts)


@in_its_day
def train_preference(
    lm: LanguageModel,
    items: Sequence[Judged],
    *,
    run_dir: str | Path,
    tune: Tune,
    optimise_with: Optimise,
    loss: dict[str, Any] | None = None,
    average: Average = "pair",
    share: Share = "prompt",
    limits: Limits = Limits(),
    eval_on: Sequence[Judged] = (),
    seed: int = 17,
    cache: Path | None = None,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    on_reference: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Trained:
    """Train `lm` on what was judged; its own weights at the start are the reference. The model is saved
    in run_dir/model. Losses without a reference compute none."""
    return train_on(
        Material(lm, items, eval_on, limits, average, share),
        run_dir=run_dir,
        tune=tune,
        optimise_with=optimise_with,
        loss=loss,
        seed=seed,
        cache=cache,
        trackers=trackers,
        on_step=on_step,
        on_reference=on_reference,
        tell=tell,
    )


def train_on(
    material: Material,
    *,
    run_dir: str | Path,
    tune: Tune,
    optimise_with: Optimise,
    loss: dict[str, Any] | None = None,
    seed: int = 17,
    cache: Path | None = None,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
    on_reference: Callable[[int, int], None] | None = None,
    tell: Callable[[str], None] | None = None,
    borrow: bool = False,
) -> Trained:
    """`train_preference` on material that is rendered already. With `borrow` its language model is
    afterwards what it was before, ready for the next training."""
    folder, lm = Path(run_dir), material.lm
    settings = loss or {"name": "dpo"}
    chosen, data, held = material.ready(settings, optimise_with.batch_size)
    average = material.weighing(chosen)
    weights = None
    if borrow and tune == "full":
        weights = {name: value.clone() for name, value in lm.model.state_dict().items()}
    trainee = prepare(lm, tune, seed, optimise_with.precision)
    with contextlib.ExitStack() as afterwards:
        if borrow:
            afterwards.callback(trainee.give_back, weights)
        optimise_with, memory = trainee.sized(optimise_with, data, folder, tell)
        engine, tokens = trainee.engine, optimise_with.tokens
        assert tokens != "auto"
        kept = cache or folder / "reference"

        def references(trees: Sequence[Tree]) -> list[Tensor]:
            return reference_logps(engine, trees, lm.weights, REFERENCE_TOKENS, kept, on_reference)

        run = _Run(trainee, chosen, references, average, tokens)
        objective, before = run.objective(data), run.before(held)
        reported = material.last_word(chosen)
        before_reported = run.before(reported)
        metrics: dict[str, Metric] = {}

        def evaluate() -> dict[str, float]:
            metrics.update(run.measure(held, before))
            return told(**metrics)

        optimise(
            trainee.parameters(),
            objective,
            optimise_with,
            seed=seed,
            folder=folder,
            run=fingerprint(lm, tune, optimise_with, seed, data, [settings, average]),
            evaluate=evaluate if held.trees else None,
            trackers=trackers,
            on_step=on_step,
        )
        trainee.save(folder / "model")
        if held.trees and not metrics:  # resumed after the last step
            evaluate()
        told_last = run.measure(reported, before_reported) if reported.trees else {}
        memory.settle()
        return Trained(folder, metrics, engine.notes, data, held, reported=told_last)
