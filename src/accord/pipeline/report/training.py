"""The report's words for stages that train on a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.losses import choose_loss
from accord.pipeline.report.gather import Done
from accord.pipeline.section import Section

__all__ = ["CURVES", "implicit", "loss_of", "trained"]

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


def trained(done: Done, named: str, what: str = "prompts with comparisons") -> Section:
    """In one sentence what a stage trained and on `what`, and its curves."""
    c, items = done.config, done.result.facts.get("items", "?")
    tune = "all weights" if c["tune"] == "full" else f"LoRA of rank {c['tune']['r']}"
    hyper = dict(c.get("loss") or {})
    what = "judged answers" if hyper.get("name") in ("kto", "bco") else what
    loss = f", {loss_of(hyper)}" if hyper else ""
    asked = (
        f"{done.name}: {named} from {c['init']} on {items} {what}{loss}; {tune}, "
        f"learning rate {c['lr']:g}, batch {c['batch_size']}, "
        f"{c['epochs']:g} epoch{'s' if c['epochs'] != 1 else ''}."
    )
    return Section(asked=asked, curves=CURVES)


def loss_of(hyper: Mapping[str, Any]) -> str:
    """`dpo (beta 0.1)`; of a mix its parts: `dpo (beta 0.3) + 3 × sft`."""
    if hyper.get("name") == "mix":
        parts = [dict(part) for part in hyper["parts"]]
        weights = [f"{part.pop('weight', 1):g}" for part in parts]
        weighted = zip(weights, map(loss_of, parts), strict=True)
        return " + ".join(
            loss if weight == "1" else f"{weight} × {loss}" for weight, loss in weighted
        )
    rest = ", ".join(f"{k} {v}" for k, v in hyper.items() if k != "name")
    return f"{hyper['name']} ({rest})" if rest else str(hyper["name"])


def implicit(done: Done) -> list[dict[str, str]]:
    """What the accuracy of the stage's loss is: it depends on what the loss compares."""
    m = done.result.metrics.get("accuracy")
    if m is None:
        return []
    good = m.low is not None and m.low > 0.5
    loss = choose_loss(
        done.result.facts.get("loss") or done.config["loss"]
    )  # a sweep's: of its pick
    if loss.family == "unpaired":
        does = "has moved towards desirable and away from undesirable held-out answers"
    elif loss.facts["needs_reference"]:
        does = "has moved towards the preferred answer in held-out comparisons"
    else:
        does = "finds the preferred answer the likelier in held-out comparisons"
    coin = "." if good else ": the interval holds 0.5, a coin."
    return [
        {
            "tone": "better" if good else "unclear",
            "text": f"{done.name} {does} with accuracy {m}{coin}",
        }
    ]
