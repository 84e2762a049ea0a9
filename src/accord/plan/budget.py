"""Where annotations should go: over categories, over overlap against breadth, over people and judges.

What is assumed, so that it can be argued with:

- m raters, each right with probability q, decide by majority, ties by a coin (Sheng et al. 2008, eq. 1):
  p(m) = sum over k > m/2 of C(m,k) q^k (1-q)^(m-k), plus half of the tie.
- A label that is right with probability p is worth (2p-1)² of a right one: the information that a flipped
  coin leaves of it (to first order; Natarajan et al. 2013 have the same factor in their bounds), and nothing
  below one half.
- A category's accuracy after the worth of N right labels is c - a·N^-b, the curve `accord plan data` fits.
- A judge may stand in for people where the lower end of its measured agreement with people is at least
  people's with each other, never in a category that is `human_only`; a share of what it labels goes to people
  too, so that its agreement stays measured. Its labels count as right as often as it agrees with people,
  whose own errors make that an underestimate, if anything.

The split is exact on a grid of a thousandth of the budget: the best use of each amount in each category,
then all categories together by dynamic programming.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from accord.core.config import Strict, read_yaml, validate
from accord.core.errors import ConfigError
from accord.core.types import Metric
from accord.stats.intervals import proportion

__all__ = ["Budget", "Came", "Category", "Purchase", "allocate", "majority", "read_budget", "worth"]

STEPS = 1000
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Agreed(Strict):
    """A measured agreement: `right` of `of` questions."""

    right: Annotated[int, Field(ge=0)]
    of: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _not_more(self) -> Self:
        if self.right > self.of:
            raise ValueError(f"right is more than of ({self.of})")
        return self

    def metric(self) -> Metric:
        return proportion(self.right, self.of)


class AccuracyCurve(Strict):
    """accuracy = c - a·N^-b."""

    c: Share = 0.9
    a: Positive = 0.6
    b: Positive = 0.3


class Category(Strict):
    """One kind of prompt. `rater` is how often a person is right there, `judge` how often the judge says
    what people said. `weight` is what its accuracy counts."""

    prompts: Annotated[int, Field(ge=1)]
    weight: Positive = 1.0
    rater: Agreed = Agreed(right=80, of=100)
    judge: Agreed | None = None
    human_only: bool = False
    at_least: Share = 0.0
    curve: AccuracyCurve = AccuracyCurve()


class Price(Strict):
    """Of one judgment."""

    human: Positive
    ai: Positive | None = None


class Budget(Strict):
    """What can be spent, and on what."""

    budget: Positive
    price: Price
    most_overlap: Annotated[int, Field(ge=1, le=9)] = 5
    check: Share = 0.05
    """Of what a judge labels, the share that people label too."""
    categories: dict[str, Category] = Field(min_length=1)


@dataclass(frozen=True)
class Came:
    """What is there already: prompts that people labelled, people a prompt, and prompts that only a judge did
    (they count where a judge may stand in)."""

    prompts: int = 0
    overlap: float = 1.0
    judged: int = 0


@dataclass(frozen=True)
class Purchase:
    """What a category gets: `prompts` new ones, each by `overlap` people or by the judge."""

    category: str
    by: str
    prompts: int
    overlap: int
    cost: float
    label: float
    """P(a label is right)."""
    worth: float
    """Right labels that all labels of the category, those there already too, are worth."""
    accuracy: Metric
    why: str


def majority(q: float, m: int) -> float:
    """P(a majority of m raters, each right with probability q, is right); a tie is a coin."""
    total = 0.0
    for k in range(m + 1):
        p = math.comb(m, k) * q**k * (1 - q) ** (m - k)
        total += p if 2 * k > m else 0.5 * p if 2 * k == m else 0.0
    return total


def worth(p: float) -> float:
    """Right labels that one label is worth which is right with probability p: nothing where it is wrong more
    often than right, for nobody turns it round."""
    return max(0.0, 2 * p - 1) ** 2


def read_budget(path: Path) -> Budget:
    """The budget in a YAML file; ConfigError names file, line and key."""
    data, lines = read_yaml(path)
    return validate(Budget, data, source=str(path), lines=lines)


@dataclass(frozen=True)
class _Way:
    """A way to label: who, how many, what a prompt costs, how often the label is right."""

    by: str
    overlap: int
    cost: float
    label: float
    low: float
    high: float
    why: str


def _ways(plan: Budget, category: Category) -> list[_Way]:
    """People at every overlap, and the judge where it may."""
    rates = _rates(category.rater.metric())
    ways = []
    for m in range(1, plan.most_overlap + 1):
        label, low, high = (majority(q, m) for q in rates)
        why = f"{m} × {rates[0]:.2f}"
        ways.append(_Way("people", m, m * plan.price.human, label, low, high, why))
    why = judge_refused(plan, category)
    if not why:
        assert category.judge is not None
        assert plan.price.ai is not None
        agreed = category.judge.metric()
        # the judge agrees with people, who are themselves right with probability q
        label, low, high = _rates(agreed)
        cost = plan.price.ai + plan.check * plan.price.human
        ways.append(_Way("judge", 1, cost, label, low, high, f"agreement {agreed}"))
    return ways


def judge_refused(plan: Budget, category: Category) -> str:
    """Why no judge labels a category, or ""."""
    if category.human_only:
        return "people only"
    if category.judge is None or plan.price.ai is None:
        return "no judge was measured"
    # two people who are right with probability q each agree with probability q² + (1-q)²
    rater, *_ = _rates(category.rater.metric())
    people = rater**2 + (1 - rater) ** 2
    _, low, _ = _rates(category.judge.metric())
    if low < people:
        return (
            f"the judge agrees with people at least {low:.2f}, people with each other {people:.2f}"
        )
    return ""


def _accuracy(curve: AccuracyCurve, right: float) -> float:
    return max(0.5, curve.c - curve.a * right**-curve.b) if right > 0 else 0.5


def _before(there: Came, q: float, judge: float) -> float:
    """Right labels that what is there is worth, people right with q, the judge as often as it agrees."""
    by_people = there.prompts * worth(majority(q, max(1, round(there.overlap))))
    return by_people + there.judged * worth(judge)


def _best(
    plan: Budget, category: Category, there: Came
) -> tuple[np.ndarray, list[tuple[_Way, int]]]:
    """Weighted accuracy for each amount 0..STEPS of the grid, and the way and prompts that reach it."""
    before = _before(there, _rates(category.rater.metric())[0], _judge(category)[0])
    left = max(0, category.prompts - there.prompts - there.judged)
    values, chosen = [], []
    ways = _ways(plan, category)
    for step in range(STEPS + 1):
        money = plan.budget * step / STEPS * (1 + 1e-12)
        options = [(way, min(left, int(money / way.cost))) for way in ways]
        reached = [
            (_accuracy(category.curve, before + n * worth(way.label)), -n * way.cost)
            for way, n in options
        ]
        at = max(range(len(options)), key=reached.__getitem__)  # of equals the cheapest
        enough = reached[at][0] >= category.at_least - 1e-12
        values.append(category.weight * reached[at][0] if enough else -math.inf)
        chosen.append(options[at])
    return np.array(values), chosen


def _judge(category: Category) -> tuple[float, float, float]:
    """How often the judge agrees with people; unmeasured it is a coin."""
    return _rates(category.judge.metric()) if category.judge else (0.5, 0.5, 0.5)


def _rates(share: Metric) -> tuple[float, float, float]:
    """A measured share and its interval."""
    assert share.value is not None
    assert share.low is not None
    assert share.high is not None
    return share.value, share.low, share.high


def _counted(plan: Budget, name: str, there: Mapping[str, Came]) -> Came:
    """What is there of a category, without the labels of a judge that may not stand in."""
    came = there.get(name, Came())
    return replace(came, judged=0) if judge_refused(plan, plan.categories[name]) else came


def allocate(plan: Budget, there: Mapping[str, Came] | None = None) -> list[Purchase]:
    """The split with the highest weighted expected accuracy; ConfigError where a category's `at_least`
    can't be had for the budget."""
    there = {name: _counted(plan, name, there or {}) for name in plan.categories}
    names = list(plan.categories)
    tables = [_best(plan, plan.categories[n], there[n]) for n in names]
    total, cuts = np.zeros(STEPS + 1), []
    for values, _ in tables:  # best value of the first categories for each amount
        split = np.empty(STEPS + 1, dtype=int)
        new = np.empty(STEPS + 1)
        for step in range(STEPS + 1):
            sums = total[: step + 1][::-1] + values[: step + 1]
            split[step] = int(np.argmax(sums))
            new[step] = sums[split[step]]
        total = new
        cuts.append(split)
    if not math.isfinite(total[STEPS]):
        raise ConfigError(_unreachable(plan, tables), where="at_least", mend="raise the budget")
    purchases, step = [], STEPS
    for name, (_, chosen), split in reversed(list(zip(names, tables, cuts, strict=True))):
        spent = int(split[step])
        way, n = chosen[spent]
        purchases.append(_purchase(plan, name, way, n, there[name]))
        step -= spent
    return purchases[::-1]


