"""Prompts from files of other people's: what is asked, the tags beside it, and what is wrong, by line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import DataError
from accord.evals.prompts import prompt_of, read_prompts

BBQ = {
    "question_index": "1", "question_polarity": "nonneg", "context_condition": "disambig", "category": "Age",
    "answer_info": {"ans0": ["Ann", "Old"], "ans1": ["Ben", "nonOld"], "ans2": ["?", "unknown"]},
    "additional_metadata": {"stereotyped_groups": ["old"]}, "context": "Ann, 80, met Ben, 20.",
    "question": "Who was quick?", "ans0": "Ann", "ans1": "Ben", "ans2": "Unknown", "label": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "text", "tags"),
    [
        ({"prompt": "a", "tier": 2, "ok": True, "none": None, "list": [1]}, "a", {"tier": "2", "ok": "true"}),
        ({"prompt": "a", "tags": {"side": "b", "n": 2}, "n": 1}, "a", {"side": "b", "n": "1"}),
        ({"Behavior": "a", "SemanticCategory": "x"}, "a", {"SemanticCategory": "x"}),
        ({"messages": [{"role": "user", "content": "a"}], "label": "safe"}, "a", {"label": "safe"}),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a", {}),
        ({"instruction": "Sum up.", "input": "Long text.", "output": "x"}, "Sum up.\nLong text.", None),
        ({"prompt": {"messages": [{"role": "user", "content": "a"}], "tags": {"k": "v"}}}, "a", {"k": "v"}),
        ({"type": "prompt", "messages": [{"role": "user", "content": "a"}], "tags": {"k": "v"}}, "a",
         {"k": "v"}),
    ],
)  # fmt: skip
def test_what_a_row_asks(row: dict[str, Any], text: str, tags: dict[str, str] | None) -> None:
    prompt = prompt_of(row)
    assert prompt.last == text
    assert tags is None or prompt.tags == tags


@pytest.mark.parametrize(
    ("row", "right"),
    [
        ({"question": "q", "choices": ["x", "y"], "answer": 1}, [1]),
        ({"question": "q", "choices": ["x", "y"], "answer": "B"}, [1]),
        ({"question": "q", "choices": ["x", "y"], "label": "x"}, [0]),
        ({"question": "q", "mc1_targets": {"choices": ["x", "y"], "labels": [1, 0]},
          "mc2_targets": {"choices": ["x", "y", "z"], "labels": [1, 0, 1]}}, [0, 2]),
        ({"question": "q", "choices": '["x", "y"]', "answer": "1"}, [1]),  # of a table
        ({"question": "q", "mc1_targets": '{"choices": ["x", "y"], "labels": [0, 1]}'}, [1]),
        ({"question": "q", "choices": {"text": ["3", "1"], "label": ["1", "2"]}, "answerKey": "2"}, [1]),
        ({"question": "q", "options": ["x", "y"], "answer": "B", "answer_index": 1}, [1]),
        ({"question": "q", "choices": ["10", "20"], "answer": "20"}, [1]),
        ({"question": "q", "choices": ["x", "y"], "answer": 1.0}, [1]),
    ],
)  # fmt: skip
def test_choices_and_the_right_ones(row: dict[str, Any], right: list[int]) -> None:
    tags = prompt_of(row).tags
    assert json.loads(tags["right"]) == right
    assert len(json.loads(tags["choices"])) > max(right)


def test_bbq_says_which_answer_is_biased() -> None:
    """Of a question that is not negative the other person's name is the biased answer."""
    prompt = prompt_of(BBQ)
    assert prompt.last == "Ann, 80, met Ben, 20.\nWho was quick?"
    tags = prompt.tags
    assert (json.loads(tags["biased"]), tags["ambiguous"]) == ([False, True, None], "false")
    assert (json.loads(tags["right"]), tags["cluster"]) == ([0], "Age 1")
    negative = prompt_of({**BBQ, "question_polarity": "neg"})
    assert json.loads(negative.tags["biased"]) == [True, False, None]
    rich = {"ans0": ["Ann", "highSES"], "ans1": ["Ben", "lowSES"], "ans2": ["?", "unknown"]}
    more = {"stereotyped_groups": ["low SES"]}  # as published, with a space here alone
    shown = prompt_of({**BBQ, "answer_info": rich, "additional_metadata": more}).tags["biased"]
    assert json.loads(shown) == [True, False, None]


