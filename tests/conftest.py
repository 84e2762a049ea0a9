"""What is not run is skipped with its reason, and counted loudly at the end."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

SHARED_DATA = Path(
    os.environ.get("ACCORD_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")
)

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # commands that tests start: a thread a worker, as in tests/lm/tiny.py
    os.environ.setdefault("OMP_NUM_THREADS", "1")

BEFORE = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the slow tests too (real model)")


def _has_gpu() -> bool:
    if importlib.util.find_spec("torch") is None or not Path("/dev/nvidiactl").exists():
        return False
    import torch

    return torch.cuda.is_available()


def _has_chromium() -> bool:
    return any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))


NEEDS = {  # marker: (there?, what is missing)
    "gpu": (_has_gpu, "gpu: no CUDA device"),
    "shared_data": (SHARED_DATA.is_dir, f"shared_data: no {SHARED_DATA}; set ACCORD_SHARED_DATA"),
    "browser": (_has_chromium, "browser: no chromium; apt-get install chromium"),
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    needs = {**NEEDS, "slow": (lambda: config.getoption("--slow"), "slow: make test-all runs it")}
    for marker, (there, missing) in needs.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and not there():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason=missing))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Two full collections a training run went through all modules and thousands of tests, 0.8 s each."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What a module's tests imported and left is not gone through in every collection of later ones."""
    if nextitem is None or nextitem.path != item.path:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _tables_made_once() -> Iterator[None]:
    """Migrations of an empty store run once a database; later stores are made by the same statements."""
    from alembic import command

    migrate, said = command.upgrade, dict[str, list[tuple[str, Any]]]()

    def upgrade(config: Any, revision: str) -> None:
        connection = config.attributes["connection"]
        empty, name = not sa.inspect(connection).get_table_names(), connection.dialect.name
        if empty and name in said:
            for statement, values in said[name]:
                connection.exec_driver_sql(statement, values)
            return
        heard: list[tuple[str, Any]] = []

        def hear(_c: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
            if not statement.lstrip().upper().startswith(("SELECT", "PRAGMA", "SHOW")):
                heard.append((statement, values))

        sa.event.listen(connection, "before_cursor_execute", hear)
        migrate(config, revision)
        sa.event.remove(connection, "before_cursor_execute", hear)
        if empty:
            said[name] = heard

    command.upgrade = upgrade
    yield
    command.upgrade = migrate


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reasons[text.removeprefix("Skipped: ")] += 1
    for reason, n in reasons.items():
        terminalreporter.write_line(f"NOT RUN: {n} tests, {reason}", yellow=True, bold=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[BEFORE] = set(os.listdir())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """What a test writes where the run was started would be committed by accident: it fails the run."""
    new = set(os.listdir()) - session.config.stash[BEFORE] - {"build", "dist"}
    left = sorted(name for name in new if not name.startswith((".", "__pycache__")))
    if left and not hasattr(session.config, "workerinput"):
        print(f"\nLEFT BEHIND in {Path.cwd()}: {', '.join(left)}")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def shared_data() -> Path:
    """The folder of real data beside the repository."""
    return SHARED_DATA
