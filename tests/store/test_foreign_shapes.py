"""Label Studio and Argilla in the shapes that their own tools write; what is not read is counted by name."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from accord.core.errors import DataError
from accord.core.types import Answer, Preference, Ranking, Rating, StepLabels, Thumb, Writing
from accord.store import ImportReport, Store, export, import_file
from accord.store.io.foreign.names import Shown, side
from tests.store.words import ANNA, AT, COMPARE, every, fill, says

PAIR = {"prompt": "Boil eggs?", "answer1": "Ten minutes.", "answer2": "An hour."}
ITEMS = [{"id": f"llm_{n}", "title": f"LLM {n}", "body": text} for n, text in enumerate("xyz", 1)]
Told = tuple[Answer, tuple[str, ...]]


def result(kind: str, name: str, value: dict[str, Any], to: str = "prompt") -> dict[str, Any]:
    return {"type": kind, "from_name": name, "to_name": to, "value": value}


def task(data: dict[str, Any], *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    annotation = {"completed_by": {"email": "ann@x.org"}, "created_at": AT, "result": list(results)}
    return {"data": data, "annotations": [annotation], **more}


def record(fields: dict[str, Any], **values: Any) -> dict[str, Any]:
    """As Argilla 2's to_json writes it, of one rater."""
    answers = {k: [{"value": v, "user_id": "u1"}] for k, v in values.items()}
    return {"fields": fields, "metadata": {}, "suggestions": {}, "responses": answers}


def brought(
    store: Store, path: Path, rows: Sequence[Any], **more: Any
) -> tuple[ImportReport, list[Told]]:
    path.write_text(json.dumps(rows))
    report = import_file(store, path, at=AT, **more)
    told = [store.judgment(j.id) for j in store.judgments()]
    assert store.verify() == len(told)
    return report, [(t.judgment.answer, tuple(r.text for r in t.responses)) for t in told]


A, B = "Ten minutes.", "An hour."
PREFERS = {
    "pairwise": result("pairwise", "comparison", {"selected": "right"}, "answer1,answer2"),
    "pairwise, the other order": result("pairwise", "c", {"selected": "left"}, "answer2,answer1"),
    "choice by number": result("choices", "preference", {"choices": ["Answer 2"]}),
    "choice in words": result("choices", "better", {"choices": ["Answer 2 is better"]}),
    "choice by letter": result("choices", "winner", {"choices": ["B"]}),
    "choice by side": result("choices", "winner", {"choices": ["Right"]}),
    "choice by field": result("choices", "best", {"choices": ["answer-2"]}),
    "choice against": result("choices", "best", {"choices": ["Response B is better than A"]}),
}


@pytest.mark.parametrize("name", PREFERS)
def test_label_studio_prefers(store: Store, tmp_path: Path, name: str) -> None:
    _, told = brought(store, tmp_path / "a.json", [task(PAIR, PREFERS[name])])
    assert told == [(Preference(better=1), (A, B))]


SAID = {
    "Model A": (0, 1, False), "1": (0, 1, False), "Answer 1 is slightly better": (0, 1, False),
    "answer_2 is much better": (1, 3, False), "Tie": (None, 1, False), "About the same": (None, 1, False),
    "Both are good": (None, 1, False), "Both are bad": (None, 1, True), "tie (bothbad)": (None, 1, False),
    "both_bad": (None, 1, True), "Neither is good": (None, 1, True), "no preference": (None, 1, False),
    "Answer 1 is worse": None, "Answer 3": None, "billing": None, "good": None, "0": None,
}  # fmt: skip


@pytest.mark.parametrize("said", SAID)
def test_what_a_choice_means(said: str) -> None:
    assert side(said, Shown(("answer1", "answer2"), (A, B))) == SAID[said]


def test_a_number_is_not_guessed_where_counting_begins_at_nought() -> None:
    shown = Shown(("generations-0", "generations-1"))
    assert (shown.place("1"), shown.place("generations_1"), shown.place("Generations 0")) == (
        None,
        1,
        0,
    )


