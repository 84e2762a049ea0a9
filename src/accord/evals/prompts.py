"""Prompts to evaluate on, from files of other people's: what is asked, and all else in a row as tags.

A row has its prompt in a column of `ASKED` (or is of any form that `accord import` knows); columns of one
value beside it (category, label, tier…) become tags. Questions with choices get the tags `choices` (a JSON
list) and `right` (numbers of the right ones): MMLU's and TruthfulQA's columns and BBQ's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.core.errors import DataError
from accord.core.types import Prompt
from accord.store.io.formats import convert, detect
from accord.store.io.native import read_native
from accord.store.io.readers import BadRow, inputs, read_rows
from accord.store.io.schemas import is_missing

__all__ = ["ASKED", "prompt_of", "read_prompts"]

ASKED = ("prompt", "messages", "conversations", "instruction", "question", "query", "Behavior",
         "behavior", "Goal", "goal", "input", "text")  # fmt: skip
BESIDE = ("system", "system_prompt", "tools")
LETTERS = "ABCDEFGHIJ"
Row = Mapping[str, Any]


def read_prompts(paths: Sequence[Path]) -> list[Prompt]:
    """The prompts of files, in order; of several files each is tagged with its `file`. DataError names file,
    line and field of a row without one."""
    several = len(paths) > 1 or any(inputs(p) not in ([], [p]) for p in paths)
    prompts: list[Prompt] = []
    for path in paths:
        before = len(prompts)
        for place, row in _lines(path) if path.suffix == ".txt" else read_rows(path):
            try:
                if isinstance(row, BadRow):
                    raise row
                prompt = prompt_of(row)
            except BadRow as bad:
                where = f"{path}:{place} {bad.field}".rstrip()
                raise DataError(bad.reason, where=where, allowed=bad.allowed) from None
            own = {"file": path.name.partition(".")[0]} if several else {}
            prompts.append(prompt.model_copy(update={"tags": {**own, **prompt.tags}}))
        if len(prompts) == before:
            raise DataError("holds no rows", where=str(path), mend="is it the right file?")
    return prompts


def _lines(path: Path) -> list[tuple[str, Row]]:
    """A prompt a line, ends of lines in it written \\n, as ToxiGen does."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't be read ({error})", where=str(path)) from None
    return [
        (str(n), {"prompt": line.replace("\\n", "\n")})
        for n, line in enumerate(lines, 1)
        if line.strip()
    ]


def prompt_of(row: Row) -> Prompt:
    """What a row asks, with its tags; BadRow says what is wrong."""
    if row.get("type") == "prompt" and "messages" in row:
        prompt: Prompt = read_native(row)[2]
        return prompt
    if isinstance(row.get("prompt"), dict):  # as accord keeps answers
        try:
            return Prompt.model_validate(row["prompt"])
        except ValueError:
            raise BadRow("prompt", "is no prompt", "a text, or messages") from None
    column = next((k for k in ASKED if not is_missing(row.get(k))), None)
    asked = _asked(row, column) if column else convert(row, detect(dict(row))).prompt
    inside = {k: v for name in ("metadata", "tags") for k, v in _map(row.get(name)).items()}
    beside = {k: v for k, v in row.items() if k not in (column, *BESIDE)}
    tags = {k: _plain(v) for k, v in {**inside, **beside}.items() if _is_one(v)}
    return asked.model_copy(update={"tags": {**tags, **_choices(row)}})


def _asked(row: Row, column: str) -> Prompt:
    beside = {k: row[k] for k in BESIDE if k in row}
    asked: Any = row[column]
    before = {"instruction": "input", "question": "context"}.get(column)
    if before and isinstance(row.get(before), str) and row[before].strip():
        order = (asked, row[before]) if column == "instruction" else (row[before], asked)
        asked = "\n".join(map(str, order))
    try:
        return convert({"prompt": asked, **beside}, "prompts").prompt
    except BadRow:
        if column not in ("messages", "conversations"):
            raise
        return convert({"messages": asked, **beside}, "messages").prompt  # the answer behind it


def _map(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _is_one(value: Any) -> bool:
    return isinstance(value, str | int | float) and not is_missing(value)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# -- choices --------------------------------------------------------------------------------------


def _choices(row: Row) -> dict[str, str]:
    """A row's choices, which are right, and what BBQ tells of them."""
    if isinstance(targets := row.get("mc2_targets") or row.get("mc1_targets"), Mapping):
        marks = list(targets.get("labels", ()))
        return _tags(
            list(targets.get("choices", ())), [k for k, x in enumerate(marks) if x], "choices"
        )
    if "ans0" in row:
        texts = [row[f"ans{k}"] for k in range(len(LETTERS)) if f"ans{k}" in row]
        return _tags(texts, [_right(row.get("label"), texts, "label")], "ans0") | _bbq(
            row, len(texts)
        )
    listed = row.get("choices")
    if isinstance(listed, list) and listed:
        column = next((k for k in ("answer", "label", "right") if not is_missing(row.get(k))), None)
        if column is None:
            raise BadRow("answer", "is missing", "the number, letter or text of the right choice")
        return _tags(listed, [_right(row[column], listed, column)], "choices")
    return {}


def _tags(texts: list[Any], right: list[int], column: str) -> dict[str, str]:
    if not texts or not right or not all(isinstance(t, str) and t for t in texts):
        raise BadRow(column, "is no list of choices with a right one", "texts")
    return {"choices": json.dumps(texts, ensure_ascii=False), "right": json.dumps(right)}


def _right(value: Any, texts: Sequence[str], column: str) -> int:
    """Of a number, a letter or a text."""
    if isinstance(value, str):
        plain = value.strip()
        known = {**{c: k for k, c in enumerate(LETTERS)}, **{t: k for k, t in enumerate(texts)}}
        value = int(plain) if plain.isdigit() else known.get(plain)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(texts):
        raise BadRow(
            column, "names none of the choices", f"0 to {len(texts) - 1}, a letter, or its text"
        )
    return value


def _bbq(row: Row, n: int) -> dict[str, str]:
    """Whether the context leaves the answer open; of each choice whether it is biased, null for "unknown";
    the template it is of."""
    try:
        groups = [str(row["answer_info"][f"ans{k}"][1]) for k in range(n)]
        stereotyped = row["additional_metadata"]["stereotyped_groups"]
        negative = row["question_polarity"] == "neg"
        ambiguous = row["context_condition"] == "ambig"
        template = f"{row['category']} {row['question_index']}"
    except (KeyError, TypeError, IndexError):
        return {}
    plain = {str(g).lower() for g in stereotyped}
    biased = [None if g == "unknown" else (g.lower() in plain) == negative for g in groups]
    return {"ambiguous": _plain(ambiguous), "biased": json.dumps(biased), "cluster": template}
