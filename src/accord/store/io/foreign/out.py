"""A snapshot as Argilla's records and Label Studio's tasks: one question with everybody's answers.

Both hold a question once, so its responses have one order: the order each rater saw is not kept by them
(`accord` keeps it). Questions are named preference (response_1, response_2, tie, both_bad), strength, rank,
thumb, steps, text, rationale; every other number is an axis of a rating. The prompt's messages travel as
JSON beside its text.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from accord.core.types import (
    Answer,
    Judgment,
    Preference,
    Question,
    Ranking,
    Rating,
    StepLabels,
    Thumb,
)
from accord.store.io.foreign.task import MAIL, STEPS
from accord.store.snapshot.frozen import Snapshot

__all__ = ["argilla_rows", "label_studio_rows"]

Row = dict[str, Any]
Given = dict[str, Any]  # one rater's values by question name


def _asked(snapshot: Snapshot) -> Iterator[tuple[Question, list[tuple[Judgment, Given]]]]:
    """Each question (its responses in the order of their ids) with everybody's last values."""
    tables = snapshot.tables
    by_question: dict[Question, dict[str, tuple[Judgment, Given]]] = defaultdict(dict)
    for j in snapshot.judgments:
        q = tables.questions[j.question]
        one = q.model_copy(update={"responses": tuple(sorted(q.responses))})
        given = _values(j.answer, [one.responses.index(i) for i in q.responses])
        if isinstance(j.answer, Rating) and j.rater in by_question[one]:  # the last of each axis
            given = {**by_question[one][j.rater][1], **given}
        by_question[one][j.rater] = (
            j,
            {**given, **({"rationale": j.rationale} if j.rationale else {})},
        )
    yield from ((q, list(answers.values())) for q, answers in by_question.items())


def _values(answer: Answer, order: Sequence[int]) -> Given:
    """An answer by question name; `order[k]` is the place of the response shown k-th."""
    if isinstance(answer, Preference):
        if answer.better is None:
            return {"preference": "both_bad" if answer.both_bad else "tie"}
        return {"preference": f"response_{order[answer.better] + 1}", "strength": answer.strength}
    if isinstance(answer, Rating):
        return dict(answer.scores)
    if isinstance(answer, Ranking):
        ranks = {order[k]: rank for k, rank in enumerate(answer.ranks)}
        return {"rank": [{"value": f"response_{i + 1}", "rank": ranks[i]} for i in sorted(ranks)]}
    if isinstance(answer, Thumb):
        return {"thumb": "up" if answer.up else "down"}
    if isinstance(answer, StepLabels):
        names = {label: name for name, label in STEPS.items()}
        return {"steps": " ".join(names[label] for label in answer.labels)}
    return {"text": answer.text}


def _fields(snapshot: Snapshot, q: Question) -> tuple[Row, Row]:
    """(texts by field, facts) of a question."""
    prompt = snapshot.tables.prompts[q.prompt]
    shown = [snapshot.tables.responses[i] for i in q.responses]
    texts = {"prompt": prompt.last} | {f"response_{k}": r.text for k, r in enumerate(shown, 1)}
    messages, calls = [m.model_dump() for m in prompt.messages], [r.tool_calls for r in shown]
    facts = {
        "accord": json.dumps(
            {"messages": messages, "sources": [r.source for r in shown]}
            | ({"tools": prompt.tools} if prompt.tools else {})
            | ({"calls": calls} if any(calls) else {})
        ),
        "kind": q.kind,
        "guideline": q.guideline,
    }
    return texts, facts


def _scale(answers: Sequence[tuple[Judgment, Given]]) -> Row:
    return next(
        ({"lowest": j.answer.lowest, "highest": j.answer.highest}
         for j, _ in answers if isinstance(j.answer, Rating)), {},
    )  # fmt: skip


def argilla_rows(snapshot: Snapshot) -> Iterator[Row]:
    """Records as `rg.Dataset.records.to_json` writes them."""
    raters = snapshot.tables.raters
    for q, answers in _asked(snapshot):
        fields, facts = _fields(snapshot, q)
        responses: dict[str, list[Row]] = defaultdict(list)
        for j, given in answers:
            for name, value in given.items():
                responses[name].append({"value": value, "user_id": raters[j.rater].name})
        yield {
            "id": q.id, "fields": fields, "metadata": {**facts, **_scale(answers)},
            "suggestions": {}, "vectors": {}, "responses": dict(responses), "status": "completed",
        }  # fmt: skip


def label_studio_rows(snapshot: Snapshot) -> Iterator[Row]:
    """Tasks with annotations, as Label Studio's JSON export has them."""
    raters = snapshot.tables.raters
    for number, (q, answers) in enumerate(_asked(snapshot), 1):
        fields, facts = _fields(snapshot, q)
        annotations = []
        for j, given in answers:
            name = raters[j.rater].name
            annotations.append(
                {
                    "id": j.id, "completed_by": {"email": name if "@" in name else f"{name}{MAIL}"},
                    "created_at": j.at, "lead_time": j.seconds, "was_cancelled": False,
                    "result": [_result(k, v, q) for k, v in given.items()],
                }
            )  # fmt: skip
        data = {**fields, **facts, **_scale(answers)}
        if q.kind == "rank":  # what a Ranker arranges is a list
            names = [f"response_{k}" for k in range(1, len(q.responses) + 1)]
            data["to_rank"] = [{"id": n, "title": n, "body": fields[n]} for n in names]
        yield {"id": number, "data": data, "annotations": annotations, "predictions": []}


def _result(name: str, value: Any, q: Question) -> Row:
    """One value as a region of the control of its type. Pairwise has no tie: it is a choice of its own."""
    to = "response_1" if len(q.responses) == 1 and name != "rationale" else "prompt"
    kind: str
    body: Row
    if name == "preference" and str(value).startswith("response_"):
        to = "response_1,response_2"
        kind, body = "pairwise", {"selected": "left" if value == "response_1" else "right"}
    elif name in ("preference", "thumb"):
        kind, body = "choices", {"choices": [value]}
        name = "tie" if name == "preference" else name
    elif name == "rank":  # a bucket a rank, so that equal ranks can be said
        buckets: dict[str, list[str]] = defaultdict(list)
        for r in sorted(value, key=lambda r: r["rank"]):
            buckets[str(r["rank"])].append(r["value"])
        to, kind, body = "to_rank", "ranker", {"ranker": dict(buckets)}
    elif name in ("text", "rationale", "steps"):
        kind, body = "textarea", {"text": [value]}
    else:
        kind, body = "rating", {"rating": int(value) if value == int(value) else value}
    return {"from_name": name, "to_name": to, "type": kind, "value": body}
