"""What the doctor names first of planted faults; the whole table is `python -m tests.faults.library`."""

from __future__ import annotations

import pytest

from accord.pipeline.doctor.base import examined
from tests.faults import trainings
from tests.faults.library import FAULTS, HEALTHY, cause_of

assert trainings.KEYS  # they register theirs

DATA = [name for name in FAULTS if name.startswith("data: ")]


@pytest.mark.parametrize("name", DATA)
def test_a_strong_fault_of_data_is_named_first(name: str) -> None:
    found = examined(FAULTS[name](2, 7)).findings
    assert found[0].check == cause_of(name)
    assert found[0].serious


def test_healthy_data_has_nothing_serious() -> None:
    for seed in range(4):
        assert not [f for f in examined(HEALTHY["data"](seed)).findings if f.serious]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "preference: learning_rate_low",
        "preference: beta_high",
        "online: penalty_outweighs",
        "reward: learning_rate_high",
    ],
)
def test_a_strong_fault_of_training_is_named_first(name: str) -> None:
    assert examined(FAULTS[name](2, 7)).findings[0].check == name.partition(": ")[2]
