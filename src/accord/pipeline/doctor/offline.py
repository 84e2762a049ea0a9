"""Checks of a training on data (SFT, reward model, preference), by its log and what it measured."""

from __future__ import annotations

import itertools
import math

from accord.core.types import Metric
from accord.pipeline.doctor.base import Finding, StageRecord, Unseen, check, finding, strength
from accord.pipeline.doctor.beta import began, loss_with, moved, rise, seen, setting

__all__: list[str] = []

LEARNS = ("sft", "reward", "preference")
CHANCE = math.log(2)
FEW = 20  # answers


@check("dead", of=LEARNS)
def dead(case: StageRecord) -> Finding | None:
    """No gradient reaches what trains: β = 0, a frozen adapter, nothing to train."""
    norms = case.logged("grad_norm")
    if len(norms) < 2:
        raise Unseen
    if max(norms) > 1e-6:
        return None
    why = (
        "β is 0" if case.beta == 0 else "what trains gets no gradient (frozen, or nothing differs)"
    )
    return finding(
        case,
        1.0,
        cause=f"nothing is learned: {why}",
        number=f"the largest gradient norm of {len(norms)} steps is {max(norms):.1g}",
        change="give β a value above 0; see that the adapter trains",
        line=f"loss: {loss_with(case, 0.1)}" if case.beta == 0 else "",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.max_steps=5 "
        f"--set {setting(case, 0.1) if case.beta == 0 else f'{case.name}.tune=full'}",
    )


def _blew_up(case: StageRecord) -> float:
    """Of a training that ended on a number that is not finite: how far gradients had grown until then."""
    norms = case.logged("grad_norm")
    if not case.facts.get("not finite") or len(norms) < 2:
        return -math.inf
    return strength(math.log10(max(norms[1:]) / max(norms[0], 1e-9)), 0.5, 1.0)


@check("learning_rate_low", of=LEARNS)
def learning_rate_low(case: StageRecord) -> Finding | None:
    """There are gradients, and nothing moves: neither the loss nor, of a preference, the log-probs."""
    losses, rate = case.logged("loss"), float(case.config.get("lr") or math.nan)
    if len(losses) < 8 or not case.logged("grad_norm"):
        raise Unseen
    if max(case.logged("grad_norm")) <= 1e-6:
        return None
    if case.of == "preference":
        if math.isnan(seen(case)) or case.beta == 0:
            raise Unseen
        still = min(strength(-moved(case), -0.01, -0.001), strength(-abs(seen(case)), -0.05, -0.01))
        number = f"log-probs moved by {moved(case):.2g} nats per token, βΔ is {seen(case):.2g}"
    else:
        fall = (case.early("loss") - case.late("loss")) / max(1e-9, abs(case.early("loss")))
        noise = _noise(losses)
        still = strength(-fall, -0.02, -0.002) if noise < 0.5 else -1.0
        if case.of == "reward":
            still = min(still, strength(-abs(case.late("loss") - CHANCE), -0.05, -0.01))
        number = f"the loss went from {case.early('loss'):.4g} to {case.late('loss'):.4g}"
    return finding(
        case,
        still,
        cause="the learning rate is too low, or there are too few steps",
        number=f"{number} in {len(losses)} steps at lr {rate:g}",
        change="raise the learning rate tenfold",
        line=f"lr: {rate * 10:.1g}",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.lr={rate * 10:.1g}",
    )


def _noise(values: list[float]) -> float:
    """Spread of a loss from step to step, in units of its mean."""
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    return sum(steps) / len(steps) / max(1e-9, abs(sum(values) / len(values)))


