"""Closed forms, golden values and properties of every registered loss."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
import torch

from accord.core.errors import ConfigError
from accord.losses import (
    PairLogps,
    PairScores,
    get_preference_loss,
    get_reward_loss,
    preference_losses,
    reward_losses,
    soft,
)

F64 = torch.float64
GOLDEN = Path(os.environ.get("ACCORD_SHARED", "../shared")) / "golden" / "losses.json"
IN_FILE = {"dpo": ("dpo", {}), "dpo_norm": ("dpo", {"length_normalized": True})}


def pairs(*columns: float) -> PairLogps:
    """One pair: policy chosen, rejected, reference chosen, rejected, token counts."""
    return PairLogps(*(torch.tensor([c], dtype=F64) for c in columns))


def random_pairs(n: int = 16, spread: float = 20.0) -> PairLogps:
    generator = torch.Generator().manual_seed(0)
    logps = [-spread * torch.rand(n, dtype=F64, generator=generator) for _ in range(4)]
    tokens = [torch.randint(1, 40, (n,), generator=generator).double() for _ in range(2)]
    return PairLogps(*logps, *tokens)


def test_dpo_by_hand() -> None:
    lp = pairs(-10.0, -12.0, -11.0, -11.0, 5, 4)  # margin = 1 - (-1) = 2
    loss = get_preference_loss("dpo", beta=0.5)
    assert loss(lp).item() == pytest.approx(math.log(1 + math.exp(-1.0)), abs=1e-12)
    smooth = get_preference_loss("dpo", beta=0.5, label_smoothing=0.25)
    expected = 0.75 * math.log(1 + math.exp(-1.0)) + 0.25 * math.log(1 + math.exp(1.0))
    assert smooth(lp).item() == pytest.approx(expected, abs=1e-12)
    kept = get_preference_loss("dpo", beta=0.5, chosen_nll=0.2)
    assert (kept(lp) - loss(lp)).item() == pytest.approx(0.2 * 10.0 / 5, abs=1e-12)
    normal = get_preference_loss("dpo", beta=1.0, length_normalized=True)
    assert normal(lp).item() == pytest.approx(math.log(1 + math.exp(-0.45)), abs=1e-12)


def test_cdpo_optimum_is_at_logit_of_one_minus_eps() -> None:
    h = torch.tensor([math.log(0.8 / 0.2)], dtype=F64, requires_grad=True)
    zero = torch.zeros(1, dtype=F64)
    lp = PairLogps(h, zero, zero, zero, zero + 1, zero + 1)
    get_preference_loss("dpo", beta=1.0, label_smoothing=0.2)(lp).sum().backward()
    assert h.grad is not None
    assert h.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_soft_label_is_label_smoothing_when_constant() -> None:
    lp = random_pairs()
    p = torch.full((16,), 0.9, dtype=F64)
    plain = get_preference_loss("dpo", beta=0.3)
    smoothed = get_preference_loss("dpo", beta=0.3, label_smoothing=0.1)
    torch.testing.assert_close(soft(plain, lp, p), smoothed(lp))


def test_bradley_terry_by_hand() -> None:
    scores = PairScores(*(torch.tensor([v], dtype=F64) for v in (2.0, 0.5, 0.5)))
    loss = get_reward_loss("bradley_terry", centering=0.01)
    expected = math.log(1 + math.exp(-1.0)) + 0.01 * 2.5**2
    assert loss(scores).item() == pytest.approx(expected, abs=1e-12)
    p = torch.tensor([0.7], dtype=F64)
    plain = get_reward_loss("bradley_terry")
    mixed = 0.7 * math.log(1 + math.exp(-1.0)) + 0.3 * math.log(1 + math.exp(1.0))
    assert soft(plain, scores, p).item() == pytest.approx(mixed, abs=1e-12)


@pytest.mark.parametrize("name", preference_losses.names())
def test_preference_contract(name: str) -> None:
    """Shape [B], finite at ±1e4, gradient equal to finite differences."""
    loss = get_preference_loss(name)
    assert loss(random_pairs()).shape == (16,)
    for sign in (1.0, -1.0):
        extreme = pairs(-1.0 - 1e4 * (sign < 0), -1.0 - 1e4 * (sign > 0), -1.0, -1.0, 3, 5)
        assert torch.isfinite(loss(extreme)).all()
    base = random_pairs(4, spread=5.0)

    def of(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        rest = (base.ref_chosen, base.ref_rejected, base.chosen_tokens, base.rejected_tokens)
        return loss(PairLogps(chosen, rejected, *rest))

    inputs = (base.policy_chosen.requires_grad_(), base.policy_rejected.requires_grad_())
    assert torch.autograd.gradcheck(of, inputs)


@pytest.mark.parametrize("name", reward_losses.names())
def test_reward_contract(name: str) -> None:
    loss = get_reward_loss(name)
    generator = torch.Generator().manual_seed(1)
    columns = [torch.randn(5, dtype=F64, generator=generator) for _ in range(3)]
    assert loss(PairScores(*columns)).shape == (5,)
    big = PairScores(*(torch.tensor([v], dtype=F64) for v in (-1e4, 1e4, 0.0)))
    assert torch.isfinite(loss(big)).all()
    inputs = tuple(c.requires_grad_() for c in columns[:2])
    assert torch.autograd.gradcheck(lambda c, r: loss(PairScores(c, r, columns[2])), inputs)


@pytest.mark.parametrize(
    ("hyper", "told"),
    [
        ({"beta": -1.0}, "dpo.beta: Input should be greater than 0 (got -1.0); allowed: > 0"),
        ({"betta": 0.1}, "dpo.betta: unknown key 'betta'; allowed: beta, label_smoothing"),
        ({"beta": "big"}, "dpo.beta: Input should be a valid number (got 'big')"),
        ({"label_smoothing": 0.5}, "allowed: < 0.5"),
        ({"beta": float("nan")}, "dpo.beta"),
    ],
)
def test_wrong_hyperparameters_name_key_and_range(hyper: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        get_preference_loss("dpo", **hyper)
    assert told in str(error.value)


def test_unknown_loss_lists_the_names() -> None:
    with pytest.raises(ConfigError, match=r"unknown preference loss 'dpoo'; allowed: .*dpo"):
        get_preference_loss("dpoo")


@pytest.mark.shared_data
@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden values beside the repository")
def test_golden_values() -> None:
    golden = json.loads(GOLDEN.read_text())
    columns = {k: torch.tensor(v, dtype=F64) for k, v in golden["pairs"].items()}
    checked = 0
    for case in golden["cases"]:
        if case["loss"] in IN_FILE:
            name, extra = IN_FILE[case["loss"]]
            got = get_preference_loss(name, **case["hyper"], **extra)(PairLogps(**columns))
            expected = torch.tensor(case["expected"], dtype=F64)
            torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)
            checked += 1
    assert checked >= 3
