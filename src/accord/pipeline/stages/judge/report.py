"""What the report says of a judge's labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from accord.judges.verdict import RULE
from accord.pipeline.section import Section

__all__ = ["report"]

SCRIPTED = (
    "In this run a script stands in for the judge of stage {name} ({judge}): it is no model, and what is "
    "learned from its labels says nothing of what a judge would give."
)
PRINCIPLES = (
    "principle", "labels", "share of pairs", "sure", "the policy's answer wins", "disagrees with the others",
    "labels turned or gone without it",
)  # fmt: skip
EXAMPLES = ("principle", "prompt", "better", "worse", "P")
INTRO = (
    "A model's labels are as good as the model: here it is held against people, on held-out prompts that "
    "both judged. What it did not answer is missing, and counted; what it may not label waits for people."
)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    head = Markup("").join(Markup("<th>{}</th>").format(x) for x in columns)
    lines = [Markup("").join(Markup("<td>{}</td>").format(x) for x in row) for row in rows]
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in lines)
    return Markup('<div class="wide"><table><tr>{}</tr>{}</table></div>').format(head, body)


def report(done: Any) -> Section:
    facts, metrics = done.result.facts, done.result.metrics
    parts = facts.get("parts", [])
    text = [f"{key}: {metric}." for key, metric in metrics.items()]
    text += [f"Rule: {RULE}."] * bool(parts)
    text += [f"Missing, {n}: {reason}." for reason, n in facts["missing"].items()]
    text += [f"{facts['to_people']} questions were left to people."] if facts["to_people"] else []
    return Section(
        first=SCRIPTED.format(name=done.name, judge=facts["judge"]) if facts["scripted"] else "",
        title="AI feedback",
        nav="Judge",
        intro=INTRO,
        subtitle=f"{done.name}: {facts['rater']}",
        text=text,
        columns=("part", "accuracy", "κ", "missing", "may label") if parts else (),
        rows=parts,
        body=_table(PRINCIPLES, facts.get("principles", []))
        + _table(EXAMPLES, facts.get("examples", [])),
    )
