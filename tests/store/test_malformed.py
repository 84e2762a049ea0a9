"""Malformed files: one line with file, row and field; the store is left as it was."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from accord.core.errors import ConfigError, DataError
from accord.store import Store, import_file
from tests.store.words import COMPARE, every, fill

GOOD = '{"prompt": "p", "chosen": "a", "rejected": "b"}\n'


def lines(text: str) -> bytes:
    """A good row, and these after it."""
    return (GOOD + text).encode()


def row(**fields: Any) -> bytes:
    """A pair with some fields replaced, on line 2."""
    whole = {"prompt": "p", "chosen": "a", "rejected": "b"} | fields
    return lines(json.dumps({k: v for k, v in whole.items() if v is not ...}))


def says(*turns: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in turns]


def native(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


HI, YES = ("user", "Hi"), ("assistant", "Yes")
HH = "\n\nHuman: {}\n\nAssistant: {}"

BAD: dict[str, tuple[str, bytes, str]] = {  # the file's name and bytes, and what the error says
    "broken JSON": ("a.jsonl", lines('{"prompt": "p", '), "a.jsonl:2: is not JSON ("),
    "torn string": ("a.jsonl", lines('{"prompt": "p'), "a.jsonl:2: is not JSON (Unterminated"),
    "two objects": ("a.jsonl", lines("{} {}"), "a.jsonl:2: is not JSON (Extra data"),
    "array": ("a.jsonl", lines("[1]"), "a.jsonl:2: is a JSON list; allowed: an object"),
    "number": ("a.jsonl", lines("3"), "a.jsonl:2: is a JSON int"),
    "null": ("a.jsonl", lines("null"), "a.jsonl:2: is a JSON NoneType"),
    "wrong type": ("a.jsonl", row(chosen=3), "a.jsonl:2 chosen: is a number; allowed: text"),
    "boolean": ("a.jsonl", row(prompt=True), "a.jsonl:2 prompt: is a boolean"),
    "object": ("a.jsonl", row(rejected={"a": 1}), "a.jsonl:2 rejected: is an object"),
    "null field": ("a.jsonl", row(chosen=None), "a.jsonl:2 chosen: is missing"),
    "missing field": ("a.jsonl", row(rejected=...), "a.jsonl:2 rejected: is missing"),
    "no messages": ("a.jsonl", row(prompt=[]), "a.jsonl:2 prompt: is an empty list"),
    "message is text": ("a.jsonl", row(prompt=["x"]), "a.jsonl:2 prompt[0]: is text; allowed"),
    "unknown role": (
        "a.jsonl",
        row(prompt=says(HI, ("bot", "x"))),
        "a.jsonl:2 prompt[1].role: 'bot' is unknown; allowed: system, user, assistant, tool",
    ),
    "no role": ("a.jsonl", row(prompt=[{"content": "x"}]), "prompt[0].role: is missing"),
    "odd role": ("a.jsonl", row(prompt=[{"role": [], "content": "x"}]), "prompt[0].role: []"),
    "no content": ("a.jsonl", row(prompt=[{"role": "user"}]), "prompt[0].content: is missing"),
    "parts": (
        "a.jsonl",
        row(prompt=[{"role": "user", "content": [{"type": "text"}]}]),
        "a.jsonl:2 prompt[0].content[0]: is no text (text)",
    ),
    "extra key in a message": (
        "a.jsonl",
        row(prompt=[{"role": "user", "content": "x", "mood": "Bo"}]),
        "a.jsonl:2 prompt[0].mood: is not a known key",
    ),
    "prompt ends with assistant": (
        "a.jsonl",
        row(prompt=says(HI, YES)),
        "a.jsonl:2 prompt: ends with the assistant's turn",
    ),
    "chosen ends with user": (
        "a.jsonl",
        row(chosen=says(YES, HI)),
        "a.jsonl:2 chosen: ends with the user's turn",
    ),
    "conversation without prompt": (
        "a.jsonl",
        native(chosen=says(YES), rejected=says(YES)),
        "a.jsonl:1 chosen: has no turn before the answer",
    ),
    "text without prompt": (
        "a.jsonl",
        native(chosen="Yes", rejected="No"),
        "a.jsonl:1 chosen: has no turn before the answer",
    ),
    "transcripts that differ": (
        "a.jsonl",
        native(chosen=HH.format("Hi", "a"), rejected=HH.format("Ho", "a")),
        "a.jsonl:1 rejected: differs from chosen before the last turn",
    ),
    "transcript that ends with the human": (
        "a.jsonl",
        native(chosen=HH.format("Hi", "a") + "\n\nHuman: so?", rejected=HH.format("Hi", "b")),
        "a.jsonl:1 chosen: ends with the user's turn",
    ),
    "label maybe": (
        "a.jsonl",
        native(prompt="p", completion="c", label="maybe"),
        "a.jsonl:1 label: is text; allowed: true or false",
    ),
    "label missing": (
        "a.jsonl",
        native(prompt="p", completion="c", label=None),
        "a.jsonl:1 label: is missing",
    ),
    "label 2": ("a.jsonl", native(prompt="p", completion="c", label=2), "a.jsonl:1 label: is a nu"),
    "messages without answer": (
        "a.jsonl",
        native(messages=says(HI)),
        "a.jsonl:1 messages: ends with the user's turn",
    ),
    "unknown keys": ("a.jsonl", native(question="p", answer="c"), "has the keys question, answer"),
    "no keys": ("a.jsonl", b"{}\n", "a.jsonl:1: has the keys (none); allowed: accord: type"),
    "odd type": ("a.jsonl", native(type=[], x=1), "a.jsonl:1: has the keys type, x"),
    "empty file": ("a.jsonl", b"", "a.jsonl: holds no rows"),
    "blank lines": ("a.jsonl", b"\n  \n\r\n", "a.jsonl: holds no rows"),
    "10 MB line": ("a.jsonl", row(chosen="x" * 10_000_000), "a.jsonl:2: the line is longer than 5"),
    "latin-1": ("a.jsonl", GOOD.replace("p", "\xe4").encode("latin-1"), "a.jsonl:1: is not UTF-8"),
    "UTF-16": ("a.jsonl", GOOD.encode("utf-16"), "a.jsonl:1: is not UTF-8 (byte 1)"),
    "binary": ("a.jsonl", bytes(range(256)), "a.jsonl:1: is not"),
    "NaN": ("a.jsonl", row(prompt=float("nan")), "a.jsonl:2 prompt: is NaN; allowed: text"),
    "float too large": ("a.jsonl", lines('{"prompt": 1e999}'), "a.jsonl:2: is not JSON (1e999 is"),
    "huge int": ("a.jsonl", lines('{"a": %s}' % ("9" * 5000)), "a.jsonl:2: is not JSON (Exceeds"),
    "lone surrogate": ("a.jsonl", lines(r'{"prompt": "\ud83e"}'), "a.jsonl:2: holds half of a"),
    "surrogate in a key": ("a.jsonl", lines(r'{"\udc00": 1}'), "a.jsonl:2: holds half of a"),
    "surrogate twice": ("a.jsonl", lines(r'{"\udc00": 1, "\udc00": 1}'), "a.jsonl:2: "),
    "control character": ("a.jsonl", lines('{"prompt": "a\tb"}'), "a.jsonl:2: is not JSON (Inval"),
    "duplicate key": (
        "a.jsonl",
        lines('{"chosen": "a", "chosen": "b"}'),
        "a.jsonl:2: is not JSON (the key 'chosen' appears twice)",
    ),
    "deep": ("a.jsonl", lines('{"prompt": ' + "[" * 100_000), "a.jsonl:2: is not JSON (max"),
    **{
        f"nested {n}": (
            "a.jsonl",
            lines('{"prompt": ' + "[" * n + "]" * n + "}"),
            "a.jsonl:2",
        )
        for n in (1, 300, 900, 950, 1000, 3000)
    },
    "JSON object": ("a.json", b'{"a":\n 1}', "a.json: holds a JSON dict; allowed: a list"),
    "JSON lines as JSON": ("a.json", lines(GOOD + "{"), "a.json:3: is not JSON (Expecting prop"),
    "two lists": ("a.json", b"[]\n[]", "a.json:2: is not JSON (Extra data, column 1)"),
    "JSON list of text": ("a.json", b'["x"]', "a.json:item 1: is a JSON str"),
    "JSON item": ("a.json", b"[%s, {}]" % GOOD.encode(), "a.json:item 2 prompt: is missing"),
    "JSON empty list": ("a.json", b"[]", "a.json: holds no rows"),
    "JSON empty": ("a.json", b"", "a.json:1: is not JSON"),
    "JSON latin-1": ("a.json", b'["\xe4"]', "a.json: is not UTF-8 (byte 3)"),
    "JSON NaN": ("a.json", b"[NaN]", "a.json:item 1: is a JSON float"),
    "JSON surrogate": ("a.json", rb'[{"prompt": "\ud800"}]', "a.json:item 1: holds half of a"),
    "JSON deep": ("a.json", b"[" * 100_000, "a.json: is not JSON (max"),
    "truncated gzip": ("a.jsonl.gz", gzip.compress(lines(GOOD))[:-9], "a.jsonl.gz: the .gz is dam"),
    "gzip with a flipped byte": (
        "a.jsonl.gz",
        gzip.compress(lines(GOOD), mtime=0)[:-8] + b"\0" * 8,
        "a.jsonl.gz: the .gz is damaged",
    ),
    "no gzip": ("a.jsonl.gz", GOOD.encode(), "a.jsonl.gz: the .gz is damaged"),
    "gzip of JSON": ("a.json.gz", b"\x1f\x8b", "a.json.gz: the .gz is damaged"),
    "wrong extension": ("a.txt", GOOD.encode(), "a.txt: can't tell the format of a .txt file"),
    "no extension": ("data", GOOD.encode(), "data: can't tell the format of a nameless file"),
    "CSV columns": ("a.csv", b"question,answer\na,b\n", "a.csv:2: has the keys question, answer"),
    "CSV too many": ("a.csv", b"prompt,completion\na,b,c\n", "a.csv:2: has not 2 columns"),
    "CSV too few": ("a.csv", b"prompt,completion\na,b\nc\n", "a.csv:3: has not 2 columns"),
    "CSV header alone": ("a.csv", b"prompt,completion\n", "a.csv: holds no rows"),
    "CSV torn quote": ("a.csv", b'prompt,completion\n"a,b\n', "a.csv:2: is not CSV ("),
    "CSV latin-1": ("a.csv", b"prompt,completion\n\xe4,b\n", "is not CSV in UTF-8"),
    "CSV label": ("a.csv", b"prompt,completion,label\na,b,maybe\n", "a.csv:2 label: is text"),
    "CSV column twice": ("a.csv", b"prompt,prompt\na,b\n", "a.csv:1: the column 'prompt' appears"),
    "no Parquet": ("a.parquet", GOOD.encode(), "a.parquet: is not Parquet"),
    "accord field": (
        "a.jsonl",
        native(type="rater", name="anna", kind="robot"),
        "a.jsonl:1 kind: Input should be 'human', 'model' or 'rule'",
    ),
    "accord extra field": (
        "a.jsonl",
        native(type="rater", name="anna", kind="human", age=3),
        "a.jsonl:1 age: Extra inputs are not permitted",
    ),
    "accord type": (
        "a.jsonl",
        native(type="rater", name="anna", kind="human") + native(type={}),
        "a.jsonl:2 type: {} is unknown; allowed: prompt, response",
    ),
    "accord without prompt": (
        "a.jsonl",
        native(type="response", text="x"),
        "a.jsonl:1 prompt: is missing",
    ),
    "accord unknown prompt": (
        "a.jsonl",
        native(type="response", prompt="0", text="x"),
        "prompt 0 is neither in the file nor in the store",
    ),
    "accord unknown question": (
        "a.jsonl",
        native(type="judgment", **every()[0].model_dump() | {"question": "0" * 20}),
        "question 00000000000000000000 is not in the store",
    ),
    "accord misfit": (
        "a.jsonl",
        native(type="judgment", **every()[1].model_dump() | {"question": COMPARE.id}),
        "a compare question is answered by a preference, not a ranking",
    ),
    "accord rating": (
        "a.jsonl",
        native(type="judgment", **every()[2].model_dump() | {"at": 5}),
        "a.jsonl:1 at: Input should be a valid string",
    ),
}


def refused(store: Store, path: Path, **options: Any) -> str:
    """The error's line; the store and the folder are as they were."""
    before, files = store.counts(), sorted(path.parent.iterdir())
    with pytest.raises((DataError, ConfigError)) as error:
        import_file(store, path, **options)
    assert store.counts() == before
    assert sorted(path.parent.iterdir()) == files
    line = str(error.value)
    assert "\n" not in line
    assert "Traceback" not in line
    assert len(line) < 1500
    return line


