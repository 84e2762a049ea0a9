"""Gold and learned reward against KL, beside best-of-n: closed forms, simulations, and a whole stage."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accord.core.errors import ConfigError
from accord.core.measure import Measure
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Metric
from accord.lm.sample import LocalSampler
from accord.pipeline.folder import RunFolder
from accord.pipeline.recipe import read_recipe
from accord.pipeline.report import charts
from accord.pipeline.runner import run
from accord.pipeline.stages.kl_frontier import POINTS
from accord.pipeline.stages.kl_frontier.figures import (
    ScoredAnswers,
    best_of,
    doublings,
    orders,
    policy_figures,
)
from accord.pipeline.stages.kl_frontier.headline import over_optimised
from accord.pipeline.stages.kl_frontier.report import NARROW
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe

GOLD = Measure(name="gold", title="gold", meaning="", better="more", role="truth", bounded=True)
FRONTIER = """
  frontier: {kind: kl_frontier, policies: [sft, base], reference: base, reward: rm, data: study,
    prompts: 6, n: 3, max_new_tokens: 6}
"""


def answered(gold: Any, reward: Any, kl: float = 0.0) -> ScoredAnswers:
    gold_PN, reward_PN = np.array(gold, dtype=float), np.array(reward, dtype=float)
    still = np.full(gold_PN.shape, kl)
    values = {"gold": gold_PN, "reward": reward_PN, "kl": still, "log_ratio": still}
    return ScoredAnswers(values, [str(p) for p in range(len(gold_PN))], GOLD)


def uniform(P: int, N: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((P, N))


def test_best_of_one_is_the_reference() -> None:
    reference = answered(uniform(9, 4, 0), uniform(9, 4, 1))
    own, one, four = (
        policy_figures(reference, reference),
        best_of(reference, 1),
        best_of(reference, 4),
    )
    for name in ("gold", "reward"):
        assert one[name].value == pytest.approx(own[name].value)
        assert one[name].low == pytest.approx(own[name].low)
        assert f"{name} gained" not in own | one
    assert one["kl"].value == own["kl"].value == 0.0
    assert four["kl"].value == pytest.approx(math.log(4) - 0.75)
    gold_PN, reward_PN = (reference.values[k] for k in ("gold", "reward"))
    picked = gold_PN[range(9), reward_PN.argmax(1)]
    assert four["gold"].value == pytest.approx(np.mean(picked))
    assert four["gold gained"].value == pytest.approx(np.mean(picked) - own["gold"].value)


def test_a_gain_is_paired_by_prompt() -> None:
    """Every prompt 0.1 better, however far prompts are apart: no doubt is left of the mean but what shares
    bounded by 0 and 1 always have."""
    reference = answered(uniform(40, 3, 0) * 0.8, uniform(40, 3, 1) * 100)
    values = reference.values
    after = answered(values["gold"] + 0.1, values["reward"] - 2.0, kl=1.5)
    figures = policy_figures(after, reference)
    assert figures["gold gained"].value == pytest.approx(0.1)
    assert [figures["reward gained"].low, figures["reward gained"].high] == pytest.approx(
        [-2.0, -2.0]
    )
    assert figures["kl"].value == figures["log_ratio"].value == 1.5


def test_a_reward_that_is_the_truth_orders_all_right_and_its_opposite_none() -> None:
    gold = uniform(30, 3, 0).round(1)
    right, wrong = (orders(answered(gold, way * gold)) for way in (1, -1))
    pairs = sum(len({*row[[i, j]]}) == 2 for row in gold for i, j in ((0, 1), (0, 2), (1, 2)))
    assert (right["right_orders"].value, wrong["right_orders"].value) == (1.0, 0.0)
    assert right["right_orders"].n == right["calibration_error"].n == pairs
    even = orders(answered(gold, 0 * gold))
    assert (even["right_orders"].value, even["confidence"].value) == (0.5, 0.5)
    none = orders(answered(0 * gold, gold))
    assert none["right_orders"].value is none["calibration_error"].value is None
    assert not orders(ScoredAnswers({"reward": gold}, ["a"] * 30, None))


def test_probabilities_that_come_true_have_no_error_and_bold_ones_have() -> None:
    """Two answers to a prompt, the first better with probability σ(gap)."""
    draw = np.random.default_rng(2)
    gap_P = draw.normal(size=600)
    first_P = draw.random(600) < 1 / (1 + np.exp(-gap_P))
    gold = np.stack([first_P, ~first_P], 1)
    told, bold = (orders(answered(gold, np.stack([by * gap_P, 0 * gap_P], 1))) for by in (1.0, 4.0))
    assert told["calibration_error"].low == 0.0
    low, high = (getattr(told["right_orders"], k) for k in ("low", "high"))
    assert low < told["confidence"].value < high
    assert bold["calibration_error"].low > 0.05
    assert bold["confidence"].value > bold["right_orders"].high


def test_the_intervals_of_best_of_n_hold_the_truth() -> None:
    """Scores uniform in [0, 1]: the best of n is n/(n+1) on average; four answers to each of 20 prompts."""
    for n in (2, 4):
        held = 0
        for seed in range(150):
            scores = uniform(20, 4, seed)
            figure = best_of(answered(scores, scores), n)["gold"]
            held += figure.low <= n / (n + 1) <= figure.high
        assert held / 150 > 0.93 - 3 * (0.05 * 0.95 / 150) ** 0.5


def test_answers_drawn_are_doubled_up_to_all() -> None:
    assert doublings(2) == [1, 2]
    assert doublings(6) == [1, 2, 4, 6]
    assert doublings(8) == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("gold", "reward", "so"),
    [((-0.2, -0.1), (0.1, 0.2), True), ((-0.2, 0.1), (0.1, 0.2), False), ((0.1, 0.2), (-2, -1), False)],
)  # fmt: skip
def test_over_optimised_is_reward_up_and_gold_down(gold: Any, reward: Any, so: bool) -> None:
    figures = {
        f"{name} gained": Metric(value=sum(ends) / 2, low=ends[0], high=ends[1], n=9)
        for name, ends in (("gold", gold), ("reward", reward))
    }
    assert over_optimised(figures, GOLD) is so


def test_a_scale_of_roots() -> None:
    frame = charts.Frame((0.0, 16.0), (0.0, 1.0), root=True)
    start, one, four = (frame.at(x, 0)[0] for x in (0.0, 1.0, 4.0))
    assert four - start == pytest.approx(2 * (one - start))
    for high in (1e-4, 0.7, 3.0, 42.0, 1e5):
        ticks = charts.root_ticks(0.0, high)
        assert ticks[0] == 0.0
        assert 2 < len(ticks) < 8
        assert max(ticks) <= high


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder]:
    folder = tmp_path_factory.mktemp("frontier")
    path = write_recipe(folder, save_tiny_model(folder / "model"), facts=8)
    path.write_text(path.read_text() + FRONTIER)
    wanted = ["study", "sft", "rm", "frontier"]
    return path, run(read_recipe(path), folder / "runs", Heard(), only=wanted)


def test_a_stage_keeps_every_answer_and_says_what_was_paid(done: tuple[Path, RunFolder]) -> None:
    stage = done[1].stages["frontier"]
    rows = {name: read_jsonl(stage / f"{name}.jsonl") for name in ("base", "sft")}
    for own in rows.values():
        assert len(own) == 18
        assert [r["prompt_id"] for r in own] == [r["prompt_id"] for r in own[::3] for _ in range(3)]
        assert all(r["response"]["text"] is not None and 0 <= r["gold"]["gold"] <= 1 for r in own)
    points = read_json(stage / POINTS)
    assert list(points["policies"]) == ["base", "sft"]
    mean = {k: np.mean([r[k] for r in own]) for own in [rows["sft"]] for k in ("kl", "reward")}
    for k, value in mean.items():
        assert points["policies"]["sft"][k]["value"] == pytest.approx(value)
    assert all(r["kl"] >= 0 for r in rows["sft"])
    assert any(r["kl"] > 0 for r in rows["sft"])
    assert all(r["kl"] == r["log_ratio"] == 0 for r in rows["base"])
    assert sorted(points["best_of"]) == ["1", "2", "3"]
    best = points["best_of"]["1"]["reward"]["value"]
    assert best == pytest.approx(points["policies"]["base"]["reward"]["value"])
    result = read_json(stage / "result.json")
    assert "against base: sft pays" in result["headline"]
    assert "best of 3 by rm pays at most 0.432" in result["headline"]
    page = (done[1].path / "report.html").read_text()
    for said in (
        "Gain against KL",
        "at most 0.432".replace(" ", NARROW),
        "KL from base, nats per answer",
    ):
        assert said in page


def test_a_stage_that_was_killed_asks_nobody_twice(
    done: tuple[Path, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, folder = done
    stage = folder.stages["frontier"]
    before = {f.name: f.read_bytes() for f in stage.glob("*.json*") if f.name != "timing.json"}
    (stage / "DONE").unlink()
    monkeypatch.setattr(LocalSampler, "__call__", lambda *_: pytest.fail("sampled again"))
    run(read_recipe(path), path.parent / "runs", Heard(), only=["frontier"])
    assert {name: (stage / name).read_bytes() for name in before} == before


def test_where_no_truth_is_known_the_reward_alone_is_told(done: tuple[Path, RunFolder]) -> None:
    path = done[0]
    rows = [
        {"prompt": f"Question {n}?", "chosen": f"Yes, {n}.", "rejected": "No."} for n in range(12)
    ]
    (path.parent / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    other = path.with_name("untold.yaml")
    other.write_text(
        path.read_text().replace("reward: rm, data: study", "reward: rm, data: rows")
        + "  rows: {kind: import, file: rows.jsonl, test: 0.4}\n"
    )
    wanted = ["rows", "frontier"]
    folder = run(read_recipe(other), path.parent / "runs", Heard(), only=wanted)
    result = read_json(folder.stages["frontier"] / "result.json")
    assert "nats for learned reward" in result["headline"]
    assert result["notes"] == ["the truth of rows is not known: no gold, and no right orders"]
    assert not any("gold" in k or "right" in k for k in result["metrics"])
    page = (folder.path / "report.html").read_text()
    assert "the truth of rows is not known" in page
    assert "calibration error</th>" not in page


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ("policies: [dpo, dpo]", "names one twice"),
        ("policies: [sft]", "names the reference alone"),
        ("policies: [dpo], n: 1", "n"),
        ("policies: [dpo], temperature: 0", "temperature"),
        ("policies: [rm]", "policies"),
    ],
)
def test_a_wrong_key_is_found_before_anything_runs(tmp_path: Path, keys: str, match: str) -> None:
    path = write_recipe(tmp_path, save_tiny_model(tmp_path / "model"), facts=8)
    told = f"  f: {{kind: kl_frontier, reference: sft, reward: rm, data: study, {keys}}}\n"
    path.write_text(path.read_text() + told)
    with pytest.raises(ConfigError, match=match):
        read_recipe(path)
