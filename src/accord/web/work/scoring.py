"""Where the disagreement arm has its scores from: the items themselves, or the study's reward models."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from accord.core.errors import ConfigError
from accord.core.types import Exchange, Prompt, Response
from accord.feedback.study.assignment import disagreement
from accord.feedback.study.definition import Study
from accord.web import tables
from accord.web.site import PairScorer, Site

__all__ = ["check_arm", "load_scorers", "score"]

Q = tables.study_questions
KINDS = ("compare", "rank")  # of which reward models can disagree


def load_scorers(study: Study) -> dict[str, PairScorer]:
    """The reward models in the folders a study names, by these names; they score one batch at a time."""
    if not study.scorers:
        return {}
    from accord.rewards.learned import load_reward_model

    turn = threading.Lock()

    def scorer(name: str) -> PairScorer:
        model = load_reward_model(Path(study.folder or ".") / name)

        def scores(exchanges: Sequence[Exchange]) -> list[float]:
            with turn:
                return model(exchanges)

        return scores

    return {name: scorer(name) for name in study.scorers}


def score(
    site: Site, study: Study, asked: Sequence[tuple[dict[str, Any], Prompt, Sequence[Response]]]
) -> None:
    """Set the priority of these rows, of comparisons and rankings without scores of their own, by how far the
    study's reward models disagree."""
    missing = [name for name in study.scorers if name not in site.scorers]
    if missing:
        raise ConfigError(
            f"reward model {missing[0]!r} is not loaded", where=study.name,
            allowed=", ".join(site.scorers) or "none", mend="serve the file of this study",
        )  # fmt: skip
    asked = [of for of in asked if of[0]["kind"] in KINDS and of[0]["gold"] is None]
    exchanges = [Exchange(prompt=p, response=r) for _, p, shown in asked for r in shown]
    if not study.scorers or not exchanges:
        return
    scores = zip(*(site.scorers[name](exchanges) for name in study.scorers), strict=True)
    for row, _, shown in asked:
        row["priority"] = disagreement([next(scores) for _ in shown])


def check_arm(site: Site, study: Study) -> None:
    """ConfigError when questions are to come by disagreement and nothing gives scores. A block still without
    questions may get some that bring theirs."""
    if not study.assignment.disagreement or study.scorers:
        return
    query = sa.select(Q.c.block, sa.func.max(Q.c.priority).label("most"))
    most = {
        row.block: row.most
        for row in site.all(query.where(Q.c.study == study.name).group_by(Q.c.block))
    }
    waits = any(
        ask.kind in KINDS and not ask.policies and block not in most
        for block, ask in enumerate(study.questions)
    )
    if not waits and not any(most.values()):
        raise ConfigError(
            "no question has scores that could disagree", where=f"{study.name} assignment.disagreement",
            allowed="0, or with scores in the items, or with scorers (folders of reward models)",
            mend="add scorers: [FOLDER, …] to the study's file",
        )  # fmt: skip
