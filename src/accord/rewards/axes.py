"""Multi-objective rewards: one reward model with a head for each axis (helpfulness, accuracy, tone).

    - {name: axes, model: rm, weights: {helpfulness: 1.0, tone: 0.5}}                 fixed weights
    - {name: axes, model: rm, weights: {helpfulness: 1.0}, by: category,              by a prompt's tag
       where: {safety: {helpfulness: 0.3, harmlessness: 2.0}}}
    - {name: axis, model: rm, axis: tone, at_least: 0.2}                              a constraint

Legend: A axes, C continuations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError, ModelError
from accord.core.rundir import read_json, write_json
from accord.core.types import Exchange, Prompt
from accord.lm.model.scalar_head import ScalarHead
from accord.rewards.base import Context, Reward, reward
from accord.rewards.learned import RewardModel, Trunk, trunk

__all__ = ["AxesModel", "load_axes_model"]

FILE = "reward_axes.json"
Weights = dict[str, float]


@dataclass
class AxesModel:
    """A reward model that gives [C, A]: call it with exchanges for a score of each on every axis."""

    model: RewardModel
    axes: tuple[str, ...]

    def __call__(self, exchanges: Sequence[Exchange]) -> list[dict[str, float]]:
        rows: list[Any] = self.model(exchanges)  # a row of A scores for each
        return [dict(zip(self.axes, row, strict=True)) for row in rows]

    @property
    def max_completion(self) -> int:
        return self.model.max_completion

    def cut(self, exchanges: Sequence[Exchange]) -> list[bool]:
        """Of which answers it reads the beginning only."""
        return self.model.cut(exchanges)

    def fits(self, prompt: Prompt) -> bool:
        """Whether it has positions for a prompt and a token of an answer."""
        return self.model.fits(prompt)

    def save(self, folder: Path) -> None:
        """Write heads, axes and the limit beside the saved language model."""
        self.model.head.save(folder)
        limit = self.model.max_completion
        write_json(folder / FILE, {"axes": list(self.axes), "max_completion": limit})


def load_axes_model(
    folder: str | Path, *, device: str | None = None, on: Trunk | None = None
) -> AxesModel:
    """The model a `reward_axes` stage saved; ModelError for any other folder. `on`: as of a reward model."""
    folder = Path(folder)
    if not (folder / FILE).is_file():
        mend = "train one: kind: reward_axes"
        raise ModelError("is no reward model with axes", where=str(folder), mend=mend)
    config = read_json(folder / FILE)
    scorer = (on or trunk(folder, device)).scored_by(
        ScalarHead.load(folder), int(config["max_completion"])
    )
    return AxesModel(scorer, tuple(config["axes"]))


def _checked(weights: Mapping[str, float], axes: Sequence[str], where: str) -> Mapping[str, float]:
    if unknown := [a for a in weights if a not in axes]:
        raise ConfigError(f"no axis {unknown[0]!r}", where=where, allowed=", ".join(axes))
    return weights


@reward("axes")
def axes(
    context: Context, *, model: str, weights: Weights, by: str | None = None,
    where: dict[str, Weights] = {},  # noqa: B006
) -> Reward:  # fmt: skip
    """Weighted sum of a reward model's axes. `by` names a tag of the prompt, `where` gives the weights for
    its values; prompts with another value, or without the tag, have `weights`."""
    if where and by is None:
        raise ConfigError("needs the tag it depends on", where="rewards.by")
    axes_model = context.axes_model(model)
    for value, some in {"": weights, **where}.items():
        place = f"rewards.where.{value}" if value else "rewards.weights"
        _checked(some, axes_model.axes, place)

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        totals = []
        for exchange, scores in zip(exchanges, axes_model(exchanges), strict=True):
            chosen = where.get(exchange.prompt.tags.get(by or "", ""), weights)
            totals.append(sum(w * scores[axis] for axis, w in chosen.items()))
        return totals

    return score


@reward("axis")
def axis(context: Context, *, model: str, axis: str) -> Reward:
    """One axis alone; with `at_least` it is a constraint on the others."""
    axes_model = context.axes_model(model)
    _checked({axis: 1.0}, axes_model.axes, "rewards.axis")
    return lambda exchanges: [scores[axis] for scores in axes_model(exchanges)]
