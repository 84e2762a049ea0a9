from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.small import save_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model on disk."""
    return save_tiny(tmp_path_factory.mktemp("tiny") / "base")
