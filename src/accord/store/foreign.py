"""Argilla's records and Label Studio's tasks: what other tools keep, as judgments and back.

    argilla        {fields: {prompt, response_1…}, responses: {question: [{value, user_id}]}, metadata}
    label_studio   {data: {prompt, response_1…}, annotations: [{completed_by, lead_time, result: […]}]}
                   (docs/collection.md has the labelling interface that shows them)

Both hold one question with everybody's answers, so its responses have one order: the order each rater saw is
not kept by them (`accord` keeps it). Questions are named preference (response_1, response_2, tie, both_bad),
strength, rank, thumb, steps, text, rationale; every other number is an axis of a rating. The prompt's
messages travel as JSON beside its text. Imported raters have `order_shown: unknown`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import ValidationError

from accord.core.types import (
    ANSWERS,
    Answer,
    Judgment,
    Message,
    Preference,
    Prompt,
    Question,
    QuestionKind,
    Ranking,
    Rater,
    Rating,
    Response,
    StepLabels,
    Thumb,
    Writing,
)
from accord.store.native import Native
from accord.store.readers import BadRow
from accord.store.snapshot import Snapshot

__all__ = ["argilla_rows", "label_studio_rows", "read_foreign"]

Row = dict[str, Any]
Given = dict[str, Any]  # one rater's values by question name
RESPONSE = re.compile(r"^(?:response|answer|completion|output|text|option)[_-]?([0-9a-z])$")
PROMPTS = ("prompt", "instruction", "question", "input")
KEPT = {"preference", "strength", "rank", "thumb", "steps", "text", "rationale"}
KINDS: dict[str, QuestionKind] = {answer: asked for asked, answer in ANSWERS.items()}  # type: ignore[misc]
STEPS: dict[str, Literal[-1, 0, 1]] = {"good": 1, "neutral": 0, "bad": -1}
MAIL = "@accord.invalid"  # Label Studio names people by address
MINE = "accord"


# -- out ------------------------------------------------------------------------------------------


def _asked(snapshot: Snapshot) -> Iterator[tuple[Question, list[tuple[Judgment, Given]]]]:
    """Each question (its responses in the order of their ids) with everybody's last values."""
    tables = snapshot.tables
    found: dict[Question, dict[str, tuple[Judgment, Given]]] = defaultdict(dict)
    for j in snapshot.judgments:
        q = tables.questions[j.question]
        one = q.model_copy(update={"responses": tuple(sorted(q.responses))})
        given = _values(j.answer, [one.responses.index(i) for i in q.responses])
        found[one][j.rater] = j, {**given, **({"rationale": j.rationale} if j.rationale else {})}
    yield from ((q, list(answers.values())) for q, answers in found.items())


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
    messages = [m.model_dump() for m in prompt.messages]
    facts = {
        "accord": json.dumps({"messages": messages, "sources": [r.source for r in shown]}),
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


# -- in -------------------------------------------------------------------------------------------


def read_foreign(row: Mapping[str, Any], format: str, at: str) -> list[Native]:
    """What a record or task says, as typed objects; BadRow names the field that is wrong. `at` is used where
    the tool keeps no time."""
    try:
        if format == "argilla":
            fields, facts, given = row["fields"], row.get("metadata") or {}, _argilla(row)
        else:
            fields, facts, given = row["data"], row["data"], _label_studio(row)
        prompt, shown = _question(fields, facts)
        return _natives(prompt, shown, facts, given, at)
    except (ValidationError, TypeError, AttributeError, KeyError, ValueError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise BadRow("", f"is no {format} row that can be read ({first})") from None


def _question(fields: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Prompt, list[Response]]:
    own = json.loads(facts["accord"]) if isinstance(facts.get("accord"), str) else {}
    name = next((p for p in PROMPTS if p in fields), None)
    if name is None:
        raise BadRow("prompt", "is missing", ", ".join(PROMPTS))
    messages = own.get("messages") or [{"role": "user", "content": fields[name]}]
    prompt = Prompt(messages=tuple(Message.model_validate(m) for m in messages))
    names = sorted(k for k in fields if RESPONSE.match(k))
    sources = own.get("sources") or ["unknown"] * len(names)
    return prompt, [Response(text=fields[k], source=s) for k, s in zip(names, sources, strict=True)]


def _argilla(row: Mapping[str, Any]) -> list[tuple[str, Given, str | None, float | None]]:
    by_user: dict[str, Given] = defaultdict(dict)
    for name, answers in (row.get("responses") or {}).items():
        for answer in answers:
            by_user[str(answer["user_id"])][name] = answer["value"]
    return [(user, given, None, None) for user, given in by_user.items()]


def _label_studio(row: Mapping[str, Any]) -> list[tuple[str, Given, str | None, float | None]]:
    found = []
    for a in row["annotations"]:
        if a.get("was_cancelled"):
            continue
        by = a.get("completed_by", "unknown")
        name = str(by.get("email", by) if isinstance(by, Mapping) else by).removesuffix(MAIL)
        given = dict(_region(r) for r in a["result"])
        found.append((name, given, a.get("created_at"), a.get("lead_time")))
    return found


def _region(region: Mapping[str, Any]) -> tuple[str, Any]:
    """(question name, value) of one result."""
    value, name = region["value"], region["from_name"]
    if region["type"] == "pairwise":
        return "preference", {"left": "response_1", "right": "response_2"}[value["selected"]]
    if region["type"] == "ranker":
        return "rank", _ranks(value["ranker"])
    if name == "tie":
        name = "preference"
    key = {"choices": "choices", "textarea": "text"}.get(region["type"])
    if key:
        several = value[key] if isinstance(value[key], list) else [value[key]]
        return name, "\n".join(map(str, several))
    return name, value.get("rating", value.get("number"))


def _ranks(buckets: Mapping[str, Sequence[str]]) -> list[Row]:
    """Buckets named by their rank; or, of a Ranker without buckets, one list, the best first."""
    if len(buckets) == 1 and not next(iter(buckets)).isdigit():
        buckets = {str(rank): [name] for rank, name in enumerate(next(iter(buckets.values())), 1)}
    return [{"value": name, "rank": int(rank)} for rank, names in buckets.items() for name in names]


def _natives(
    prompt: Prompt, shown: list[Response], facts: Mapping[str, Any],
    given: Sequence[tuple[str, Given, str | None, float | None]], at: str,
) -> list[Native]:  # fmt: skip
    made: list[Native] = [("prompt", "", prompt), *(("response", prompt.id, r) for r in shown)]
    ids = tuple(r.id_for(prompt) for r in shown)
    for name, values, when, seconds in given:
        answer = _answer(values, len(shown), facts)
        if answer is None:
            continue
        question = Question(
            prompt=prompt.id, responses=ids, kind=KINDS[answer.kind],
            guideline=str(facts.get("guideline", "v1")),
        )  # fmt: skip
        rater = Rater(name=name, kind="human", facts={"order_shown": "unknown"})
        judgment = Judgment(
            question=question.id, rater=rater.id, answer=answer, at=when or at, seconds=seconds,
            rationale=values.get("rationale") or None,
        )  # fmt: skip
        made += [("question", "", question), ("rater", "", rater), ("judgment", "", judgment)]
    return made


def _answer(values: Given, shown: int, facts: Mapping[str, Any]) -> Answer | None:
    """One rater's values as an answer; None when there is nothing to read."""
    if "preference" in values:
        said = str(values["preference"])
        sides: dict[str, Literal[0, 1]] = {"response_1": 0, "response_2": 1}
        if said in sides:
            return Preference(better=sides[said], strength=int(values.get("strength", 1)))
        if said not in ("tie", "both_bad"):
            raise BadRow(
                "preference", f"{said!r} is unknown", "response_1, response_2, tie, both_bad"
            )
        return Preference(better=None, both_bad=said == "both_bad")
    if "rank" in values:
        ranks = {r["value"]: int(r["rank"]) for r in values["rank"]}
        return Ranking(ranks=tuple(ranks[f"response_{k}"] for k in range(1, shown + 1)))
    if "thumb" in values:
        return Thumb(up={"up": True, "down": False}[values["thumb"]])
    if "steps" in values:
        return StepLabels(labels=tuple(STEPS[s] for s in values["steps"].split()))
    if "text" in values:
        return Writing(text=str(values["text"]), edits=0 if shown else None)
    scores = {
        k: float(v) for k, v in values.items() if k not in KEPT and isinstance(v, int | float)
    }
    if not scores:
        return None
    lowest, highest = float(facts.get("lowest", 1.0)), float(facts.get("highest", 5.0))
    return Rating(scores=scores, lowest=lowest, highest=highest)
