"""Stores for the tests of trust."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from accord.store import Snapshot, Store
from tests.feedback.study import simulate


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store(tmp_path / "study.db") as store:
        yield store


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Snapshot, dict[str, float]]]:
    """A frozen simulated study, and the true quality of its responses. Not to be added to."""
    with Store(tmp_path_factory.mktemp("study") / "study.db") as store:
        truth = simulate(store, prompts=300)
        yield store.freeze("v1"), truth
