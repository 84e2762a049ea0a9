"""Label Studio's tasks: JSON (all annotations of a task) and JSON_MIN or CSV (a row an annotation).

    JSON               {data: {prompt, response_1…}, annotations: [{completed_by, lead_time, result: […]}]}
    JSON_MIN, CSV      the data and a column a control, annotator, annotation_id, created_at, lead_time
                       (docs/collection.md has the labelling interface that shows our own export)

Skipped (cancelled) and empty annotations, drafts and predictions are no judgments. A Ranker's result is one
list, the best first, or buckets: ranks when they are called 1, 2, … or plainly good, middling and bad.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from accord.store.io.foreign.names import words
from accord.store.io.foreign.task import MAIL, ForeignAnswer, ForeignTask, Kind, Value

__all__ = ["is_label_studio", "read_label_studio"]

Row = Mapping[str, Any]
KEPT = {
    "id",
    "annotator",
    "annotation_id",
    "created_at",
    "updated_at",
    "lead_time",
    "agreement",
    "history",
}
CONTROLS: dict[str, Kind] = {  # the key of a result's value -> what it is
    "selected": "pair", "choices": "choice", "rating": "number", "number": "number", "ranker": "rank",
    "text": "text",
}  # fmt: skip
TIERS = (
    {
        "best",
        "good",
        "better",
        "preferred",
        "relevant",
        "helpful",
        "correct",
        "top",
        "chosen",
        "accepted",
    },
    {"ok", "okay", "neutral", "middle", "average", "acceptable", "fair"},
    {
        "bad",
        "worse",
        "worst",
        "biased",
        "irrelevant",
        "unhelpful",
        "incorrect",
        "poor",
        "rejected",
        "harmful",
    },
)
ASKED = re.compile(
    r"(?i)prefer|better|best|choi|choose|winner|compar|pick|select|vote|verdict|judg|thumb|tie$"
)
FILLER = {
    "results",
    "result",
    "answers",
    "answer",
    "responses",
    "response",
    "items",
    "bucket",
    "rank",
}


def is_label_studio(row: Row) -> bool:
    whole = "data" in row and bool({"annotations", "completions", "predictions"} & set(row))
    return whole or {"annotator", "annotation_id"} <= set(row)


def read_label_studio(row: Row) -> ForeignTask:
    if "data" not in row:
        return _of_one(row)
    skipped: Counter[str] = Counter()
    skipped["predictions"] = len(row.get("predictions") or ())
    skipped["drafts"] = len(row.get("drafts") or ())
    answers = []
    for a in row.get("annotations", row.get("completions")) or ():
        if a.get("was_cancelled") or a.get("skipped"):
            skipped["cancelled annotations"] += 1
            continue
        results = a.get("result") or ()
        values = [v for region in results for v in _region(region, skipped)]
        if not results:
            skipped["annotations without a result"] += 1
        answers.append(
            ForeignAnswer(
                _who(a.get("completed_by")), values, a.get("created_at"), a.get("lead_time")
            )
        )
    return ForeignTask(row["data"], row["data"], answers, +skipped)


def _who(by: Any) -> str:
    if isinstance(by, Mapping):
        by = next((by[k] for k in ("email", "username", "id") if by.get(k) is not None), None)
    return "unknown" if by in (None, "") else str(by).removesuffix(MAIL)


def _region(region: Row, skipped: Counter[str]) -> Iterator[Value]:
    """One result as a value; relations and the like are counted."""
    name, kind = region.get("from_name"), region["type"]
    if name is None:
        skipped[f"results of type {kind}"] += 1
        return
    value, about = region["value"], str(region.get("to_name") or "")
    yield _value(name, value, about) or Value(name, value, "other")


def _value(name: str, value: Row, about: str = "") -> Value | None:
    """What a control's result says; None when it is of a kind that is not read."""
    control = next((c for c in CONTROLS if c in value), None)
    if control is None:
        return None
    content = value[control]
    if control == "ranker":
        ranks = _ranks(name, content)
        return Value(name, ranks or content, "rank" if ranks else "other", about)
    if control == "text":
        content = "\n".join(map(str, content)) if isinstance(content, list) else str(content)
    if control == "choices":
        several = content if isinstance(content, list) else [content]
        if len(several) != 1:
            return Value(name, several, "other", about)
        content = str(several[0])
    return Value(name, content, CONTROLS[control], about)


def _ranks(name: str, lists: Any) -> list[tuple[str, int]] | None:
    """(item, rank) of a Ranker's lists; None for buckets of which none is known to be the better."""
    if isinstance(lists, list):
        lists = {name: lists}
    buckets: dict[str, Sequence[str]] = {k: v for k, v in lists.items() if v}
    if len(buckets) > 1:
        buckets.pop("_", None)  # what was put into no bucket
    if not buckets:
        return []
    ranks = {bucket: _rank(bucket) for bucket in buckets}
    if len(buckets) == 1 and (name in buckets or None in ranks.values()):
        return [(item, n) for n, item in enumerate(next(iter(buckets.values())), 1)]
    if None in ranks.values() or len(set(ranks.values())) < len(ranks):
        return None
    return [(item, rank) for b, items in buckets.items() if (rank := ranks[b]) for item in items]


def _rank(bucket: str) -> int | None:
    tokens = [w for w in words(bucket.replace("_", " ")) if w not in FILLER]
    if len(tokens) != 1:
        return None
    if tokens[0].isdigit():
        return int(tokens[0]) or None
    return next((n for n, tier in enumerate(TIERS, 1) if tokens[0] in tier), None)


def _of_one(row: Row) -> ForeignTask:
    """A row that is one annotation: the data, and a column a control, of which only values tell which is
    which. In CSV cells lists are JSON; `_data_NAME` is a field that is called as a control is."""
    cells = {str(k): _parsed(v) for k, v in row.items() if v not in (None, "")}
    fields: dict[str, Any] = {}
    values: list[Value] = []
    for name, cell in cells.items():
        if name in KEPT:
            continue
        several = cell if isinstance(cell, list) else [cell]
        results = [
            x
            for x in several
            if isinstance(x, Mapping) and set(CONTROLS) & set(x) and "id" not in x
        ]
        if results and len(results) == len(several):
            values += [_value(name, x) or Value(name, x, "other") for x in results]
        elif isinstance(cell, str) and f"_data_{name}" in cells:
            values.append(Value(name, cell, "label"))
        else:
            fields[name.removeprefix("_data_")] = row[name]
            if isinstance(cell, str) and (ASKED.search(name) or len(words(cell)) > 1):
                values.append(Value(name.removeprefix("_data_"), cell, "label"))
    who, seconds = _who(row["annotator"]), row.get("lead_time")
    seconds = float(seconds) if seconds not in (None, "") else None
    return ForeignTask(
        fields,
        fields,
        [ForeignAnswer(who, values, row.get("created_at") or None, seconds)],
        loose=True,
    )


def _parsed(cell: Any) -> Any:
    if isinstance(cell, str) and cell[:1] in ("[", "{"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell
    return cell
