"""Prompts to evaluate on, from files of other people's: what is asked, and all else in a row as tags.

A row has its prompt in a column of `ASKED` (or is of any form that `accord import` knows); columns of one
value beside it (category, label, tier…) become tags. Questions with choices get the tags `choices` (a JSON
list) and `right` (numbers of the right ones): MMLU's, ARC's and TruthfulQA's columns and BBQ's. All rows of a
file ask by one column: a misspelt key is an error, never another question.
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
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # TruthfulQA has up to twenty
Row = Mapping[str, Any]


def read_prompts(paths: Sequence[Path]) -> list[Prompt]:
    """The prompts of files, in order; of several files each is tagged with its `file`. DataError names file,
    line and field of a row without one."""
    several = len(paths) > 1 or any(inputs(p) not in ([], [p]) for p in paths)
    prompts: list[Prompt] = []
    for path in paths:
        before, forms = len(prompts), dict[str, str]()
        for place, row in _lines(path) if path.suffix == ".txt" else read_rows(path):
            try:
                if isinstance(row, BadRow):
                    raise row
                prompt = prompt_of(row)
                column = _column(row)
                form = f"{column or 'form'}{' and choices' * ('choices' in prompt.tags)}"
                forms.setdefault(form, place)
                if len(forms) > 1:
                    first, at = next(iter(forms.items()))
                    what = f"this row asks by {form}, those from {at} on by {first}"
                    raise BadRow("", what, "one form a file: is a key misspelt?")
                if not prompt.last.strip():
                    raise BadRow(column, "is empty", "a text")
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
    row = _two_turns(row)
    column = _column(row)
    asked = _asked(row, column) if column else convert(row, detect(dict(row))).prompt
    inside = {k: v for name in ("metadata", "tags") for k, v in _map(row.get(name)).items()}
    beside = {k: v for k, v in row.items() if k not in (column, *BESIDE)}
    tags = {k: _plain(v) for k, v in {**inside, **beside}.items() if _is_one(v)}
    return asked.model_copy(update={"tags": {**tags, **_choices(row)}})


def _two_turns(row: Row) -> Row:
    """MT-Bench's: what is asked first, what after the reply as the tag `second`, references as JSON."""
    turns = row.get("turns")
    if not isinstance(turns, list) or _column(row):
        return row
    if not turns or len(turns) > 2 or not all(isinstance(t, str) and t.strip() for t in turns):
        raise BadRow("turns", "are no one or two questions", "texts")
    own = {"prompt": turns[0], **({"second": turns[1]} if len(turns) > 1 else {})}
    known = row.get("reference")
    own |= {"references": json.dumps(known)} if isinstance(known, list) and known else {}
    return {**{k: v for k, v in row.items() if k not in ("turns", "reference")}, **own}


def _column(row: Row) -> str:
    """What a row asks by; "" where its form says it (`accord import`'s)."""
    return next((k for k in ASKED if not is_missing(row.get(k))), "")


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


LISTED = ("choices", "options", "mc1_targets", "mc2_targets", "answer_info", "additional_metadata")
RIGHT = ("answer", "answerKey", "answer_index", "label", "right")


def _choices(row: Row) -> dict[str, str]:
    """A row's choices, which are right, and what BBQ tells of them."""
    row = {**row, **{k: _opened(row[k], k) for k in LISTED if isinstance(row.get(k), str)}}
    targets = [c for c in ("mc2_targets", "mc1_targets") if not is_missing(row.get(c))]
    if targets:
        tags = [_targets(row, column) for column in targets]
        return tags[0] | (_among(*tags) if len(tags) > 1 else {})
    if "ans0" in row:
        texts = [row[f"ans{k}"] for k in range(len(LETTERS)) if f"ans{k}" in row]
        return _tags(texts, [_right(row.get("label"), texts, "label")], "ans0") | _bbq(
            row, len(texts)
        )
    key = next((k for k in RIGHT if not is_missing(row.get(k))), None)
    if is_missing(row.get("choices")):
        if key and isinstance(row.get("options"), list) and row["options"]:  # MMLU-Pro's
            return _tags(row["options"], [_right(row[key], row["options"], key)], "options")
        return {}
    if key is None:
        raise BadRow("answer", "is missing", "the number, letter or text of the right choice")
    texts, names = _texts(row["choices"])
    right = _right(row[key], texts, key) if names is None else _right(row[key], names, key, ())
    return _tags(texts, [right], "choices")


def _opened(value: str, column: str) -> Any:
    """A cell of a table that is JSON; where no text can stand, anything else is wrong."""
    try:
        return json.loads(value) if value.strip() else None
    except ValueError:
        if column == "options":
            return value
        raise BadRow(column, "is a text that is not JSON", "a list or an object") from None


