"""Every method with nothing to learn, and with a planted answer; cut-off answers among them."""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from accord.core.config import validate
from accord.core.errors import ConfigError
from accord.core.rundir import write_json
from accord.lm.model.scalar_head import ScalarHead
from accord.losses import gae
from accord.rewards.base import Context, reward
from accord.train.online.methods.best_of_n import BestOfN
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.online_dpo import OnlineDpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.methods.rloo import Rloo
from accord.train.online.policy import train_policy
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.train.small import LORA, fresh, prompt, saved_tensors

METHODS = (Ppo, Rloo, Grpo, OnlineDpo, BestOfN)
ALL = pytest.mark.parametrize("method", METHODS)


@reward("planted")
def planted(context: Context, *, ended: float, cut: float) -> Any:
    """What an answer is paid that ended by itself, and one that was cut off."""
    return lambda exchanges: [cut if e.response.finish == "length" else ended for e in exchanges]


@reward("of_the_prompt")
def of_the_prompt(context: Context) -> Any:
    return lambda exchanges: [float(len(e.prompt.last)) for e in exchanges]


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model that ends its turn with a probability of about 0.2 at every token."""
    folder, model = tmp_path_factory.mktemp("stopping") / "base", tiny_model("llama")
    with torch.no_grad():
        ids = torch.randint(4, 400, (16, 20), generator=torch.Generator().manual_seed(1))
        mean_H = model.model(ids).last_hidden_state.flatten(0, 1).mean(0)
        logit = model(ids).logits.logsumexp(-1).mean() - 1.6
        model.lm_head.weight[2] = mean_H / mean_H.square().sum() * logit
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def run(
    model: Path, folder: Path, method: Any, rewards: Sequence[dict[str, Any]], **more: Any
) -> tuple[Path, list[dict[str, float]]]:
    rows: list[dict[str, float]] = []
    tune = more.pop("tune", "full")
    keys = {
        "steps": 5, "batch_size": 4, "minibatch": 4, "n": 16, "lr": 1e-3, "max_new_tokens": 6,
        "kl": {"beta": 0.0}, "rollout_batch": 64, **({"value_lr": 1e-2} if method is Ppo else {}), **more,
    }  # fmt: skip
    done = train_policy(
        fresh(model), [prompt(i) for i in range(4)], rewards, run_dir=folder, tune=tune,
        settings=method(**keys), on_step=lambda done, total, row: rows.append(dict(row)),
    )  # fmt: skip
    return done.model, rows


def unmoved(model: Path, trained: Path) -> bool:
    before, after = saved_tensors(model), saved_tensors(trained)
    assert before.keys() == after.keys()
    return all(torch.equal(before[name], after[name]) for name in before)


@ALL
@pytest.mark.parametrize("worth", [1.0, 0.7, -3.0, 0.0])
def test_a_constant_reward_moves_no_weight(
    stopping: Path, tmp_path: Path, method: Any, worth: float
) -> None:
    rewards = [{"name": "planted", "ended": worth, "cut": worth}]
    model, rows = run(stopping, tmp_path, method, rewards)
    assert 0.2 < rows[0]["eos_rate"] < 0.98  # answers of both kinds
    assert unmoved(stopping, model)
    for row in rows if method is Ppo else ():
        assert row["value"] == pytest.approx(worth, abs=1e-6)
        assert row["returns"] == pytest.approx(worth, abs=1e-6)
    assert all(row.get("silent_groups", 1.0) == 1.0 for row in rows)


@ALL
def test_bf16_learns_nothing_from_a_constant_and_starts_at_ratio_one(
    stopping: Path, tmp_path: Path, method: Any
) -> None:
    """The forward pass stays fp32: old and new log-probs are the same numbers."""
    constant = [{"name": "planted", "ended": 0.7, "cut": 0.7}]
    model, _ = run(stopping, tmp_path / "constant", method, constant, precision="bf16")
    assert unmoved(stopping, model)
    ending = [{"name": "planted", "ended": 1.0, "cut": 0.0}]
    model, rows = run(stopping, tmp_path / "ending", method, ending, precision="bf16")
    exact, _ = run(stopping, tmp_path / "exact", method, ending, precision="fp32")
    assert not unmoved(stopping, model)
    assert not unmoved(exact, model)  # bf16 was on
    if method in (Ppo, Rloo, Grpo):
        assert rows[0]["first_ratio_gap"] < 1e-4


@reward("uncertain")
def uncertain(context: Context, *, about: float) -> Any:
    """The same worth always, give or take what a reward model's own rounding is."""
    draw = random.Random(1)
    return lambda exchanges: [about * (1 + 3e-6 * draw.uniform(-1, 1)) for _ in exchanges]


