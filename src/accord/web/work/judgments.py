"""The one way a study's judgment is kept: in the store's chain, as this study's own, told to its webhooks."""

from __future__ import annotations

from accord.core.types import Judgment, Question, Rater
from accord.web import tables
from accord.web.site import Site
from accord.web.work import hooks

__all__ = ["keep"]


def keep(
    site: Site, study: str, asked: Question, rater: Rater, judgment: Judgment, question: str | None
) -> None:
    """`question` is the study's question it answers; None for a vote in the arena."""
    with site.db.writing() as connection:
        site.store.add_questions([asked])
        site.store.add_raters([rater])
        site.store.add_judgments([judgment])
        row = {"study": study, "judgment": judgment.id, "question": question}
        site.db.insert(tables.study_judgments, [row])
        hooks.tell(site, connection, study, judgment=judgment.id, question=question, at=judgment.at)
