"""Fresh answers judged by people: what they are asked, and what they said."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import datetime

import yaml

from accord.core.errors import RunError
from accord.core.rundir import write_jsonl
from accord.core.types import Judgment, Prompt, Question, Response
from accord.pipeline.context import StageContext
from accord.pipeline.stages.ask import AskStage
from accord.store import Store, opened_snapshot

__all__ = ["AnsweredPrompt", "from_people", "write_study"]

STUDY, QUESTIONS = "study.yaml", "questions.jsonl"
AnsweredPrompt = tuple[Prompt, list[Response]]


def write_study(
    ctx: StageContext[AskStage], config: AskStage, fresh: Sequence[AnsweredPrompt]
) -> None:
    """What `accord collect serve` takes: every pair of fresh answers. Ids are made of content, so
    judgments given there are about the very answers here."""
    rows = [
        {
            "prompt": [m.model_dump() for m in prompt.messages],
            "responses": [r.model_dump(include={"text", "source", "tool_calls"}) for r in pair],
            **({"tools": prompt.tools} if prompt.tools else {}),
        }
        for prompt, answers in fresh
        for pair in itertools.combinations(answers, 2)
    ]
    write_jsonl(ctx.folder / QUESTIONS, rows)
    study = {
        "name": ctx.name, "title": f"Answers of {config.policy}",
        "overlap": {"min": config.overlap, "max": config.overlap},
        "questions": [{"kind": "compare", "file": QUESTIONS}],
    }  # fmt: skip
    (ctx.folder / STUDY).write_text(yaml.safe_dump(study, sort_keys=False), encoding="utf-8")


def from_people(
    ctx: StageContext[AskStage], config: AskStage, store: Store, questions: Sequence[Question]
) -> tuple[list[Judgment], Mapping[str, float]]:
    """Take people's judgments of these questions from `answers`, and what its raters' votes weigh; RunError
    while there are none."""
    judgments: list[Judgment] = []
    weights: Mapping[str, float] = {}
    if config.answers:
        wanted = {frozenset(q.responses): q for q in questions}
        with opened_snapshot(config.answers, ctx.recipe_folder) as snapshot:
            asked, weights = snapshot.tables.questions, snapshot.selection.weights
            judgments = [
                j for j in snapshot.judgments if frozenset(asked[j.question].responses) in wanted
            ]
            store.add_questions(
                [asked[j.question] for j in judgments]
            )  # in the order each rater saw
            raters = {j.rater for j in judgments}
            store.add_raters([r for r in snapshot.store.raters() if r.id in raters])
        store.add_judgments(sorted(judgments, key=lambda j: (datetime.fromisoformat(j.at), j.id)))
    if not judgments:
        raise RunError(
            f"{len(questions)} questions wait for people in {ctx.folder / STUDY}",
            where=f"stage {ctx.name}",
            mend="have them judged (accord collect serve), freeze a snapshot, and run again with "
            f"--set {ctx.name}.answers=STORE@SNAPSHOT",
        )
    return judgments, weights
