"""A real server under many raters, killed in the middle: what was acknowledged is there, once."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from benchmarks import collect
from tests.web.conftest import either

pytestmark = pytest.mark.slow


@either
def test_kill_9_loses_nothing(tmp_path: Path, where: str) -> None:
    collect.prepare(
        tmp_path, where, raters=12, questions=600, overlap=3
    )  # more than they can do before the kill
    server = collect.Server(tmp_path, where)
    server.start()
    try:
        until = time.time() + 12
        raters = [collect.Rater(f"rater{n}", server.port, 0.05, until) for n in range(12)]
        for rater in raters:
            rater.start()
        time.sleep(4)
        server.stop(signal.SIGKILL)
        server.start()
        for rater in raters:
            rater.join(120)
    finally:
        server.stop(signal.SIGTERM)
        server.log.close()
    assert [fault for rater in raters for fault in rater.faults] == []
    assert sum(rater.retries for rater in raters) > 0
    assert "none doubled" in collect.check(where, raters)
