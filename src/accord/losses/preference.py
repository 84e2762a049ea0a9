"""Preference losses: functions of log-probs, one value per pair, nothing averaged.

Legend: B pairs. Notation of the docstrings: r_w, r_l = log π/π_ref of the chosen and the rejected
answer, Δ = r_w - r_l, m_w, m_l = mean token log-probs of the policy, h = what a loss passes to σ.
A soft label p = P(chosen is better) needs no loss of its own: `soft` weighs a loss by p and the same
loss with the two sides swapped by 1 - p. docs/math.md derives each from the KL-regularised objective.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from accord.core.registry import NonNegative, Positive, Registry, UnitInterval
from accord.losses.logps import PairLogps

__all__ = ["get_preference_loss", "preference_loss", "preference_losses"]

preference_losses = Registry("preference loss")

Smoothing = Annotated[float, Field(ge=0.0, lt=0.5)]
EXP_MAX = 80.0  # e^80 is finite in fp32, with room for a product
Needs = bool | Callable[[Mapping[str, Any]], bool]  # always, or for some hyperparameters


def preference_loss(
    name: str, *, needs_reference: Needs, per_token: Needs = False, collision: Needs = False
) -> Callable[..., Callable[..., Tensor]]:
    """Register a loss `(lp: PairLogps, *, hyper…) -> loss_B`; its keyword parameters are its config.

    needs_reference: whether it reads ref_*; where not, training never computes a reference.
    per_token: whether it compares per-token means and not sums (margin and accuracy are then taken so too).
    collision: whether it reads collision_*.
    """
    return preference_losses.register(
        name, needs_reference=needs_reference, per_token=per_token, collision=collision
    )


def get_preference_loss(name: str, **hyper: Any) -> Callable[[PairLogps], Tensor]:
    """The loss called `name` with checked hyperparameters; ConfigError names a wrong key."""
    return preference_losses.make(name, **hyper)


def _logistic(h_B: Tensor, eps: float) -> Tensor:
    """-(1-ε) log σ(h) - ε log σ(-h): the cross-entropy of σ(h) against the label 1-ε."""
    return -(1 - eps) * F.logsigmoid(h_B) - eps * F.logsigmoid(-h_B)


@preference_loss("dpo", needs_reference=True, per_token=lambda h: h["length_normalized"])
def dpo(
    lp: PairLogps,
    *,
    beta: Positive = 0.1,
    label_smoothing: Smoothing = 0.0,
    length_normalized: bool = False,
    ld_alpha: UnitInterval = 1.0,
) -> Tensor:
    """Direct preference optimisation (Rafailov et al. 2023, eq. 7): -log σ(βΔ).

    label_smoothing ε is cDPO (Mitchell 2023, eq. 3): -(1-ε) log σ(βΔ) - ε log σ(-βΔ).
    length_normalized takes Δ of per-token means (Tülu 3, Lambert et al. 2024, eq. 6).
    ld_alpha α < 1 is LD-DPO (Liu et al. 2024, their L_LD-DPO): tokens beyond the length of the pair's
    shorter answer count α, under policy and reference alike.
    """
    if ld_alpha < 1.0:
        lp = _desensitised(lp, ld_alpha)
    return _logistic(
        beta * (lp.mean_margin_B() if length_normalized else lp.margin_B()), label_smoothing
    )


def _desensitised(lp: PairLogps, alpha: float) -> PairLogps:
    """The pairs with the log-probs of their tails scaled by alpha."""
    if lp.tail is None:
        raise ValueError("ld_alpha < 1 reads the log-probs beyond the shorter answer: give `tail`")
    tail, drop = lp.tail(), 1.0 - alpha
    return PairLogps(
        lp.policy_chosen - drop * tail.policy_chosen,
        lp.policy_rejected - drop * tail.policy_rejected,
        lp.ref_chosen - drop * tail.ref_chosen,
        lp.ref_rejected - drop * tail.ref_rejected,
        lp.chosen_tokens,
        lp.rejected_tokens,
    )


@preference_loss("robust", needs_reference=True)
def robust(lp: PairLogps, *, beta: Positive = 0.1, label_smoothing: Smoothing = 0.1) -> Tensor:
    """Robust DPO (Chowdhury et al. 2024, their L_rDPO): unbiased when a share ε of labels is flipped.

    [-(1-ε) log σ(βΔ) + ε log σ(-βΔ)] / (1-2ε); its expectation over flips is DPO's clean loss.
    Not bounded below, as in the paper.
    """
    h_B, eps = beta * lp.margin_B(), label_smoothing
    return (-(1 - eps) * F.logsigmoid(h_B) + eps * F.logsigmoid(-h_B)) / (1 - 2 * eps)


@preference_loss("ipo", needs_reference=True, per_token=lambda h: h["average"])
def ipo(lp: PairLogps, *, beta: Positive = 0.1, average: bool = True) -> Tensor:
    """Identity preference optimisation (Azar et al. 2023, eq. 17, β for τ): (Δ - 1/(2β))².

    `average: true` takes Δ of per-token means (the authors' advice for text), false of sums (the
    paper). The two want different β: a mean is smaller by the length.
    """
    delta_B = lp.mean_margin_B() if average else lp.margin_B()
    return (delta_B - 1 / (2 * beta)) ** 2


@preference_loss("hinge", needs_reference=True)
def hinge(lp: PairLogps, *, beta: Positive = 0.1) -> Tensor:
    """Hinge on the log-ratio margin: max(0, 1 - βΔ). SLiC-HF's rank loss (Zhao et al. 2023) in the
    reference-anchored form of RSO (Liu et al. 2023, hinge-norm); SLiC's cross-entropy term is a `mix`
    with sft."""
    return torch.relu(1 - beta * lp.margin_B())


@preference_loss("sppo", needs_reference=True)
def sppo(lp: PairLogps, *, beta: Positive = 0.1) -> Tensor:
    """Self-play preference optimisation with hard labels (Wu et al. 2024, eq. 4.7, η = 1/β):
    (r_w - 1/(2β))² + (r_l + 1/(2β))². A soft label goes through `soft`: the gradient of the paper's
    target η(P - 1/2)."""
    half = 1 / (2 * beta)
    return (lp.chosen_ratio_B() - half) ** 2 + (lp.rejected_ratio_B() + half) ** 2


@preference_loss("nca", needs_reference=True)
def nca(lp: PairLogps, *, beta: Positive = 0.1) -> Tensor:
    """Noise contrastive alignment, pairs (Chen et al. 2024, their L_NCA for K = 2):
    -log σ(βr_w) - ½ log σ(-βr_w) - ½ log σ(-βr_l): keeps the chosen answer's likelihood up."""
    won_B, lost_B = beta * lp.chosen_ratio_B(), beta * lp.rejected_ratio_B()
    return -F.logsigmoid(won_B) - 0.5 * F.logsigmoid(-won_B) - 0.5 * F.logsigmoid(-lost_B)


