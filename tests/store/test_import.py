"""Import: every format and file type, counts, and nothing twice."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from accord.core.errors import DataError, RunError
from accord.core.types import Message, Prompt
from accord.store import Store, import_file

Row = dict[str, Any]


def turn(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def write_jsonl(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), "utf-8")
    return path


def write_csv(path: Path, rows: Sequence[Row]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path: Path, rows: Sequence[Row]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
    return path


def write_dataset(path: Path, rows: Sequence[Row]) -> Path:
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(list(rows)).save_to_disk(str(path))
    return path


def write_json(path: Path, rows: Sequence[Row]) -> Path:
    path.write_text(json.dumps(rows), "utf-8")
    return path


def write_gz(path: Path, rows: Sequence[Row]) -> Path:
    text = "".join(json.dumps(r) + "\n" for r in rows)
    path.write_bytes(gzip.compress(text.encode()))
    return path


FILES: dict[str, Callable[[Path, Sequence[Row]], Path]] = {
    "a.jsonl": write_jsonl,
    "a.ndjson": write_jsonl,
    "a.JSONL": write_jsonl,
    "a.json": write_json,
    "a.csv": write_csv,
    "a.parquet": write_parquet,
    "a.jsonl.gz": write_gz,
    "folder": write_dataset,
}
TEXT = [
    {"prompt": "Hi?", "chosen": 'Yes, "you"\r\n🥾', "rejected": "no"},
    {"prompt": "Why?", "chosen": "b", "rejected": "c"},
]
MESSAGES = [
    {
        "prompt": [turn("system", "Be brief."), turn("user", r["prompt"])],
        "chosen": [turn("assistant", r["chosen"])],
        "rejected": [turn("assistant", r["rejected"])],
    }
    for r in TEXT
]


def told(store: Store) -> set[tuple[tuple[str, ...], str, str]]:
    """(words said before, chosen, rejected) of every pair."""
    return {
        (tuple(m.content for m in p.prompt.messages), p.chosen.text, p.rejected.text)
        for p in store.freeze(f"v{len(store.snapshot_names())}").pairs()
    }


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_says_the_same(store: Store, tmp_path: Path, name: str) -> None:
    report = import_file(store, FILES[name](tmp_path / name, TEXT))
    assert (report.format, report.rows, report.judgments, report.prompts) == ("preference", 2, 2, 2)
    assert told(store) == {((r["prompt"],), r["chosen"], r["rejected"]) for r in TEXT}
    assert {r.source for _, r in store.responses()} == {f"import:{name}"}
    assert store.verify() == 2


@pytest.mark.parametrize("name", [n for n in FILES if n != "a.csv"])
def test_messages_of_every_kind_of_file(store: Store, tmp_path: Path, name: str) -> None:
    import_file(store, FILES[name](tmp_path / name, MESSAGES))
    assert told(store) == {(("Be brief.", r["prompt"]), r["chosen"], r["rejected"]) for r in TEXT}


HH = "\n\nHuman: Hi \n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant: "
WHOLE = [turn("user", "Hi"), turn("assistant", "Hello"), turn("user", "Why?")]
SHAPES: dict[str, tuple[Row, str]] = {
    "transcripts": ({"chosen": HH + "So.", "rejected": HH + "No."}, "implicit"),
    "conversations": (
        {
            "chosen": [*WHOLE, turn("assistant", "So.")],
            "rejected": [*WHOLE, turn("assistant", "No.")],
        },
        "implicit",
    ),
    "transcript and text": (
        {"prompt": HH.rstrip(), "chosen": "So.", "rejected": "No."},
        "preference",
    ),
    "messages and text": ({"prompt": WHOLE, "chosen": "So.", "rejected": "No."}, "preference"),
    "messages that repeat the prompt": (
        {
            "prompt": WHOLE,
            "chosen": [*WHOLE, turn("assistant", "So.")],
            "rejected": [*WHOLE, turn("assistant", "No.")],
        },
        "preference",
    ),
    "with other columns": (
        {"type": "chat", "score": 3, "chosen": HH + "So.", "rejected": HH + "No."},
        "implicit",
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_a_pair_says_the_same(store: Store, tmp_path: Path, name: str) -> None:
    row, format = SHAPES[name]
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    assert report.format == format
    assert told(store) == {(("Hi", "Hello", "Why?"), "So.", "No.")}
    assert set(report.unused) == set(row) - {"prompt", "chosen", "rejected"}


@pytest.mark.parametrize(
    "text", ["Human: hi", "System: Linux", "Assistant: me", "\nHuman: x", "a\n\nHuman: b"]
)
def test_text_that_is_no_transcript_stays_as_it_is(store: Store, tmp_path: Path, text: str) -> None:
    row = {"prompt": text, "chosen": text, "rejected": "no"}
    import_file(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    assert told(store) == {((text,), text, "no")}


@pytest.mark.parametrize("label", [True, False, 1, 0, "true", "FALSE", "1"])
def test_unpaired_labels(store: Store, tmp_path: Path, label: Any) -> None:
    row = {"prompt": "Hi", "completion": "yes", "label": label}
    import_file(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    (found,) = store.freeze("v1").labelled()
    assert (found.prompt, found.response.text) == (Prompt.user("Hi"), "yes")
    assert found.desirable is (str(label).lower() in {"true", "1"})


@pytest.mark.parametrize("label", [True, False])
def test_labelled_conversations_are_thumbs_not_demonstrations(
    store: Store, tmp_path: Path, label: bool
) -> None:
    row = {"messages": [turn("user", "Hi"), turn("assistant", "yes")], "label": label}
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    assert (report.format, report.judgments) == ("unpaired_messages", 1)
    snapshot = store.freeze("v1")
    assert snapshot.demonstrations() == []
    (found,) = snapshot.labelled()
    assert (found.prompt, found.response.text) == (Prompt.user("Hi"), "yes")
    assert found.desirable is label


@pytest.mark.parametrize("answer", ["response", "output"])
def test_a_prompt_beside_an_unknown_answer_is_no_prompt_alone(
    store: Store, tmp_path: Path, answer: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Hi", answer: "yes"}])
    with pytest.raises(DataError, match=f"has the keys .*{answer}"):
        import_file(store, path)


@pytest.mark.shared_data
def test_real_thumbs(store: Store, shared_data: Path) -> None:
    report = import_file(store, shared_data / "llama_factory_demos" / "kto_en_demo.json")
    labels = [r.desirable for r in store.freeze("v1").labelled()]
    assert (report.judgments, labels.count(True)) == (300, 150)


@pytest.mark.parametrize(
    "row",
    [{"prompt": "Hi", "completion": "yes"}, {"messages": [turn("user", "Hi"), turn("assistant", "yes")]}],
    ids=["prompt_completion", "messages"],
)  # fmt: skip
def test_demonstrations(store: Store, tmp_path: Path, row: Row) -> None:
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    assert report.judgments == 1
    (found,) = store.freeze("v1").demonstrations()
    assert (found.prompt, found.response.text) == (Prompt.user("Hi"), "yes")


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_messages_without_an_answer_are_prompts_where_asked_for(
    store: Store, tmp_path: Path, column: str
) -> None:
    system, asked = (
        {"role": r, "content": c} for r, c in (("system", "Be brief."), ("user", "Hi?"))
    )
    rows = [{column: [system, asked]}, {column: json.dumps([asked])}]
    file = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(
        DataError, match=rf":1 {column}: ends with the user's turn.*--format prompts"
    ):
        import_file(store, file)
    report = import_file(store, file, format="prompts")
    assert (report.prompts, report.judgments) == (2, 0)
    assert {tuple(m.role for m in p.messages) for p in store.prompts()} == {
        ("system", "user"),
        ("user",),
    }
    answer = {"role": "assistant", "content": "Hello."}
    mixed = write_jsonl(tmp_path / "b.jsonl", [rows[0], {column: [asked, answer]}])
    with pytest.raises(DataError, match=r":2 .*ends with the assistant's turn"):
        import_file(store, mixed, format="prompts")


def test_prompts_alone(store: Store, tmp_path: Path) -> None:
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", [{"prompt": "a"}] * 2))
    assert (report.format, report.judgments) == ("prompts", 0)
    assert store.prompts() == [Prompt(messages=(Message(role="user", content="a"),))]


def pair(prompt: str, chosen: str, rejected: str) -> Row:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


MIXED = [
    pair("p", "a", "b"),
    pair("p", "a", "b"),  # a duplicate
    pair("p", "b", "a"),  # a contradiction: kept
    pair("p", "", "b"),  # empty
    pair("p", "a", " \n"),  # empty
    pair("p", "a", "a"),  # identical
    pair("p" * 11, "a", "b"),  # prompt over the limit
    pair("q", "a" * 21, "b"),  # response over the limit
    pair("q", "a" * 20, "b"),  # at the limit
]
LIMITS = {"max_prompt_chars": 10, "max_response_chars": 20}


def test_what_is_left_out_is_counted_and_written_down(store: Store, tmp_path: Path) -> None:
    path, rejects = write_jsonl(tmp_path / "a.jsonl", MIXED), tmp_path / "r.jsonl"
    report = import_file(store, path, rejects_path=rejects, **LIMITS)  # type: ignore[arg-type]
    assert report.counts() == {
        "format": "preference", "rows": 9, "judgments": 3, "prompts": 2, "bad": 0, "duplicate": 1,
        "empty": 2, "identical": 1, "over_limit": 2, "diverging": 0, "unjudged": 0,
        "contradictory": 1, "columns not used": "", "kept as tags": "",
    }  # fmt: skip
    found = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert sorted(r["place"] for r in found) == ["2", "4", "5", "6", "7", "8"]
    assert all(r["row"] == MIXED[int(r["place"]) - 1] and r["reason"] for r in found)
    assert store.counts()["judgments"] == 3
    assert report.rejects_path == rejects
    assert "2 over the length limit" in str(report)


def test_importing_again_adds_nothing(either: Store, tmp_path: Path) -> None:
    path, rejects = write_jsonl(tmp_path / "a.jsonl", MIXED), tmp_path / "r.jsonl"
    import_file(either, path, rejects_path=rejects)
    before = either.counts()
    report = import_file(either, path, rejects_path=rejects)
    assert (report.judgments, report.left_out["duplicate"]) == (0, 6)
    assert either.counts() == before


def test_another_rater_saying_the_same_is_no_duplicate(store: Store, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", TEXT)
    for rater in ("anna", "ben"):
        assert import_file(store, path, rater=rater).judgments == 2
    assert {p.weight for p in store.freeze("v1").pairs()} == {2.0}


BAD = ['{"prompt": "x", "chosen": "a"}', "[1]", '{"prompt": 3, "chosen": "a", "rejected": "b"}']


def test_bad_rows_are_skipped_when_asked(store: Store, tmp_path: Path) -> None:
    path, rejects = tmp_path / "a.jsonl", tmp_path / "r.jsonl"
    good = [json.dumps(r) for r in TEXT]
    path.write_text("\n".join([good[0], *BAD, "", good[1]]))
    report = import_file(store, path, skip_bad=True, rejects_path=rejects)
    assert (report.rows, report.judgments, report.left_out["bad"]) == (5, 2, 3)
    found = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert [(r["place"], r["field"]) for r in found] == [
        ("2", "rejected"),
        ("3", ""),
        ("4", "prompt"),
    ]
    assert [r["row"] for r in found] == [json.loads(BAD[0]), BAD[1], json.loads(BAD[2])]
    assert "is a number; allowed: text, or a list" in found[2]["reason"]


def test_a_limit_takes_the_first_rows(store: Store, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*TEXT, "bad"])
    assert import_file(store, path, limit=1).rows == 1
    assert told(store) == {(("Hi?",), TEXT[0]["chosen"], "no")}


@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_gz, write_parquet])
def test_progress_ends_at_the_number_of_rows(store: Store, tmp_path: Path, write: Any) -> None:
    rows = [pair(str(i), "a", "b") for i in range(2100)]
    suffix = {write_csv: ".csv", write_gz: ".jsonl.gz", write_parquet: ".parquet"}
    path = write(tmp_path / f"a{suffix.get(write, '.jsonl')}", rows)
    seen: list[tuple[int, int]] = []
    import_file(store, path, on_progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == [1000, 2000, 2100]
    assert seen[-1] == (2100, 2100)
    assert all(done <= total for done, total in seen)
    assert store.counts()["judgments"] == 2100


def test_rejects_that_cannot_be_written_keep_the_store_as_it_was(
    store: Store, tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", MIXED)
    with pytest.raises(RunError):
        import_file(store, path, rejects_path=tmp_path / "none" / "r.jsonl")
    assert sum(store.counts().values()) == 0


def test_rejects_hold_rows_that_json_cannot(store: Store, tmp_path: Path) -> None:
    rows = [{**pair("p", "", "b"), "score": float("nan"), "raw": b"\xff"}]
    path, rejects = write_parquet(tmp_path / "a.parquet", rows), tmp_path / "r.jsonl"
    report = import_file(store, path, rejects_path=rejects)
    assert report.left_out["empty"] == 1
    assert "nan" in json.loads(rejects.read_text())["row"]


def test_a_failure_in_a_later_batch_leaves_nothing(either: Store, tmp_path: Path) -> None:
    rows = [pair(str(i), "a", "b") for i in range(1500)]
    path = write_jsonl(tmp_path / "a.jsonl", [*rows, pair("p", "a", "b") | {"chosen": 1}])
    with pytest.raises(DataError, match=r"a\.jsonl:1501 chosen: is a number"):
        import_file(either, path)
    assert sum(either.counts().values()) == 0
