"""What the three families of preference losses optimise and measure: pairs, single answers, rankings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from accord.core.types import Metric
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_logps
from accord.lm.trees.tree import Tree
from accord.losses import ChosenLoss
from accord.train.loop.data import Trees
from accord.train.loop.optimise import Objective
from accord.train.offline.edges import Average
from accord.train.offline.pairs import measure_pairs, preference_objective
from accord.train.offline.rankings import ranking_objective
from accord.train.offline.unpaired import measure_unpaired, unpaired_objective

__all__ = ["PreferenceFamily"]

References = Callable[[Sequence[Tree]], list[Tensor]]


@dataclass(frozen=True)
class PreferenceFamily:
    """A loss over pairs, single answers or rankings, with what it is to be measured by."""

    engine: Engine
    loss: ChosenLoss
    references: References
    average: Average

    def objective(self, data: Trees, tokens: int) -> Objective:
        engine, function = self.engine, self.loss.function
        if self.loss.family == "unpaired":
            return unpaired_objective(
                engine,
                data,
                self.references,
                function,
                reads=self.loss.facts["reads"],
                tokens=tokens,
            )
        reference = self.references(data.trees) if self.loss.facts["needs_reference"] else None
        if self.loss.family == "rankings":
            return ranking_objective(engine, data, reference, function, self.average)
        return preference_objective(
            engine, data, reference, function, self.average, self.loss.facts
        )

    def before(self, held: Trees, tokens: int) -> Sequence[Tensor]:
        """Held-out token log-probs at the start: what later ones are measured from. A loss without a
        reference gets them from the policy before its first step, and nothing is kept."""
        if not held.trees:
            return ()
        if self.loss.facts["needs_reference"]:
            return self.references(held.trees)
        return token_logps(self.engine, held.trees, tokens)

    def measure(self, held: Trees, before: Sequence[Tensor], tokens: int) -> dict[str, Metric]:
        engine = self.engine
        if self.loss.family == "unpaired":
            return measure_unpaired(engine, held, before, tokens)
        return measure_pairs(engine, held, before, tokens, self.loss.facts)
