"""Checks of a training on a policy's own answers (PPO, RLOO, GRPO, …), by its log."""

from __future__ import annotations

import itertools
import math

from accord.pipeline.doctor.base import Finding, StageRecord, Unseen, check, finding, strength

__all__: list[str] = []

ONLINE = ("online",)
UNPENALISED = ("online_dpo", "best_of_n")  # kl.beta is not used there
HARDLY, ENOUGH = 0.05, 100  # of what a reward model read; so many answers are some, of however many


def _per_token(case: StageRecord) -> float:
    """KL from the reference at the end, nats per token."""
    kl = case.late("kl_k3") if case.logged("kl_k3") else case.late("kl")
    return kl / max(1.0, case.late("length"))


@check("unread_policy", of=ONLINE)
def unread_policy(case: StageRecord) -> Finding | None:
    """The reward model has hardly read an answer of the policy that follows it."""
    read, init = case.facts.get("read"), case.config.get("init")
    if not read:
        raise Unseen
    model, (own, n) = min(read.items(), key=lambda item: item[1][0] / item[1][1])
    some = min(HARDLY * n, ENOUGH)
    return finding(
        case,
        0.5 * strength(some - own, 0.0, some),
        cause="the reward model has not read what this policy writes",
        number=f"{own} of the {n} answers {model} learned from are {init}'s own",
        change=f"have {init}'s own answers judged (a stage of kind ask) and train {model} on those",
        test=f"accord reward probe RUN:{model}",
    )


@check("kl_runaway", of=ONLINE)
def kl_runaway(case: StageRecord) -> Finding | None:
    """The policy leaves its reference and does not stop."""
    per_token, beta = _per_token(case), case.late("beta")
    kl = per_token * max(1.0, case.late("length"))
    more = max(0.1, 5 * beta) if beta > 0 else 0.1
    return finding(
        case,
        strength(per_token, 0.3, 1.0),
        cause="the KL runs away: β or the step is wrong",
        number=f"{kl:.3g} nats per answer (k3), {per_token:.2g} per token, at β {beta:.3g}",
        change="raise β, hold it to a target, lower the learning rate",
        line=f"kl: {{beta: {more:.2g}, budget: 20.0}}",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.kl.beta={more:.2g}",
    )


