"""The report's words for stages that train on a snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.losses import choose_loss
from accord.pipeline.report.gather import Done
from accord.pipeline.report.words import CURVES
from accord.pipeline.section import Section

__all__ = ["implicit", "loss_of", "trained"]


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
        told = zip(weights, map(loss_of, parts), strict=True)
        return " + ".join(loss if weight == "1" else f"{weight} × {loss}" for weight, loss in told)
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
