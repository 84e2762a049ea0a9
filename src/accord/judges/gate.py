"""A judge measured on a snapshot, and the gate that its report is for its labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from accord.core.errors import ConfigError
from accord.core.types import Question
from accord.feedback.trust.gold_questions import GoldAnswer
from accord.judges.ask import Judge, JudgeBudget, Spent, judge_items
from accord.judges.backends import Backend
from accord.judges.cache import Cache
from accord.judges.check import CheckReport, Tried, check_judge, parts_of, tried, truths
from accord.judges.run import Allowed, items_of
from accord.judges.templates import JudgedItem, check_template
from accord.judges.thresholds import Thresholds
from accord.judges.verdict import JudgeVerdict
from accord.store import Snapshot

__all__ = ["allowed_by", "gate_of", "measured"]


def measured(
    snapshot: Snapshot,
    judge: Judge,
    backend: Backend,
    cache: Cache,
    thresholds: Thresholds,
    *,
    gold: Mapping[str, GoldAnswer] | None = None,
    own: Collection[str] = (),
    retest: int = 0,
    budget: JudgeBudget | None = None,
    asked: Mapping[Question, JudgedItem] | None = None,
    by: Collection[str] | None = None,
) -> tuple[CheckReport, Spent, list[Tried]]:
    """Ask a judge every pair (of those `asked`: one that learned from some is not measured on them) that
    people or gold decide, and measure it: the report, what was spent, the pairs. Nothing is written to the
    store. `by`: the tags that the gate asks about, by default all."""
    if check_template(judge.template).facts["kind"] != "compare":
        raise ConfigError(
            "is measured on comparisons", where="template", allowed="a template of pairs"
        )
    known = truths(snapshot, gold)
    items = {
        q: i
        for q, i in (items_of(snapshot, judge.template) if asked is None else asked).items()
        if frozenset(q.responses) in known
    }
    verdicts, spent = judge_items(judge, backend, list(items.values()), cache, budget=budget)
    again = None
    if retest:
        other = judge.model_copy(update={"seed": judge.seed + 1})
        again, _ = judge_items(other, backend, list(items.values())[:retest], cache, budget=budget)
    rows = tried(items, verdicts, known, again=again, own=own)
    name = judge.rater(backend.name).name
    report = check_judge(
        name, rows, thresholds, snapshot=snapshot.name, sha256=snapshot.sha256, by=by
    )
    return report, spent, rows


def gate_of(path: Path, judge: str) -> Allowed:
    """Whether a verdict may become a label, by what `judge check` wrote of this very judge: every part of its
    question passes, and the judge is sure enough to decide alone. How hard a new pair is for people is not
    known, so it is not asked."""
    try:
        report = CheckReport.model_validate_json(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(
            "is no report of judge check", where=str(path), mend="write one: --out"
        ) from None
    if report.judge != judge:
        raise ConfigError(
            f"is of another judge, {report.judge}", where=str(path), mend=f"check {judge} first"
        )
    return allowed_by(report)


def allowed_by(
    report: CheckReport, *, alone: bool = True, by: Collection[str] | None = None
) -> Allowed:
    """What a report allows. Without `alone` it need not be sure enough to decide alone; with `by` the values
    of these tags (and "principle") alone are categories."""

    def allowed(item: JudgedItem, verdict: JudgeVerdict) -> bool:
        least = (report.confidence or 2) if alone else 0
        sure = verdict.probs is not None and max(verdict.probs) >= least
        return sure and report.may_label(parts_of(item), by)

    return allowed
