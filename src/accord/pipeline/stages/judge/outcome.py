"""What a judge stage leaves: how its judge compares with people, what it labelled, what is missing."""

from __future__ import annotations

from typing import Any

from accord.constitution.principles import Constitution
from accord.judges.check import CheckReport, Tried
from accord.judges.principles import principle_examples, principle_rows
from accord.judges.run import JudgeRun
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stages.judge import JudgeStage
from accord.stats.intervals import cluster_mean
from accord.store import Snapshot

__all__ = ["outcome", "principles_of", "row_of", "weight_of"]

NOT_TRIED = (
    "no pair that people judged was put to the judge: nothing here says how far it can be believed"
)
LEAST_WEIGHT = 0.01  # measured weights end here: a vote can't count nothing


def weight_of(config: JudgeStage, report: CheckReport | None) -> float:
    """Of the judge's vote. Measured: 2·accuracy - 1, the share of pairs it decides better than a coin."""
    if config.weight != "measured":
        return config.weight
    accuracy = report.parts[0].accuracy.value if report else None
    return max(LEAST_WEIGHT, 2 * (accuracy or 0.5) - 1)


def row_of(t: Tried) -> dict[str, object]:
    """A pair that people and judge judged."""
    p = t.verdict.probs[0] if t.verdict.probs else None
    return {"question": t.question, "prompt": t.prompt, "people": int(not t.first), "p": p,
            "longer": t.longer, "concrete": t.concrete, "nested": t.nested, "responses": t.responses,
            "missing": t.verdict.missing}  # fmt: skip


def outcome(
    ctx: StageContext[JudgeStage],
    result: StageResult,
    done: JudgeRun,
    report: CheckReport | None,
    notes: list[str],
    weight: float,
) -> StageResult:
    asked = len(done.verdicts)
    scripted = ctx.config.judge.startswith("stand-in:")
    result.facts |= {
        "judge": ctx.config.judge, "rater": done.rater, "scripted": scripted, "weight": weight,
        "labels": done.written, "asked": asked, "missing": done.missing,
        "to_people": len(done.to_people) - sum(done.missing.values()), "spent": done.spent.asked,
        "tokens": done.spent.whole,
    }  # fmt: skip
    result.headline += f"; {done.written} of {asked} questions labelled by {done.rater}"
    result.notes += notes
    left = set(done.to_people)
    labelled = [float(q not in left) for q in done.verdicts]
    prompts = [done.prompts[q] for q in done.verdicts]
    metrics = {"coverage": cluster_mean(labelled, prompts, share=True)}
    if report is None:
        result.notes.append(NOT_TRIED)
    else:
        whole = report.parts[0]
        metrics |= {
            "agreement with people": whole.accuracy, "κ with people": whole.kappa,
            "both orders say the same": report.consistency, "drawn to the first place": report.place,
            "drawn to the longer answer": report.length, "drawn to its own answers": report.own,
            "drawn to the one with more details": report.concrete,
            "drawn to the one that speaks to its judge": report.nested,
            "accuracy on easy less on hard pairs": report.ceiling, "calibration error": report.calibration,
        }  # fmt: skip
        gated = ctx.config.gate is not None
        result.facts["parts"] = [
            [p.within, str(p.accuracy), str(p.kappa), p.missing,
             ("yes" if p.passes else f"no: {p.why}") if gated else "no gate"]
            for p in report.parts
        ]  # fmt: skip
        result.headline += f", who agrees with people on {whole.accuracy}"
    result.metrics |= metrics
    return result


def principles_of(constitution: Constitution, snapshot: Snapshot) -> dict[str, Any]:
    """What each principle labelled, for the report."""
    return {
        "constitution": f"{constitution.name}@{constitution.version}",
        "principles": [
            [r.principle, r.labels, *map(str, (r.share, r.sure, r.wins, r.disagrees, r.without))]
            for r in principle_rows(snapshot)
        ],
        "examples": [
            [e.principle, e.prompt, e.better, e.worse, f"{e.p:.2f}"]
            for e in principle_examples(snapshot)
        ],
    }