@check("learning_rate_high", of=LEARNS)
def learning_rate_high(case: StageRecord) -> Finding | None:
    """The loss rises beyond where it began; of a preference only where the policy went far too: a loss
    that blows up over a small movement was multiplied by β; one that never rises lets the policy go."""
    losses, rate = case.logged("loss"), float(case.config.get("lr") or math.nan)
    if len(losses) < 3 and not _blew_up(case) > -1:
        raise Unseen
    worst, first = rise(case), began(case)
    # of a run that broke off there are few rows, and their mean is noise
    late = case.late("loss") / max(first, 1e-3) if len(losses) >= 8 else -math.inf
    by = max(strength(rise(case, 5), 3.0, 8.0), strength(late, 1.5, 3.0), _blew_up(case))
    if case.of == "reward":  # a score that is the same for all has the loss of a coin
        second_half = losses[len(losses) // 2 :]
        worse = sum(second_half) / len(second_half) - max(CHANCE, began(case))  # of rankings more
        by = max(by, strength(worse, 0.15, 0.6) if len(losses) >= 12 else -1.0)
    if case.of == "preference" and not math.isnan(moved(case)):
        by = min(by, strength(moved(case), 0.3, 0.6))
        if (
            case.beta and not case.mixed
        ):  # what else is mixed in moves the policy too, and begins where its first batch is
            thrown = min(strength(-case.late("accuracy"), -0.85, -0.75), strength(worst, 1.2, 1.6))
            by = max(by, min(strength(moved(case), 0.5, 1.5), thrown))
    return finding(
        case,
        by,
        cause="the learning rate is too high: training diverges",
        number=f"the loss began at {first:.3g}, went up to {max(losses):.3g} and ended at "
        f"{case.late('loss'):.3g} (lr {rate:g})",
        change="lower the learning rate tenfold",
        line=f"lr: {rate / 10:.1g}",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.lr={rate / 10:.1g}",
    )


@check("not_finite", of=(*LEARNS, "online"))
def not_finite(case: StageRecord) -> Finding | None:
    """It ended on a number that is not finite, and gradients had not grown: a type, a kernel, a row."""
    error = case.facts.get("not finite")
    if not error and not case.logged("grad_norm"):
        raise Unseen
    if not error:
        return None
    return finding(
        case,
        min(0.4, -_blew_up(case)) if len(case.logged("grad_norm")) > 1 else 0.2,
        cause="numbers stop being finite, and gradients had not grown before",
        number=f"after {len(case.log)} steps",
        example=str(error),
        change="see the items named; float16 overflows where bfloat16 does not",
        test=f"accord run RECIPE --only {case.name} --fresh "
        f"--set {case.name}.{'steps' if case.of == 'online' else 'max_steps'}=5",
    )


@check("truncated", of=LEARNS)
def truncated(case: StageRecord) -> Finding | None:
    """Answers over max_completion: their ends, and all that decides there, are not seen."""
    # those that came cut off are counted with them, and told by `cut_answers`
    cut, came = (float(case.facts.get(k) or 0) for k in ("completions cut off", "came cut off"))
    n = cut - came
    total = sum(len(g.responses) for g in case.train) or float(case.facts.get("items") or 0)
    if not total:
        raise Unseen
    if not n:
        return None
    most = case.config.get("max_completion")
    return finding(
        case,
        strength(min(1.0, n / total), 0.05, 0.4),
        cause="answers are cut off in training",
        number=f"{n:.0f} of {total:.0f} answers are longer than max_completion ({most} tokens)",
        change="raise max_completion, or leave such rows out",
        line=f"max_completion: {2 * int(most)}" if most else "",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.max_completion={2 * int(most)} "
        f"--set {case.name}.max_steps=1"
        if most
        else "",
    )


@check("memorised", of=("reward", "preference"))
def memorised(case: StageRecord) -> Finding | None:
    """Right on what it trained on, a coin on what it has not seen."""
    held = case.metrics.get("accuracy")
    if not isinstance(held, Metric) or held.value is None or held.high is None or held.n < 20:
        raise Unseen
    by = (
        strength(case.late("accuracy") - held.high, 0.15, 0.35)
        if held.low is not None and held.low <= 0.5
        else -1.0
    )
    return finding(
        case,
        by,
        cause="pairs are memorised: labels say nothing of unseen prompts",
        number=f"accuracy {case.late('accuracy'):.2f} in training, {held} held out (0.5 is a coin)",
        change="fewer epochs, more or cleaner judgments",
        line="epochs: 1",
        test="accord trust STORE@SNAPSHOT",
    )


@check("overfit", of=("sft",))
def overfit(case: StageRecord) -> Finding | None:
    """The held-out loss rises while the training loss falls."""
    held = case.logged("eval/nll")
    if len(held) < 3:
        raise Unseen
    rise = held[-1] - min(held)
    return finding(
        case,
        strength(rise, 0.1, 0.5),
        cause="it is trained for too long",
        number=f"held-out loss {min(held):.3g} at its best, {held[-1]:.3g} at the end",
        change="fewer epochs",
        line="epochs: 1",
        test=f"accord run RECIPE --only {case.name} --set {case.name}.epochs=1",
    )


@check("reward_scale", of=("reward",))
def reward_scale(case: StageRecord) -> Finding | None:
    """Scores so far apart that a policy is told of nothing but the largest."""
    gap = abs(case.late("margin"))
    return finding(
        case,
        strength(gap, 12.0, 30.0),
        cause="the reward model's scores are far too wide",
        number=f"chosen and rejected are {gap:.3g} logits apart in training",
        change="fewer epochs or a lower learning rate; scale_rewards: true where it pays a policy",
        line="epochs: 1",
        test=f"accord reward probe RUN:{case.name}",
    )


@check("never_ends", of=("answers",))
def never_ends(case: StageRecord) -> Finding | None:
    """A policy whose answers only the limit ends: its end of turn was never trained, or is another's."""
    ends = [row["response"].get("finish") for row in case.answers]
    known = [e for e in ends if e]
    if case.name == "base":
        return None
    if len(known) < FEW:
        raise Unseen
    share = sum(e == "length" for e in known) / len(known)
    stage, most = case.config.get("stage"), case.config.get("max_new_tokens")
    return finding(
        case,
        strength(share, 0.4, 0.9),
        cause="answers do not end by themselves",
        number=f"{share:.0%} of {len(known)} answers were cut off at the limit",
        change="train on answers with their end of turn; raise max_new_tokens",
        line=f"max_new_tokens: {2 * int(most)}" if most else "",
        at=str(stage or ""),
        test=f"accord run RECIPE --only {stage} --set {stage}.max_new_tokens={2 * int(most)}"
        if most
        else "accord chat RUN:" + case.name,
    )


@check("other_base", of=("adapter",))
def other_base(case: StageRecord) -> Finding | None:
    """An adapter that names another base than it was trained on: served there, it is noise."""
    named, trained = case.facts.get("adapter_base"), case.facts.get("base")
    if not named or not trained:
        raise Unseen
    if str(named).rstrip("/") == str(trained).rstrip("/"):
        return None
    return finding(
        case,
        0.6,
        cause="the adapter names another base model than it was trained on",
        number=f"adapter_config.json: {named}; trained on {trained}",
        change="serve it on the base it was trained on; mend base_model_name_or_path",
    )
