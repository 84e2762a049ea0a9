"""What other tools measured of a policy, beside a baseline's: the alignment tax."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accord.core.errors import ConfigError
from accord.core.types import Metric
from accord.evals.outside.figures import OutsideResults, TaxReport, tax_of
from accord.evals.outside.read import read_outside

__all__ = ["Outside", "outside"]

Metrics = dict[str, dict[str, Metric]]


@dataclass(frozen=True)
class Outside:
    """Figures of results that others made, and their differences to a baseline's where there is one."""

    after: Sequence[OutsideResults]
    before: Sequence[OutsideResults] = ()
    tax: TaxReport | None = None

    @property
    def metrics(self) -> Metrics:
        """Of the policy, by "tool task" and measure."""
        return _together(self.after)

    @property
    def baseline(self) -> Metrics:
        """Of the baseline."""
        return _together(self.before)

    @property
    def differences(self) -> Metrics:
        """Policy less baseline; their mean over tasks last."""
        if self.tax is None:
            return {}
        mean = {"all": {"mean over tasks": self.tax.mean}} if self.tax.mean else {}
        return {**{k: dict(v) for k, v in self.tax.differences.items()}, **mean}

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        parts = {"metrics": self.metrics, "against": self.baseline, "differences": self.differences}
        dumped = {
            part: {k: {m: x.model_dump(mode="json") for m, x in v.items()} for k, v in own.items()}
            for part, own in parts.items()
        }
        models = {
            "models": [r.model for r in self.after],
            "baselines": [r.model for r in self.before],
        }
        return {**models, **dumped, "notes": list(self.tax.notes) if self.tax else []}


def _together(results: Sequence[OutsideResults]) -> Metrics:
    together: Metrics = {}
    for one in results:
        for task, figures in one.metrics().items():
            if task in together:
                raise ConfigError(
                    f"{task} is in two files", where="results", mend="name one file of it"
                )
            together[task] = figures
    return together


def outside(files: Sequence[Any], against: Sequence[Any] = ()) -> Outside:
    """Results of lm-evaluation-harness and Inspect AI, of a policy and its baseline; DataError for a file
    that holds none."""
    if against and not files:
        raise ConfigError(
            "results of a baseline alone", where="results", mend="name the policy's too"
        )
    after, before = ([read_outside(f) for f in some] for some in (files, against))
    both = Outside(after, before, tax_of(after, before) if before else None)
    _ = both.metrics, both.baseline  # a task twice is told now
    return both