def _texts(listed: Any) -> tuple[list[Any], list[str] | None]:
    """Choices, and what they are called where that is said: ARC's {text: […], label: […]}."""
    if isinstance(listed, list):
        return listed, None
    texts, names = (_map(listed).get(k) for k in ("text", "label"))
    if not isinstance(texts, list) or not isinstance(names, list) or len(texts) != len(names):
        raise BadRow("choices", "are no list", "texts, or {text: […], label: […]}")
    return texts, [str(n) for n in names]


def _targets(row: Row, column: str) -> dict[str, str]:
    """TruthfulQA's: choices with a 1 or 0 for each."""
    targets = row[column]
    texts, marks = (_map(targets).get(k) for k in ("choices", "labels"))
    if not isinstance(texts, list) or not isinstance(marks, list) or len(texts) != len(marks):
        raise BadRow(column, "is no {choices: […], labels: […]} of one length")
    if any(not isinstance(x, int | float) or x not in (0, 1) for x in marks):
        raise BadRow(f"{column}.labels", "are not all 1 or 0", "numbers")
    return _tags(texts, [k for k, x in enumerate(marks) if x], column)


def _tags(texts: list[Any], right: list[int], column: str) -> dict[str, str]:
    if not texts or not right or not all(isinstance(t, str) and t for t in texts):
        raise BadRow(column, "is no list of choices with a right one", "texts")
    return {"choices": json.dumps(texts, ensure_ascii=False), "right": json.dumps(right)}


def _right(value: Any, texts: Sequence[str], column: str, letters: Sequence[str] = LETTERS) -> int:
    """Of a text, a letter or a number; what could be two of the choices is an error."""
    could: set[int] = set()
    if isinstance(value, str):
        plain = value.strip()
        could = {k for k, t in enumerate(texts) if t == plain}
        if not could:
            could = {k for k, c in enumerate(letters[: len(texts)]) if c == plain}
        is_number = letters and plain.isdecimal() and int(plain) < len(texts)
        could |= {int(plain)} if is_number else set()
    elif isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        could = {int(value)} if letters else {k for k, t in enumerate(texts) if t == str(value)}
    if len(could) > 1:
        what = f"may be choice {' or '.join(map(str, sorted(could)))}"
        raise BadRow(column, what, "its number, as JSON")
    right = could.pop() if could else -1
    if not 0 <= right < len(texts):
        allowed = f"0 to {len(texts) - 1}, a letter, or its text" if letters else ", ".join(texts)
        raise BadRow(column, "names none of the choices", allowed)
    return right


def _among(all_: Mapping[str, str], asked: Mapping[str, str]) -> dict[str, str]:
    """Where all of TruthfulQA's MC2 stand: which of them MC1 asks among (one right, the false ones)."""
    texts, few = (json.loads(t["choices"]) for t in (all_, asked))
    if not set(few) <= set(texts):
        raise BadRow("mc1_targets.choices", "are not all among those of mc2_targets")
    mc1 = [texts.index(t) for t in few]
    right = {mc1[k] for k in json.loads(asked["right"])}
    if not right <= set(json.loads(all_["right"])):
        raise BadRow("mc1_targets.labels", "call right what mc2_targets call false")
    return {"mc1": json.dumps(mc1)}


BBQ = ("question_polarity", "context_condition", "answer_info", "additional_metadata")


def _bbq(row: Row, n: int) -> dict[str, str]:
    """Whether the context leaves the answer open; of each choice whether it is biased, null for "unknown";
    the template it is of. Nothing of a row that has none of BBQ's columns."""
    if not any(k in row for k in BBQ):
        return {}
    try:
        groups = [_plain_group(row["answer_info"][f"ans{k}"][1]) for k in range(n)]
        stereotyped = row["additional_metadata"]["stereotyped_groups"]
        template = f"{row['category']} {row['question_index']}"
    except (KeyError, TypeError, IndexError) as error:
        what = f"lacks what tells a biased answer ({error})"
        allowed = "answer_info, additional_metadata.stereotyped_groups, category, question_index"
        raise BadRow("ans0", what, allowed) from None
    negative = _one_of(row, "question_polarity", ("neg", "nonneg")) == "neg"
    ambiguous = _one_of(row, "context_condition", ("ambig", "disambig")) == "ambig"
    plain = {_plain_group(g) for g in stereotyped}
    biased = [None if g == "unknown" else (g in plain) == negative for g in groups]
    return {"ambiguous": _plain(ambiguous), "biased": json.dumps(biased), "cluster": template}


def _one_of(row: Row, column: str, allowed: Sequence[str]) -> str:
    if (value := row.get(column)) not in allowed:
        raise BadRow(column, f"is {value!r}", " or ".join(allowed))
    return str(value)


def _plain_group(group: Any) -> str:
    """BBQ writes lowSES beside "low SES"."""
    return str(group).lower().replace(" ", "")
