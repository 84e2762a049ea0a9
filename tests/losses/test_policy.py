"""Policy objectives: golden values, closed forms, properties."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accord.losses import (
    AdaptiveKL,
    FixedKL,
    alike,
    clipped,
    gae,
    group_normalised,
    kl_estimate,
    leave_one_out,
    ppo_clip,
    rounding,
    sequence_ratio,
    value_clip,
    whiten,
)

F64 = torch.float64


def t(values: Any) -> Tensor:
    return torch.tensor(values, dtype=F64)


@pytest.fixture
def golden(shared_data: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads(
        (shared_data.parent / "golden" / "policy.json").read_text()
    )
    return found


@pytest.mark.shared_data
def test_golden_values(golden: dict[str, list[dict[str, Any]]]) -> None:
    close = torch.testing.assert_close
    for c in golden["gae"]:
        keys = ("gamma", "lam", "terminated", "bootstrap_value")
        got = gae(t(c["rewards"]), t(c["values"]), **{k: c[k] for k in keys})
        close(got, t(c["expected"]), atol=1e-9, rtol=0)
    for c in golden["kl"]:
        got = kl_estimate(t(c["policy"]), t(c["ref"]), estimator=c["estimator"])
        close(got, t(c["expected"]), atol=1e-9, rtol=0)
    for c in golden["ppo_clip"]:
        got = ppo_clip(t(c["new"]), t(c["old"]), t(c["advantages"]), clip=c["clip"])
        close(got, t(c["expected"]), atol=1e-9, rtol=0)
    for c in golden["value"]:
        got = value_clip(t(c["values"]), t(c["old_values"]), t(c["returns"]), clip=c["clip"])
        close(got, t(c["expected"]), atol=1e-9, rtol=0)
    for c in golden["adaptive_kl"]:
        control = AdaptiveKL(c["beta"], c["target"], c["horizon"])
        got_all = [control.update(kl, c["n"]) for kl in c["observed_kl"]]
        assert got_all == pytest.approx(c["expected"], abs=1e-12)
    for c in golden["whiten"]:
        got = whiten(t(c["x"]), torch.tensor(c["mask"]), shift_mean=c["shift_mean"])
        close(got, t(c["expected"]), atol=1e-9, rtol=0)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def test_gae_is_the_discounted_sum_of_its_errors() -> None:
    r, v = random(3, 6), random(3, 6, seed=1)
    gamma, lam = 0.9, 0.7
    after = torch.cat([v[:, 1:], t([[0.0], [0.5], [0.0]])], 1)
    delta = r + gamma * after - v
    expected = torch.stack(
        [sum((gamma * lam) ** k * delta[:, i + k] for k in range(6 - i)) for i in range(6)], 1
    )
    ended = torch.tensor([True, False, True])
    got = gae(r, v, gamma=gamma, lam=lam, terminated=ended, bootstrap_value=0.5)
    torch.testing.assert_close(got, expected)


def test_gae_with_lambda_one_is_return_minus_value() -> None:
    r, v = random(8), random(8, seed=1)
    returns = torch.flip(torch.cumsum(torch.flip(r, [0]), 0), [0])
    torch.testing.assert_close(gae(r, v, gamma=1.0, lam=1.0), returns - v)


def test_the_score_on_the_last_action_reaches_back_through_lambda() -> None:
    """Placed one token later, it would come back once more discounted."""
    r = t([0.0, 0.0, 0.0, 1.0])
    got = gae(r, torch.zeros(4, dtype=F64), gamma=1.0, lam=0.5)
    torch.testing.assert_close(got, t([0.125, 0.25, 0.5, 1.0]))


def test_masked_tokens_are_stepped_over() -> None:
    r, v = random(2, 5), random(2, 5, seed=1)
    mask = torch.tensor([[1, 0, 1, 1, 0], [1, 1, 0, 0, 1]]).bool()
    got = gae(r, v, gamma=0.9, lam=0.8, mask=mask)
    for row in range(2):
        alone = gae(r[row][mask[row]], v[row][mask[row]], gamma=0.9, lam=0.8)
        torch.testing.assert_close(got[row][mask[row]], alone)
    assert not got[~mask].any()


def test_a_cut_off_sequence_needs_the_value_after_it() -> None:
    with pytest.raises(ValueError, match="bootstrap_value"):
        gae(random(3), random(3), gamma=1.0, lam=0.9, terminated=False)


def test_kl_estimators_on_average() -> None:
    """Over all tokens, weighted by the policy: k1 and k3 give the KL, k3 is never negative."""
    p, q = random(50).log_softmax(0), random(50, seed=1).log_softmax(0)
    exact = (p.exp() * (p - q)).sum()
    for name in ("k1", "k3"):
        torch.testing.assert_close((p.exp() * kl_estimate(p, q, estimator=name)).sum(), exact)  # type: ignore[arg-type]
    assert (kl_estimate(p, q, estimator="k3") >= 0).all()
    assert kl_estimate(t(-1e4), t(0.0), estimator="k3").isfinite()
    with pytest.raises(ValueError, match="k1, k2, k3"):
        kl_estimate(p, q, estimator="k4")  # type: ignore[arg-type]


def test_only_k2_has_the_gradient_of_the_kl() -> None:
    ref = random(20, seed=1).log_softmax(0)
    logits = random(20).requires_grad_(True)
    logp = logits.log_softmax(0)
    (exact,) = torch.autograd.grad((logp.exp() * (logp - ref)).sum(), logits, retain_graph=True)
    grads = {}
    for name in ("k1", "k2", "k3"):
        sampled = (logp.exp().detach() * kl_estimate(logp, ref, estimator=name)).sum()  # type: ignore[arg-type]
        (grads[name],) = torch.autograd.grad(sampled, logits, retain_graph=True)
    torch.testing.assert_close(grads["k2"], exact)
    torch.testing.assert_close(grads["k1"], torch.zeros_like(exact))
    torch.testing.assert_close(grads["k3"], logp.exp().detach() - ref.exp())  # of KL(ref ‖ π)


def test_adaptive_kl_moves_toward_its_target_by_bounded_steps() -> None:
    control = AdaptiveKL(0.1, target=6.0, horizon=1000)
    assert control.update(6.0, 100) == pytest.approx(0.1)
    assert control.update(1e9, 100) == pytest.approx(0.1 * 1.02)
    assert control.update(-50.0, 100) == pytest.approx(0.1 * 1.02 * 0.98)
    assert FixedKL(0.3).update(100.0, 10) == 0.3
    assert AdaptiveKL(0.1, horizon=1.0).update(0.0, 4) == pytest.approx(0.02)
    with pytest.raises(
        ValueError, match=r"horizon of 1 .* 5 sequences"
    ):  # β would be 0, then negative
        AdaptiveKL(0.1, horizon=1.0).update(0.0, 5)


def test_clip_by_hand() -> None:
    old, a = torch.zeros(4, dtype=F64), t([1.0, 1.0, -1.0, -1.0])
    new = t([1.5, 0.5, 1.5, 0.5]).log()
    torch.testing.assert_close(ppo_clip(new, old, a, clip=0.2), t([-1.2, -0.5, 1.5, 0.8]))
    wide = ppo_clip(new, old, a, clip=0.2, clip_high=0.4)
    torch.testing.assert_close(wide, t([-1.4, -0.5, 1.5, 0.8]))
    dual = ppo_clip(t([math.log(9.0)]), t([0.0]), t([-1.0]), clip=0.2, dual_clip=3.0)
    torch.testing.assert_close(dual, t([3.0]))
    assert ppo_clip(t([1e4]), t([0.0]), t([-1.0]), clip=0.2).isfinite().all()


@pytest.mark.parametrize("clip_high", [None, 0.5])
def test_clipped_is_where_the_surrogate_has_no_gradient(clip_high: float | None) -> None:
    new = t([0.7, 0.75, 0.85, 1.0, 1.15, 1.25, 1.45, 1.55]).log().repeat(3).requires_grad_(True)
    old, a = torch.zeros(24, dtype=F64), t([1.0, 0.0, -1.0]).repeat_interleave(8)
    keys: dict[str, Any] = {"clip": 0.2, "clip_high": clip_high}
    (grad,) = torch.autograd.grad(ppo_clip(new, old, a, **keys).sum(), new)
    assert torch.equal(clipped(new, old, a, **keys), (grad == 0) & (a != 0))


def test_at_ratio_one_the_gradient_is_the_policy_gradient() -> None:
    new = random(7).requires_grad_(True)
    a = random(7, seed=2)
    (grad,) = torch.autograd.grad(ppo_clip(new, new.detach(), a, clip=0.2).sum(), new)
    torch.testing.assert_close(grad, -a)


def test_a_constant_added_to_rewards_moves_no_baselined_advantage() -> None:
    r = random(3, 4)
    for baseline in (leave_one_out, group_normalised):
        torch.testing.assert_close(baseline(r + 5.0), baseline(r))
    torch.testing.assert_close(whiten(r + 5.0), whiten(r))


def test_sequence_ratio() -> None:
    new, old = random(5).requires_grad_(True), random(5, seed=1)
    spread = sequence_ratio(new, old, [2, 3])
    ratios = (spread - old).exp()
    gap = (new - old).detach()
    expected = torch.cat([gap[:2].mean().exp().expand(2), gap[2:].mean().exp().expand(3)])
    torch.testing.assert_close(ratios.detach(), expected)
    (grad,) = torch.autograd.grad(ratios[0], new)
    torch.testing.assert_close(grad, torch.cat([expected[:2] / 2, torch.zeros(3, dtype=F64)]))


def test_value_clip_by_hand() -> None:
    v, old, r = t([1.0, 1.0, 0.1]), t([0.0, 0.0, 0.0]), t([1.0, 0.0, 0.0])
    torch.testing.assert_close(value_clip(v, old, r, clip=0.2), t([0.32, 0.5, 0.005]))
    torch.testing.assert_close(value_clip(v, old, r, clip=None), t([0.0, 0.5, 0.005]))


def test_whiten_keeps_the_mean_when_told() -> None:
    x, mask = random(40) + 3.0, torch.arange(40) < 30
    w = whiten(x, mask)
    assert float(w[:30].mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(w[:30].var(correction=0)) == pytest.approx(1.0, abs=1e-6)
    assert not w[30:].any()
    kept = whiten(x, mask, shift_mean=False)
    assert float(kept[:30].mean()) == pytest.approx(float(x[:30].mean()))


def test_leave_one_out_by_hand_and_its_answers_without_reward() -> None:
    nan = math.nan
    got = leave_one_out(t([[1.0, 2.0, 6.0], [1.0, nan, 3.0], [4.0, nan, nan]]))
    torch.testing.assert_close(got, t([[-3.0, -1.5, 4.5], [-2.0, 0.0, 2.0], [0.0, 0.0, 0.0]]))


def test_group_normalised_by_hand() -> None:
    nan = math.nan
    got = group_normalised(t([[1.0, 3.0, nan], [2.0, 2.0, 2.0], [5.0, nan, nan]]))
    root = math.sqrt(2.0)
    expected = t([[-1 / root, 1 / root, 0.0], [0.0] * 3, [0.0] * 3])
    torch.testing.assert_close(got, expected)
    plain = group_normalised(t([[1.0, 3.0]]), scale=False)
    torch.testing.assert_close(plain, t([[-1.0, 1.0]]))


def test_rewards_alike_up_to_rounding_give_no_advantage() -> None:
    got = group_normalised(t([[0.1 + 0.2, 0.3, 0.3]]))
    assert not got.any()
    nan = math.nan
    groups = [[0.1 + 0.2, 0.3, nan], [1.0, 1.0 + 1e-3, nan], [2.0, nan, nan], [nan] * 3]
    assert alike(t(groups)).tolist() == [True, False, True, True]
    alone = t([[1.0, 1.0 + 1e-9]])  # all that varies
    assert alike(alone).tolist() == [False]
    assert alike(alone.float()).tolist() == [True]  # it is nothing in single precision


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_what_is_small_beside_the_spread_of_rewards_is_no_difference(offset: float) -> None:
    """A reward model's own noise: single precision, about 1e-5 of a score; one outlier hides nothing."""
    r = random(16, 4) + offset
    r[0] = 0.7 + offset + 1e-5 * random(4, seed=3)
    r[1] = 0.7 + offset + 1e-2 * random(4, seed=3)
    r[2, 0] = -300.0
    found = alike(r).tolist()
    assert found == [True] + [False] * 15
    for baseline in (leave_one_out, group_normalised):
        a = baseline(r)
        assert not a[0].any()
        assert a[1].all()
    assert float(group_normalised(r)[1].std()) == pytest.approx(1.0)