@preference_loss("apo_zero", needs_reference=True)
def apo_zero(lp: PairLogps, *, beta: Positive = 0.1) -> Tensor:
    """Anchored preference optimisation, zero (D'Oosterlinck et al. 2024, eq. 7): chosen answers up,
    rejected ones down; for chosen answers better than the model's own. 1 - σ(βr_w) + σ(βr_l)."""
    return torch.sigmoid(-beta * lp.chosen_ratio_B()) + torch.sigmoid(beta * lp.rejected_ratio_B())


@preference_loss("apo_down", needs_reference=True)
def apo_down(lp: PairLogps, *, beta: Positive = 0.1) -> Tensor:
    """Anchored preference optimisation, down (D'Oosterlinck et al. 2024, eq. 8): both down, rejected
    ones more; for a model better than the chosen answers. σ(βr_w) + 1 - σ(βΔ)."""
    return torch.sigmoid(beta * lp.chosen_ratio_B()) + torch.sigmoid(-beta * lp.margin_B())


@preference_loss("exo", needs_reference=True)
def exo(
    lp: PairLogps,
    *,
    beta: Positive = 0.1,
    label_smoothing: Annotated[float, Field(gt=0.0, lt=0.5)] = 1e-3,
) -> Tensor:
    """Efficient exact optimisation, pairs (Ji et al. 2024, eq. 16): the reverse KL
    KL(p_θ ‖ p) of p_θ = (σ(βΔ), σ(-βΔ)) from the smoothed label p = (1-ε, ε)."""
    h_B, eps = beta * lp.margin_B(), label_smoothing
    won_B = torch.sigmoid(h_B) * (F.logsigmoid(h_B) - math.log1p(-eps))
    return won_B + torch.sigmoid(-h_B) * (F.logsigmoid(-h_B) - math.log(eps))


