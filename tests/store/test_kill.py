"""kill -9 inside a write of a store: a snapshot is there whole or not at all, half a store goes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from accord.store import Store, opened_or_new
from tests.store.words import every, fill


def killed(work: Callable[[], Any]) -> bool:
    """Whether a forked process that does the work was killed in it."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def freeze_and_die(where: Path, number: int, event: str) -> None:
    """Freeze a snapshot; this process is killed at the so manieth statement, or commit."""
    left = [number]

    def count(*_: Any) -> None:
        left[0] -= 1
        if not left[0]:
            die()

    sa.event.listen(sa.Engine, event, count)
    with Store(where, create=False) as store:
        store.freeze("v1")


def test_a_kill_within_a_freeze_leaves_all_of_the_snapshot_or_nothing(
    tmp_path: Path,
) -> None:
    with fill(Store(tmp_path / "whole.db")) as whole:
        whole.add_judgments(every())
        sha256 = whole.freeze("v1").sha256
    for event in ("after_cursor_execute", "commit"):
        for number in range(1, 60, 4):
            where = tmp_path / f"{event}{number}.db"
            with fill(Store(where)) as store:
                store.add_judgments(every())
            died = killed(lambda w=where, n=number, e=event: freeze_and_die(w, n, e))  # type: ignore[misc]
            with Store(where, create=False) as store:
                assert store.freeze("v1").sha256 == sha256
                assert store.verify() == len(every())
            if not died:
                break
        assert number < 57  # the last one was not killed


def test_half_a_store_of_a_killed_import_goes_with_the_next(tmp_path: Path) -> None:
    where = tmp_path / "study.db"

    def half() -> None:
        with opened_or_new(where) as store:
            fill(store)
            die()

    assert killed(half)
    assert any(tmp_path.iterdir())
    assert not where.exists()
    with opened_or_new(where) as store:
        fill(store)
    assert [file.name for file in tmp_path.iterdir()] == ["study.db"]
