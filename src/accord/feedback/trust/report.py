"""How far a snapshot can be trusted, in one report: agreement, raters, noise, and the ranking it supports."""

from __future__ import annotations

from accord.core.types import Frozen, Metric
from accord.feedback.trust.aggregate import Noise, noise
from accord.feedback.trust.ballots import ballots
from accord.feedback.trust.gold_questions import GoldQuestions
from accord.feedback.trust.quality import RaterReport, fit_skills, rater_reports
from accord.feedback.trust.ranking import ModelRanking, rank_models
from accord.feedback.trust.reliability import Agreement, agreement_rows
from accord.stats.outcomes import TieModel
from accord.store import Snapshot

__all__ = ["TrustReport", "trust_report"]


class TrustReport(Frozen):
    """Everything `accord trust` shows. `longer_is_better` is what most raters give ten words, in standard
    deviations of quality: quality or a taste they share, which only gold questions can tell."""

    snapshot: str
    sha256: str
    because: str
    judgments: int
    prompts: int
    agreement: list[Agreement]
    raters: list[RaterReport]
    longer_is_better: Metric
    noise: Noise
    models: ModelRanking
    notes: tuple[str, ...] = ()


def trust_report(
    snapshot: Snapshot,
    gold: GoldQuestions | None = None,
    *,
    ties: TieModel = "davidson",
    style: bool = True,
    level: float = 0.95,
) -> TrustReport:
    """Measure all of it once. `ties` and `style` as in `rank_models`."""
    cast = ballots(snapshot)
    skills = fit_skills(cast, level=level)
    none = Metric(value=None, n=0, level=level, note="no comparisons")
    questions = snapshot.tables.questions
    return TrustReport(
        snapshot=snapshot.name,
        sha256=snapshot.sha256,
        because=snapshot.selection.because,
        judgments=len(snapshot),
        prompts=len({questions[j.question].prompt for j in snapshot.judgments}),
        agreement=agreement_rows(snapshot, level=level),
        raters=rater_reports(snapshot, gold, cast=cast, skills=skills, level=level),
        longer_is_better=skills.gamma if skills else none,
        noise=noise(cast, skills, level=level),
        models=rank_models(snapshot, ties=ties, style=style, cast=cast, skills=skills, level=level),
        notes=skills.notes if skills else (),
    )
