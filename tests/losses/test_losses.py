"""Closed forms, golden values and properties of every registered loss."""

from __future__ import annotations

import itertools
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from accord.core.errors import ConfigError
from accord.losses import (
    LabelledLogps,
    PairLogps,
    PairScores,
    RankedLogps,
    choose_loss,
    get_preference_loss,
    get_ranking_loss,
    get_reward_loss,
    get_unpaired_loss,
    preference_losses,
    ranking_losses,
    reward_losses,
    soft,
    unpaired_losses,
)

F64 = torch.float64
GOLDEN = Path(os.environ.get("ACCORD_SHARED", "../shared")) / "golden" / "losses.json"


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
    parts = [{"name": "dpo", "beta": 0.5}, {"name": "sft", "weight": 0.2}]
    kept = get_preference_loss("mix", parts=parts)
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


MIXED = {"parts": [{"name": "dpo", "beta": 0.3}, {"name": "sft", "weight": 0.2}]}
NEEDS = {"mix": MIXED}  # losses with a hyperparameter that has no default
VARIANTS = [  # forms of a loss that its defaults do not reach
    ("dpo", {"beta": 0.3, "label_smoothing": 0.2}),
    ("dpo", {"beta": 5.0, "length_normalized": True}),
    ("dpo", {"ld_alpha": 0.3}),
    ("ipo", {"average": False}),
    ("wpo", {"alignment": "sampled"}),
    ("f_dpo", {"divergence": "forward_kl"}),
    ("f_dpo", {"divergence": "alpha"}),
    ("f_dpo", {"divergence": "alpha", "alpha": 1e-6}),
    ("f_dpo", {"divergence": "reverse_kl"}),
    ("simpo", {"beta": 10.0, "gamma": 5.0}),
    ("cpo", {"alpha": 0.0, "label_smoothing": 0.2}),
    ("mix", {"parts": [{"name": "simpo"}, {"name": "ipo", "weight": 3.0}]}),
]
EVERY = [(name, NEEDS.get(name, {})) for name in preference_losses.names()] + VARIANTS
DETACHED = {"wpo"}  # a weight without gradient: finite differences see it, the gradient must not


def ends(reach: float = 1e4) -> PairLogps:
    """Pairs at the ends of what fp32 log-probs can be, and one whose answers are certain."""
    columns = [(-1 - reach, -1.0, -1.0, -1.0), (-1.0, -1 - reach, -1.0, -1.0), (0.0, 0.0, 0.0, 0.0)]
    columns += [(-1.0, -1.0, -1 - reach, -1.0), (-1.0, -1.0, -1.0, -1 - reach)]
    values = [torch.tensor(c) for c in zip(*columns, strict=True)]
    return PairLogps(*values, torch.full((5,), 3.0), torch.full((5,), 5.0))


def whole(lp: PairLogps) -> PairLogps:
    """With what two losses read more: tails that are a third of the sums, collisions below the log-probs."""

    def tail() -> PairLogps:
        columns = (lp.policy_chosen, lp.policy_rejected, lp.ref_chosen, lp.ref_rejected)
        return PairLogps(*(x / 3 for x in columns), lp.chosen_tokens, lp.rejected_tokens)

    return replace(
        lp, tail=tail, collision_chosen=-lp.chosen_tokens, collision_rejected=-lp.rejected_tokens
    )


