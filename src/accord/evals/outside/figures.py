"""What another tool measured of a policy, as figures with intervals, and how it differs from a baseline's.

Differences are paired where both tell every sample's value, else of two independent figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from accord.core.errors import DataError
from accord.core.measure import Measure
from accord.core.types import Metric

__all__ = ["OutsideFigure", "OutsideResults", "TaxReport", "tax_of"]

Key = tuple[str, str]  # task, measure
CLOSE = 1e-6


@dataclass(frozen=True)
class OutsideFigure:
    """One measure of one task: its value over `n` samples, its standard error, each sample's value by id
    where they were kept; ids that begin alike up to a tab hang together. `more`: whether more is better.
    `leaf`: it is of a task, not of a group of tasks."""

    task: str
    name: str
    value: float
    n: int
    se: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    more: bool | None = True
    leaf: bool = True

    @property
    def measure(self) -> Measure:
        better = {True: "more", False: "less", None: None}[self.more]
        return Measure.model_validate(
            {"name": self.name, "title": self.name, "better": better, "bounded": self._bounded,
             "meaning": {"more": "more is better", "less": "less is better", None: ""}[better]}
        )  # fmt: skip

    @property
    def _bounded(self) -> bool:
        return all(0 <= v <= 1 for v in self.values.values()) and 0 <= self.value <= 1

    def metric(self, level: float = 0.95) -> Metric:
        """With an interval: of the samples; else a share's, where the standard error is one's; else of the
        standard error."""
        from accord.stats.intervals import cluster_mean, mean, proportion
        from accord.stats.resampling import quantile

        own = list(self.values.values())
        if own:
            clusters, yes_no = _clusters(self.values), set(own) <= {0.0, 1.0}
            apart = len(set(clusters)) == len(own)
            if yes_no and apart:
                metric = proportion(sum(own), len(own), level=level)
            elif self._bounded or not apart:
                metric = cluster_mean(own, clusters, level=level, share=self._bounded)
            else:
                metric = mean(own, level=level)
            return metric.of(self.measure)
        if self._is_share():
            return proportion(self.value * self.n, self.n, level=level).of(self.measure)
        if self.se is None or self.n < 2:
            note = "the file tells no standard error"
            return Metric(value=self.value, n=self.n, level=level, note=note, measure=self.measure)
        half = quantile(level, self.n - 1) * self.se
        return Metric(
            value=self.value, low=self.value - half, high=self.value + half, n=self.n, level=level,
            method="t", measure=self.measure,
        )  # fmt: skip

    def _is_share(self) -> bool:
        """Whether value and standard error are those of yes and no, n of them."""
        if self.n < 2 or not 0 <= self.value <= 1 or self.se is None:
            return False
        count = self.value * self.n
        plain = math.sqrt(self.value * (1 - self.value) / (self.n - 1))
        return abs(count - round(count)) < 1e-3 and abs(self.se - plain) < 1e-3 * plain + CLOSE


@dataclass(frozen=True)
class OutsideResults:
    """A policy's results by a tool. `setups`: what must be alike for a task's figures to be compared."""

    tool: str
    model: str
    figures: Mapping[Key, OutsideFigure]
    setups: Mapping[str, str] = field(default_factory=dict)

    def metrics(self) -> dict[str, dict[str, Metric]]:
        """Figures by "tool task" and measure, as `EvalReport.metrics` has them."""
        metrics: dict[str, dict[str, Metric]] = {}
        for (task, name), figure in self.figures.items():
            metrics.setdefault(f"{self.tool} {task}", {})[name] = figure.metric()
        return metrics


@dataclass(frozen=True)
class TaxReport:
    """Differences to a baseline by "tool task" and measure, their intervals holding all at once; `mean` over
    tasks, each by its first measure, where there are several; `notes`: what was not compared, and why."""

    differences: Mapping[str, Mapping[str, Metric]]
    mean: Metric | None
    notes: Sequence[str]


MEAN = Measure(
    name="mean over tasks", title="mean over tasks", kind="difference", better="more",
    meaning="of each task its first measure in [0, 1], all tasks alike",
)  # fmt: skip


def tax_of(after: Sequence[OutsideResults], before: Sequence[OutsideResults]) -> TaxReport:
    """What a policy's figures are over a baseline's: general capability lost or won (Ouyang et al. 2022,
    "alignment tax"). DataError where no task is in both."""
    notes: list[str] = []
    both: list[tuple[str, OutsideFigure, OutsideFigure]] = []
    for mine in after:
        for theirs in (t for t in before if t.tool == mine.tool):
            for key in mine.figures.keys() & theirs.figures.keys():
                task = key[0]
                if mine.setups.get(task) != theirs.setups.get(task):
                    what = f"{task}: {mine.setups.get(task)} against {theirs.setups.get(task)}"
                    notes.append(f"{what}, not compared")
                    continue
                both.append((mine.tool, mine.figures[key], theirs.figures[key]))
    if not both:
        what = "no task and measure is in both" + (f" ({notes[0]})" if notes else "")
        raise DataError(what, where="results", mend="run the same tasks on both policies")
    order = [key for mine in after for key in mine.figures]
    both.sort(key=lambda row: order.index((row[1].task, row[1].name)))
    first = {t: (a, b) for t, a, b in reversed([(a.task, a, b) for _, a, b in both]) if _counts(a)}
    family = len(both) + (len(first) > 1)
    level = 1 - 0.05 / family
    differences: dict[str, dict[str, Metric]] = {}
    for tool, a, b in both:
        own = differences.setdefault(f"{tool} {a.task}", {})
        own[a.name] = _difference(a, b, level).of(a.measure.difference())
    mean = None
    if len(first) > 1:
        from accord.stats.mover import combination

        each = [_difference(a, b, level) for a, b in first.values()]
        mean = combination(each, [1 / len(each)] * len(each)).of(MEAN)
    return TaxReport(differences, mean, sorted(set(notes)))


def _counts(figure: OutsideFigure) -> bool:
    return figure.leaf and figure.more is True and figure._bounded


def _difference(after: OutsideFigure, before: OutsideFigure, level: float) -> Metric:
    from accord.stats.intervals import paired_difference
    from accord.stats.mover import combination

    ids = [k for k in after.values if k in before.values]
    if len(ids) > 1:
        own = {k: after.values[k] for k in ids}
        return paired_difference(
            list(own.values()), [before.values[k] for k in ids], level=level,
            clusters=_clusters(own), bounded=after._bounded and before._bounded,
        )  # fmt: skip
    return combination([after.metric(level), before.metric(level)], [1.0, -1.0])


def _clusters(values: Mapping[str, float]) -> list[str]:
    return [k.partition("\t")[0] for k in values]
