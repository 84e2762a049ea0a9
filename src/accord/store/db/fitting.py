"""Whether a judgment fits the question it answers: what a store refuses, and why."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from accord.core.types import ANSWERS, Judgment, Question, Rater
from accord.store.db import rows, schema
from accord.store.db.database import Database

__all__ = ["unfit"]


def unfit(
    db: Database, judgments: Collection[Judgment],
    more: Iterable[Question] = (), others: Iterable[Rater] = (),
) -> dict[str, str]:  # fmt: skip
    """Judgments that are refused, by id, and why, where these questions and raters are added too."""
    asked = {j.question for j in judgments}
    stored = db.columns(schema.questions, "id", asked, "id", "kind", "responses")
    questions = {i: (kind, len(rows.to_ids(shown))) for i, kind, shown in stored}
    questions |= {q.id: (q.kind, len(q.responses)) for q in more}
    raters = {j.rater for j in judgments} - {r.id for r in others}
    raters -= {i for (i,) in db.columns(schema.raters, "id", raters, "id")}
    corrected = {j.supersedes for j in judgments if j.supersedes}
    earlier = db.columns(schema.judgments, "id", corrected, "id", "question", "rater")
    old = {i: (q, r) for i, q, r in earlier} | {j.id: (j.question, j.rater) for j in judgments}
    faults = ((j.id, _fault(j, questions, raters, old)) for j in judgments)
    return {id: fault for id, fault in faults if fault}


def _fault(
    j: Judgment,
    questions: Mapping[str, tuple[str, int]],
    unknown_raters: set[str],
    old: Mapping[str, tuple[str, str]],
) -> str | None:
    """Why a judgment can't be taken, None when it can."""
    if j.question not in questions:
        return f"question {j.question} is not in the store"
    if j.rater in unknown_raters:
        return f"rater {j.rater} is not in the store"
    kind, shown = questions[j.question]
    if j.answer.kind != ANSWERS[kind]:
        return f"a {kind} question is answered by a {ANSWERS[kind]}, not a {j.answer.kind}"
    if j.answer.kind == "ranking" and len(j.answer.ranks) != shown:
        return f"{len(j.answer.ranks)} ranks for {shown} responses"
    if j.answer.kind == "preference" and shown != 2:
        return f"a preference is between 2 responses, not {shown}"
    if j.answer.kind in {"thumb", "rating", "steps"} and shown != 1:
        return f"a {j.answer.kind} answer is about 1 response, not {shown}"
    if j.answer.kind == "writing" and j.answer.edits not in {None, *range(shown)}:
        return f"edits response {j.answer.edits} of {shown} (counted from 0)"
    if j.supersedes and old.get(j.supersedes) != (j.question, j.rater):
        return f"supersedes {j.supersedes}, which is no judgment of this rater on this question"
    return None
