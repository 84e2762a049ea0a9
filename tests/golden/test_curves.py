"""Every training goes the way it went when its curve was written down."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.curves import FILE, STEPS, TRAININGS, curve


@pytest.mark.parametrize("name", sorted(TRAININGS))
def test_a_training_goes_as_it_went(name: str, tmp_path: Path) -> None:
    kept = json.loads(FILE.read_text())[name]
    found = curve(name, tmp_path)
    assert found.keys() == kept.keys()
    for key in kept:
        assert len(found[key]) == STEPS
        assert found[key] == pytest.approx(kept[key], rel=1e-5, abs=1e-5)
