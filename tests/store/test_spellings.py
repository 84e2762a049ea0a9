"""What a published row is in a file whose cells are text, and calls that are turns of their own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from accord.core.errors import DataError
from accord.store import Store, import_file
from tests.store.test_import import Row, write_jsonl
from tests.store.test_published import TREE, says

TURNS = [[{"role": "user", "content": "Q?", "num_tokens": 2},
          {"role": "assistant", "content": t, "num_tokens": 1}]
         for t in ("a", "b")]  # fmt: skip
ASKED = {"dataset": "own", "id": "1", "full_text": "Is it?"}
POST = {
    "id": "x",
    "post": "I walked.",
    "title": "Walk",
    "subreddit": "own",
    "site": None,
    "article": None,
}
CALL = {"name": "add", "arguments": {"a": 1}}
CALLED = {"type": "function", "function": CALL}


def messages(node: Row, parent: str | None = None) -> list[Row]:
    own = {k: v for k, v in node.items() if k != "replies"}
    row = {"rank": None, "deleted": False, **own, "parent_id": parent, "message_tree_id": "m0"}
    return [row, *(m for r in node.get("replies", []) for m in messages(r, node["message_id"]))]


ROWS: dict[str, list[Row]] = {
    "arena": [{"winner": "model_a", "conversation_a": TURNS[0], "conversation_b": TURNS[1]}],
    "webgpt": [{"question": ASKED, "answer_0": "a", "answer_1": "b", "score_0": 0.5, "score_1": -0.5}],
    "tldr": [{"info": POST, "summaries": [{"text": "s"}, {"text": "t"}], "choice": 1, "worker": "w"}],
    "oasst_tree": [{"message_tree_id": "m0", "prompt": TREE}],
    "oasst": messages(TREE),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_objects_that_became_text_in_a_table(name: str, tmp_path: Path) -> None:
    rows = ROWS[name]
    whole, table = write_jsonl(tmp_path / "a.jsonl", rows), tmp_path / "a.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        columns = list(dict.fromkeys(k for row in rows for k in row))
        writer.writerow(columns)
        for row in rows:
            cells = (row.get(k) for k in columns)
            texts = (json.dumps(v) if isinstance(v, list | dict) else v for v in cells)
            writer.writerow(["" if v is None else v for v in texts])
    found = []
    for path in (whole, table):
        with Store(tmp_path / f"{path.suffix[1:]}.db") as store:
            assert import_file(store, path).format == name
            found.append(says(store))
    assert found[0] == found[1] != []


def said(who: str, text: str) -> Row:
    return {"role": who, "content": text}


def sharegpt(who: str, text: str) -> Row:
    return {"from": who, "value": text}


ONE, SEVERAL, DONE = json.dumps(CALL), json.dumps([CALL]), said("assistant", "Three.")


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": [sharegpt("human", "1?"), sharegpt("function_call", ONE),
                           sharegpt("observation", "3"), sharegpt("gpt", "Three.")]},
        {"messages": [said("user", "1?"), said("tool_call", ONE), said("tool_response", "3"), DONE]},
        {"messages": [said("user", "1?"), said("function_call", SEVERAL), said("observation", "3"), DONE]},
    ],
    ids=["LLaMA-Factory", "ms-swift", "LLaMA-Factory, roles"],
)  # fmt: skip
def test_a_call_that_is_a_turn_of_its_own(row: Row, tmp_path: Path) -> None:
    with Store(tmp_path / "s.db") as store:
        import_file(store, write_jsonl(tmp_path / "a.jsonl", [row]))
        (prompt,) = store.prompts()
    assert [(m.role, m.content, m.tool_calls) for m in prompt.messages] == [
        ("user", "1?", None), ("assistant", "", (CALLED,)), ("tool", "3", None)]  # fmt: skip


def test_calls_beside_each_other_are_one_turn_with_the_words_before_them(tmp_path: Path) -> None:
    call = said("tool_call", ONE)
    turns = [said("user", "1?"), said("assistant", "Hm."), call, call, said("tool", "3"), DONE]
    with Store(tmp_path / "s.db") as store:
        import_file(store, write_jsonl(tmp_path / "a.jsonl", [{"messages": turns}]))
        (prompt,) = store.prompts()
        calling = prompt.messages[1]
        assert (len(prompt.messages), calling.content) == (3, "Hm.")
        assert calling.tool_calls == (CALLED, CALLED)
        turns[2] = said("tool_call", "add(1)")
        with pytest.raises(DataError, match=r"messages\[2\].content: is no call as JSON"):
            import_file(store, write_jsonl(tmp_path / "b.jsonl", [{"messages": turns}]))


def test_json_lines_of_one_line_named_json(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"prompt": "Q?", "chosen": "a", "rejected": "b"}) + "\n")
    with Store(tmp_path / "s.db") as store:
        assert import_file(store, file).judgments == 1