@preference_loss("discopop", needs_reference=True)
def discopop(
    lp: PairLogps,
    *,
    beta: Positive = 0.05,
    temperature: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05,
) -> Tensor:
    """DiscoPOP, the log-ratio-modulated loss (Lu et al. 2024, eq. 5): with h = βΔ, μ = σ(h/τ),
    (1 - μ)·(-log σ(h)) + μ·exp(-h). The product μ·exp(-h) is taken in logs: it overflows otherwise.
    Where training starts, h = 0, its slope ((1 - log 2)/(4τ) - 3/4) is the wrong way for τ < 0.102, as
    published: a preference that all pairs share can be learned backwards. A larger temperature cures it.
    """
    h_B = beta * lp.margin_B()
    exponential_B = torch.exp(F.logsigmoid(h_B / temperature) - h_B)
    return torch.sigmoid(-h_B / temperature) * -F.logsigmoid(h_B) + exponential_B


@preference_loss("wpo", needs_reference=True, collision=lambda h: h["alignment"] == "sampled")
def wpo(
    lp: PairLogps,
    *,
    beta: Positive = 0.1,
    label_smoothing: Smoothing = 0.0,
    alignment: Literal["none", "sampled"] = "none",
) -> Tensor:
    """Weighted preference optimisation (Zhou et al. 2024, their L_WPO): DPO times w(y_w)·w(y_l), detached, at
    most 1; w(y) = exp(m): pairs the policy would itself write count more.

    alignment "sampled" (their section 3.2) divides each token's probability by Σ_v π(v)², what a
    token sampled from the policy would have, so that uncertain positions do not lower the weight.
    Weights come from per-token *means*: of sums they would be 0 for any real answer.
    """
    weight_B = lp.mean_chosen_B() + lp.mean_rejected_B()
    if alignment == "sampled":
        if lp.collision_chosen is None or lp.collision_rejected is None:
            raise ValueError("alignment 'sampled' reads collision_chosen and collision_rejected")
        weight_B = weight_B - lp.collision_chosen / lp.chosen_tokens
        weight_B = weight_B - lp.collision_rejected / lp.rejected_tokens
    weight_B = weight_B.clamp(max=0.0).exp().detach()
    return weight_B * _logistic(beta * lp.margin_B(), label_smoothing)


@preference_loss("f_dpo", needs_reference=True)
def f_dpo(
    lp: PairLogps,
    *,
    beta: Positive = 0.1,
    divergence: Literal["reverse_kl", "forward_kl", "js", "alpha"] = "js",
    alpha: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5,
    label_smoothing: Smoothing = 0.0,
) -> Tensor:
    """DPO under another divergence from the reference (Wang et al. 2023, table 1):
    -log σ(β f'(u_w) - β f'(u_l)), u = π/π_ref = e^r. reverse_kl is DPO: f' = log u; forward_kl: -1/u;
    js: log 2u/(1+u); alpha: (1 - u^-α)/α, DPO for α -> 0. Constants cancel. Exponents are capped at e^80."""
    won_B, lost_B = (
        _slope(r, divergence, alpha) for r in (lp.chosen_ratio_B(), lp.rejected_ratio_B())
    )
    return _logistic(beta * (won_B - lost_B), label_smoothing)


def _slope(r_B: Tensor, divergence: str, alpha: float) -> Tensor:
    """f'(u) of the divergence at log u = r, up to a constant."""
    if divergence == "forward_kl":
        return -torch.exp((-r_B).clamp(max=EXP_MAX))
    if divergence == "js":
        return F.logsigmoid(r_B)  # log u/(1+u)
    if divergence == "alpha":
        return -torch.expm1((-alpha * r_B).clamp(max=EXP_MAX)) / alpha
    return r_B


