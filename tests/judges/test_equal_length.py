"""The win rate between answers of equal length: of a judge that likes words, and of one that does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from accord.core.types import Metric
from accord.judges.winrate import equal_length


def study(rng: np.random.Generator, ability: float, length: float, prompts: int = 60) -> Metric:
    """Three pairs a prompt; one has some 12 words more; logit of its win: ability + length · tanh(d/s)."""
    apart = np.round(rng.normal(12, 20, 3 * prompts)).astype(int)
    wins = rng.random(len(apart)) < expit(ability + length * np.tanh(apart / apart.std()))
    return equal_length(wins.tolist(), apart.tolist(), [str(k // 3) for k in range(len(apart))])


@pytest.mark.parametrize(("ability", "length"), [(0.4, 2.0), (-0.3, 1.5), (0.5, 0.0)])
def test_the_rate_at_equal_length_is_in_its_interval(ability: float, length: float) -> None:
    rng = np.random.default_rng(7)
    known = [study(rng, ability, length) for _ in range(300)]
    truth = expit(ability)
    held = sum(m.low is not None and m.high is not None and m.low <= truth <= m.high for m in known)
    assert held >= 0.93 * 300
    values = [m.value for m in known if m.value is not None]
    assert np.mean(values) == pytest.approx(truth, abs=0.02)


def test_what_can_not_be_told_is_not() -> None:
    ten = [str(k) for k in range(10)]
    assert equal_length([True, False] * 5, [0] * 10, ten).value == 0.5  # all are of equal length
    assert "alike" in equal_length([True, False] * 5, [7] * 10, ten).note
    by_length = equal_length([True, False] * 20, [9, -9] * 20, [str(k) for k in range(40)])
    assert by_length.value is None  # the longer one always: nothing is known of equal ones
    assert by_length.note