@pytest.mark.parametrize(
    ("ranker", "ranks"),
    [
        ({"rank": ["llm_2", "llm_1", "llm_3"]}, (2, 1, 3)),
        ({"_": ["llm_2", "llm_1", "llm_3"]}, (2, 1, 3)),
        ({"1": ["llm_3"], "2": ["llm_1", "llm_2"]}, (2, 2, 1)),
        ({"rank_2": ["llm_3"], "rank_1": ["llm_1", "llm_2"]}, (1, 1, 2)),
        ({"relevant_results": ["llm_1"], "biased_results": ["llm_3", "llm_2"]}, (1, 3, 3)),
        ({"_": ["llm_3"], "good": ["llm_2"], "bad": ["llm_1"]}, (3, 1)),
    ],
)
def test_a_ranker_s_items_by_id(
    store: Store, tmp_path: Path, ranker: dict[str, list[str]], ranks: tuple[int, ...]
) -> None:
    row = task(
        {"prompt": "Q", "items": ITEMS}, result("ranker", "rank", {"ranker": ranker}, "list")
    )
    report, told = brought(store, tmp_path / "a.json", [row])
    assert told == [(Ranking(ranks=ranks), ("x", "y", "z")[: len(ranks)])]
    assert list(report.unused) == ["items[].title"]


def test_buckets_without_an_order_are_named_and_unknown_items_refused(
    store: Store, tmp_path: Path
) -> None:
    data = {"prompt": "Q", "items": ITEMS}
    loose = task(
        data, result("ranker", "rank", {"ranker": {"cats": ["llm_1"], "dogs": ["llm_2"]}}, "list")
    )
    report, told = brought(store, tmp_path / "a.json", [loose])
    assert (told, dict(report.skipped)) == ([], {"answers to rank": 1})
    wrong = task(data, result("ranker", "rank", {"ranker": {"rank": ["llm_1", "llm_9"]}}, "list"))
    with pytest.raises(
        DataError, match=r"item 1 rank: 'llm_9' is no response here; allowed: llm_1"
    ):
        brought(store, tmp_path / "b.json", [wrong])


def test_more_than_nine_responses_are_in_their_order(store: Store, tmp_path: Path) -> None:
    data = {"prompt": "Q", **{f"answer{n}": f"t{n}" for n in (11, 10, *range(1, 10))}}
    order = [f"answer{n}" for n in range(11, 0, -1)]
    row = task(data, result("ranker", "rank", {"ranker": {"rank": order}}))
    _, told = brought(store, tmp_path / "a.json", [row])
    assert told == [(Ranking(ranks=tuple(range(11, 0, -1))), tuple(f"t{n}" for n in range(1, 12)))]


