"""Gold questions: questions whose answer is known. Plain data beside the store, never shown to raters.

5f0c...: {better: 81ab...}                  # question id, or prompt id: a response id, or "tie"
77e1...: {order: [81ab..., 02cd..., ...]}   # the best first
90aa...: {scores: {helpful: [4, 5]}}        # from, to
1b2c...: {up: false}
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from accord.core.config import Strict, read_yaml
from accord.core.errors import ConfigError
from accord.core.registry import explain
from accord.core.types import Judgment, Metric, Preference, Question, Ranking, Rating, Thumb
from accord.stats.intervals import cluster_mean
from accord.store import Snapshot

__all__ = ["GoldAnswer", "GoldQuestions", "gold_shares", "read_gold_questions", "share_right"]


class GoldAnswer(Strict):
    """What a gold question expects, in response ids, so that no order shown matters."""

    better: str | None = None  # of a comparison: a response id, or "tie"
    order: list[str] | None = None  # of a ranking: response ids, the best first
    scores: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] | None = (
        None  # of a rating: [lowest, highest] by axis
    )
    up: bool | None = None  # of a thumb


GoldQuestions = Mapping[str, GoldAnswer]  # question id, or prompt id


def read_gold_questions(path: Path) -> dict[str, GoldAnswer]:
    """Gold answers from YAML: `ID: {better: RESPONSE}`, `{order: [...]}`, `{scores: {axis: [low, high]}}` or
    `{up: true}`, where ID is a question's or a prompt's. ConfigError names the line that is wrong."""
    data, lines = read_yaml(path)
    answers: dict[str, GoldAnswer] = {}
    for key, value in data.items():
        place = f"{path}:{lines.get((key,), 1)} {key}"
        try:
            answers[key] = GoldAnswer.model_validate(value)
        except ValidationError as error:
            raise explain(error, GoldAnswer, place) from None
        if len(answers[key].model_dump(exclude_none=True)) != 1:
            one = ", ".join(GoldAnswer.model_fields)
            raise ConfigError("must say one thing", where=place, allowed=one)
    return answers


def _right(j: Judgment, q: Question, expected: GoldAnswer) -> bool | None:
    """Whether an answer is as expected; None when gold says nothing about its kind."""
    answer, shown = j.answer, q.responses
    if isinstance(answer, Preference) and expected.better is not None:
        if expected.better != "tie" and expected.better not in shown:
            return None
        chosen = "tie" if answer.better is None else shown[answer.better]
        return chosen == expected.better
    if isinstance(answer, Ranking) and expected.order is not None:
        if set(expected.order) != set(shown):
            return None
        ranks = [answer.ranks[shown.index(i)] for i in expected.order]
        return all(a < b for a, b in itertools.pairwise(ranks))
    if isinstance(answer, Rating) and expected.scores is not None:
        asked = [a for a in expected.scores if a in answer.scores]
        inside = [expected.scores[a][0] <= answer.scores[a] <= expected.scores[a][1] for a in asked]
        return all(inside) if asked else None
    if isinstance(answer, Thumb) and expected.up is not None:
        return answer.up == expected.up
    return None


def gold_shares(
    snapshot: Snapshot, gold: GoldQuestions, *, level: float = 0.95
) -> dict[str, Metric]:
    """Share of gold questions each rater (by id) answered as expected, by its last answer to each. A
    question's own entry goes before its prompt's."""
    right: dict[str, dict[str, tuple[bool, str]]] = defaultdict(dict)
    for j in snapshot.judgments:
        q = snapshot.tables.questions[j.question]
        expected = gold.get(q.id) or gold.get(q.prompt)
        is_right = _right(j, q, expected) if expected else None
        if is_right is not None:
            right[j.rater][q.id] = is_right, q.prompt
    return {i: share_right(list(r.values()), level=level) for i, r in right.items()}


def share_right(answered: Sequence[tuple[bool, str]], *, level: float = 0.95) -> Metric:
    """Share of gold questions answered as expected, of (whether it was, prompt)."""
    return cluster_mean([float(x) for x, _ in answered], [p for _, p in answered], level=level)