@pytest.mark.parametrize("progress", [False, True], ids=["", "with progress"])
@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_and_the_store_unchanged(
    store: Store, tmp_path: Path, name: str, progress: bool
) -> None:
    file, content, told = BAD[name]
    fill(store)
    path = tmp_path / "in" / file
    path.parent.mkdir()
    path.write_bytes(content)
    options = {"on_progress": lambda done, total: None} if progress else {}
    line = refused(store, path, **options)
    assert file in line
    assert told in line


SKIPPABLE = [
    n for n, (f, c, _) in BAD.items() if f.endswith("jsonl") and c.startswith(GOOD.encode())
]


@pytest.mark.parametrize("name", SKIPPABLE)
def test_a_bad_row_can_be_skipped(store: Store, tmp_path: Path, name: str) -> None:
    path, rejects = tmp_path / "a.jsonl", tmp_path / "r.jsonl"
    path.write_bytes(BAD[name][1])
    report = import_file(store, path, skip_bad=True, rejects_path=rejects)
    assert (report.judgments, report.left_out["bad"]) == (1, 1)
    (found,) = [json.loads(x) for x in rejects.read_text(encoding="utf-8").split("\n") if x]
    assert found["place"] == "2"
    assert found["reason"]


def test_a_byte_order_mark_is_fine(store: Store, tmp_path: Path) -> None:
    for name, content in {"a.jsonl": GOOD, "b.json": f"[{GOOD}]", "c.csv": "prompt\nx\n"}.items():
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
        assert import_file(store, tmp_path / name).rows == 1


