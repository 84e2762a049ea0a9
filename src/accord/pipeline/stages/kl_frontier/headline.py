"""What is said of it in one line: what each policy paid and gained, and best-of-n; whom the reward model
knows."""

from __future__ import annotations

from collections.abc import Mapping

from accord.core.measure import Measure
from accord.core.types import Metric
from accord.pipeline.stages.kl_frontier import KL, REWARD, RIGHT, KlFrontierStage

__all__ = ["headline", "over_optimised"]

Figures = Mapping[str, Metric]


def headline(
    config: KlFrontierStage,
    points: Mapping[str, Figures],
    best: Mapping[int, Figures],
    truth: Measure | None,
) -> str:
    """Of all policies but the reference, and of the best of most answers."""
    gold = truth or REWARD
    paid = [
        f"{name} pays {_figure(figures[KL.name])} nats for {gold.title} {_gained(figures, gold)}"
        for name, figures in points.items()
        if name != config.reference
    ]
    most = max(best)
    paid.append(
        f"best of {most} by {config.reward} pays at most {_number(best[most][KL.name].value)} for "
        f"{_gained(best[most], gold)}"
    )
    text = f"against {config.reference}: {'; '.join(paid)}"
    right = [
        f"{_figure(f[RIGHT.name])} of {name}'s pairs"
        for name, f in points.items()
        if RIGHT.name in f and f[RIGHT.name].value is not None
    ]
    return text + (f". {config.reward} orders {', '.join(right)} right" if right else "")


def over_optimised(figures: Figures, truth: Measure) -> bool:
    """Whether the learned reward is clearly up and the truth clearly down."""
    gold, reward = (figures.get(f"{name} gained") for name in (truth.name, REWARD.name))
    if gold is None or reward is None or gold.high is None or reward.low is None:
        return False
    return gold.high < 0 < reward.low


def _number(value: float | None, sign: str = "") -> str:
    return "undefined" if value is None else f"{value:{sign}.3g}"


def _figure(m: Metric, sign: str = "") -> str:
    interval = "" if m.low is None else f" [{_number(m.low)}, {_number(m.high)}]"
    return f"{_number(m.value, sign)}{interval}"


def _gained(figures: Figures, measure: Measure) -> str:
    return _figure(figures[f"{measure.name} gained"], "+")