@pytest.mark.parametrize("at", [-900.0, -0.9, 0.02, 31.0])
def test_a_models_own_noise_is_no_difference_where_nothing_else_varies(at: float) -> None:
    """One answer scored in several batches: up to 90 units in the last place apart (seen: 7 to 89)."""
    unit = torch.finfo(torch.float32).eps * abs(at) / 2
    r = torch.tensor([[at, at + 40 * unit, at - 49 * unit, at]])
    assert (r[0, 1:3] != at).all()
    for a in (leave_one_out(r), group_normalised(r), group_normalised(r, scale=False)):
        assert not a.any()
    told = torch.tensor([[at, at + 400 * unit, at, at]])
    for a in (leave_one_out(told), group_normalised(told), group_normalised(told, scale=False)):
        assert a.all()


def test_rounding_of_the_terms_is_no_difference_of_their_sum() -> None:
    """Equal answers' KL is a small difference of large log-probs."""
    logps = t([[-90.0, -90.0]]).float()
    score = t([[1e-9, 0.0]]).float() + (logps - (logps + 1e-5))
    assert leave_one_out(score).any()
    assert not leave_one_out(score, within=rounding(score, logps, logps)).any()


@pytest.mark.parametrize("offset", [-1e9, 1e3, 1e9])
def test_an_offset_hides_no_difference_that_rounding_leaves(offset: float) -> None:
    r = torch.round(random(3, 4) * 1024) / 1024  # exact beside any of these offsets
    torch.testing.assert_close(
        group_normalised(r + offset), group_normalised(r), rtol=1e-4, atol=1e-4
    )
