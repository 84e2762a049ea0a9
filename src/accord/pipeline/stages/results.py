"""What other tools measured of a policy, beside a baseline's: general capability kept or lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from accord.core.artifact import Policy
from accord.core.hashing import content_hash
from accord.core.types import Metric
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.section import Section
from accord.pipeline.stage import StageConfig, stage

INTRO = (
    "What lm-evaluation-harness or Inspect AI measured. A difference is the policy less the baseline, paired "
    "by sample where both logged them; intervals hold for all differences at once."
)


def run(ctx: StageContext[ResultsStage]) -> StageResult:
    config = ctx.config
    both = config.outside(ctx.recipe_folder)
    rows, metrics = [], dict[str, Metric]()
    for task, figures in both.metrics.items():
        for name, figure in figures.items():
            before = both.baseline.get(task, {}).get(name)
            change = both.differences.get(task, {}).get(name)
            rows.append([task, name, str(before or ""), str(figure), str(change or "")])
            metrics[f"{task} {name}"] = change or figure
    mean = both.tax.mean if both.tax else None
    notes = list(both.tax.notes) if both.tax else []
    if mean:
        rows.append(["all tasks", "mean of their first measures", "", "", str(mean)])
        metrics["mean over tasks"] = mean
    headline = f"mean change over tasks {mean}" if mean else f"{len(rows)} figures of other tools"
    return StageResult(metrics, [], {"rows": rows, "notes": notes}, headline)


def report(done: Any) -> Section:
    return Section(
        title="What other tools measured", nav="Other tools", intro=INTRO,
        subtitle=f"{done.name}: {done.config['policy']}", text=done.result.facts["notes"],
        columns=("task", "measure", "baseline", "policy", "difference"), rows=done.result.facts["rows"],
    )  # fmt: skip


@stage(
    "results", reads={"policy": Policy}, run=run, report=report, uses_model=False,
)  # fmt: skip
class ResultsStage(StageConfig):
    """Results of lm-evaluation-harness and Inspect AI (`files`) of a policy, and a baseline's (`against`)."""

    policy: str
    files: list[str] = Field(min_length=1)
    against: list[str] = Field(default_factory=list)

    def outside(self, folder: Path) -> Any:
        """What the files hold, of a recipe in this folder."""
        from accord.pipeline.tax import outside

        return outside([folder / f for f in self.files], [folder / f for f in self.against])

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        return {"results": content_hash(self.outside(folder).plain())}
