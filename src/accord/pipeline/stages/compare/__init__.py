"""All evaluated policies beside each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from markupsafe import Markup

from accord.core.artifact import Answers, Comparison, Policy, RewardModel
from accord.core.measure import Measure
from accord.core.rundir import read_jsonl
from accord.core.types import Verdict
from accord.detect.base import configured
from accord.pipeline.section import Section
from accord.pipeline.stage import BASE, StageConfig, stage

MEASURES = (
    Measure(
        name="reward", title="learned reward", better="more", role="proxy",
        meaning="the reward model's score; reference answers average 0",
    ),
    Measure(
        name="kl", title="KL", unit="nats", role="distance", compared=False,
        meaning="log-ratio to the reference, nats per answer",
    ),
)  # fmt: skip

VERDICTS = "verdicts.jsonl"
TOKENS = 512  # per scoring call: on a CPU, longer rows lose more to attention than they gain
INTRO = (
    "Each detector looks at a policy's answers beside those of the policy it started from. A pass says "
    "only that this detector found nothing. Where all are asked, two policies that are one raise an alarm in "
    "at most one of 20 comparisons (Holm)."
)


HANDED_ON = (
    "What the reward model took over from the judge whose labels it learned, on held-out pairs that people "
    "judged too. A leaning is how much more often the longer answer is wrongly taken than wrongly left."
)


LOOP = (
    "Sycophancy loop: a judge that likes agreement teaches it. How often a policy goes along with wrong "
    "premises that messages plant, before and after it learned from a judge's labels, paired by prompt. "
    "Homogenisation: a judge that knows one way of being right teaches that one. How unlike the policy's own "
    "samples of a message are, from 0 (the same) to 1."
)
PRINCIPLES = (
    "What became of what each principle asks for: the figure that its category names, on prompts of that "
    "category where any are tagged with it, else on all that have the figure; before and after, paired by "
    "prompt. All principles act together: what one alone did shows in a run without it (without: [id])."
)
HEADS = ("policy", "principle", "gave", "category: figure", "before", "after", "change")


def _by_principle(rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    cells = [Markup("").join(Markup("<td>{}</td>").format(x) for x in row) for row in rows]
    head = Markup("").join(Markup("<th>{}</th>").format(x) for x in HEADS)
    body = Markup("").join(Markup("<tr>{}</tr>").format(line) for line in cells)
    table = Markup('<div class="wide"><table><tr>{}</tr>{}</table></div>').format(head, body)
    return Markup("<h3>By principle</h3><p>{}</p>{}").format(PRINCIPLES, table)


def report(done: Any) -> Section:
    """What its detectors found, and what a judge's leaning became; nothing where neither was asked."""
    kept = read_jsonl(done.folder / VERDICTS)
    facts = done.result.facts
    lines = [
        line
        for intro, key in ((HANDED_ON, "risks"), (LOOP, "loops"))
        if facts.get(key)
        for line in (intro, *(f"{k}: {m}." for k, m in dict(facts[key]).items()))
    ]
    body = _by_principle(facts.get("by_principle", ()))
    if not kept:
        risks = Section(title="Risks of AI feedback", nav="Risks", text=lines, body=body)
        return risks if lines or body else Section()
    rows = []
    for row in kept:
        verdict = Verdict.model_validate(row["verdict"])
        figures = "; ".join(f"{name} {m}" for name, m in verdict.metrics.items())
        example = str(verdict.evidence[0].get("response", "")) if verdict.evidence else ""
        pair = f"{row['policy']} against {row['before']}"
        rows.append((pair, verdict.detector, verdict.outcome, verdict.summary, figures, example))
    columns = ("policy", "detector", "verdict", "what it found", "figures", "example")
    return Section(
        title="Detectors", intro=INTRO, text=lines, columns=columns, rows=rows, body=body
    )


@stage(
    "compare", version=8, reads={"eval": Answers, "reward": RewardModel, "baseline": Policy},
    gives=Comparison, run=f"{__name__}.run:run", work=f"{__name__}.work:work", measures=MEASURES,
    report=report,
)  # fmt: skip
class CompareStage(StageConfig):
    """All evaluated policies beside each other: reward, KL from the reference, paired differences."""

    later: ClassVar[tuple[str, ...]] = ("detectors",)
    eval: str
    reward: str | None = None
    baseline: str = BASE  # reference of the KL
    detectors: Literal["all"] | list[str | dict[str, Any]] | None = (
        None  # of each policy beside the one it started from
    )

    def check_names(self, place: Callable[[str], str]) -> None:
        configured(self.detectors or (), place("detectors"))

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """Versions of its detectors, where they are not the first."""
        chosen = configured(self.detectors or ())
        return {f"detector {name}": str(version) for name, version, _ in chosen if version > 1}
