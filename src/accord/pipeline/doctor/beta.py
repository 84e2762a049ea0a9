"""How far a preference training went and what its loss saw of that: β, and likelihood displacement.

DPO's margin Δ is in nats of log-ratio, and βΔ is what its loss sees: which of movement (shift, KL) and
saturation (βΔ) there is tells β from the learning rate.
"""

from __future__ import annotations

import math
from statistics import median

import yaml

from accord.pipeline.doctor.base import Finding, StageRecord, Unseen, check, finding, strength

__all__ = ["began", "loss_with", "moved", "rise", "seen", "setting"]


def moved(case: StageRecord) -> float:
    """How far the policy went on the answers it was trained on, in nats per token: their log-probs' shift, or
    k3, which sees movement that sums cancel."""
    return max(shifted(case), case.late("kl") if case.logged("kl") else 0.0)


def shifted(case: StageRecord) -> float:
    """Their log-probs' shift alone, in nats per token: k3 is far where one rejected token is."""
    tokens = case.late("chosen_tokens")
    if math.isnan(tokens):  # another trainer's log: nats of whole answers say nothing of a token
        return math.nan
    shifts = [abs(case.late(k)) for k in ("chosen_shift", "rejected_shift")]
    return max(shifts) / max(1.0, tokens)


def began(case: StageRecord) -> float:
    """Where the loss began. A mixed one begins wherever its first batch is: of it, the first fifth."""
    several = case.of == "preference" and (case.mixed or not case.beta)
    return case.early("loss") if several else case.logged("loss")[0]


def rise(case: StageRecord, steps: int = 1) -> float:
    """How high the loss went and stayed for so many steps (their median), in units of where it began."""
    losses = case.logged("loss")
    if not losses:
        return math.nan
    ends = range(2, max(3, len(losses) - steps + 1))
    highest = max((median(losses[k : k + steps]) for k in ends if losses[k:]), default=math.nan)
    return highest / max(began(case), 1e-3)


def seen(case: StageRecord) -> float:
    """βΔ at the end: what the loss sees of the margin."""
    return (case.beta or math.nan) * case.late("margin")


def loss_with(case: StageRecord, beta: float | None, kept: float = 0.0) -> str:
    """The case's own loss with another β, in YAML; `kept`: so much more weight of a likelihood term."""
    loss = dict(case.config.get("loss") or {"name": "dpo"})
    first, *rest = loss["parts"] if case.mixed else [loss]
    if beta is not None:
        first = {**first, "beta": float(f"{beta:.2g}")}
    if kept:
        was = sum(float(p.get("weight", 1.0)) for p in rest if p.get("name") == "sft")
        rest = [p for p in rest if p.get("name") != "sft"]
        rest = [*rest, {"name": "sft", "weight": kept + was}]
    whole = {"name": "mix", "parts": [first, *rest]} if rest else first
    return str(yaml.safe_dump(whole, default_flow_style=True, sort_keys=False, width=10**6)).strip()


def setting(case: StageRecord, beta: float) -> str:
    """What `--set` is given for it."""
    if case.mixed:
        return f"'{case.name}.loss={loss_with(case, beta)}'"
    return f"{case.name}.loss.beta={beta:.2g}"


@check("beta_low", of=("preference",))
def beta_low(case: StageRecord) -> Finding | None:
    """Far from the reference, while the loss sees little of it: β doesn't hold the policy. Beside another
    loss, which moves it too: the preference next to unseen, so that it counts for nothing."""
    if not case.beta or math.isnan(seen(case)):
        raise Unseen
    more = max(0.1, case.beta * 10)
    if case.mixed:
        by = min(strength(-abs(seen(case)), -0.15, -0.05), strength(shifted(case), 0.05, 0.15))
        cause = "β is too low: beside the rest of the loss the preference counts for nothing"
    else:
        unheld = strength(-rise(case), -1.4, -1.1)  # a step too large is one that the loss sees
        unsaturated = strength(-abs(seen(case)), -3.0, -1.0)
        by = min(strength(moved(case), 0.5, 1.5), unsaturated, unheld)
        cause = "β is too low: the policy has left its reference"
    far = shifted(case) if case.mixed else moved(case)
    return finding(
        case,
        by,
        cause=cause,
        number=f"log-probs of answers moved by {far:.3g} nats per token; βΔ is "
        f"{seen(case):.2g} (β {case.beta:g})",
        change="raise β, or take fewer steps" if not case.mixed else "raise β",
        line=f"loss: {loss_with(case, more)}",
        test=f"accord run RECIPE --only {case.name} --set {setting(case, more)}",
    )


@check("beta_high", of=("preference",))
def beta_high(case: StageRecord) -> Finding | None:
    """The loss is satisfied (βΔ is large) before the policy has moved: it stays where it was. Beside another
    loss, which moves it too: satisfied many times over."""
    if not case.beta or math.isnan(seen(case)):
        raise Unseen
    by = min(strength(seen(case), 1.0, 2.0), strength(case.beta, 0.5, 1.5))
    cause = "β is too high: the policy stays at its reference"
    if case.mixed:
        by = min(by, strength(seen(case), 5.0, 12.0))
        cause = "β is too high: the preference is satisfied at once, and the rest of the loss goes on alone"
    else:
        by = min(by, strength(-moved(case), -0.3, -0.1))
    far = shifted(case) if case.mixed else moved(case)
    return finding(
        case,
        by,
        cause=cause,
        number=f"βΔ is {seen(case):.3g} already where log-probs moved by {far:.2g} nats per "
        f"token (β {case.beta:g})",
        change="lower β",
        line=f"loss: {loss_with(case, case.beta / 10)}",
        test=f"accord run RECIPE --only {case.name} --set {setting(case, case.beta / 10)}",
    )


@check("displacement", of=("preference",))
def displacement(case: StageRecord) -> Finding | None:
    """The chosen answers became less likely too (Razin et al. 2024)."""
    chosen, rejected = case.late("chosen_shift"), case.late("rejected_shift")
    if math.isnan(chosen) or not case.logged("chosen_tokens"):
        raise Unseen
    if case.late("margin") <= 0:
        return None
    kept = loss_with(case, case.beta, kept=1.0)
    fall = -chosen / max(1.0, case.late("chosen_tokens"))
    return finding(
        case,
        strength(fall, 0.3, 1.5),
        cause="chosen answers are unlearned along with rejected ones",
        number=f"log-prob of chosen {chosen:+.3g}, of rejected {rejected:+.3g} nats since the start",
        change="add a likelihood term, or leave out pairs whose two answers are nearly alike",
        line=f"loss: {kept}",
        test=f"accord run RECIPE --only {case.name} --set '{case.name}.loss={kept}'",
    )