def _silent(case: StageRecord) -> float:
    """The share of prompts whose answers are paid alike. A step has few: over the last half of the log."""
    shares = case.logged("silent_groups")[-max(1, len(case.log) // 2) :]
    if not shares and len(case.logged("score")) > 3:
        spread = max(case.logged("score")) - min(case.logged("score"))
        return 1.0 if spread < 1e-9 else math.nan
    return sum(shares) / len(shares) if shares else math.nan


@check("silent_groups", of=ONLINE)
def silent_groups(case: StageRecord) -> Finding | None:
    """All answers of a prompt are paid alike: nothing is learned from it."""
    share = _silent(case)
    return finding(
        case,
        strength(share, 0.6, 0.95),
        cause="the reward does not tell a prompt's answers apart",
        number=f"{share:.0%} of groups are paid alike",
        change="more answers a prompt, harder prompts, a finer reward",
        line="n: 8",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.n=8",
    )


@check("penalty_outweighs", of=ONLINE)
def penalty_outweighs(case: StageRecord) -> Finding | None:
    """What β takes for the KL that sampling and rounding make is more than the reward ever gave."""
    scores, kl = case.logged("score"), case.late("kl_k3")
    if len(scores) < 8 or math.isnan(kl) or case.config.get("scale_rewards"):
        raise Unseen  # scaled scores are not what is logged
    if case.config.get("kind") in UNPENALISED:
        raise Unseen
    if _silent(case) > 0.6:
        return None  # beside a reward that tells nothing apart any β is large: that is told already
    beta, rise = case.late("beta"), case.late("score") - case.early("score")
    noise = math.sqrt(sum((b - a) ** 2 for a, b in itertools.pairwise(scores)) / 2 / len(scores))
    taken = beta * kl / max(rise, noise, 1e-9)
    return finding(
        case,
        strength(math.log10(max(taken, 1e-9)), 0.0, 1.0),
        cause="β holds the policy still: its penalty outweighs the reward",
        number=f"β {beta:.3g} takes {beta * kl:.2g} for {kl:.2g} nats an answer (k3); the score rose by "
        f"{rise:.2g}, and varies by {noise:.2g} from step to step",
        change="lower β tenfold, or let it follow a target",
        line=f"kl: {{beta: {beta / 10:.2g}}}",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.kl.beta={beta / 10:.2g}",
    )


@check("answers_cut", of=ONLINE)
def answers_cut(case: StageRecord) -> Finding | None:
    """Answers that the limit ends are paid as if they were whole."""
    share = case.late("truncation_rate")
    how = case.config.get("missing_eos") or {}
    paid = how.get("treatment", "leave") == "leave"
    # of an untrained model that has never ended an answer the rate says nothing of this run
    grew = share - case.early("truncation_rate")
    return finding(
        case,
        strength(share, 0.3, 0.7) if paid else -1.0,
        cause="cut-off answers are paid like whole ones",
        number=f"{share:.0%} of answers end at max_new_tokens ({grew:+.0%} since the start)",
        change="raise max_new_tokens, and let a missing end cost something",
        line="missing_eos: {treatment: penalty, value: 1.0}",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.missing_eos.treatment=penalty",
    )


@check("entropy_collapse", of=ONLINE)
def entropy_collapse(case: StageRecord) -> Finding | None:
    """The policy says one thing: there is nothing left to learn from."""
    entropy = case.logged("entropy")
    if len(entropy) < 4 or entropy[0] <= 0:
        raise Unseen
    left = case.late("entropy") / entropy[0]
    return finding(
        case,
        strength(-left, -0.3, -0.05),
        cause="the policy has lost its entropy",
        number=f"{entropy[0]:.3g} nats per token at the start, {case.late('entropy'):.2g} at the end",
        change="an entropy bonus, a higher β, fewer epochs a step",
        line="entropy: 0.01",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.entropy=0.01",
    )


@check("value_misleads", of=ONLINE)
def value_misleads(case: StageRecord) -> Finding | None:
    """The value model foresees less than the mean would."""
    fit = case.late("explained_variance")
    if len(case.logged("explained_variance")) < 8:
        raise Unseen
    if _per_token(case) > 0.3:
        return None  # of a policy that runs away it foresees nothing: that is told already
    return finding(
        case,
        strength(-fit, 0.5, 3.0),
        cause="the value model misleads",
        number=f"explained variance {fit:.2g} at the end (0 is no better than the mean)",
        change="raise value_lr, scale rewards",
        line="scale_rewards: true",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.scale_rewards=true",
    )


@check("reward_wide", of=ONLINE)
def reward_wide(case: StageRecord) -> Finding | None:
    """Rewards so large that β is nothing beside them."""
    scores = case.logged("score")
    if len(scores) < 3:
        raise Unseen
    if case.config.get("scale_rewards"):
        return None
    middle = sum(scores) / len(scores)
    spread = math.sqrt(sum((x - middle) ** 2 for x in scores) / len(scores))
    size = max(spread, case.late("advantage_abs") if case.logged("advantage_abs") else 0.0)
    return finding(
        case,
        strength(math.log10(max(size, 1e-9)), 1.0, 2.0),
        cause="the reward's scale is far too wide for β",
        number=f"scores vary by {size:.3g} from step to step",
        change="scale rewards, or their weights",
        line="scale_rewards: true",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.scale_rewards=true",
    )


@check("other_sampler", of=ONLINE)
def other_sampler(case: StageRecord) -> Finding | None:
    """What answers (a server) is not what trains: their log-probs of one answer differ."""
    gap = max(case.logged("sampler_gap_mean"), default=math.nan)
    return finding(
        case,
        strength(gap, 0.05, 0.5),
        cause="what samples is not what trains",
        number=f"the sampler's log-probs are {gap:.2g} nats a token off the trainer's",
        change="serve what is trained (reload); the same template, dtype and temperature everywhere",
        line="reload: http://host:8000/v1/load_lora_adapter" if case.config.get("sampler") else "",
        test=f"accord run RECIPE --only {case.name} --fresh --set {case.name}.steps=1",
    )


@check("step_too_large", of=ONLINE)
def step_too_large(case: StageRecord) -> Finding | None:
    """Most tokens leave the bounds of the ratio within a step."""
    return finding(
        case,
        strength(case.late("clip_fraction"), 0.35, 1.0),
        cause="updates are too large: learning rate or epochs",
        number=f"{case.late('clip_fraction'):.0%} of tokens are clipped",
        change="lower lr, fewer epochs, stop_kl",
        line="stop_kl: 0.05",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.epochs=1",
    )