@pytest.mark.parametrize(
    ("method", "how"),
    [
        (Grpo, {"scale": False, "average": "constant"}),
        (Grpo, {"kl": {"beta": 0.05}}),
        (Grpo, {"kl": {"beta": 0.05, "control": "adaptive"}, "tune": LORA}),
        (Rloo, {"kl": {"beta": 0.05, "control": "adaptive"}, "scale_rewards": True}),
        (Ppo, {"kl": {"beta": 0.05, "control": "adaptive"}, "scale_rewards": True, "gamma": 1.0}),
        (Ppo, {"missing_eos": {"treatment": "bootstrap"}, "tune": LORA}),
        (Ppo, {"value_trunk": "policy"}),
        (Ppo, {"value_trunk": "policy", "kl": {"beta": 0.05}, "tune": LORA}),
    ],
)
def test_nothing_to_learn_under_other_settings(
    stopping: Path, tmp_path: Path, method: Any, how: dict[str, Any]
) -> None:
    """A sum of rewards that only adds up to a constant, and the KL of a policy that has not moved."""
    rewards = [
        {"name": "planted", "ended": 0.7, "cut": 0.7},
        {"name": "planted", "label": "other", "ended": 0.1, "cut": 0.1, "weight": 3.3},
    ]
    made = {}
    for steps in (1, 4):
        model, rows = run(
            stopping, tmp_path / str(steps), method, rewards, **{**how, "steps": steps}
        )
        made[steps] = saved_tensors(model)
        assert rows[-1]["eos_rate"] < 0.98
    if how.get("tune", "full") == "full":
        made[0] = saved_tensors(stopping)
        assert all(torch.equal(made[0][name], made[4][name]) for name in made[0])
    assert all(torch.equal(made[1][name], made[4][name]) for name in made[1])


@reward("by_length")
def by_length(context: Context, *, each: float) -> Any:
    return lambda exchanges: [each * len(e.response.text) for e in exchanges]


BOTH_WAYS = [{"name": "by_length", "each": 0.1, "weight": 3.0},
             {"name": "by_length", "each": -3.0 * 0.1, "label": "back"}]  # fmt: skip


@ALL
@pytest.mark.parametrize(
    ("rewards", "scaled"),
    [
        ([{"name": "uncertain", "about": 0.02}], False),
        ([{"name": "uncertain", "about": -40.0}], True),
        (BOTH_WAYS, False),  # add up to 0 but for the last places of either
    ],
)
def test_a_reward_that_only_its_rounding_varies_moves_no_weight(
    stopping: Path, tmp_path: Path, method: Any, rewards: Any, scaled: bool
) -> None:
    model, rows = run(stopping, tmp_path, method, rewards, steps=3, scale_rewards=scaled)
    assert unmoved(stopping, model)
    assert all(row.get("silent_groups", 1.0) == 1.0 for row in rows)


def speaking(
    model: Path, folder: Path, kind: str, *worth: float, loud: bool = False, seed: int = 1
) -> str:
    """A reward model whose centre alone speaks, but for what is lost in its last places; `loud`: its head
    speaks too."""
    shutil.copytree(model, folder)
    axes = [f"axis{i}" for i in range(len(worth))] if kind == "reward_axes" else None
    head = ScalarHead(32, seed, axes and len(axes))
    with torch.no_grad():
        head.weight *= 1.0 if loud else 3e-7
        head.centre.copy_(-torch.tensor(worth if axes else worth[0]))
    head.save(folder)
    write_json(folder / f"{kind}.json", {"max_completion": 30, **({"axes": axes} if axes else {})})
    return str(folder)