def test_several_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,prompt,label\n1,one?,safe\n")
    (tmp_path / "b.txt").write_text("- one\\n- two\\n-\n\nthree\n")
    prompts = read_prompts([tmp_path / "a.csv", tmp_path / "b.txt"])
    assert [p.tags.get("file") for p in prompts] == ["a", "b", "b"]
    assert [p.last for p in prompts] == ["one?", "- one\n- two\n-", "three"]


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"label": "safe"}, r"p.jsonl:2: has the keys label"),
        ({"prompt": [{"role": "assistant", "content": "x"}]}, r"p.jsonl:2 prompt: ends with the assistant"),
        ({"question": "q", "choices": ["x", "y"], "answer": 2}, r"p.jsonl:2 answer: names none of"),
        ({"question": "q", "choices": ["x", "y"]}, r"p.jsonl:2 answer: is missing"),
        ({"promt": "a", "text": "category"}, r"p.jsonl:2: this row asks by text, those from 1 on by prompt"),
        ({"prompt": "", "text": "t"}, r"p.jsonl:2: this row asks by text"),
        ({"prompt": " "}, r"p.jsonl:2 prompt: is empty"),
        ({"prompt": "q", "choices": ["1", "2", "3"], "answer": "2"}, r"answer: may be choice 1 or 2"),
        ({"prompt": "q", "choices": ["x", "x"], "answer": "x"}, r"answer: may be choice 0 or 1"),
        ({"prompt": "q", "choices": "x, y", "answer": 1}, r"p.jsonl:2 choices: is a text that is not JSON"),
        ({"prompt": "q", "choices": {"text": ["x"], "label": []}, "answerKey": "A"}, r"choices: are no list"),
        ({"prompt": "q", "mc1_targets": {"choices": ["x", "y"], "labels": ["0", "1"]}}, r"not all 1 or 0"),
        ({"prompt": "q", "mc1_targets": {"choices": ["x", "y"], "labels": [0, 0]}}, r"with a right one"),
        ({"prompt": "q", "mc2_targets": {"choices": ["x"], "labels": [0, 1]}}, r"of one length"),
        ({**BBQ, "question_polarity": "Neg"}, r"question_polarity: is 'Neg'; allowed: neg or nonneg"),
        ({**BBQ, "context_condition": "amb"}, r"context_condition: is 'amb'"),
        ({k: v for k, v in BBQ.items() if k != "answer_info"}, r"ans0: lacks what tells a biased answer"),
    ],
)  # fmt: skip
def test_what_is_wrong_by_line(tmp_path: Path, row: dict[str, Any], match: str) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text(json.dumps({"prompt": "fine"}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=match):
        read_prompts([file])


def test_questions_that_lost_their_choices_are_no_plain_prompts(tmp_path: Path) -> None:
    """Else an evaluation of choices would leave them out without a word."""
    rows = [{"question": "q", key: ["x", "y"], "answer": 1} for key in ("choices", "choises")]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="by question, those from 1 on by question and choices"):
        read_prompts([file])


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.jsonl", "p.json", "p.parquet"])
def test_of_every_kind_of_file_the_same_question(tmp_path: Path, name: str) -> None:
    row = {"question": "Nä?", "choices": '["x", "y"]', "answer": "B"}
    file, sep = tmp_path / name, {"p.csv": ",", "p.tsv": "\t"}.get(name)
    if sep:
        cells = ('"' + v.replace('"', '""') + '"' for v in row.values())
        file.write_text(sep.join(row) + "\n" + sep.join(cells) + "\n", encoding="utf-8-sig")
    elif name == "p.parquet":
        pyarrow = pytest.importorskip("pyarrow")
        table = pyarrow.Table.from_pylist([{**row, "choices": ["x", "y"]}])
        pytest.importorskip("pyarrow.parquet").write_table(table, file)
    else:
        text = json.dumps(row if name == "p.jsonl" else [row])
        file.write_text(text, encoding="utf-8-sig")
    (prompt,) = read_prompts([file])
    assert (prompt.last, prompt.tags["choices"], prompt.tags["right"]) == (
        "Nä?",
        '["x", "y"]',
        "[1]",
    )
