"""Measuring a learning curve: nested subsets, points that are kept, and what is said of the curve."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from accord.cli import app
from accord.core.types import Edge, Group, Metric, Prompt, Response
from accord.plan.data import limits_of, measure, subsets, verdict
from accord.stats.learning_curve import Point, fit_curve

PAIR = (Response(text="a"), Response(text="b"))


def group(n: int, edges: int = 2, **tags: str) -> Group:
    made = tuple(Edge(better=0, worse=1, agreement=0.6) for _ in range(edges))
    return Group(
        prompt=Prompt.user(f"question {chr(97 + n % 26)}{n}", **tags), responses=PAIR, edges=made
    )


GROUPS = [group(n) for n in range(40)]


def test_subsets_are_nested_and_as_large_as_asked() -> None:
    found = subsets(GROUPS, [10, 40, 1000], seed=1)
    assert [sum(len(g.edges) for g in s) for s in found] == [10, 40, 80]
    ids = [[g.prompt.id for g in s] for s in found]
    assert ids[1][: len(ids[0])] == ids[0]
    assert ids != [[g.prompt.id for g in s] for s in subsets(GROUPS, [10, 40, 1000], seed=2)]


def test_finished_points_are_not_measured_again(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    def train(some: Sequence[Group], held: Sequence[Group], seed: int) -> Metric:
        if len(asked) == 3:
            raise KeyboardInterrupt
        asked.append((len(some), seed))
        return Metric(value=0.6 + len(some) / 1000, n=50)

    file = tmp_path / "plan" / "points.jsonl"
    with pytest.raises(KeyboardInterrupt):
        measure(GROUPS, [], [10, 20], 2, file, train, tell=lambda _: None)
    assert len(file.read_text().splitlines()) == 3
    first, asked = list(asked), []
    points = measure(GROUPS, [], [10, 20], 2, file, train, tell=lambda _: None)
    assert first == [(5, 0), (10, 0), (5, 1)]
    assert asked == [(10, 1)]
    assert [(p.n, p.of) for p in points] == [(10, 50), (10, 50), (20, 50), (20, 50)]


def curve(shares: Sequence[float], of: int = 4000) -> Any:
    return fit_curve([Point(50 * 2**i, s, of) for i, s in enumerate(shares)])


def test_the_verdict_names_the_limit() -> None:
    rising = curve([0.6, 0.66, 0.70, 0.73, 0.75])
    assert "1000 more comparisons would add" in verdict(rising, 1000, None)
    assert "labels are the limit" in verdict(rising, 1000, Metric(value=0.755, n=100))
    assert "curve is flat" in verdict(curve([0.7] * 5, of=10**7), 1000, None)
    assert "or nothing" in verdict(curve([0.7, 0.69, 0.71, 0.7, 0.7], of=60), 1000, None)


def test_what_is_short_beside_quantity_is_said() -> None:
    again = [group(0, category="plain").model_copy(update={"prompt": Prompt.user(f"Where is order {n}?")})
             for n in range(20)]  # fmt: skip
    told = limits_of([*again, group(1, category="rare")])
    assert any("repeat another" in t for t in told)
    assert any("few prompts of rare (1)" in t for t in told)
    assert any("raters are split on 100%" in t for t in told)


def shown(*args: str) -> Any:
    return CliRunner().invoke(app, ["plan", *args], env={"COLUMNS": "200", "TERM": "dumb"})


def test_the_command_fits_points_and_prices_them(tmp_path: Path) -> None:
    file = tmp_path / "points.jsonl"
    rows = [
        {"n": 50 * 2**i, "accuracy": a, "of": 2000}
        for i, a in enumerate([0.6, 0.66, 0.7, 0.73, 0.75])
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = shown("data", "--points", str(file), "--more", "800", "--price", "0.5")
    assert out.exit_code == 0, out.output
    assert "400" in out.output  # 800 × 0.5
    assert "800 more comparisons would add" in out.output
    both = shown("data", "s.db@v1", "--points", str(file))
    assert both.exit_code != 0


def test_the_shipped_budget_runs() -> None:
    out = shown("budget", "recipes/plan/budget.yaml")
    assert out.exit_code == 0, out.output
    assert "spent 2,000 of 2,000" in out.output
    assert "escalation     people" in out.output


def test_a_launch_leaves_to_a_judge_what_it_may() -> None:
    """Critical and edge cases go to people, general help to the judge."""
    out = shown("budget", "recipes/plan/launch.yaml")
    assert out.exit_code == 0, out.output
    rows = [line.split()[:5] for line in out.output.splitlines()[1:4]]
    assert rows == [
        ["critical", "people", "6,660", "3", "19,980"],
        ["edge", "people", "2,000", "5", "10,000"],
        ["general", "judge", "166,666", "1", "20,000"],
    ]
