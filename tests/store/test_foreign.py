"""Argilla's and Label Studio's JSON: out and back, and as those tools write it themselves."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accord.core.errors import ConfigError, DataError
from accord.core.types import Answer, Preference, Question, Ranking, StepLabels, Writing
from accord.store import Snapshot, Store, export, import_file
from accord.store.io.readers import _unguarded, guarded
from tests.store.words import ANNA, AT, BEN, COMPARE, RANK, A, B, C, D, ask, every, fill, says


def turned(q: Question, answer: Answer) -> Answer:
    """The answer as to the same responses in the order of their ids."""
    order = [sorted(q.responses).index(i) for i in q.responses]
    if isinstance(answer, Preference) and answer.better is not None:
        return answer.model_copy(update={"better": order[answer.better]})
    if isinstance(answer, Ranking):
        return Ranking(ranks=tuple(answer.ranks[order.index(i)] for i in range(len(order))))
    return answer


def said(snapshot: Snapshot) -> list[tuple[str, str, str, str | None, object]]:
    tables = snapshot.tables
    return sorted(
        (tables.raters[j.rater].name, tables.questions[j.question].prompt,
         turned(tables.questions[j.question], j.answer).model_dump_json(), j.rationale,
         tables.questions[j.question].guideline)
        for j in snapshot.judgments
    )  # fmt: skip


@pytest.mark.parametrize("format", ["argilla", "label_studio"])
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_every_kind_goes_out_and_comes_back(
    store: Store, tmp_path: Path, format: str, suffix: str
) -> None:
    fill(store)
    others = [
        says(BEN, COMPARE, Preference(better=None)),
        says(ANNA, ask("thumb", D), every()[3].answer),
    ]
    store.add_judgments(
        [*every()[1:], others[0], says(ANNA, COMPARE, Preference(better=1, strength=2))]
    )
    out = store.freeze("out")
    path = tmp_path / f"out{suffix}"
    assert export(out, path, format=format).rows == len({j.question for j in out.judgments})
    with Store(tmp_path / "again.db") as again:
        report = import_file(again, path, at=AT)
        assert (report.format, report.judgments) == (format, len(out))
        back = again.freeze("in")
        assert said(back) == said(out)
        assert {r.source for _, r in again.responses()} <= {r.source for _, r in store.responses()}
        assert import_file(again, path, at=AT).judgments == 0


def test_label_studio_as_it_exports_itself(store: Store, tmp_path: Path) -> None:
    task = {
        "id": 7, "data": {"prompt": "Hi?", "answer1": "Hello.", "answer2": "Go away."},
        "annotations": [
            {"id": 1, "completed_by": 10, "lead_time": 4.288, "was_cancelled": False,
             "created_at": "2021-03-09T22:16:08.728353Z",
             "result": [{"from_name": "pw", "to_name": "answer1,answer2", "type": "pairwise",
                         "value": {"selected": "right"}}]},
            {"id": 2, "completed_by": 11, "was_cancelled": True, "result": []},
        ],
    }  # fmt: skip
    (tmp_path / "ls.json").write_text(json.dumps([task]))
    assert import_file(store, tmp_path / "ls.json").judgments == 1
    (j,) = store.judgments()
    told = store.judgment(j.id)
    assert told.rater.name == "10"
    assert (j.seconds, j.at) == (4.288, "2021-03-09T22:16:08.728353Z")
    assert told.responses[told.judgment.answer.better].text == "Go away."  # type: ignore[index, union-attr]


def test_label_studio_s_controls_are_what_they_can_be(store: Store, tmp_path: Path) -> None:
    """A tie is a choice beside the pairwise control, a rank a bucket of the ranker."""
    tied = [
        says(ANNA, COMPARE, Preference(better=None)),
        says(ANNA, RANK, Ranking(ranks=(2, 1, 2))),
    ]
    fill(store, [COMPARE, RANK]).add_judgments(tied)
    export(store.freeze("v1"), tmp_path / "a.json", format="label_studio")
    pair, ranked = json.loads((tmp_path / "a.json").read_text())
    (tie,) = pair["annotations"][0]["result"]
    assert (tie["from_name"], tie["type"], tie["to_name"]) == ("tie", "choices", "prompt")
    (rank,) = ranked["annotations"][0]["result"]
    names = {r["body"]: r["id"] for r in ranked["data"]["to_rank"]}
    a, b, c = (names[x.text] for x in (A, B, C))
    assert rank["to_name"] == "to_rank"
    assert {k: set(v) for k, v in rank["value"]["ranker"].items()} == {"1": {b}, "2": {a, c}}
    rank["value"] = {"ranker": {"_": [c, b, a]}}  # a ranker without buckets
    with Store(tmp_path / "again.db") as again:
        (tmp_path / "b.json").write_text(json.dumps([ranked]))
        import_file(again, tmp_path / "b.json")
        (j,) = again.judgments()
        shown = again.judgment(j.id).responses
        order = sorted(zip(j.answer.ranks, shown, strict=True), key=lambda x: x[0])  # type: ignore[union-attr]
        assert [r.text for _, r in order] == [x.text for x in (C, B, A)]


@pytest.mark.parametrize(
    "row",
    [
        {"fields": {"text": "x"}, "responses": {"preference": [{"value": "tie", "user_id": 1}]}},
        {"fields": {"prompt": "x"}, "responses": {"preference": [{"value": "left", "user_id": 1}]}},
        {"fields": {"prompt": "x"}, "responses": 3},
        {"data": {"prompt": "x"}, "annotations": [{"result": [{"from_name": "a"}]}]},
        {"data": {"prompt": 3}, "annotations": []},
    ],
)
def test_what_can_t_be_read_is_told_with_its_place(
    store: Store, tmp_path: Path, row: object
) -> None:
    (tmp_path / "bad.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"bad\.jsonl:1"):
        import_file(store, tmp_path / "bad.jsonl")
    assert store.counts()["prompts"] == 0


def test_nested_rows_need_json(store: Store, tmp_path: Path) -> None:
    fill(store).add_judgments(every())
    with pytest.raises(ConfigError, match="nested"):
        export(store.freeze("v1"), tmp_path / "a.csv", format="argilla")


def test_steps_by_majority_neutral_is_right(store: Store, tmp_path: Path) -> None:
    from accord.core.types import Prompt, Response

    prompt, r = Prompt.user("2+2?"), Response(text="One.\n\nTwo.\n\nThree.")
    store.add_prompts([prompt])
    store.add_responses(prompt, [r])
    q = Question(prompt=prompt.id, responses=(r.id_for(prompt),), kind="steps")
    store.add_questions([q])
    store.add_raters([ANNA, BEN])
    store.add_judgments(
        [says(ANNA, q, StepLabels(labels=(1, 0, -1))), says(BEN, q, StepLabels(labels=(-1, 0, -1)))]
    )
    export(store.freeze("v1"), tmp_path / "s.jsonl", format="stepwise")
    (row,) = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert row["completions"] == ["One.", "Two.", "Three."]
    assert row["labels"] == [True, True, False]  # 1-1 and 0+0 are no majority against


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_a_guarded_cell_is_no_formula_and_comes_back(text: str) -> None:
    cell = guarded(text)
    assert cell[:1] not in ("=", "+", "-", "@", "\t", "\r")
    assert _unguarded(cell) == text


def test_formulas_in_a_csv_export(store: Store, tmp_path: Path) -> None:
    fill(store, [ask("write")])
    evil = '=HYPERLINK("http://evil")'
    store.add_judgments([says(ANNA, ask("write"), Writing(text=evil))])
    # messages are JSON in a cell; plain text is what a spreadsheet would run
    from accord.store.io.exporting import _csv

    rows = list(csv.DictReader(io.StringIO(_csv([{"text": evil, "sources": []}]).decode())))
    assert rows[0]["text"] == f"'{evil}"