@preference_loss("simpo", needs_reference=False, per_token=True)
def simpo(lp: PairLogps, *, beta: Positive = 2.0, gamma: NonNegative = 1.0) -> Tensor:
    """SimPO (Meng et al. 2024, eq. 6): -log σ(β(m_w - m_l) - γ). γ is the margin in logits, not the
    paper's ratio γ/β."""
    return -F.logsigmoid(beta * (lp.mean_chosen_B() - lp.mean_rejected_B()) - gamma)


@preference_loss("orpo", needs_reference=False, per_token=True)
def orpo(lp: PairLogps, *, lam: NonNegative = 0.1) -> Tensor:
    """Odds-ratio preference optimisation (Hong et al. 2024, eq. 6-7):
    -m_w - λ log σ(log odds_w - log odds_l), odds = p/(1-p) of p = exp(m).

    The first term is SFT on the chosen completion (TRL's also covers the prompt). log(1-p) is an exact
    log1mexp: naive forms are -inf for confident answers.
    """
    odds_B = _log_odds(lp.mean_chosen_B()) - _log_odds(lp.mean_rejected_B())
    return -lp.mean_chosen_B() - lam * F.logsigmoid(odds_B)


def _log_odds(m_B: Tensor) -> Tensor:
    """log p/(1-p) for log p = m <= 0, without cancellation at either end."""
    m_B = m_B.clamp(max=-torch.finfo(m_B.dtype).eps)
    near_B = m_B > -math.log(2.0)  # p > 1/2
    # each branch sees only what it is good for: the other's gradient is inf·0 otherwise
    by_expm1_B = torch.log(-torch.expm1(torch.where(near_B, m_B, -1.0)))
    by_log1p_B = torch.log1p(-torch.exp(torch.where(near_B, -1.0, m_B)))
    return m_B - torch.where(near_B, by_expm1_B, by_log1p_B)


@preference_loss("cpo", needs_reference=False)
def cpo(
    lp: PairLogps,
    *,
    beta: Positive = 0.1,
    alpha: NonNegative = 1.0,
    label_smoothing: Smoothing = 0.0,
) -> Tensor:
    """Contrastive preference optimisation (Xu et al. 2024, eq. 3): DPO with a uniform reference plus α
    times SFT: -log σ(β(log π_w - log π_l)) - α m_w. The SFT term is a mean per token."""
    h_B = beta * (lp.policy_chosen - lp.policy_rejected)
    return _logistic(h_B, label_smoothing) - alpha * lp.mean_chosen_B()


@preference_loss("sft", needs_reference=False, per_token=True)
def sft(lp: PairLogps) -> Tensor:
    """Mean negative log-likelihood of the chosen answer's tokens: a part for `mix` (Pang et al. 2024,
    eq. 1), which keeps the chosen answer from losing probability together with the rejected one."""
    return -lp.mean_chosen_B()


def _part(config: Mapping[str, Any]) -> tuple[float, Mapping[str, Any], Any]:
    """Weight, facts and bound function of one part of a mix."""
    rest = {key: value for key, value in config.items() if key != "weight"}
    entry, function = preference_losses.configured(rest, "mix.parts")
    return float(config.get("weight", 1.0)), entry.known(function.keywords), function


def _checked(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for part in parts:
        weight = part.get("weight", 1.0)
        if (
            isinstance(weight, bool)
            or not isinstance(weight, int | float)
            or not 0 < weight < math.inf
        ):
            raise ValueError(f"weight of {part.get('name')!r} must be a number > 0, not {weight!r}")
        _part(part)  # ConfigError for a wrong name or key
    return parts


MixtureParts = Annotated[list[dict[str, Any]], Field(min_length=1), AfterValidator(_checked)]


@preference_loss(
    "mix",
    needs_reference=lambda h: any(_part(p)[1]["needs_reference"] for p in h["parts"]),
    per_token=lambda h: _part(h["parts"][0])[1]["per_token"],
    collision=lambda h: any(_part(p)[1]["collision"] for p in h["parts"]),
)
def mix(lp: PairLogps, *, parts: MixtureParts) -> Tensor:
    """Weighted sum of losses: `parts: [{name: dpo, beta: 0.1}, {name: sft, weight: 0.2}]`. Margin and
    accuracy are the first part's."""
    terms = [weight * loss(lp) for weight, _, loss in map(_part, parts)]
    return torch.stack(terms).sum(0)
