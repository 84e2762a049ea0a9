"""The report's sentences: what was asked, what came out, how to read each figure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.core.types import Metric
from accord.pipeline.report.gather import Outputs

__all__ = ["CURVES", "METRICS", "asked", "came_out", "number", "verdict"]

COLUMNS = {  # key: (title, what it is, is more better? None: neither)
    "gold": ("gold", "mean of the gold axes, from the shop's own rules, never from a model", True),
    "accuracy": ("accuracy", "no invented policy: every figure stands in the rules", True),
    "resolution": (
        "resolution",
        "states what was asked, or hands over what people must decide",
        True,
    ),
    "escalation": ("escalation", "handed to a person exactly when it must be", True),
    "tone": ("tone", "no rudeness", True),
    "length": ("brevity", "1 up to 20 words, 0 from 40, 0 when cut off", True),
    "reward": ("learned reward", "the reward model's score; reference answers average 0", True),
    "kl": ("KL", "log-ratio to the reference, nats per answer", None),
    "words": ("words", "words per answer", None),
}

CURVES: tuple[tuple[tuple[str, ...], str, str], ...] = (  # keys, name, how to read it
    (
        ("loss", "eval/loss"),
        "loss",
        "The training objective on each batch; it should fall and then level off.",
    ),
    (
        ("eval/nll",),
        "held-out loss",
        "Nats per held-out token; when it rises while the loss falls, the model memorises.",
    ),
    (
        ("accuracy", "eval/accuracy"),
        "accuracy",
        "Share of comparisons ordered as the raters did, by the margin below; of single answers (KTO, BCO) "
        "those on the right side of the reference point, held out of the midpoint of the two labels. 0.5 is "
        "a coin. Training far above held-out means overfitting.",
    ),
    (
        ("margin", "eval/margin"),
        "margin",
        "How far chosen is above rejected, as the loss compares them: in nats of log-ratio, of log-prob for "
        "a loss without a reference, per token where it takes means; in scores for a reward model. Of single "
        "answers: how far on the right side. It grows while the model separates the two sides.",
    ),
    (
        ("chosen_shift", "rejected_shift", "eval/chosen_shift", "eval/rejected_shift"),
        "shift from the start",
        "Change of the answers' log-probability since the start (nats). Both falling is likelihood "
        "displacement: the model moves away from chosen answers too, and may write neither.",
    ),
    (
        ("token_logp",),
        "log-prob per token",
        "How likely the demonstrations' tokens are on average (nats): the loss, unweighted, its sign turned.",
    ),
    (
        ("chosen_logp", "rejected_logp", "eval/chosen_logp", "eval/rejected_logp"),
        "log-prob per token",
        "How likely the model finds each side. A chosen side that falls steadily is unlearning to write.",
    ),
    (
        ("kl", "eval/kl"),
        "distance",
        "k3 per token on the given answers: 0 at the start, never negative. A gauge of how far the policy "
        "moved, not its KL (that wants its own answers). A steep late rise is over-optimisation.",
    ),
    (
        ("chosen_tokens", "rejected_tokens", "eval/chosen_tokens", "eval/rejected_tokens"),
        "length of what is preferred",
        "Tokens of the chosen and rejected answers. Where chosen is clearly longer, length itself is being "
        "preferred and will be learned.",
    ),
    (
        ("baseline",),
        "reference point",
        "The log-ratio that single answers are compared with: the mean of mismatched answers, at least 0 "
        "(KTO's z0), or halfway between the two labels (BCO). Rising fast, the policy moves on every "
        "answer alike.",
    ),
    (
        ("grad_norm",),
        "gradient norm",
        "Before clipping; spikes mean unstable batches or too high a learning rate.",
    ),
    (("lr",), "learning rate", "The schedule as it was run."),
)


METRICS = {  # a point's held-out metrics, as a table heads them: (title, what it is)
    "accuracy": (
        "accuracy",
        "share of held-out comparisons ordered as the raters did by the loss's own margin, or of answers on "
        "the right side of the midpoint (KTO, BCO); 0.5 is a coin",
    ),
    "margin": (
        "margin",
        "as the loss compares: nats of log-ratio or (no reference) log-prob; per token where it takes means",
    ),
    "chosen_shift": (
        "chosen shift",
        "change of the chosen answers' log-prob since the start, nats",
    ),
    "rejected_shift": (
        "rejected shift",
        "the same of the rejected ones; both below 0 is displacement",
    ),
    "kl": ("kl", "k3 per token on the given answers: how far the policy moved"),
    "chosen_tokens": ("chosen tokens", "length of the preferred answers"),
    "rejected_tokens": ("rejected tokens", "length of the others"),
    "loss": ("loss", "the training objective; not comparable between losses or β"),
}


def number(value: float | None) -> str:
    """Three significant digits, plain minus signs."""
    if value is None:
        return "undefined"
    return f"{value:.3g}".replace("-", "−")


def signed(m: Metric) -> str:
    """A difference with its sign, interval and n."""
    if m.value is None:
        return f"undefined ({m.note or 'no data'}), n={m.n}"
    sign = "+" if m.value >= 0 else ""
    interval = "" if m.low is None or m.high is None else f" [{number(m.low)}, {number(m.high)}]"
    return f"{sign}{number(m.value)}{interval}, n={m.n}"


def verdict(key: str, m: Metric, trusted: bool = True) -> str:
    """better, worse, changed or unclear: by whether the interval excludes 0. A reward that is not
    trusted may change, but more of it is not better."""
    if m.value is None or m.low is None or m.high is None or m.low <= 0 <= m.high:
        return "unclear"
    better_when_more = COLUMNS.get(key, (key, "", None))[2]
    if key == "reward" and not trusted:
        return "changed"
    if better_when_more is None:
        return "changed"
    return "better" if (m.value > 0) == better_when_more else "worse"


def asked(outputs: Outputs, recipe: Any) -> list[str]:
    """The recipe in sentences."""
    said = [f"Model: {recipe.model}. Seed: {recipe.seed}."]
    for data in outputs.data:
        of = f" of {data.name}" if len(outputs.data) > 1 else ""
        said.append(f"Judgments{of}: {data.result.headline}.")
    return said + [stage.section.asked for stage in outputs.stages if stage.section.asked]


def came_out(outputs: Outputs) -> list[dict[str, str]]:
    """What the numbers say, improvement or not, one sentence per step; `tone` colours it."""
    told = [_step(pair, row, outputs) for pair, row in outputs.differences.items()]
    told += [d for pair, row in outputs.differences.items() if (d := _disagreement(pair, row))]
    reward = outputs.reward
    if reward:
        told += [_reward_sentence(name, m) for name, m in reward.result.metrics.items()]
    told += [sentence for stage in outputs.stages for sentence in stage.section.came_out]
    if not told:
        for policy, row in outputs.table.items():
            m = row.get(outputs.main)
            if m:
                told.append({"tone": "unclear", "text": f"{policy}: {outputs.main} {m}."})
    return told


def _step(pair: str, row: Mapping[str, Metric], outputs: Outputs) -> dict[str, str]:
    after, _, before = pair.partition(" - ")
    main, trusted = outputs.main, outputs.trusted
    m = row.get(main)
    if m is None:
        return {"tone": "unclear", "text": f"{after} against {before}: not measured."}
    found = verdict(main, m, trusted)
    name = COLUMNS.get(main, (main,))[0]
    told = {
        "better": f"{after} improves on {before}: {name} {signed(m)} on the same prompts.",
        "worse": f"{after} is worse than {before}: {name} {signed(m)} on the same prompts.",
        "changed": f"{after} differs from {before}: {name} {signed(m)} on the same prompts.",
        "unclear": f"{after} against {before}: no clear change in {name}: {signed(m)}; the interval holds 0.",
    }[found]
    if main == "reward" and not trusted:
        told += (
            " The reward model can't be told from a coin on held-out comparisons (below), so this is "
            "no evidence that people would prefer either."
        )
    parts = {"better": [], "worse": [], "changed": []}  # type: dict[str, list[str]]
    for key, other in row.items():
        if key != main and key in COLUMNS and (v := verdict(key, other, trusted)) != "unclear":
            parts[v].append(f"{COLUMNS[key][0]} {signed(other)}")
    labels = {"better": "Better", "worse": "Worse", "changed": "Also changed"}
    told += "".join(f" {labels[k]}: {'; '.join(v)}." for k, v in parts.items() if v)
    unclear = [
        COLUMNS[k][0]
        for k, o in row.items()
        if k != main and k in COLUMNS and verdict(k, o) == "unclear"
    ]
    if unclear:
        told += f" No clear change: {', '.join(unclear)}."
    return {"tone": found, "text": told}


def _disagreement(pair: str, row: Mapping[str, Metric]) -> dict[str, str] | None:
    """Warn where the learned reward and gold go opposite ways: the sign of a reward out of its depth."""
    if not {"gold", "reward"} <= row.keys():
        return None
    if {verdict("gold", row["gold"]), verdict("reward", row["reward"])} != {"better", "worse"}:
        return None
    return {
        "tone": "worse",
        "text": f"The learned reward and gold disagree on {pair}: reward {signed(row['reward'])}; "
        f"gold {signed(row['gold'])}. One of the two policies answers unlike anything the raters "
        "judged, so do not optimise against this reward there before it has seen such answers.",
    }


def _reward_sentence(name: str, m: Metric) -> dict[str, str]:
    against = "the true order" if "true" in name else "the raters' labels"
    good = m.low is not None and m.low > 0.5
    return {
        "tone": "better" if good else "unclear",
        "text": f"The reward model orders held-out pairs like {against} with accuracy {m}"
        + (" (0.5 is a coin)." if not good else "."),
    }
