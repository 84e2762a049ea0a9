"""What a sweep says in one line: which point is used, and whether the data can tell it from the next."""

from __future__ import annotations

from accord.core.types import Metric
from accord.losses import choose_loss
from accord.train.offline.sweep import LEAST, SweepOutcome

__all__ = ["headline"]


def headline(outcomes: list[SweepOutcome], picked: SweepOutcome) -> str:
    """Which point is used, whether the data can tell it from the next, and whether all measure the same."""
    m = picked.metrics.get("accuracy")
    if m is None:
        return f"{picked.point.label}: nothing is held out to choose by"
    text = f"best of {len(outcomes)}: {picked.point.label}, accuracy "
    if last := picked.reported.get("accuracy"):
        text += f"{last} of held-out comparisons it was not chosen by (chosen by others, at {m})"
    else:
        text += f"{m} of the held-out comparisons it was chosen by, so flattered: too few prompts are held "
        text += f"out to report on others ({2 * LEAST} and more)"
    others = [
        o.metrics["accuracy"] for o in outcomes if o is not picked and "accuracy" in o.metrics
    ]
    near = sum(_overlap(m, other) for other in others)
    text += f"; {near} of the others can't be told from it" if near else ""
    kinds = {_measure(o) for o in outcomes}
    if len(kinds) > 1:
        text += f"; accuracies are not of one kind ({', '.join(sorted(kinds))}): compare such points by eval"
    return text


def _measure(outcome: SweepOutcome) -> str:
    """What the accuracy of the point's loss is taken of."""
    loss = choose_loss(outcome.point.loss)
    if loss.family == "unpaired":
        return "single answers"
    of = "log-ratios" if loss.facts["needs_reference"] else "log-probs"
    return f"mean {of}" if loss.facts["per_token"] else of


def _overlap(a: Metric, b: Metric) -> bool:
    return a.low is None or b.high is None or b.high >= a.low
