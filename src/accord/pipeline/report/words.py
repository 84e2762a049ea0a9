"""The report's sentences: what was asked, what came out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.core.artifact import RewardModel
from accord.core.measure import Measure
from accord.core.types import Metric
from accord.detect.divergence import diverges
from accord.pipeline.report.gather import Outputs

__all__ = ["asked", "came_out", "number", "signed", "verdict"]


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


def verdict(measure: Measure, m: Metric, trusted: bool = True) -> str:
    """better, worse, changed or unclear: by whether the interval excludes 0. A learned model's word that is
    not trusted may change, but more of it is not better."""
    if m.value is None or m.low is None or m.high is None or m.low <= 0 <= m.high:
        return "unclear"
    return "changed" if measure.role == "proxy" and not trusted else measure.way(m.value)


def asked(outputs: Outputs, recipe: Any) -> list[str]:
    """The recipe in sentences."""
    sentences = [f"Model: {recipe.model}. Seed: {recipe.seed}."]
    for data in outputs.data:
        of = f" of {data.name}" if len(outputs.data) > 1 else ""
        sentences.append(f"Judgments{of}: {data.result.headline}.")
    return sentences + [stage.section.asked for stage in outputs.stages if stage.section.asked]


def came_out(outputs: Outputs) -> list[dict[str, str]]:
    """What the numbers say, improvement or not, one sentence per step; `tone` colours it."""
    sentences = [_step(pair, row, outputs) for pair, row in outputs.differences.items()]
    sentences += [
        d for pair, row in outputs.differences.items() if (d := _disagreement(pair, row, outputs))
    ]
    reward = outputs.reward
    sentences += reward.section.came_out if reward else []
    models = outputs.giving(RewardModel)  # of several the one whose scores are shown
    for stage in outputs.stages:
        sentences += [] if stage in models else stage.section.came_out
    if not sentences:
        for policy, row in outputs.table.items():
            m = row.get(outputs.main.name)
            if m:
                sentences.append({"tone": "unclear", "text": f"{policy}: {outputs.main.name} {m}."})
    return sentences


def _step(pair: str, row: Mapping[str, Metric], outputs: Outputs) -> dict[str, str]:
    after, _, before = pair.partition(" - ")
    main, trusted, known = outputs.main, outputs.trusted, outputs.measures
    m = row.get(main.name)
    if m is None:
        return {"tone": "unclear", "text": f"{after} against {before}: not measured."}
    tone = verdict(main, m, trusted)
    name = main.title
    text = {
        "better": f"{after} improves on {before}: {name} {signed(m)} on the same prompts.",
        "worse": f"{after} is worse than {before}: {name} {signed(m)} on the same prompts.",
        "changed": f"{after} differs from {before}: {name} {signed(m)} on the same prompts.",
        "unclear": f"{after} against {before}: no clear change in {name}: {signed(m)}; the interval holds 0.",
    }[tone]
    if main.role == "proxy" and not trusted:
        text += (
            " The reward model can't be told from a coin on held-out comparisons (below), so this is "
            "no evidence that people would prefer either."
        )
    parts: dict[str, list[str]] = {"better": [], "worse": [], "changed": []}
    unclear = []
    for key, other in row.items():
        if key == main.name or key not in known:
            continue
        way = verdict(known[key], other, trusted)
        if way == "unclear":
            unclear.append(known[key].title)
        else:
            parts[way].append(f"{known[key].title} {signed(other)}")
    labels = {"better": "Better", "worse": "Worse", "changed": "Also changed"}
    text += "".join(f" {labels[k]}: {'; '.join(v)}." for k, v in parts.items() if v)
    if unclear:
        text += f" No clear change: {', '.join(unclear)}."
    return {"tone": tone, "text": text}


def _disagreement(pair: str, row: Mapping[str, Metric], outputs: Outputs) -> dict[str, str] | None:
    """Warn where the learned reward and the truth go opposite ways: the sign of a reward out of its depth."""
    truth, proxy = outputs.of_role("truth"), outputs.of_role("proxy")
    if not truth or not proxy or not {truth.name, proxy.name} <= row.keys():
        return None
    gold, reward = row[truth.name], row[proxy.name]
    if not diverges(gold, reward):
        return None
    return {
        "tone": "worse",
        "text": f"The {proxy.title} and {truth.title} disagree on {pair}: {proxy.name} {signed(reward)}; "
        f"{truth.title} {signed(gold)}. One of the two policies answers unlike anything the raters "
        "judged, so do not optimise against this reward there before it has seen such answers.",
    }
