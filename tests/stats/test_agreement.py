"""Agreement: values by hand, and Krippendorff's α as the `krippendorff` package has it."""

from __future__ import annotations

from collections.abc import Sequence

import krippendorff
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accord.stats import agreement
from accord.stats.agreement import krippendorff_alpha, percent_agreement

ANSWERS = st.lists(
    st.lists(st.none() | st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=12
)


@given(ANSWERS)
@settings(deadline=None, max_examples=60)
def test_alpha_is_that_of_the_package(table: Sequence[Sequence[int | None]]) -> None:
    units = [[x for x in row if x is not None] for row in table]
    kept = {x for unit in units if len(unit) > 1 for x in unit}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "RESAMPLES", 20)
        ours = krippendorff_alpha(units).value
    if len(kept) < 2:
        assert ours is None
        return
    data = np.array([[np.nan if x is None else float(x) for x in row] for row in table]).T
    theirs = krippendorff.alpha(reliability_data=data, level_of_measurement="nominal")
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_percent_agreement_by_hand() -> None:
    got = percent_agreement([["a", "a", "b"], ["a", "a"], ["b"], []])  # 1/3 and 1
    assert (got.value, got.n) == (pytest.approx(2 / 3), 2)
    assert got.low is not None
    assert got.high is not None
    assert 1 / 3 <= got.low <= got.high <= 1


def test_alpha_by_hand() -> None:
    # two units, [a a] and [a b]: observed 2 of 4, expected (16 - 9 - 1) / 3 = 2: alpha = 0
    assert krippendorff_alpha([["a", "a"], ["a", "b"]]).value == pytest.approx(0.0)
    assert krippendorff_alpha([["a", "a"], ["b", "b"]] * 20).value == 1.0


@pytest.mark.parametrize("of", [percent_agreement, krippendorff_alpha])
def test_what_is_undefined_says_why(of: object) -> None:
    assert callable(of)
    for units in ([], [["a"]], [["a"], ["b"]]):
        got = of(units)
        assert (got.value, got.n, got.note) == (None, 0, "nothing was judged twice")
    same = krippendorff_alpha([["a", "a"]] * 3)
    assert (same.value, same.note) == (None, "all answers are the same")


def test_the_interval_is_the_same_every_time_and_narrows() -> None:
    units = [["a", "a"], ["a", "b"], ["b", "b"], ["b", "a"], ["a", "a"]]
    small, again, large = (krippendorff_alpha(u) for u in (units, units, units * 30))
    assert small == again
    assert None not in (small.low, small.high, large.low, large.high)
    assert large.high - large.low < small.high - small.low  # type: ignore[operator]
    assert large.low <= large.value <= large.high  # type: ignore[operator]
