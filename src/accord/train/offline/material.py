"""What was judged, as token trees in the form that a family of losses reads.

All comparisons of a prompt share one token tree (`share: prompt`): a response that stands in several
pairs is computed once. The loss and its gradient are those of the separate pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from accord.core.errors import ConfigError, DataError
from accord.core.types import Group, LabelledResponse, Pair
from accord.lm.model.load import LanguageModel
from accord.losses import ChosenLoss, choose_loss
from accord.train.loop.data import (
    Limits,
    Trees,
    check_room,
    comparisons,
    group_by_prompt,
    group_of,
    group_trees,
)
from accord.train.offline.edges import Average, edge_weights
from accord.train.offline.rankings import only_ranked
from accord.train.offline.unpaired import labelled_trees, one_by_one

__all__ = ["Judged", "Material", "Weighting"]

Judged = Pair | Group | LabelledResponse
Weighting = Literal["prompt", "pair"]


def _one_pair_each(groups: Sequence[Group], average: Average) -> list[Group]:
    """Each comparison as a group of its own, weighing what it weighs in the average."""
    return [
        group_of(group.prompt, [(better, worse, edge.model_copy(update={"weight": weight}))])
        for group in groups
        for (better, worse, edge), weight in zip(
            comparisons(group), edge_weights(group, average), strict=True
        )
    ]


@dataclass
class Material:
    """What was judged, rendered to token trees once for each family of losses: a sweep renders once."""

    lm: LanguageModel
    items: Sequence[Judged]
    held: Sequence[Judged] = ()
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    average: Average = "pair"
    share: Weighting = "prompt"
    assorted: bool = False  # a loss of comparisons leaves single answers to those that read them
    reported: Sequence[Judged] = ()  # measured once, at the end: what nothing was chosen by
    _by_family: dict[str, tuple[Trees, Trees]] = field(default_factory=dict)

    def trees(self, loss: ChosenLoss) -> tuple[Trees, Trees]:
        """Training and held-out trees in the form that the loss reads."""
        if loss.family not in self._by_family:
            data = self._render(self.items, loss, self.share).for_training()
            held = self._render(self.held, loss, "prompt")
            check_room(self.lm, data, held)
            self._by_family[loss.family] = data, held
        return self._by_family[loss.family]

    def ready(self, loss: Mapping[str, Any], batch_size: int) -> tuple[ChosenLoss, Trees, Trees]:
        """The loss, and what it trains and is measured on; DataError or ConfigError where they don't fit."""
        chosen = choose_loss(loss)
        data, held = self.trees(chosen)
        if chosen.family == "unpaired":
            data = _batches_of_two(data, batch_size)
        return chosen, data, held

    def _render(self, items: Sequence[Judged], loss: ChosenLoss, share: Weighting) -> Trees:
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