def test_a_missing_file_and_an_unknown_format(store: Store, tmp_path: Path) -> None:
    assert "none.jsonl: no such file" in refused(store, tmp_path / "none.jsonl")
    (tmp_path / "a.jsonl").write_text(GOOD)
    line = refused(store, tmp_path / "a.jsonl", format="dpo")
    assert "unknown format 'dpo'; allowed: auto, " in line
    line = refused(store, tmp_path / "a.jsonl", format="unpaired")
    assert "a.jsonl:1 completion: is missing; allowed: unpaired needs prompt, completion" in line


def test_folders_that_are_no_data_set(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "is no datasets folder" in refused(store, tmp_path / "empty")
    datasets.disable_progress_bars()
    one = datasets.Dataset.from_list([json.loads(GOOD)])
    datasets.DatasetDict(train=one, test=one).save_to_disk(str(tmp_path / "two"))
    line = refused(store, tmp_path / "two")
    assert "holds several splits; allowed:" in line
    assert "two/train" in line
    assert import_file(store, tmp_path / "two" / "train").judgments == 1


def test_a_parquet_row_is_named(store: Store, tmp_path: Path) -> None:
    rows = pyarrow.table({"prompt": ["p", None], "chosen": ["a", "a"], "rejected": ["b", "b"]})
    pyarrow.parquet.write_table(rows, tmp_path / "a.parquet")
    assert "a.parquet:row 2 prompt: is missing" in refused(store, tmp_path / "a.parquet")
