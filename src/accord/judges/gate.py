"""The gate: what a judge's report allows it to label."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from accord.core.errors import ConfigError
from accord.judges.check import CheckReport, parts_of
from accord.judges.run import Allowed
from accord.judges.templates import JudgedItem
from accord.judges.verdict import JudgeVerdict

__all__ = ["allowed_by", "gate_of"]


def gate_of(path: Path, judge: str, axes: Sequence[str] = (), *, alone: bool = True) -> Allowed:
    """Whether a verdict may become a label, by what `judge check` wrote of this very judge on these axes:
    every part of its question passes, and (`alone`) the judge is sure enough to decide alone. How hard a new
    pair is for people is not known, so it is not asked."""
    try:
        report = CheckReport.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(
            "is no report of judge check", where=str(path), mend="write one: --out"
        ) from None
    if report.judge != judge:
        raise ConfigError(
            f"is of another judge, {report.judge}", where=str(path), mend=f"check {judge} first"
        )
    if set(report.axes) != set(axes):
        raise ConfigError(
            f"is of other axes ({', '.join(report.axes) or 'none'})", where=str(path),
            allowed=", ".join(axes) or "none", mend="check the judge on those that it labels",
        )  # fmt: skip
    return allowed_by(report, alone=alone)


def allowed_by(
    report: CheckReport, *, alone: bool = True, by: Collection[str] | None = None
) -> Allowed:
    """What a report allows. Without `alone` it need not be sure enough to decide alone; with `by` the values
    of these tags (and "principle") alone are categories."""

    def allowed(item: JudgedItem, verdict: JudgeVerdict) -> bool:
        least = (report.confidence or 2) if alone else 0
        sure = verdict.probs is not None and max(verdict.probs) >= least
        return sure and report.may_label(parts_of(item), by)

    return allowed