@pytest.fixture(scope="module")
def certain(stopping: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Every kind of learned reward, each of which says the same of all answers."""
    made = partial(speaking, stopping)
    folder = tmp_path_factory.mktemp("certain")
    members = [made(folder / str(worth), "reward_model", worth) for worth in (0.7, 40.3)]
    axes = made(folder / "axes", "reward_axes", 0.7, -3.1)
    steps = made(folder / "steps", "process_model", -0.4)
    return [
        {"name": "ensemble", "models": members},
        {"name": "learned", "model": members[0]},
        {"name": "length_residual", "model": members[0]},
        {"name": "axes", "model": axes, "weights": {"axis0": 1.0, "axis1": 0.3}},
        {"name": "process", "model": steps, "on_failure": "drop"},
    ]


@pytest.mark.parametrize(
    ("method", "rewards"),
    [*((method, slice(None)) for method in METHODS), (Ppo, slice(1)), (Ppo, slice(4, 5))],
)
def test_a_learned_reward_that_is_the_same_for_all_answers_moves_no_weight(
    stopping: Path, tmp_path: Path, certain: list[dict[str, Any]], method: Any, rewards: slice
) -> None:
    """Nor does it move the value model, which starts from the reward model."""
    model, rows = run(stopping, tmp_path, method, certain[rewards], steps=3)
    assert unmoved(stopping, model)
    assert rows[0]["eos_rate"] < 0.98
    about = pytest.approx(rows[0]["score"], rel=1e-5)
    assert all(row["value"] == about == row["returns"] for row in rows if method is Ppo)
    assert all(row.get("silent_groups", 1.0) == 1.0 for row in rows)


@ALL
def test_rewards_whose_own_terms_cancel_move_no_weight(
    stopping: Path, tmp_path: Path, method: Any
) -> None:
    """They add up to 0 but for the last places of each term."""
    made = partial(speaking, stopping)
    up, down, high = (
        made(tmp_path / str(seed), "reward_model", worth, seed=seed)
        for seed, worth in enumerate((0.31, -0.31, 0.93))
    )
    axes = made(tmp_path / "axes", "reward_axes", 0.31, 0.31)
    rewards = [
        {"name": "axes", "model": axes, "weights": {"axis0": 0.7, "axis1": -0.7}},
        {"name": "ensemble", "models": [up, down], "combine": "mean", "weight": 10.0},
        {"name": "ensemble", "models": [up, high], "k": 2**0.5, "label": "lcb"},
    ]
    model, rows = run(stopping, tmp_path / "run", method, rewards, steps=2)
    assert rows[0]["eos_rate"] < 0.98
    assert abs(rows[0]["score"]) < 2e-6
    assert unmoved(stopping, model)
    assert all(row.get("silent_groups", 1.0) == 1.0 for row in rows)


def test_a_constraints_moving_weight_moves_no_policy(stopping: Path, tmp_path: Path) -> None:
    """The total grows from step to step, for all answers alike, and values with it."""
    rewards = [
        {"name": "planted", "ended": 0.7, "cut": 0.7},
        {"name": "planted", "label": "floor", "ended": 0.2, "cut": 0.2, "at_least": 1.5},
    ]
    model, rows = run(stopping, tmp_path, Ppo, rewards, steps=4)
    assert rows[-1]["weight/floor"] == pytest.approx(1 + 4 * 0.1 * 1.3)
    assert rows[-1]["score"] > rows[0]["score"] + 0.07
    assert unmoved(stopping, model)


def test_a_value_model_does_not_start_from_a_reward_model_that_is_not_paid(
    stopping: Path, tmp_path: Path
) -> None:
    """It would say of a constant what that model says of answers, until it has unlearned it."""
    model = speaking(stopping, tmp_path / "rm", "reward_model", 0.7, loud=True)
    rewards = [
        {"name": "planted", "ended": 0.7, "cut": 0.7},
        {"name": "learned", "model": model, "weight": 0.0},
    ]
    model_, rows = run(stopping, tmp_path / "run", Ppo, rewards, steps=3)
    assert len({row["reward/learned"] for row in rows}) > 1
    assert unmoved(stopping, model_)


@ALL
@pytest.mark.parametrize(
    ("cut", "how"),
    [(1.7, {"treatment": "penalty", "value": 1.0}), (9.0, {"treatment": "score", "value": 0.7})],
)
def test_what_a_cut_off_answer_costs_is_paid_once(
    stopping: Path, tmp_path: Path, method: Any, cut: float, how: dict[str, Any]
) -> None:
    """Answers that were cut off come to what the others earn: there is nothing to learn."""
    rewards = [{"name": "planted", "ended": 0.7, "cut": cut}]
    model, rows = run(stopping, tmp_path, method, rewards, steps=3, missing_eos=how)
    assert unmoved(stopping, model)
    assert all(row["paid"] == pytest.approx(0.7, abs=1e-6) for row in rows)
    assert rows[0]["score"] > 0.75  # what the rewards said is logged as it was


@pytest.mark.parametrize(
    ("method", "how"),
    [(Rloo, {}), (Grpo, {}), (OnlineDpo, {}), (BestOfN, {}), (Ppo, {"relative": True})],
)
def test_a_reward_of_the_prompt_alone_moves_no_weight(
    stopping: Path, tmp_path: Path, method: Any, how: dict[str, Any]
) -> None:
    model, _ = run(stopping, tmp_path, method, [{"name": "of_the_prompt"}], **how)
    assert unmoved(stopping, model)


@pytest.mark.parametrize(
    ("method", "how"),
    [
        *((method, {}) for method in METHODS),
        (Ppo, {"relative": True}),
        (Ppo, {"value_trunk": "policy"}),
    ],
)
@pytest.mark.parametrize("best", ["ended", "cut"])
def test_a_planted_answer_is_found(
    stopping: Path, tmp_path: Path, method: Any, how: dict[str, Any], best: str
) -> None:
    rewards = [{"name": "planted", **{"ended": 0.0, "cut": 0.0, best: 1.0}}]
    _, rows = run(stopping, tmp_path, method, rewards, steps=25, lr=3e-3, **how)
    shares = [row["eos_rate"] if best == "ended" else row["truncation_rate"] for row in rows]
    assert shares[0] < 0.95
    assert sum(shares[-3:]) / 3 > 0.95


def fixed_point(cut: Sequence[bool], paid: Sequence[bool], step: Callable[[float], float]) -> float:
    """Where a constant value goes that follows the returns of answers of one token, each worth 1."""
    value = 0.0
    for _ in range(400):
        rewards = torch.tensor([[1.0 if p else 0.0] for p in paid])
        values = torch.full((len(cut), 1), value)
        ended = torch.tensor([p or not c for c, p in zip(cut, paid, strict=True)])
        a = gae(rewards, values, gamma=1.0, lam=0.95, terminated=ended, bootstrap_value=value)
        value += step(float(a.mean()))
    return value


def test_a_value_settles_at_the_reward_paid_or_continued() -> None:
    cut = [True, False, True, False, True]
    for paid in ([True] * 5, [not c for c in cut]):
        assert fixed_point(cut, paid, lambda a: 0.1 * a) == pytest.approx(1.0, abs=1e-3)
    assert math.isfinite(fixed_point([True], [False], lambda a: 0.1 * a))  # nothing is ever paid


def test_bootstrapping_needs_a_value_model() -> None:
    config = {"missing_eos": {"treatment": "bootstrap"}}
    assert validate(Ppo, config, where="ppo").missing_eos.treatment == "bootstrap"
    with pytest.raises(ConfigError, match=r"bootstrap needs a value model, which only ppo has"):
        validate(Rloo, config, where="rloo")


def test_a_bootstrapped_policy_is_paid_nothing_for_being_cut_off(
    stopping: Path, tmp_path: Path
) -> None:
    _, rows = run(
        stopping, tmp_path, Ppo, [{"name": "planted", "ended": 1.0, "cut": 50.0}],
        missing_eos={"treatment": "bootstrap"},
    )  # fmt: skip
    assert all(row["returns"] == pytest.approx(1.0, abs=1e-4) for row in rows)
    assert rows[0]["paid"] < 1.0
