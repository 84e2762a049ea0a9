"""Import guesses nothing: what is read otherwise than it was meant is a bad row, by line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import DataError
from accord.store import Store, import_file
from tests.store.test_import import FILES, Row, told, turn, write_csv, write_jsonl, write_parquet
from tests.store.test_published import (
    ARENA,
    CASES,
    FIFTY_FIVE,
    GOOD,
    HELPSTEER,
    NECTAR,
    PKU,
    POOR,
    SHP,
    TLDR,
    TREE,
    ULTRA,
    WEBGPT,
    A,
    B,
    Q,
    flat,
)

S = turn("system", "Be brief.")
LONG = [turn("user", "Hi"), turn("assistant", "Hello")]
PAIR = {"prompt": Q, "chosen": A, "rejected": B}


def refused(store: Store, path: Path) -> str:
    """The error; the store stays empty, and --skip-bad skips what was refused."""
    with pytest.raises(DataError) as error:
        import_file(store, path)
    assert sum(store.counts().values()) == 0
    assert "\n" not in str(error.value)
    return str(error.value)


# -- a prompt beside whole conversations ----------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "before", "expected"),
    [
        (Q, [S], ["Be brief.", Q]),
        (Q, LONG, ["Hi", "Hello", Q]),
        (f"{Q} \n", [], [Q]),
        (f" {Q}", [S, *LONG], ["Be brief.", "Hi", "Hello", Q]),
        ("Hi", LONG, ["Hi", "Hello", Q]),  # the first question, as in ultrachat
        ([S, turn("user", Q)], [], ["Be brief.", Q]),
        ([S, turn("user", Q)], [S], ["Be brief.", Q]),
        (f"\n\nHuman: {Q}\n\nAssistant:", [S], ["Be brief.", Q]),
    ],
    ids=range(8),
)
def test_a_whole_conversation_is_taken_as_such(
    store: Store, tmp_path: Path, prompt: Any, before: list[Row], expected: list[str]
) -> None:
    row = {"prompt": prompt, "chosen": [*before, *GOOD], "rejected": [*before, *POOR]}
    import_file(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    assert told(store) == {(tuple(expected), A, B)}


@pytest.mark.parametrize(
    ("prompt", "chosen", "field"),
    [
        ("<|im_start|>user\nWhat?<|im_end|>\n", GOOD, "chosen"),
        ("Another question?", GOOD, "chosen"),
        (Q, [turn("user", "What else?"), GOOD[1]], "chosen"),
        ([S, turn("user", Q)], [turn("system", "Be long."), *GOOD], "chosen"),
        (Q, [S, *GOOD], "rejected"),  # which lacks the system turn
        (Q, f"\n\nHuman: What else?\n\nAssistant: {A}", "chosen"),
    ],
)
def test_a_prompt_that_is_not_in_the_conversation_is_refused(
    store: Store, tmp_path: Path, prompt: Any, chosen: Any, field: str
) -> None:
    row = {"prompt": prompt, "chosen": chosen, "rejected": POOR}
    path = write_jsonl(tmp_path / "a.jsonl", [PAIR, row])
    assert f"a.jsonl:2 {field}: " in refused(store, path)
    report = import_file(store, path, skip_bad=True, rejects_path=tmp_path / "r.jsonl")
    assert (report.judgments, report.left_out["bad"]) == (1, 1)


@pytest.mark.parametrize("row", [{"completion": GOOD}, {"completion": GOOD, "label": True}])
def test_completions_may_be_whole_conversations_too(store: Store, tmp_path: Path, row: Row) -> None:
    import_file(store, write_jsonl(tmp_path / "a.jsonl", [{"prompt": f"{Q} ", **row}]))
    assert [p.messages[0].content for p in store.prompts()] == [Q]
    other = write_jsonl(tmp_path / "b.jsonl", [{"prompt": "Another?", **row}])
    with pytest.raises(DataError, match=r"b\.jsonl:1 completion: is a conversation in which"):
        import_file(store, other)


@pytest.mark.parametrize("column", ["system", "system_prompt"])
def test_a_system_column_is_a_system_turn(store: Store, tmp_path: Path, column: str) -> None:
    own = {"chosen": [S, turn("user", "x"), GOOD[1]], "rejected": [S, turn("user", "x"), POOR[1]]}
    rows = [
        {"prompt": "x", **own, column: "Be brief."},
        {**PAIR, column: "Be brief."},
        {**PAIR, column: ""},
    ]
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", rows))
    assert told(store) == {(("Be brief.", Q), A, B), (("Be brief.", "x"), A, B), ((Q,), A, B)}
    assert not report.unused
    bad = {"prompt": [S, turn("user", Q)], "chosen": A, "rejected": B, column: "Be long."}
    with pytest.raises(DataError, match=r"b\.jsonl:1 system: has another system turn"):
        import_file(store, write_jsonl(tmp_path / "b.jsonl", [bad]))
    with pytest.raises(DataError, match=rf"c\.jsonl:1 {column}: is a number; allowed: text"):
        import_file(store, write_jsonl(tmp_path / "c.jsonl", [{**PAIR, column: 3}]))


# -- messages as text -----------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "folder"])
@pytest.mark.parametrize("spaces", [(",", ":"), (", ", ": ")])
@pytest.mark.parametrize("keys", [("role", "content"), ("content", "role"), ("from", "value")])
def test_messages_as_json_text_are_messages(
    store: Store, tmp_path: Path, file: str, spaces: tuple[str, str], keys: tuple[str, str]
) -> None:
    names = {"role": "role", "content": "content", "from": "role", "value": "content"}
    speak = {"user": "human", "assistant": "gpt"} if keys[0] == "from" else {}

    def dumped(said: list[Row]) -> str:
        plain = [{k: speak.get(m[names[k]], m[names[k]]) for k in keys} for m in said]
        return json.dumps(plain, separators=spaces)

    row = {"prompt": Q, "chosen": dumped([S, *GOOD]), "rejected": dumped([S, *POOR])}
    write = FILES.get(file) or (lambda path, rows: write_tsv(path, rows))
    import_file(store, write(tmp_path / file, [row]))
    assert told(store) == {(("Be brief.", Q), A, B)}


def write_tsv(path: Path, rows: list[Row]) -> Path:
    write_csv(path, rows)
    import csv

    with path.open(newline="") as file:
        found = list(csv.reader(file))
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter="\t").writerows(found)
    return path


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (str(GOOD), "is not JSON"),
        (str(GOOD).replace("}, {", "}\n {"), "is not JSON"),  # numpy's
        (f"array({GOOD}, dtype=object)", "is not JSON"),
        (json.dumps(GOOD)[:-1], "is not JSON"),
        (json.dumps(json.dumps(GOOD)), "is not JSON"),
        (str(GOOD[1]), "is not JSON"),
        (json.dumps([*GOOD[:1], {"role": "bot", "content": "x"}]), "'bot' is unknown"),
        (json.dumps([*GOOD[:1], {"role": "assistant"}]), "is missing"),
        ('[{"role": "user", "content": "\\ud83d"}]', "half of a surrogate pair"),
    ],
)  # fmt: skip
def test_text_that_only_looks_like_messages_is_refused(
    store: Store, tmp_path: Path, text: str, why: str
) -> None:
    path = write_csv(tmp_path / "a.csv", [{"prompt": Q, "chosen": text, "rejected": B}])
    line = refused(store, path)
    assert "a.csv:" in line
    assert " chosen" in line
    assert why in line


@pytest.mark.parametrize(
    "text", ["[1, 2]", '["a", "b"]', '{"role": "admin", "content": "x"}',
     "[{", '[{"a": 1}]', '"hi"', "array(["]
)  # fmt: skip
def test_other_json_stays_text(store: Store, tmp_path: Path, text: str) -> None:
    import_file(store, write_jsonl(tmp_path / "a.jsonl", [{**PAIR, "chosen": text}]))
    assert told(store) == {((Q,), text, B)}


def test_a_prompt_that_is_a_list_of_texts_is_refused(store: Store, tmp_path: Path) -> None:
    for text in (f'["{Q}"]', f"['{Q}']"):
        path = write_csv(tmp_path / "a.csv", [{**PAIR, "prompt": text}])
        assert "a.csv:2 prompt: is a list of texts" in refused(store, path)


def test_our_own_stepwise_csv_comes_back(store: Store, tmp_path: Path) -> None:
    row = {"prompt": Q, "completions": '["1 + 1", "= 2"]', "labels": "[true, false]"}
    assert import_file(store, write_csv(tmp_path / "a.csv", [row])).format == "stepwise"
    assert [x.labels for x in store.freeze("v1").stepped()] == [(1.0, -1.0)]


# -- half a pair ----------------------------------------------------------------------------------

HALVES: dict[str, Row] = {
    "numbered": {"prompt": Q, "response_0": A, "response_1": B},
    "numbered, no line": {
        "prompt": Q,
        "response1": A,
        "response2": B,
        "preference": [{"value": 1}],
    },
    "lettered": {"prompt": Q, "response_a": A, "response_b": B, "winner": "a"},
    "capitals": {"prompt": Q, "Chosen": A, "Rejected": B},
    "spaces": {"prompt": Q, " chosen": A, " rejected": B},
    "camel case": {"prompt": Q, "chosenResponse": A, "rejectedResponse": B},
    "list": {"prompt": Q, "candidates": [{"text": A}, {"text": B}]},
    "generations": {"prompt": Q, "generations": [A, B]},
    "Argilla's columns": {"prompt": Q, "preference.responses": ["x"], "preference.status": ["s"]},
    "conversations": {"prompt": Q, "conversation_a": GOOD, "conversation_b": POOR},
    "one of a pair": {"prompt": Q, "rejected": B},
    "rejected beside messages": {"messages": GOOD, "rejected": B},
    "rejected with another name": {"messages": GOOD, "rejected_answer": B},
    "rejected completion": {"prompt": Q, "completion": A, "rejected_completion": B},
    "second output": {"instruction": Q, "output": A, "output_2": B},
    "label in capitals": {"prompt": Q, "completion": A, "Label": False},
    "another label": {"messages": GOOD, "kto_label": False},
    "rejected of ShareGPT": {"conversations": GOOD, "rejected": B},
    "rejected beside a thumb": {"prompt": Q, "completion": A, "label": True, "rejected": B},
    "several answers": {"prompt": Q, "answer": [A, B]},
    "summaries": {"prompt": Q, "summaries": [A, B]},
    "replies": {"prompt": Q, "replies": [A, B]},
    "a target": {"prompt": Q, "target": "Yes"},
    "a text": {"prompt": Q, "text": "Yes"},
    "a label of words": {"prompt": Q, "label": A},
    "good and bad": {"prompt": Q, "good": "Yes", "bad": "No"},
    "texts by letter": {"prompt": Q, "text_a": "Yes", "text_b": "No"},
    "positive and negative": {"prompt": Q, "pos": "Yes", "neg": "No"},
    "columns named for models": {"prompt": Q, "heron-7b": A, "stork-2b": B},
    "a list under any name": {"prompt": Q, "birds": [A, B]},
    "messages under any name": {"prompt": Q, "said": GOOD[1:]},
    "bad beside a completion": {"prompt": Q, "completion": A, "bad": B},
    "negative beside messages": {"messages": GOOD, "negative": B},
    "words without spaces": {"prompt": Q, "乙": "鷺は水鳥である"},
    "found bad, with yes or no": {"messages": GOOD, "good": False},
    "found wrong, with yes or no": {"instruction": Q, "output": A, "is_correct": False},
    "a turn down of a completion": {"prompt": Q, "completion": A, "upvoted": False},
    "worse output": {"instruction": Q, "output": A, "worse_output": B},
}


@pytest.mark.parametrize("name", HALVES)
def test_half_a_pair_is_refused_and_named(store: Store, tmp_path: Path, name: str) -> None:
    row = HALVES[name]
    line = refused(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    assert "a.jsonl:1: has the keys " in line
    assert "half a pair is no " in line
    assert " alone" in line
    assert list(row)[-1] in line or list(row)[-2] in line
    assert len(line) < 1500


@pytest.mark.parametrize(
    "more",
    [{"num_responses": 2}, {"response_length": 7}, {"conversation_id": "x"}, {"rejected": None},
     {"category": "a"}, {"answer_type": "x"}, {"prompt_source": "x"}, {"chosen": ""}, {"label": "spam"},
     {"act": "A heron in a pond"}, {"rubric": "Is it short?"}, {"instruction_id_list": ["a:b"]},
     {"bird": "heron"}, {"created_at": "2031-01-02 03:04"}, {"extra_info": {"text": A}}],
)  # fmt: skip
def test_a_prompt_with_other_facts_is_a_prompt(store: Store, tmp_path: Path, more: Row) -> None:
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", [{"prompt": Q, **more}]))
    assert (report.format, list(report.unused)) == ("prompts", list(more))


def test_a_format_that_is_named_is_taken(store: Store, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [HALVES["numbered"]])
    report = import_file(store, path, format="prompts")
    assert "columns not used: response_0, response_1" in str(report)


def test_what_checks_an_answer_of_verl_is_a_tag(store: Store, tmp_path: Path) -> None:
    row: Row = {"data_source": "own", "prompt": GOOD[:1], "reward_model": {"ground_truth": 4}}
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", [row]))
    assert (report.format, [p.tags for p in store.prompts()]) == ("verl", [{"ground_truth": "4"}])
    for truth, field in ((None, "reward_model"), ({"style": "model"}, "reward_model.ground_truth")):
        path = write_jsonl(tmp_path / "b.jsonl", [{**row, "reward_model": truth}])
        with pytest.raises(DataError, match=rf"b\.jsonl:1 {field}: is missing"):
            import_file(store, path)


@pytest.mark.parametrize(
    "said", [{"weight": 0}, {"weight": 0.5}, {"train": False}, {"loss": False}]
)
def test_a_turn_that_is_not_to_be_learnt_is_refused(
    store: Store, tmp_path: Path, said: Row
) -> None:
    ((key, _),) = said.items()
    talk = [{**GOOD[0], **said}, {**GOOD[1], key: 1}]
    import_file(store, write_jsonl(tmp_path / "a.jsonl", [{"messages": talk}]))
    path = write_jsonl(tmp_path / "b.jsonl", [{"messages": [GOOD[0], {**GOOD[1], **said}, *talk]}])
    with pytest.raises(DataError, match=rf"b\.jsonl:1 messages\[1\]\.{key}: weights what is"):
        import_file(store, path)


def test_a_developer_speaks_as_the_system(store: Store, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"messages": [turn("developer", "x"), *GOOD]}])
    import_file(store, path)
    assert [m.role for p in store.prompts() for m in p.messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("first", "then", "why"),
    [
        ({"prompt": Q}, PAIR, "a.jsonl:2: is of format preference, unlike the rows before it"),
        ({"messages": GOOD}, {"messages": GOOD, "label": False}, "is of format unpaired_messages"),
        ({"prompt": Q}, {"prompt": Q, "response_a": A}, "a.jsonl:2 response_a: would be lost"),
        (
            {"prompt": Q, "rejected": None},
            {"prompt": Q, "rejected": B},
            "a.jsonl:2 rejected: would",
        ),
    ],
)
def test_a_later_row_that_says_more_is_refused(
    store: Store, tmp_path: Path, first: Row, then: Row, why: str
) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [first, then])
    assert why in refused(store, path)
    report = import_file(store, path, skip_bad=True, rejects_path=tmp_path / "r.jsonl")
    assert (report.prompts, report.left_out["bad"]) == (1, 1)


# -- answers to be checked, NaN, labels -----------------------------------------------------------


def test_answers_to_be_checked_are_tags_of_the_prompt(store: Store, tmp_path: Path) -> None:
    rows = [{"prompt": "2 + 2?", "answer": 4, "level": "easy"}, {"prompt": "3 + 3?", "answer": "6"}]
    report = import_file(store, write_jsonl(tmp_path / "a.jsonl", rows))
    assert {p.last: p.tags for p in store.prompts()} == {
        "2 + 2?": {"answer": "4"}, "3 + 3?": {"answer": "6"}
    }  # fmt: skip
    assert "kept as tags of the prompts: answer" in str(report)
    assert list(report.unused) == ["level"]


def test_an_answer_beside_a_demonstration_or_a_pair_is_kept(store: Store, tmp_path: Path) -> None:
    for i, row in enumerate(({"messages": GOOD}, PAIR)):
        with Store(tmp_path / f"{i}.db") as one:
            import_file(one, write_jsonl(tmp_path / "a.jsonl", [{**row, "solution": "yes"}]))
            assert [p.tags for p in one.prompts()] == [{"solution": "yes"}]


def test_two_answers_to_one_prompt_are_refused_and_a_known_prompt_is_told(
    store: Store, tmp_path: Path
) -> None:
    rows = [{"prompt": Q, "answer": "4"}, {"prompt": Q, "answer": "5"}]
    line = refused(store, write_jsonl(tmp_path / "a.jsonl", rows))
    assert "a.jsonl:2 answer: differs from that of an earlier row" in line
    import_file(store, write_jsonl(tmp_path / "b.jsonl", [{"prompt": Q}]))
    report = import_file(store, write_jsonl(tmp_path / "c.jsonl", rows[:1]))
    assert "tags not kept: of 1 prompts that the store has otherwise" in str(report)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("file", ["a.jsonl", "a.json"])
def test_nan_in_a_column_that_is_not_used(
    store: Store, tmp_path: Path, value: str, file: str
) -> None:
    row = json.dumps({**PAIR, "score": "?", "system": "?"}).replace('"?"', value, 1)
    row = row.replace('"?"', "NaN")
    (tmp_path / file).write_text(f"[{row}]" if file == "a.json" else row)
    report = import_file(store, tmp_path / file)
    assert (report.judgments, list(report.unused)) == (1, ["score"])


@pytest.mark.parametrize("label", [float("nan"), 0.5, -1, "yes", 2, [1], "", None, 1e300])
def test_labels_that_are_none(store: Store, tmp_path: Path, label: Any) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"prompt": Q, "completion": A, "label": label}])
    assert "a.jsonl:1 label: is " in refused(store, path)


@pytest.mark.parametrize("label", [1.0, 0.0, "1.0", "0", " True ", "false"])
@pytest.mark.parametrize("write", [write_jsonl, write_csv, write_parquet])
def test_labels_as_numbers_and_text(store: Store, tmp_path: Path, label: Any, write: Any) -> None:
    suffix = {write_csv: ".csv", write_parquet: ".parquet"}.get(write, ".jsonl")
    row = {"prompt": Q, "completion": A, "label": label}
    import_file(store, write(tmp_path / f"a{suffix}", [row]))
    (found,) = store.freeze("v1").labelled()
    assert found.desirable is (str(label).strip().lower() in {"1.0", "true"})


@pytest.mark.parametrize("column", ["images", "image", "video"])
def test_pictures_are_refused_by_field(store: Store, tmp_path: Path, column: str) -> None:
    import_file(store, write_jsonl(tmp_path / "a.jsonl", [{**PAIR, column: []}]))
    with pytest.raises(DataError, match=rf"b\.jsonl:1 {column}: holds pictures"):
        import_file(store, write_jsonl(tmp_path / "b.jsonl", [{**PAIR, column: ["a.png"]}]))


# -- published schemas with one thing wrong -------------------------------------------------------

TAMPERED: dict[str, tuple[Row, str]] = {
    "unknown winner": ({**ARENA, "winner": "model_c"}, "winner: 'model_c' is unknown"),
    "winner in capitals": ({**ARENA, "winner": "Model_A"}, "winner: 'Model_A' is unknown"),
    "winner as a number": ({**ARENA, "winner": 1}, "winner: 1 is unknown"),
    "no winner": ({**ARENA, "winner": None}, "winner: is missing"),
    "a list of winners": ({**ARENA, "winner": ["model_a"]}, "winner: ['model_a'] is unknown"),
    "winner renamed": ({**ARENA, "winner": ..., "won": "model_a"}, "has the keys"),
    "other questions": (
        {**ARENA, "conversation_b": [turn("user", "What?"), POOR[1]]},
        "conversation_b: differs from conversation_a",
    ),
    "conversation as repr": ({**ARENA, "conversation_b": str(POOR)}, "conversation_b: begins as"),
    "no conversation": ({**ARENA, "conversation_b": None}, "conversation_b: is missing"),
    "empty conversation": ({**ARENA, "conversation_b": []}, "conversation_b: is an empty list"),
    "turn 0": ({**ARENA, "turn": 0}, "turn: is 0; allowed: a whole number from 1"),
    "turn 1.5": ({**ARENA, "turn": 1.5}, "turn: is 1.5"),
    "a round without an answer": (
        {"conversation": [{"input": Q, "output": A}, {"input": Q}]}, "conversation[1].output: is missing"),
    "two winners": ({**FIFTY_FIVE, "winner_tie": 1}, "are 1, 0, 1; allowed: one of them 1"),
    "no winner of three": ({**FIFTY_FIVE, "winner_model_a": 0}, "are 0, 0, 0"),
    "winner of three missing": ({**FIFTY_FIVE, "winner_tie": ""}, "winner_tie: is ''"),
    "turns that don't fit": ({**FIFTY_FIVE, "prompt": '["a", "b"]'}, "response_a: has 1 answers to 2"),
    "turns that are no list": ({**FIFTY_FIVE, "prompt": Q}, "prompt: is text that is not JSON"),
    "turns as repr": ({**FIFTY_FIVE, "response_b": "['x']"}, "response_b: is text that is not JSON"),
    "half an emoji": ({**FIFTY_FIVE, "response_b": '["\\ud83d"]'}, "response_b: holds half of"),
    "better response 2": ({**PKU, "better_response_id": 2}, "better_response_id: 2 is unknown"),
    "better response -1": ({**PKU, "better_response_id": -1}, "better_response_id: -1 is unknown"),
    "better response True": ({**PKU, "better_response_id": True}, "better_response_id: True is"),
    "better response NaN": ({**PKU, "better_response_id": float("nan")}, "better_response_id: is miss"),
    "better response renamed": ({**PKU, "better_response_id": ..., "better": 0}, "half a pair"),
    "answer is null": ({**PKU, "response_1": None}, "response_1: is missing"),
    "answer is a number": ({**PKU, "response_1": 3}, "response_1: is a number"),
    "strength 4": ({"prompt": Q, "response_1": A, "response_2": B, "preference_strength": 4},
                   "preference_strength: is 4; allowed: a whole number from -3 to 3"),
    "strength 0.5": ({"prompt": Q, "response_1": A, "response_2": B, "preference_strength": 0.5},
                     "preference_strength: is 0.5"),
    "strength null": ({"prompt": Q, "response_1": A, "response_2": B, "preference_strength": None},
                      "preference_strength: is missing"),
    "rating 5 of 4": ({"prompt": Q, "response": A, **HELPSTEER, "coherence": 5}, "coherence: is 5; allowed"),
    "rating null": ({"prompt": Q, "response": A, **HELPSTEER, "coherence": None}, "coherence: is missing"),
    "rating of each rater": ({"prompt": Q, "response": A, **HELPSTEER, "coherence": [3, 4]},
        "coherence: is a list"),
    "an axis renamed": ({"prompt": Q, "response": A, **HELPSTEER, "coherence": ..., "style": 1},
        "response would be lost"),
    "rank null": ({**NECTAR, "answers": [{"answer": A, "rank": None}, {"answer": B, "rank": 1}]},
                  "answers[0].rank: is missing"),
    "rank 0": ({**NECTAR, "answers": [{"answer": A, "rank": 0}, {"answer": B, "rank": 1}]},
        "answers[0].rank: is 0"),
    "rank 1.5": ({**NECTAR, "answers": [{"answer": A, "rank": 1.5}, {"answer": B, "rank": 1}]},
        "answers[0].rank: is 1.5"),
    "one answer": ({**NECTAR, "answers": [{"answer": A, "rank": 1}]}, "answers: has 1 answers"),
    "answers of others": ({"prompt": Q, "answers": [{"text": A}]}, "answers[0].answer: is missing"),
    "answers of text": ({**NECTAR, "answers": [A, B]}, "answers[0]: is text"),
    "answers renamed": ({**NECTAR, "answers": ..., "replies": NECTAR["answers"]}, "replies would be lost"),
    "score null": ({**WEBGPT, "score_1": None}, "score_1: is missing"),
    "score text": ({**WEBGPT, "score_1": "high"}, "score_1: is 'high'"),
    "score True": ({**WEBGPT, "score_1": True}, "score_1: is a boolean"),
    "question text": ({**WEBGPT, "question": Q}, "question: is text; allowed: an object {full_text}"),
    "labels 2": ({**SHP, "labels": 2}, "labels: 2 is unknown"),
    "labels null": ({**SHP, "labels": None}, "labels: is missing"),
    "reference renamed": ({**SHP, "human_ref_B": ..., "human_ref_C": B}, "has the keys"),
    "choice 2": ({**TLDR, "choice": 2}, "choice: 2 is unknown"),
    "three summaries": ({**TLDR, "summaries": [*TLDR["summaries"], {"text": "x"}]}, "summaries: has 3 items"),
    "no post": ({**TLDR, "info": {"id": "x"}}, "info.article: is missing"),
    "no title": ({**TLDR, "info": {**TLDR["info"], "title": None}}, "info.title: is missing"),
    "rating 6": ({**ULTRA, "completions": [{"response": A, "annotations": {"honesty": {"Rating": "6"}}}]},
                 "completions[0].annotations.honesty.Rating: is 6"),
    "rating missing": ({**ULTRA, "completions": [{"response": A, "annotations": {"honesty": {}}}]},
                       "completions[0].annotations.honesty.Rating: is missing"),
    "no annotations": ({**ULTRA, "completions": [{"response": A}]},
                       "completions[0].annotations: is missing"),
    "completion null": ({**ULTRA, "completions": [{"response": None, "annotations": {"h": {"Rating": 1}}}]},
                        "completions[0].response: is missing"),
    "preference 1.3": ({"instruction": Q, "input": "", "output_1": A, "output_2": B, "preference": 1.3},
                       "preference: 1.3 is unknown; allowed: 1, 2, 1.5"),
    "preference null": ({"instruction": Q, "input": "", "output_1": A, "output_2": B, "preference": None},
                        "preference: is missing"),
    "input a number": ({"instruction": Q, "input": 3, "output": A}, "input: is a number"),
    "output a list of three": ({"instruction": Q, "output": [A, B, "x"]}, "output: is a list of 3"),
    "history of threes": ({"instruction": Q, "output": A, "history": [["a", "b", "c"]]},
        "history[0]: is a list"),
    "chosen of texts": ({**PAIR, "chosen": [A], "rejected": [B]}, "chosen[0]: is text"),
    "tool call of ShareGPT": ({"conversations": [{"from": "function_call", "value": "{}"}]},
                              "conversations[0].tool_calls: a tool call has no name"),
    "value null": ({"conversations": [{"from": "human", "value": None}]},
        "conversations[0].value: is missing"),
    "ends with a question": ({"conversations": [{"from": "human", "value": Q}]}, "ends with the user's turn"),
    "tag maybe": ({"instruction": Q, "output": A, "kto_tag": "maybe"}, "kto_tag: is text"),
    "rejected messages differ": ({"messages": GOOD, "rejected_messages": [turn("user", "x"), POOR[1]]},
                                 "rejected_messages: differs from messages"),
    "ratings too few": ({"instruction": Q, "generations": [A, B], "ratings": [5]}, "ratings: has 1 for 2"),
    "rating 10": ({"instruction": Q, "generations": [A], "ratings": [10]}, "ratings[0]: is 10"),
    "role unknown": ({"message_tree_id": "m", "prompt": {**TREE, "role": "bot"}}, "prompt.role: 'bot'"),
    "role a list": ({"message_tree_id": "m", "prompt": {**TREE, "role": []}}, "prompt.role: []"),
    "text null": ({"message_tree_id": "m", "prompt": {**TREE, "text": None}}, "prompt.text: is missing"),
    "rank of halves": ({"message_tree_id": "m", "prompt": {**TREE, "replies": [
        {"text": "x", "role": "assistant", "rank": 0.5}]}}, "prompt.replies: has a rank that is no whole"),
    "orphan": (flat(TREE)[1], "parent_id: 'm0' does not lead to"),
    "its own parent": ({**flat(TREE)[0], "parent_id": "m0"}, "parent_id: 'm0' does not lead to"),
    "no id": ({**flat(TREE)[0], "message_id": None}, "message_id: is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", TAMPERED)
def test_one_thing_wrong_is_a_bad_row(store: Store, tmp_path: Path, name: str) -> None:
    row, why = TAMPERED[name]
    path = write_jsonl(tmp_path / "a.jsonl", [{k: v for k, v in row.items() if v is not ...}])
    line = refused(store, path)
    assert "a.jsonl:1" in line
    assert why in line
    report = import_file(store, path, skip_bad=True, rejects_path=tmp_path / "r.jsonl")
    assert (report.judgments, report.left_out["bad"]) == (0, 1)


@pytest.mark.parametrize("name", [n for n, (f, _, _) in CASES.items() if "oasst" not in f])
def test_no_column_of_a_schema_may_be_null(store: Store, tmp_path: Path, name: str) -> None:
    """Each key of the format in turn: without a value it is a bad row, never a guess."""
    from accord.store import FORMATS

    format, (row, *_), _ = CASES[name]
    for i, key in enumerate(FORMATS[format].keys):
        if format == "reward_bench2" and key.startswith("num_"):
            continue  # says which format it is, no more
        if name == "Magpie" and key == "conversations":
            continue  # question and answer stand in columns of their own too
        line = refused(store, write_jsonl(tmp_path / f"{i}.jsonl", [{**row, key: None}]))
        assert f"{i}.jsonl:1" in line


@pytest.mark.parametrize(
    ("one", "two", "reason"), [("", B, "empty"), (A, "  ", "empty"), (A, A, "identical")]
)
def test_empty_and_equal_answers_are_counted(
    store: Store, tmp_path: Path, one: str, two: str, reason: str
) -> None:
    ranks = [{"answer": one, "rank": 1}, {"answer": two, "rank": 2}]
    rows: list[Row] = [
        {**PKU, "response_0": one, "response_1": two},
        {**SHP, "human_ref_A": one, "human_ref_B": two},
        {**NECTAR, "answers": [*ranks, {"answer": "other", "rank": 3}]},
        {"messages": [*GOOD[:1], turn("assistant", one)], "rejected_response": two},
    ]
    for i, row in enumerate(rows):
        path, rejects = write_jsonl(tmp_path / f"{i}.jsonl", [row]), tmp_path / "r.jsonl"
        report = import_file(store, path, rejects_path=rejects)
        assert (report.judgments, report.left_out[reason]) == (0, 1)
