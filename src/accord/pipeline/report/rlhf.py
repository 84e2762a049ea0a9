"""The report's words for policies trained on rewards of their own answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["curves", "rlhf_sentences"]

CURVES: tuple[tuple[tuple[str, ...], str, str], ...] = (  # keys, name, how to read it
    (
        ("score", "eval/reward"),
        "score",
        "Mean reward of the policy's own answers, all parts by their weights, before the update makes "
        "anything of it; held out: on prompts it does not train on. That it rises says only that the reward "
        "is being earned, not that answers are better.",
    ),
    (
        ("paid",),
        "what the update is paid",
        "The score after what cut-off answers pay and after scaling: on another scale than the score.",
    ),
    (
        ("expected_best", "score"),
        "best of n",
        "Mean reward of the best of each prompt's n answers: what best-of-n would earn with the policy as it "
        "is, and what imitation moves the score toward. Where the two meet, nothing is left to choose from.",
    ),
    (
        ("eval/gold",),
        "gold",
        "The truth where it is known. Gold falling while the score rises is over-optimisation.",
    ),
    (
        ("kl", "kl_k3"),
        "KL from the reference",
        "Nats per answer, on the policy's own answers: k1 is unbiased and may dip below 0 by chance, k3 is "
        "never negative. Steadily negative k1 means sampler and trainer disagree.",
    ),
    (
        ("best_of_n_kl", "kl"),
        "KL of best-of-n",
        "log n - (n-1)/n nats: what best-of-n on the reference would itself cost, at most. A policy beyond "
        "it has gone further for its score than picking the best answer each time would have.",
    ),
    (("beta",), "β", "Price of a nat of KL; the adaptive control moves it toward its target."),
    (
        ("approx_kl",),
        "movement within a step",
        "k3 per token between the policy that answered and the one being updated; large values mean stale "
        "answers: fewer epochs, or a lower learning rate.",
    ),
    (
        ("clip_fraction",),
        "clip fraction",
        "Share of tokens whose ratio, of the token or of its answer as the loss has it, left the loss's "
        "bounds in the direction it is pushed: there no gradient is left. Above about 0.3, steps are too "
        "large.",
    ),
    (
        ("first_ratio_gap",),
        "first ratio",
        "Largest |ratio - 1| of any token before a step's first update: 0 up to rounding, or the update does "
        "not see the answers' log-probs as they were.",
    ),
    (
        ("explained_variance",),
        "value: explained variance",
        "How much of the returns the value model foresees: 1 is all, 0 is no more than their mean, below 0 "
        "it misleads.",
    ),
    (
        ("entropy",),
        "entropy",
        "Nats per token. A fall towards 0 means the policy gives the same answers over and over.",
    ),
    (
        ("length",),
        "length",
        "Tokens per answer. Growing with the score, length itself may be what pays.",
    ),
    (
        ("eos_rate", "truncation_rate"),
        "how answers end",
        "Share that ended by themselves, and that were cut off at the length limit. Cut-off answers get no "
        "end of turn; what they are paid is missing_eos.",
    ),
    (
        ("silent_groups",),
        "silent groups",
        "Share of prompts whose answers all scored alike: nothing is learned from them.",
    ),
    (
        ("sampler_gap", "sampler_gap_mean"),
        "sampler against trainer",
        "Difference of a token's log-prob between the two (nats): the largest, and the mean. Above 0.01, the "
        "policy is not quite what answered; a mean above 0.1 is that of a server with other weights.",
    ),
    (
        ("grad_norm", "value_grad_norm"),
        "gradient norm",
        "Before clipping; spikes mean unstable batches or too high a learning rate.",
    ),
)


PARTS = {  # key before the slash: (what it is, how to read it), of each reward by its label
    "reward": ("reward", "This part of the reward alone, before its weight."),
    "dropped": (
        "left out",
        "Answers left out because this reward gave no score; held out: of an evaluation, whose mean is over "
        "the rest, or missing where none is left.",
    ),
    "weight": ("weight", "Of a constraint: it rises while the mean is below what is asked for."),
}


def curves(present: Iterable[str]) -> list[tuple[tuple[str, ...], str, str]]:
    """What to draw of a log with these keys: the fixed curves whose first key is there, and one a part of the
    reward."""
    known = set(present)
    chosen = [curve for curve in CURVES if curve[0][0] in known]
    for key in sorted({key.removeprefix("eval/") for key in known}):
        kind, _, label = key.partition("/")
        if kind in PARTS and label:
            what, sentence = PARTS[kind]
            keys = tuple(k for k in (key, f"eval/{key}") if k in known)
            chosen.insert(1, (keys, f"{label}: {what}", sentence))
    return chosen


def rlhf_sentences(
    name: str, config: Mapping[str, Any], facts: Mapping[str, Any], named: str
) -> str:
    """The stage in a sentence; `named` is its method."""
    tune = "all weights" if config["tune"] == "full" else f"LoRA of rank {config['tune']['r']}"
    rewards = " + ".join(_reward(entry) for entry in config["rewards"])
    return (
        f"{name}: {named} from {config['init']} on its own answers to "
        f"{facts.get('prompts', '?')} prompts, reward {rewards}, β {config['kl']['beta']:g}; {tune}, "
        f"learning rate {config['lr']:g}, {config['batch_size']} prompts × {config['n']} answers a step, "
        f"{facts.get('steps', '?')} steps."
    )


def _reward(entry: Mapping[str, Any]) -> str:
    names = entry.get("model") or ", ".join(entry.get("models") or [])
    return f"{entry['name']} ({names})" if names else str(entry["name"])