def _unreachable(plan: Budget, tables: list[tuple[np.ndarray, list[tuple[_Way, int]]]]) -> str:
    reasons = []
    for name, (values, _) in zip(plan.categories, tables, strict=True):
        reached = np.flatnonzero(np.isfinite(values))
        asked = plan.categories[name].at_least
        if not len(reached):
            reasons.append(f"{name} does not reach {asked:g} with all of the budget")
        elif reached[0]:
            reasons.append(
                f"{name} needs {plan.budget * reached[0] / STEPS:.0f} to reach {asked:g}"
            )
    return "; ".join(reasons)


def _purchase(plan: Budget, name: str, way: _Way, n: int, there: Came) -> Purchase:
    category = plan.categories[name]
    rater, judge = _rates(category.rater.metric()), _judge(category)

    def reached(label: float, q: float, agreed: float) -> float:
        before = _before(there, q, agreed)
        return _accuracy(category.curve, before + n * worth(label))

    value, low, high = map(reached, (way.label, way.low, way.high), rater, judge)
    accuracy = Metric(
        value=value, low=min(low, value), high=max(high, value), n=category.rater.of,
        method="from the interval of how often raters are right",
    )  # fmt: skip
    before = _before(there, rater[0], judge[0])
    why = way.why if way.by == "judge" else judge_refused(plan, category) or "the better buy"
    return Purchase(
        name, way.by if n else "nobody", n, way.overlap, n * way.cost, way.label,
        before + n * worth(way.label), accuracy, why,
    )  # fmt: skip
