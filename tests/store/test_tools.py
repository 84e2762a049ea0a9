"""Tool calls, tools and parts of text: read, kept, hashed, exported and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import DataError, StoreError
from accord.core.types import (
    Demonstration,
    Judgment,
    Message,
    Prompt,
    Response,
    Writing,
)
from accord.store import Store, import_file
from accord.store.io.exporting import export

CALL = {
    "type": "function",
    "id": "c1",
    "function": {"name": "weather", "arguments": {"at": "Bergen"}},
}
SPELT = {  # ways to write the same call
    "as OpenAI does": [{**CALL, "function": {"name": "weather", "arguments": '{"at": "Bergen"}'}}],
    "as an object": [CALL],
    "with columns that are empty": [{**CALL, "index": None}],
    "bare": [{"id": "c1", "name": "weather", "arguments": {"at": "Bergen"}}],
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASKED = {"role": "user", "content": "Does it rain?"}
SAID = {"role": "assistant", "content": None, "tool_calls": SPELT["as OpenAI does"]}
TOLD = {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": '{"rain": true}'}
YES = {
    "role": "assistant",
    "content": [{"type": "text", "text": "It "}, {"type": "text", "text": "does."}],
}


def read(tmp_path: Path, *rows: dict[str, Any], name: str = "in.jsonl") -> Store:
    file = tmp_path / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    store = Store(tmp_path / f"{name}.db")
    import_file(store, file)
    store.verify()
    return store


def demonstrations(store: Store) -> list[Demonstration]:
    return list(store.freeze("v1").demonstrations())


def test_what_has_no_tools_keeps_the_ids_it_had() -> None:
    """Ids as they were before there were tool calls: old stores stay whole."""
    prompt = Prompt.user("hi")
    assert prompt.id == "897be8e1f0370e7f4178"
    assert Response(text="x").id_for(prompt) == "414227a6e220f520a176"
    writing = Judgment(question="q", rater="r", answer=Writing(text="x"), at="2024-01-01")
    assert writing.id == "971bf65d4a6a19557f38"
    assert prompt.model_dump() == {"messages": ({"role": "user", "content": "hi"},), "tags": {}}
    assert Response(text="x", tokens=(1, 2)).id_for(prompt) == "414227a6e220f520a176"


@pytest.mark.parametrize("calls", SPELT.values(), ids=SPELT.keys())
def test_the_same_call_is_the_same_however_written(calls: Any) -> None:
    made = Message.model_validate({"role": "assistant", "content": "", "tool_calls": calls})
    assert made.tool_calls == (CALL,)


@pytest.mark.parametrize(
    "change",
    [
        {"tools": None},
        {"tools": [{**TOOL, "function": {"name": "other"}}]},
        {"messages": [ASKED, {**SAID, "tool_calls": [{"name": "weather", "arguments": {}}]}, TOLD]},
        {"messages": [ASKED, SAID, {**TOLD, "tool_call_id": "c2"}]},
    ],
)
def test_ids_cover_calls_and_tools(change: dict[str, Any]) -> None:
    plain = {"messages": [ASKED, {**SAID, "content": ""}, TOLD], "tools": [TOOL]}
    changed = {**plain, **change}
    for m in changed["messages"]:
        m["content"] = m["content"] or ""
    assert Prompt.model_validate(plain).id != Prompt.model_validate(changed).id
    asked = Prompt.user("x")
    called = Response.model_validate({"text": "", "tool_calls": [CALL]})
    assert called.id_for(asked) != Response(text="").id_for(asked)


@pytest.mark.parametrize("nothing", [[], None])
def test_no_tool_call_is_none(tmp_path: Path, nothing: Any) -> None:
    plain = {"messages": [ASKED, {"role": "assistant", "content": "Yes."}]}
    bare = demonstrations(read(tmp_path, plain, name="a.jsonl"))
    empty = {**plain, "tools": nothing}
    empty["messages"] = [{**m, "tool_calls": nothing, "name": None} for m in plain["messages"]]
    (found,) = demonstrations(read(tmp_path, empty, name="b.jsonl"))
    assert found.prompt.id == bare[0].prompt.id
    assert found.response.tool_calls is None


ROWS = (
    {"messages": [ASKED, SAID, TOLD, YES], "tools": [TOOL]},
    {
        "messages": [{"role": "user", "content": "And in Bergen?"}, SAID],
        "tools": json.dumps([TOOL]),
    },
    {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]},
)


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ""])
@pytest.mark.parametrize("format", ["messages", "prompt_completion"])
def test_a_talk_with_tools_goes_out_and_in_again(tmp_path: Path, format: str, suffix: str) -> None:
    before = demonstrations(store := read(tmp_path, *ROWS))
    long, called, plain = before
    assert [m.tool_calls for m in long.prompt.messages] == [None, (CALL,), None]
    assert long.response.text == "It does."
    assert long.prompt.tools == called.prompt.tools == (TOOL,)
    assert called.response.tool_calls == (CALL,)
    assert called.response.text == ""
    assert plain.prompt.tools is None
    file = tmp_path / f"out{suffix}"
    export(store.snapshot("v1"), file, format=format)
    with Store(tmp_path / "again.db") as again:
        import_file(again, file)
        after = demonstrations(again)
    assert [d.prompt.id for d in after] == [d.prompt.id for d in before]
    assert [d.response.text for d in after] == [d.response.text for d in before]
    assert [d.response.tool_calls for d in after] == [d.response.tool_calls for d in before]


def test_answers_that_call_tools_are_compared(tmp_path: Path) -> None:
    other = {**SAID, "tool_calls": [{"name": "weather", "arguments": {"at": "Oslo"}}]}
    row = {"prompt": [ASKED], "chosen": [SAID], "rejected": [other], "tools": [TOOL]}
    store = read(tmp_path, row)
    (pair,) = store.freeze("v1").pairs()
    assert pair.chosen.tool_calls == (CALL,)
    assert pair.prompt.tools == (TOOL,)
    for format, file in (("accord", "all.jsonl"), ("preference", "p.jsonl"), ("implicit", "i.jsonl"), ("argilla", "a.json")):  # fmt: skip  # noqa: E501
        export(store.snapshot("v1"), tmp_path / file, format=format)
        with Store(tmp_path / f"{format}.db") as again:
            import_file(again, tmp_path / file)
            again.verify()
            (same,) = again.freeze("v1").pairs()
        assert (same.prompt, same.chosen.tool_calls) == (pair.prompt, pair.chosen.tool_calls)
        assert same.rejected.tool_calls == pair.rejected.tool_calls
    with pytest.raises(DataError, match="no text form"):
        export(store.snapshot("v1"), tmp_path / "t.jsonl", format="preference_text")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"messages": [{**ASKED, "content": [{"type": "text", "text": "?"}, {"type": "image_url"}]}, YES]},
         r"messages\[0\].content\[1\]: is no text \(image_url\)"),
        ({"messages": [ASKED, {**SAID, "tool_calls": [{"id": "c1"}]}]}, r"messages\[1\].tool_calls.*no name"),
        ({"messages": [ASKED, {**SAID, "tool_calls": {"a": 1}}]}, r"messages\[1\].tool_calls.*no list"),
        ({"messages": [{**ASKED, "tool_calls": [CALL]}, YES]}, r"messages\[0\].tool_calls: stands in a user"),
        ({"messages": [ASKED, {"role": "assistant", "content": None}]}, r"messages\[1\].content: is missing"),
        ({"messages": [ASKED, YES], "tools": "[oops"}, r"tools: is no JSON"),
        ({"messages": [ASKED, YES], "tools": {"a": 1}}, r"tools: is an object"),
        ({"messages": [{**ASKED, "audio": {"id": 1}}, YES]}, r"messages\[0\].audio: is not a known key"),
    ],
)  # fmt: skip
def test_what_can_not_be_carried_is_named(tmp_path: Path, row: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=rf"in.jsonl:1 {told}"):
        read(tmp_path, row)


def test_a_changed_call_is_found(tmp_path: Path) -> None:
    import sqlalchemy as sa

    row = {"prompt": [ASKED], "chosen": [SAID], "rejected": [YES]}
    store = read(tmp_path, row)
    with store.database.writing() as connection:
        for (name,) in connection.exec_driver_sql(
            "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        ).fetchall():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        connection.execute(
            sa.text("UPDATE responses SET sampling = replace(sampling, 'Bergen', 'Oslo')")
        )
    with pytest.raises(StoreError, match="not what was written"):
        store.verify()