RATED = {
    "by target": (
        task(PAIR, result("rating", "quality", {"rating": 4}, "answer1"),
             result("rating", "quality2", {"rating": 2}, "answer2")), "quality",
    ),
    "by number": (record(PAIR, rating_1=4, rating_2=2), "rating"),
    "by name": (record(PAIR, **{"answer1-help": 4, "help_answer-2": 2}), "help"),
    "distilabel": (
        record({"instruction": "Q", "generations-0": A, "generations-1": B},
               **{"generations-0-rating": 4, "generations-1-rating": 2}), "rating",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RATED)
def test_ratings_of_each_response(store: Store, tmp_path: Path, name: str) -> None:
    row, axis = RATED[name]
    _, told = brought(store, tmp_path / "a.json", [row])
    assert told == [(Rating(scores={axis: 4.0}), (A,)), (Rating(scores={axis: 2.0}), (B,))]


def test_numbers_that_count_from_nought_are_not_those_of_responses_from_one(
    store: Store, tmp_path: Path
) -> None:
    report, told = brought(store, tmp_path / "a.json", [record(PAIR, rating_0=4, rating_1=2)])
    assert (told, dict(report.skipped)) == (
        [],
        {"answers to rating_0": 1, "answers to rating_1": 1},
    )


def test_a_scale_that_is_not_told_is_asked_for(store: Store, tmp_path: Path) -> None:
    row = record({"prompt": "Q", "response": A}, help=9)
    with pytest.raises(DataError, match=r"item 1 help: is 9, .* lowest and highest"):
        brought(store, tmp_path / "a.json", [row])
    row["metadata"] = {"lowest": 0, "highest": 10}
    _, told = brought(store, tmp_path / "b.json", [row])
    assert told == [(Rating(scores={"help": 9.0}, lowest=0, highest=10), (A,))]


def test_text_is_a_note_or_written_or_named(store: Store, tmp_path: Path) -> None:
    row = task(
        PAIR, PREFERS["pairwise"], result("textarea", "why", {"text": ["Short.", "True."]}),
        result("textarea", "poem", {"text": ["Eggs!"]}), result("rating", "confidence", {"rating": 3}),
        {"type": "relation", "from_id": "a", "to_id": "b"},
    )  # fmt: skip
    report, _ = brought(store, tmp_path / "a.json", [row])
    (judgment,) = store.judgments()
    assert judgment.rationale == "Short.\nTrue."
    unread = {"answers to poem": 1, "answers to confidence": 1, "results of type relation": 1}
    assert dict(report.skipped) == unread
    for what in unread:
        assert f"not read: 1 {what}" in str(report)


def test_written_answers_and_thumbs(store: Store, tmp_path: Path) -> None:
    rows = [
        record({"instruction": "Q", "generation": A}, quality="👍", corrected=B),
        record({"prompt": "P"}, response=B),
    ]
    _, told = brought(store, tmp_path / "a.json", rows)
    assert told == [(Thumb(up=True), (A,)), (Writing(text=B, edits=0), (A,)), (Writing(text=B), ())]


def test_one_best_of_several_is_better_than_each(store: Store, tmp_path: Path) -> None:
    data = {**PAIR, "answer3": "Never."}
    _, told = brought(store, tmp_path / "a.json", [record(data, best="Answer 2")])
    assert told == [(Preference(better=1), (A, B)), (Preference(better=0), (B, "Never."))]


def test_data_beside_the_texts_is_used_or_named(store: Store, tmp_path: Path) -> None:
    more = {
        "system": "Be brief.",
        "model_a": "gpt",
        "model_b": "llama",
        "topic": "food",
        "empty": None,
    }
    report, _ = brought(store, tmp_path / "a.json", [task({**PAIR, **more}, PREFERS["pairwise"])])
    (judgment,) = store.judgments()
    told = store.judgment(judgment.id)
    assert [m.role for m in told.prompt.messages] == ["system", "user"]
    assert [r.source for r in told.responses] == ["model:gpt", "model:llama"]
    assert list(report.unused) == ["topic"]


def test_names_with_the_number_inside(store: Store, tmp_path: Path) -> None:
    data = {"user_prompt": "Q", "model_a_response": A, "model_b_response": B, "model_a": "gpt"}
    row = task(data, result("choices", "winner", {"choices": ["model_b"]}))
    report, told = brought(store, tmp_path / "a.json", [row])
    assert told == [(Preference(better=1), (A, B))]
    assert (report.unused, {r.source for _, r in store.responses()}) == (
        {},
        {"model:gpt", "unknown"},
    )


def test_what_is_no_annotation_is_counted(store: Store, tmp_path: Path) -> None:
    row = task(PAIR, predictions=[{"result": [PREFERS["pairwise"]]}], drafts=[{"result": []}])
    row["annotations"] += [
        {"completed_by": 3, "was_cancelled": True, "result": [PREFERS["pairwise"]]},
        {"completed_by": 4, "skipped": True, "result": [PREFERS["pairwise"]]},
    ]
    report, told = brought(store, tmp_path / "a.json", [row])
    assert told == []
    assert dict(report.skipped) == {
        "predictions": 1, "drafts": 1, "cancelled annotations": 2, "annotations without a result": 1,
    }  # fmt: skip


MIN = {
    **PAIR, "id": 4, "annotator": 7, "annotation_id": 9, "created_at": AT, "updated_at": AT, "lead_time": 3.5,
}  # fmt: skip


@pytest.mark.parametrize(
    "said", [{"pw": [{"selected": "right"}]}, {"comparison": "right"}, {"c": "Answer 2 is better"}]
)
def test_json_min_and_csv(store: Store, tmp_path: Path, said: dict[str, Any]) -> None:
    row = {**MIN, **said, "why": "It says so.", "topic": "food", "confidence": [{"rating": 3}]}
    report, told = brought(store, tmp_path / "a.json", [row])
    assert report.format == "label_studio"
    assert told == [(Preference(better=1), (A, B))]
    assert list(report.unused) == ["topic"]
    assert dict(report.skipped) == {"answers to confidence": 1}
    (judgment,) = store.judgments()
    assert (judgment.rationale, judgment.seconds, judgment.at) == ("It says so.", 3.5, AT)
    with (tmp_path / "a.csv").open("w", newline="") as file:
        cells = {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
        writer = csv.DictWriter(file, list(cells))
        writer.writeheader()
        writer.writerow(cells)
    assert import_file(store, tmp_path / "a.csv").judgments == 0  # the same annotation
    assert store.verify() == 1


ORDERS = {
    "pairs": [{"value": "response1", "rank": 2}, {"value": "response-2", "rank": 1}],
    "lists": {"value": ["response1", "response2"], "rank": [2, 1]},
    "names": ["response_2", "response_1"],
}
FIELDS = {"prompt": "Q", "response1": A, "response2": B}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("question", ["preference", "rank", "order-of-answers"])
def test_argilla_s_rankings(store: Store, tmp_path: Path, order: str, question: str) -> None:
    _, told = brought(store, tmp_path / "a.json", [record(FIELDS, **{question: ORDERS[order]})])
    assert told == [(Ranking(ranks=(2, 1)), (A, B))]


def answers(*told: tuple[str, Any, str]) -> list[dict[str, Any]]:
    return [{"user_id": u, "value": v, "status": s} for u, v, s in told]


GIVEN = answers(("a", "response2", "submitted"), ("b", "response1", "discarded"), ("c", "response1", "draft"),
                ("d", None, "submitted"))  # fmt: skip
SHAPES: dict[str, dict[str, Any]] = {
    "2, to_json": {
        "fields": FIELDS, "responses": {"best": GIVEN}, "suggestions": {"best": {"value": "x"}},
    },
    "1, server": {
        "fields": FIELDS, "suggestions": [{"question_name": "best", "value": "response1"}],
        "responses": [
            {"user_id": a["user_id"], "status": a["status"], "values": {"best": {"value": a["value"]}}}
            for a in GIVEN
        ],
    },
    "1, hub": {
        **FIELDS, "best": GIVEN, "best-suggestion": "response1", "external_id": None, "metadata": "{}",
    },
    "1, older hub": {
        **FIELDS, "best": {k: [a[k] for a in GIVEN] for k in GIVEN[0]}, "best-suggestion": "response1",
        "external_id": None,
    },
    "2, hub": {
        "id": "r", "status": "completed", "_server_id": "s", **FIELDS, "best.suggestion": "response1",
        "best.responses": [a["value"] for a in GIVEN], "best.responses.users": [a["user_id"] for a in GIVEN],
        "best.responses.status": [a["status"] for a in GIVEN],
    },
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_argilla_in_every_shape(store: Store, tmp_path: Path, shape: str) -> None:
    report, told = brought(store, tmp_path / "a.json", [SHAPES[shape]])
    assert report.format == "argilla"
    assert told == [(Preference(better=1), (A, B))]
    assert dict(report.skipped) == {
        "discarded answers": 1, "draft answers": 1, "answers without a value": 1, "suggestions": 1,
    }  # fmt: skip
    assert list(report.unused) == []


def test_a_data_set_pulled_from_the_hub(store: Store, tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    row = {**FIELDS, "preference": answers(("a", ORDERS["lists"], "submitted")), "metadata": "{}",
           "preference-suggestion": None, "external_id": None}  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "train.parquet")
    assert import_file(store, tmp_path / "train.parquet", at=AT).judgments == 1
    (judgment,) = store.judgments()
    assert judgment.answer == Ranking(ranks=(2, 1))


def test_a_chat_is_a_conversation(store: Store, tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"},
            {"role": "user", "content": "Eggs?"}]  # fmt: skip
    brought(
        store,
        tmp_path / "a.json",
        [record({"chat": chat, "response_1": A, "response_2": B}, best="A")],
    )
    brought(store, tmp_path / "b.json", [{"data": {**PAIR, "prompt": [
        {"author": {"user": "User"}.get(m["role"], "Assistant"), "text": m["content"]} for m in chat
    ]}, "annotations": []}])  # fmt: skip
    (prompt,) = store.prompts()
    assert [m.content for m in prompt.messages] == ["Hi", "Yes?", "Eggs?"]


def test_rows_that_nobody_answered_are_counted(store: Store, tmp_path: Path) -> None:
    report, told = brought(store, tmp_path / "a.json", [record(PAIR), record(PAIR)])
    assert (told, dict(report.skipped)) == ([], {"rows that nobody answered": 2})


def test_importing_again_adds_nothing_where_the_tool_keeps_no_time(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([record(PAIR, best="A")]))
    import_file(store, tmp_path / "a.json", at="2026-01-01T00:00:00+00:00")
    again = import_file(store, tmp_path / "a.json", at="2026-02-01T00:00:00+00:00")
    assert (again.judgments, again.left_out["duplicate"]) == (0, 1)


def test_skip_bad_skips_the_item_and_names_it(store: Store, tmp_path: Path) -> None:
    good, three = task(PAIR, PREFERS["pairwise"]), {**PAIR, "answer3": "Never."}
    rows = [good, task(three, PREFERS["pairwise"] | {"to_name": "results"}), record(PAIR, best="A")]
    report, told = brought(
        store, tmp_path / "a.json", rows, skip_bad=True, rejects_path=tmp_path / "r.jsonl"
    )
    assert len(told) == 1
    places = [json.loads(x)["place"] for x in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert places == ["item 2", "item 3"]
    assert report.left_out["bad"] == 2


def test_skip_bad_skips_whatever_the_store_would_refuse(store: Store, tmp_path: Path) -> None:
    """In accord's own rows too: what refers to a row that is refused goes with it."""
    from accord.store.io.native import native_rows

    with Store(tmp_path / "of.db") as source:
        fill(source).add_judgments(every())
        rows = list(native_rows(source.freeze("v1")))
    compare = next(
        r for r in rows if r["type"] == "judgment" and r["answer"]["kind"] == "preference"
    )
    lost = next(r for r in rows if r["type"] == "question" and r["kind"] == "rate")
    rows.remove(lost)
    rows.append({**compare, "answer": Thumb(up=True).model_dump()})  # no answer to this question
    rows.append({**compare, "at": AT, "supersedes": "0" * 20})
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(DataError, match=r"a\.jsonl:\d+ judgment: .*--skip-bad"):
        import_file(store, tmp_path / "a.jsonl")
    assert store.counts()["judgments"] == 0
    rejects = tmp_path / "r.jsonl"
    report = import_file(store, tmp_path / "a.jsonl", skip_bad=True, rejects_path=rejects)
    told = [json.loads(x) for x in rejects.read_text().splitlines()]
    assert report.left_out["bad"] == len(told) == 3
    assert {str(len(rows)), str(len(rows) - 1)} < {t["place"] for t in told}
    assert report.judgments == store.verify() == len(every()) - 1


@pytest.mark.parametrize(
    "empty",
    [lambda: Ranking(ranks=()), lambda: Rating(scores={}), lambda: StepLabels(labels=())],
)
def test_an_answer_about_nothing_is_refused(empty: Any) -> None:
    with pytest.raises(ValidationError, match="says nothing"):
        empty()


def test_what_an_older_accord_stored_is_still_read(store: Store) -> None:
    fill(store)
    nothing = Ranking.model_construct(ranks=())
    from tests.store.words import RANK

    old = says(ANNA, COMPARE, Preference(better=0)).model_copy(
        update={"question": RANK.id, "answer": nothing}
    )
    from accord.store.db import rows as stored

    class Row:
        id, body = old.id, old.model_dump_json()

    assert stored.to_judgment(Row).answer == nothing


def test_exports_and_rejects_are_for_their_owner_alone(store: Store, tmp_path: Path) -> None:
    fill(store).add_judgments(every())
    snapshot = store.freeze("v1")
    for name in ("a.jsonl", "a.csv", "a.parquet", "a.json.gz"):
        export(snapshot, tmp_path / name)
    export(snapshot, tmp_path / "folder")
    brought(store, tmp_path / "b.json", [{"fields": 1, "responses": 2}, task(PAIR, PREFERS["pairwise"])],
            skip_bad=True, rejects_path=tmp_path / "r.jsonl", format="label_studio")  # fmt: skip
    made = ("a.jsonl", "a.csv", "a.parquet", "a.json.gz", "r.jsonl", "study.db")
    assert {(tmp_path / n).stat().st_mode & 0o777 for n in made} == {0o600}
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700
