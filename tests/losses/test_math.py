"""docs/math.md, step by step, on finite sets of answers in fp64."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from decimal import Decimal, getcontext

import pytest
import torch
from torch import Tensor

from accord.losses import (
    LabelledLogps,
    PairLogps,
    RankedLogps,
    get_preference_loss,
    get_ranking_loss,
    get_unpaired_loss,
    soft,
)
from accord.losses.preference import _log_odds

F64 = torch.float64
BETA = 0.7
SUMS = ("policy_chosen", "policy_rejected", "ref_chosen", "ref_rejected")


def answers(n: int = 6) -> tuple[Tensor, Tensor]:
    """Reference log-probs and rewards of n answers."""
    generator = torch.Generator().manual_seed(5)
    ref = torch.randn(n, dtype=F64, generator=generator).log_softmax(0)
    return ref, torch.randn(n, dtype=F64, generator=generator)


def optimum(ref: Tensor, reward: Tensor) -> Tensor:
    return (ref + reward / BETA).softmax(0)


def all_pairs(logp: Tensor, ref: Tensor) -> PairLogps:
    """Every unordered pair of answers once, one token each."""
    i, j = torch.triu_indices(len(logp), len(logp), 1)
    ones = torch.ones(len(i), dtype=F64)
    return PairLogps(logp[i], logp[j], ref[i], ref[j], ones, ones)


def least(loss: Callable[[Tensor], Tensor], n: int) -> Tensor:
    """Log-probs of the policy that minimises a loss of log-probs."""
    logits = torch.zeros(n, dtype=F64, requires_grad=True)
    solver = torch.optim.LBFGS(
        [logits],
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=1e-15,
        line_search_fn="strong_wolfe",
    )

    def step() -> Tensor:
        solver.zero_grad()
        value = loss(logits.log_softmax(0))
        value.backward()
        return value

    solver.step(step)  # type: ignore[arg-type]
    return logits.detach().log_softmax(0)


def one(won: float, lost: float, *rest: float, n: float = 1.0, k: float = 1.0) -> PairLogps:
    """One pair: policy log-probs, reference log-probs (else 0), tokens (else n and k)."""
    values = (won, lost, *(rest or (0.0, 0.0, n, k)))
    values = values if len(values) == 6 else (*values, n, k)
    return PairLogps(*(torch.tensor([v], dtype=F64) for v in values))


def slopes(name: str, lp: PairLogps, **hyper: object) -> tuple[float, float]:
    """dL/d log π of the chosen and of the rejected answer."""
    lp.policy_chosen.requires_grad_()
    lp.policy_rejected.requires_grad_()
    get_preference_loss(name, **hyper)(lp).sum().backward()
    return tuple(
        0.0 if x.grad is None else x.grad.item() for x in (lp.policy_chosen, lp.policy_rejected)
    )  # type: ignore[return-value]


def test_the_optimum_beats_every_other_policy() -> None:
    ref, reward = answers()

    def worth(p: Tensor) -> Tensor:
        return (p * reward).sum() - BETA * (p * (p.log() - ref)).sum()

    best = optimum(ref, reward)
    z = BETA * (ref + reward / BETA).logsumexp(0)
    torch.testing.assert_close(worth(best), z)
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        other = (best.log() + 0.3 * torch.randn(6, dtype=F64, generator=generator)).softmax(0)
        assert worth(other) < worth(best)
        torch.testing.assert_close(worth(other), z - BETA * (other * (other / best).log()).sum())


def test_population_dpo_reaches_the_optimum() -> None:
    ref, reward = answers()
    i, j = torch.triu_indices(6, 6, 1)
    p = torch.sigmoid(reward[i] - reward[j])
    loss = get_preference_loss("dpo", beta=BETA)
    found = least(lambda logp: soft(loss, all_pairs(logp, ref), p).sum(), 6)
    assert (found.exp() - optimum(ref, reward)).abs().sum() / 2 < 1e-6


def test_cdpo_is_least_at_the_logit() -> None:
    for eps in (0.05, 0.2, 0.4):
        margin = math.log((1 - eps) / eps) / BETA
        chosen, _ = slopes("dpo", one(margin, 0.0), beta=BETA, label_smoothing=eps)
        assert chosen == pytest.approx(0.0, abs=1e-12)
        below, _ = slopes("dpo", one(margin - 0.1, 0.0), beta=BETA, label_smoothing=eps)
        assert below < 0


def test_robust_is_unbiased_under_flips() -> None:
    lp = all_pairs(*answers())
    loss = get_preference_loss("robust", beta=BETA, label_smoothing=0.2)
    clean = get_preference_loss("dpo", beta=BETA)(lp)
    torch.testing.assert_close(0.8 * loss(lp) + 0.2 * loss(lp.swap()), clean)


def test_plackett_luce_of_two_is_dpo() -> None:
    lp = all_pairs(*answers())
    policy, ref = (
        torch.stack(x, 1)
        for x in ((lp.policy_chosen, lp.policy_rejected), (lp.ref_chosen, lp.ref_rejected))
    )
    ranked = RankedLogps(policy, ref, torch.ones_like(policy).bool())
    ours = get_ranking_loss("plackett_luce", beta=BETA)(ranked)
    torch.testing.assert_close(ours, get_preference_loss("dpo", beta=BETA)(lp))


def test_population_plackett_luce_reaches_the_optimum() -> None:
    ref, reward = answers(4)
    orders = torch.tensor(list(itertools.permutations(range(4))))
    u = reward[orders]
    p = torch.stack([u[:, k] - u[:, k:].logsumexp(1) for k in range(4)]).sum(0).exp()
    assert p.sum().item() == pytest.approx(1.0)
    loss = get_ranking_loss("plackett_luce", beta=BETA)
    there = torch.ones(len(orders), 4).bool()
    found = least(lambda logp: (p * loss(RankedLogps(logp[orders], ref[orders], there))).sum(), 4)
    assert (found.exp() - optimum(ref, reward)).abs().sum() / 2 < 1e-6


@pytest.mark.parametrize("average", [True, False])
def test_ipo_has_no_gradient_at_its_margin(average: bool) -> None:
    n, k = 3.0, 7.0
    target = 1 / (2 * BETA)
    lp = one(target * (n if average else 1), 0.0, n=n, k=k)
    assert slopes("ipo", lp, beta=BETA, average=average) == pytest.approx((0.0, 0.0), abs=1e-12)
    off = one(target * (n if average else 1) * 1.01, 0.0, n=n, k=k)
    assert slopes("ipo", off, beta=BETA, average=average)[0] > 0  # beyond: drawn back


def test_hinge_stops_at_its_margin() -> None:
    assert slopes("hinge", one(1 / BETA + 0.01, 0.0), beta=BETA) == (0.0, 0.0)
    assert slopes("hinge", one(1 / BETA - 0.01, 0.0), beta=BETA) == pytest.approx((-BETA, BETA))


SLOPES: dict[str, Callable[[Tensor], Tensor]] = {  # f'(u), from the papers' table
    "reverse_kl": lambda u: u.log() + 1,
    "forward_kl": lambda u: -1 / u,
    "js": lambda u: (2 * u / (1 + u)).log(),
    "alpha": lambda u: (1 - u**-0.5) / 0.5,
}


@pytest.mark.parametrize("divergence", SLOPES)
def test_population_f_dpo_solves_its_lagrangian(divergence: str) -> None:
    ref, reward = answers()
    reward = 0.2 * reward  # so that f' can reach every r (it is bounded for two of them)
    i, j = torch.triu_indices(6, 6, 1)
    p = torch.sigmoid(reward[i] - reward[j])
    loss = get_preference_loss("f_dpo", beta=BETA, divergence=divergence, alpha=0.5)
    found = least(lambda logp: soft(loss, all_pairs(logp, ref), p).sum(), 6)
    left = BETA * SLOPES[divergence]((found - ref).exp()) - reward
    assert (left - left.mean()).abs().max() < 1e-5


def test_ld_dpo_lies_between_dpo_and_cut_answers() -> None:
    head = one(-3.0, -2.0, -4.0, -2.5)
    tail = one(0.0, -5.0, 0.0, -4.0, 0.0, 3.0)
    whole = PairLogps(
        *(getattr(head, x) + getattr(tail, x) for x in SUMS),
        torch.tensor([2.0]),
        torch.tensor([5.0]),
        lambda: tail,
    )  # fmt: skip
    dpo = get_preference_loss("dpo", beta=BETA)
    ld = [get_preference_loss("dpo", beta=BETA, ld_alpha=a)(whole).item() for a in (1.0, 0.5, 0.0)]
    assert ld[0] == dpo(whole).item()
    assert ld[2] == pytest.approx(dpo(head).item())
    half = -math.log(torch.sigmoid(torch.tensor(BETA * (1.0 - (0.5 - 0.5)), dtype=F64)).item())
    assert ld[1] == pytest.approx(half)  # r_l = (-2 + 2.5) + ½(-5 + 4) = 0


def test_wpo_is_weighted_dpo() -> None:
    lp = one(-4.0, -6.0, -5.0, -5.0, 2.0, 4.0)
    w = math.exp(-4 / 2 - 6 / 4)
    plain = slopes("dpo", one(-4.0, -6.0, -5.0, -5.0, 2.0, 4.0), beta=BETA)
    assert slopes("wpo", lp, beta=BETA) == pytest.approx(tuple(w * g for g in plain))
    aligned = PairLogps(
        *(
            x.detach()
            for x in (lp.policy_chosen, lp.policy_rejected, lp.ref_chosen, lp.ref_rejected)
        ),
        lp.chosen_tokens,
        lp.rejected_tokens,
        None,
        torch.tensor([-2.0], dtype=F64),
        torch.tensor([-3.0], dtype=F64),
    )
    raised = math.exp(-4 / 2 + 2 / 2 - 6 / 4 + 3 / 4)
    got = get_preference_loss("wpo", beta=BETA, alignment="sampled")(aligned)
    assert got.item() == pytest.approx(
        raised * get_preference_loss("dpo", beta=BETA)(aligned).item()
    )


def test_sppo_rests_at_both_targets() -> None:
    half = 1 / (2 * BETA)
    assert slopes("sppo", one(half, -half), beta=BETA) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert slopes("sppo", one(half - 0.1, -half), beta=BETA)[0] < 0


def test_nca_lifts_the_chosen_answer() -> None:
    for rejected in (-5.0, 0.0, 5.0):
        chosen, other = slopes("nca", one(-1.0, rejected), beta=BETA)
        assert chosen < 0 < other
    finite = math.log(2) / BETA  # -σ(-h) + ½σ(h) = 0 at σ(h) = 2/3
    assert slopes("nca", one(finite, 0.0), beta=BETA)[0] == pytest.approx(0.0, abs=1e-12)


def test_apo_moves_each_side_as_named() -> None:
    up, down = slopes("apo_zero", one(0.0, 0.0), beta=BETA)
    assert up < 0 < down
    # σ(βr_w) - σ(βΔ): once the margin is won the chosen answer falls too, and the rejected one more
    chosen, rejected = slopes("apo_down", one(1.0, -2.0), beta=BETA)
    assert chosen > 0
    assert rejected > 0
    near = slopes("apo_down", one(1.0, 0.9), beta=BETA)
    assert near[1] > near[0]
    assert near[1] > rejected


def test_exo_is_the_reverse_kl() -> None:
    lp, eps = all_pairs(*answers()), 0.1
    q = torch.stack([torch.sigmoid(BETA * lp.margin_B()), torch.sigmoid(-BETA * lp.margin_B())])
    label = torch.tensor([[1 - eps], [eps]], dtype=F64)
    kl = (q * (q / label).log()).sum(0)
    torch.testing.assert_close(get_preference_loss("exo", beta=BETA, label_smoothing=eps)(lp), kl)
    margin = math.log((1 - eps) / eps) / BETA
    assert slopes("exo", one(margin, 0.0), beta=BETA, label_smoothing=eps)[0] == pytest.approx(
        0, abs=1e-12
    )


def test_discopop_by_hand() -> None:
    lp, tau = all_pairs(*answers()), 0.3
    h = 0.4 * lp.margin_B()
    mu = torch.sigmoid(h / tau)
    expected = (1 - mu) * -torch.sigmoid(h).log() + mu * torch.exp(-h)
    torch.testing.assert_close(
        get_preference_loss("discopop", beta=0.4, temperature=tau)(lp), expected
    )


@pytest.mark.parametrize("tau", [0.05, 0.11])
def test_discopop_starts_backwards(tau: float) -> None:
    slope = slopes("discopop", one(0.0, 0.0), beta=BETA, temperature=tau)[0]
    assert slope == pytest.approx(BETA * ((1 - math.log(2)) / (4 * tau) - 0.75))
    assert (slope > 0) == (tau < 0.102)


def test_simpo_is_dpo_on_means_with_a_margin() -> None:
    lp = one(-6.0, -9.0, n=3.0, k=4.0)  # reference 0: uniform
    by_dpo = -math.log(torch.sigmoid(torch.tensor(2.0 * (-2.0 + 2.25) - 0.5, dtype=F64)).item())
    assert get_preference_loss("simpo", beta=2.0, gamma=0.5)(lp).item() == pytest.approx(by_dpo)
    plain = get_preference_loss("simpo", beta=2.0, gamma=0.0)(lp)
    torch.testing.assert_close(
        plain, get_preference_loss("dpo", beta=2.0, length_normalized=True)(lp)
    )


def test_cpo_is_dpo_without_reference_plus_sft() -> None:
    lp = one(-6.0, -9.0, n=3.0, k=4.0)
    expected = get_preference_loss("dpo", beta=BETA)(lp) + 0.5 * 6.0 / 3
    torch.testing.assert_close(get_preference_loss("cpo", beta=BETA, alpha=0.5)(lp), expected)


@pytest.mark.parametrize("m", ["-1e-9", "-0.01", "-0.6931471805599453", "-2.5", "-40", "-600"])
def test_log_odds_are_exact_at_both_ends(m: str) -> None:
    getcontext().prec = 60
    exact = Decimal(m) - (1 - Decimal(m).exp()).ln()
    got = _log_odds(torch.tensor([float(m)], dtype=F64)).item()
    assert got == pytest.approx(float(exact), rel=1e-12)


def labelled(policy: list[float], label: list[int], kl: float = 0.0) -> LabelledLogps:
    values = torch.tensor(policy, dtype=F64)
    zero = torch.zeros_like(values)
    return LabelledLogps(values, zero, zero + kl, zero, torch.tensor(label))


def test_kto_weighs_against_its_reference_point() -> None:
    loss = get_unpaired_loss("kto", beta=BETA, desirable_weight=2.0, undesirable_weight=3.0)
    got = loss(labelled([1.0, 1.0], [1, 0], kl=0.4)).tolist()
    gain = 1 / (1 + math.exp(-BETA * 0.6))
    assert got == pytest.approx([2.0 * (1 - gain), 3.0 * gain])
    floor = loss(labelled([1.0, 1.0], [1, 0], kl=-0.4)).tolist()  # z0 is never below 0
    assert floor == loss(labelled([1.0, 1.0], [1, 0], kl=0.0)).tolist()


def test_bco_ignores_a_constant() -> None:
    loss = get_unpaired_loss("bco", beta=BETA)
    first = loss(labelled([1.0, 2.0, -1.0], [1, 1, 0]))
    torch.testing.assert_close(first, loss(labelled([8.0, 9.0, 6.0], [1, 1, 0])))
    delta = BETA * ((1.0 + 2.0) / 2 - 1.0) / 2
    by_hand = [
        math.log(1 + math.exp(-(BETA * r - delta) * s)) for r, s in ((1, 1), (2, 1), (-1, -1))
    ]
    assert first.tolist() == pytest.approx(by_hand)
