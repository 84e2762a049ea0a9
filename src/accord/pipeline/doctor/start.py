"""Whether policy and reference are one before the first update, by the first row of the log.

A row is logged of what the step measured before it updated: in the first, policy and reference are the same
weights, so that each margin and the KL are 0, DPO's loss is log 2 and each ratio is 1.
"""

from __future__ import annotations

import math

from accord.pipeline.doctor.base import Finding, StageRecord, Unseen, check, finding, strength

__all__: list[str] = []

LOG_2 = math.log(2)


@check("not_the_reference", of=("preference", "online"))
def not_the_reference(case: StageRecord) -> Finding | None:
    """The policy is not the reference at step 0."""
    return _offline(case) if case.of == "preference" else _online(case)


def _offline(case: StageRecord) -> Finding | None:
    """Before the first update policy and reference are one: every log-ratio and the KL are 0, DPO's loss is
    log 2 whatever its β and labels."""
    if not case.log or case.log[0].get("step", 1) > 1:  # a mean over the first steps
        raise Unseen
    dpo = ((case.config.get("loss") or {}).get("name") or "dpo") == "dpo"
    apart = ("margin",) * dpo + ("chosen_shift", "rejected_shift", "kl")
    first = {k: abs(float(case.log[0][k])) for k in apart if case.log[0].get(k) is not None}
    if not case.logged("chosen_shift"):
        raise Unseen
    loss = case.logged("loss")[0] if dpo and case.logged("loss") else LOG_2
    at = f"the loss is {loss:.4g} (log 2 is {LOG_2:.4g}), " if dpo else ""
    return finding(
        case,
        max(
            strength(max(first.values()), 0.01, 0.1),
            strength(abs(loss - LOG_2), 0.005, 0.05),  # logs are rounded
        ),
        cause="the policy is not the reference at step 0",
        number=f"before any update {at}log-ratios of answers are up to {max(first.values()):.3g} nats",
        change="compute the reference's log-probs with the weights and template that train; no dropout",
        test=f"accord run RECIPE --only {case.name} --fresh --set {case.name}.max_steps=1",
    )


def _online(case: StageRecord) -> Finding | None:
    """In the first step policy and reference are one, and in each step's first minibatch the policy is what
    it was when its answers were scored: the KL is 0, ratios are 1."""
    ratio = max(case.logged("first_ratio_gap"), default=math.nan)
    start = case.log and case.log[0].get("step", 1) <= 1
    kls = [
        float(case.log[0][k]) for k in ("kl", "kl_k3") if start and case.log[0].get(k) is not None
    ]
    first = max(map(abs, kls), default=math.nan)
    why = (
        "nothing may drop out while it trains; score and train with one dtype and template"
        if ratio > 0.02
        else "let the reference be the weights it begins from (init), with the same template and dtype"
    )
    return finding(
        case,
        max(strength(ratio, 0.02, 0.2), strength(first, 0.1, 1.0)),
        cause="the policy is not the reference at step 0"
        if not ratio > 0.02
        else "the policy that is updated is not the one that was scored",
        number=f"before any update the KL is {first:.2g} nats an answer, and of the first minibatches "
        f"ratios are off 1 by {ratio:.2g}",
        change=why,
        test=f"accord run RECIPE --only {case.name} --fresh --set {case.name}.steps=1",
    )
