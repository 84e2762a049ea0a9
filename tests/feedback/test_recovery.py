"""From simulated raters through a store to the report: what they were made with is inside the intervals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from accord.feedback.trust.quality import rater_reports
from accord.store import Snapshot, Store
from tests.feedback.study import RATERS, simulate


@pytest.mark.slow
def test_simulated_raters_are_recovered_in_90_of_100_studies(tmp_path: Path) -> None:
    inside: Counter[tuple[str, str]] = Counter()
    for seed in range(100):
        with Store(tmp_path / f"{seed}.db") as store:
            simulate(store, prompts=200, seed=seed)
            reports = {r.name: r for r in rater_reports(Snapshot.now(store))}
        for rater in RATERS:
            report = reports[rater.name]
            for what, metric, truth in (
                ("side", report.side, rater.side_bias),
                ("length", report.length, rater.length_bias),
            ):
                assert metric.low is not None
                assert metric.high is not None
                inside[rater.name, what] += metric.low <= truth <= metric.high
    assert min(inside.values()) >= 90, inside