@pytest.mark.parametrize(("name", "hyper"), EVERY)
def test_preference_contract(name: str, hyper: dict[str, object]) -> None:
    """Shape [B], value and gradient finite at ±1e4 in fp32, gradient equal to finite differences."""
    loss = get_preference_loss(name, **hyper)
    assert loss(whole(random_pairs())).shape == (16,)
    extreme = whole(ends())
    extreme.policy_chosen.requires_grad_()
    extreme.policy_rejected.requires_grad_()
    values = loss(extreme)
    values.sum().backward()
    for tensor in (values, extreme.policy_chosen.grad, extreme.policy_rejected.grad):
        assert tensor is None or torch.isfinite(tensor).all()
    base = random_pairs(4, spread=5.0)

    def of(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
        rest = (base.ref_chosen, base.ref_rejected, base.chosen_tokens, base.rejected_tokens)
        return loss(whole(PairLogps(chosen, rejected, *rest)))

    inputs = (base.policy_chosen.requires_grad_(), base.policy_rejected.requires_grad_())
    if name not in DETACHED:
        assert torch.autograd.gradcheck(of, inputs)


def test_alpha_divergence_tends_to_dpo() -> None:
    lp = PairLogps(
        *(x.float() for x in vars(random_pairs()).values() if isinstance(x, torch.Tensor))
    )
    near = get_preference_loss("f_dpo", beta=0.3, divergence="alpha", alpha=1e-7)(lp)
    torch.testing.assert_close(near, get_preference_loss("dpo", beta=0.3)(lp), atol=1e-4, rtol=1e-4)


def test_one_answer_is_not_its_own_baseline() -> None:
    one = torch.zeros(1)
    for name in ("kto", "bco"):
        with pytest.raises(ConfigError, match="a batch of 1 has no mean to compare with"):
            get_unpaired_loss(name)(LabelledLogps(one, one, one, one, one))
        with pytest.raises(ConfigError, match="a batch of"):
            get_unpaired_loss("kto")(LabelledLogps(one, one, one[:0], one[:0], one))


@pytest.mark.parametrize(("name", "hyper"), EVERY)
def test_a_loss_that_needs_no_reference_does_not_read_it(
    name: str, hyper: dict[str, object]
) -> None:
    lp = whole(random_pairs())
    nan = torch.full_like(lp.ref_chosen, torch.nan)
    blind = replace(lp, ref_chosen=nan, ref_rejected=nan)
    chosen = choose_loss({"name": name, **hyper})
    assert torch.isfinite(chosen.function(blind)).all() != chosen.facts["needs_reference"]


def sides(lp: PairLogps) -> PairLogps:
    """The same pairs, each judged the other way."""
    turned = (lp.policy_rejected, lp.policy_chosen, lp.ref_rejected, lp.ref_chosen)
    return PairLogps(*turned, lp.rejected_tokens, lp.chosen_tokens)


UNEVEN = {"apo_down", "mix"}  # lower both answers; sft within lifts the chosen one
BACKWARDS = [("discopop", {})]  # as published; not above a temperature of (1 - log 2)/3


@pytest.mark.parametrize(
    ("name", "hyper"), [x for x in EVERY if x not in BACKWARDS] + [("discopop", {"temperature": 0.11})]
)  # fmt: skip
def test_coin_flips_prefer_neither_answer_and_a_preference_its_own(
    name: str, hyper: dict[str, object]
) -> None:
    """Where training starts, a pair that is judged once each way moves neither answer (a loss without
    reference, of answers as likely and as long: neither past the other); judged one way its margin rises."""
    anchored = choose_loss({"name": name, **hyper}).facts["needs_reference"]
    lp = random_pairs()
    if not anchored or name == "mix":
        same = {"policy_rejected": lp.policy_chosen.clone(), "rejected_tokens": lp.chosen_tokens}
        lp = replace(lp, **same)
    both = (lp.policy_chosen, lp.policy_rejected)
    lp = replace(lp, ref_chosen=both[0].clone(), ref_rejected=both[1].clone())
    leaves = [x.requires_grad_() for x in both]
    slopes = [
        torch.autograd.grad(
            get_preference_loss(name, **hyper)(whole(some)).sum(), leaves,
            allow_unused=True, materialize_grads=True,
        )
        for some in (lp, sides(lp))
    ]  # fmt: skip
    assert (slopes[0][0] < slopes[0][1]).all()
    left = [one + other for one, other in zip(*slopes, strict=True)]
    nought = torch.zeros_like(left[0])
    torch.testing.assert_close(left[0] - left[1], nought, atol=1e-12, rtol=0)
    if anchored and name not in UNEVEN:
        torch.testing.assert_close(left[0], nought, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", unpaired_losses.names())
def test_coin_flips_of_single_answers_move_none(name: str) -> None:
    start = random_labelled(8)
    start = replace(start, ref=start.policy.clone(), kl_ref=start.kl_policy.clone())
    start.policy.requires_grad_()
    loss = get_unpaired_loss(name)
    grads = [
        torch.autograd.grad(loss(replace(start, label=label)).sum(), start.policy)[0]
        for label in (start.label, 1 - start.label)
    ]
    assert (grads[0][start.label == 1] < 0).all()
    assert (grads[0][start.label == 0] > 0).all()
    torch.testing.assert_close(grads[0] + grads[1], torch.zeros(8, dtype=F64))


@pytest.mark.parametrize("name", ranking_losses.names())
def test_rankings_in_every_order_move_no_answer(name: str) -> None:
    ref = torch.randn(3, dtype=F64, generator=torch.Generator().manual_seed(4))
    policy, there = ref.clone().requires_grad_(), torch.ones(6, 3).bool()
    orders = torch.tensor(list(itertools.permutations(range(3))))
    get_ranking_loss(name)(RankedLogps(policy[orders], ref[orders], there)).sum().backward()
    torch.testing.assert_close(policy.grad, torch.zeros(3, dtype=F64))


@pytest.mark.parametrize("name", unpaired_losses.names())
def test_unpaired_contract(name: str) -> None:
    """Shape [B], finite at ±1e4, gradient by finite differences with the batch's mean held, and a
    batch cut in two gives the loss of the whole."""
    loss = get_unpaired_loss(name)
    lp = random_labelled(8)
    assert loss(lp).shape == (8,)
    big = torch.tensor([-1e4, 1e4, -1e4, 1e4], requires_grad=True)
    zero = torch.zeros(4)
    values = loss(LabelledLogps(big, zero, zero, zero, torch.tensor([1, 1, 0, 0])))
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(big.grad).all()  # type: ignore[arg-type]
    held = replace(lp, policy=lp.policy.clone())
    assert torch.autograd.gradcheck(
        lambda policy: loss(replace(lp, policy=policy, batch=held)), lp.policy.requires_grad_()
    )
    cut = [
        loss(LabelledLogps(lp.policy[s], lp.ref[s], lp.kl_policy, lp.kl_ref, lp.label[s], held))
        for s in (slice(0, 3), slice(3, 8))
    ]
    torch.testing.assert_close(torch.cat(cut), loss(lp))


def random_labelled(n: int) -> LabelledLogps:
    generator = torch.Generator().manual_seed(3)
    logps = [-20 * torch.rand(n, dtype=F64, generator=generator) for _ in range(4)]
    return LabelledLogps(*logps, torch.arange(n) % 2)


@pytest.mark.parametrize("name", ranking_losses.names())
def test_ranking_contract(name: str) -> None:
    """Shape [G], finite at ±1e4, right gradients, and padding takes no part."""
    loss = get_ranking_loss(name)
    generator = torch.Generator().manual_seed(4)
    policy, ref = (torch.randn(3, 4, dtype=F64, generator=generator) for _ in range(2))
    there = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    whole = loss(RankedLogps(policy, ref, there))
    assert whole.shape == (3,)
    short = loss(RankedLogps(policy[2:, :2], ref[2:, :2], there[2:, :2]))
    torch.testing.assert_close(whole[2:], short)
    big = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0]], requires_grad=True)
    values = loss(RankedLogps(big, torch.zeros(2, 3), torch.ones(2, 3).bool()))
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(big.grad).all()  # type: ignore[arg-type]
    of = lambda p: loss(RankedLogps(p, ref, there))  # noqa: E731
    assert torch.autograd.gradcheck(of, policy.requires_grad_())


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([], "mix.parts: List should have at least 1 item"),
        ([{"name": "dpoo"}], "mix.parts.name: unknown preference loss 'dpoo'"),
        ([{"name": "dpo", "betta": 1.0}], "unknown key 'betta'"),
        ([{"name": "sft", "weight": 0}], "weight of 'sft' must be a number > 0, not 0"),
        ([{"name": "sft", "weight": True}], "must be a number > 0, not True"),
    ],
)
def test_a_wrong_mix_names_its_part(parts: list[dict[str, object]], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        get_preference_loss("mix", parts=parts)
    assert told in str(error.value)


def test_a_mix_needs_what_its_parts_need() -> None:
    free = choose_loss({"name": "mix", "parts": [{"name": "simpo"}, {"name": "sft"}]})
    assert free.facts == {"needs_reference": False, "per_token": True, "collision": False}
    wpo = {"name": "wpo", "alignment": "sampled"}
    assert choose_loss({"name": "mix", "parts": [{"name": "sft"}, wpo]}).facts == {
        "needs_reference": True,
        "per_token": True,
        "collision": True,
    }


@pytest.mark.parametrize(
    "config", [{"name": "dpo", "ld_alpha": 0.5}, {"name": "wpo", "alignment": "sampled"}]
)
def test_a_loss_without_what_it_reads_says_so(config: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="reads"):
        choose_loss(config).function(random_pairs())


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


IN_FILE = {  # name in the golden file -> ours
    "dpo_norm": ("dpo", {"length_normalized": True}),
    "ipo_sum": ("ipo", {"average": False}),
    "ipo_average": ("ipo", {"average": True}),
}


@pytest.mark.shared_data
@pytest.mark.skipif(not GOLDEN.exists(), reason="no golden values beside the repository")
def test_golden_values() -> None:
    golden = json.loads(GOLDEN.read_text())
    columns = {k: torch.tensor(v, dtype=F64) for k, v in golden["pairs"].items()}
    labelled = {k: torch.tensor(v, dtype=F64) for k, v in golden["unpaired"].items()}
    for case in golden["cases"]:
        name, extra = IN_FILE.get(case["loss"], (case["loss"], {}))
        got = get_preference_loss(name, **case["hyper"], **extra)(PairLogps(**columns))
        expected = torch.tensor(case["expected"], dtype=F64)
        torch.testing.assert_close(
            got, expected, atol=1e-6, rtol=0, msg=lambda m, c=case: f"{c}: {m}"
        )
    for case in golden["unpaired_cases"]:
        got = get_unpaired_loss(case["loss"], **case["hyper"])(LabelledLogps(**labelled))
        torch.testing.assert_close(
            got, torch.tensor(case["expected"], dtype=F64), atol=1e-6, rtol=0
        )
    assert len(golden["cases"]) >= 14
    assert golden["unpaired_cases"]
