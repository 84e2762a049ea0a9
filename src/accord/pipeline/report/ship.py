"""Which of the policies to ship, and why: the report's first sentence."""

from __future__ import annotations

from collections.abc import Mapping

from accord.core.types import Metric
from accord.pipeline.report.gather import Outputs
from accord.pipeline.report.words import signed, verdict

__all__ = ["advice", "pick"]

Ways = dict[str, list[str]]


def pick(outputs: Outputs) -> tuple[str, str] | None:
    """The policy to ship and the one it took the place of: in the recipe's order, each is held against the
    one chosen so far and takes its place where the figure that decides is better by the interval of the
    difference. None where they were not compared, or nothing but a learned model says what is better."""
    main = outputs.main
    if len(outputs.table) < 2 or not outputs.pairs or main.better is None or main.role == "proxy":
        return None
    chosen, *others = outputs.table
    over = chosen
    for policy in others:
        row = outputs.pairs.get(f"{policy} - {chosen}", {})
        if main.name in row and verdict(main, row[main.name]) == "better":
            chosen, over = policy, chosen
    return chosen, over


def _ways(row: Mapping[str, Metric], outputs: Outputs) -> Ways:
    """The other figures with a better way, but for a learned model's word: titles and what is behind them."""
    ways: Ways = {"better": [], "worse": [], "unclear": []}
    for name, measure in outputs.measures.items():
        if name in row and measure.better and measure.role is None and measure != outputs.main:
            ways[verdict(measure, row[name])].append(f"{measure.title} {signed(row[name])}")
    return ways


def advice(outputs: Outputs) -> list[str]:
    """What to ship and why, then a sentence for every other policy that was trained."""
    picked, main = pick(outputs), outputs.main
    if picked is None:
        return []
    chosen, over = picked
    first, *others = outputs.table
    if chosen == first:
        sentence = (
            f"Ship none of these in place of {first}: none is clearly better in {main.title}."
        )
    else:
        row = outputs.pairs[f"{chosen} - {over}"]
        ways = _ways(row, outputs)
        sentence = f"Ship {chosen}: {main.title} {signed(row[main.name])} against {over}."
        sentence += f" Also better: {', '.join(ways['better'])}." if ways["better"] else ""
        sentence += (
            f" Worse: {', '.join(ways['worse'])}; read those answers first."
            if ways["worse"]
            else (" No other figure is clearly worse." if ways["better"] or ways["unclear"] else "")
        )
    return [sentence, *(_other(p, chosen, outputs) for p in others if p != chosen)]


def _other(policy: str, chosen: str, outputs: Outputs) -> str:
    """Why not this one."""
    main, order = outputs.main, list(outputs.table)
    if order.index(policy) < order.index(chosen):
        m = outputs.pairs.get(f"{chosen} - {policy}", {}).get(main.name)
        sentence = f"Not {policy}: {chosen} has {main.title} {signed(m)} against it." if m else ""
        return sentence or f"{policy} was not held against {chosen}."
    row = outputs.pairs.get(f"{policy} - {chosen}", {})
    if main.name not in row:
        return f"{policy} was not held against {chosen}."
    what = {"worse": "worse in"}.get(verdict(main, row[main.name]), "no clear gain in")
    worse = _ways(row, outputs)["worse"]
    beside = f" Worse: {', '.join(worse)}." if worse else ""
    return f"Not {policy}: {what} {main.title}, {signed(row[main.name])} against {chosen}.{beside}"
