"""The store: round trips, refusals, corrections, snapshots, several writers, a kill."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import AccordError, ConfigError, DataError, StoreError
from accord.core.types import (
    Judgment,
    Preference,
    Prompt,
    Ranking,
    Rater,
    Rating,
    Response,
    StepLabels,
    Thumb,
    Writing,
)
from accord.store import Store
from tests.store.words import (
    ANNA,
    BEN,
    BOOT,
    COMPARE,
    EVERY,
    RANK,
    RESPONSES,
    TENT,
    A,
    B,
    C,
    D,
    E,
    ask,
    every,
    fill,
    says,
)


def one_line(error: pytest.ExceptionInfo[AccordError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def test_everything_comes_back_as_it_went_in(either: Store, where: str) -> None:
    judgments = every()
    assert fill(either).add_judgments(judgments) == len(EVERY)
    either.close()
    with Store(where, create=False) as again:
        assert again.prompts() == sorted([TENT, BOOT], key=lambda p: p.id)
        found = [(p, r) for p, rs in RESPONSES.items() for r in rs]
        by_id = sorted(found, key=lambda pr: pr[1].id_for(TENT if pr[0] == TENT.id else BOOT))
        assert again.responses() == by_id
        assert again.questions() == sorted((q for q, _ in EVERY), key=lambda q: q.id)
        assert again.raters() == [ANNA, BEN]
        assert again.judgments() == judgments
        assert again.judgments(up_to=2) == judgments[:2]
        assert again.judgments_on([RANK.id]) == [judgments[1]]
        assert again.verify() == len(EVERY)


def test_adding_twice_does_nothing(either: Store) -> None:
    fill(either).add_judgments(every())
    before = either.counts()
    assert fill(either).add_judgments([*every(), *every()]) == 0
    assert either.counts() == before == {
        "prompts": 2, "responses": 5, "questions": 7, "raters": 2, "judgments": 7, "snapshots": 0,
    }  # fmt: skip


def test_tags_and_facts_of_the_first_addition_stay(store: Store) -> None:
    fill(store)
    store.add_prompts([Prompt(messages=TENT.messages, tags={"shop": "other"})])
    store.add_raters([Rater(name="anna", kind="human", facts={"age": 3})])
    assert TENT in store.prompts()
    assert ANNA in store.raters()


def test_lineage_leads_from_a_judgment_to_all_it_is_about(store: Store) -> None:
    judgments = every()
    fill(store).add_judgments(judgments)
    found = store.judgment(judgments[1].id)
    assert (found.seq, found.judgment, found.question) == (2, judgments[1], RANK)
    assert (found.rater, found.prompt, found.responses) == (ANNA, TENT, (A, B, C))
    assert set(store.lineage([j.id for j in judgments])) == {j.id for j in judgments}
    with pytest.raises(StoreError, match="no judgment 00"):
        store.judgment("00")


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [(TENT, (A, D)), (TENT, (Response(text="unseen"),)), (BOOT, (A,)), (Prompt.user("?"), (A,))],
    ids=["of another prompt", "never added", "prompt of another", "unknown prompt"],
)
def test_a_question_shows_responses_to_its_own_prompt(
    either: Store, prompt: Prompt, shown: Any
) -> None:
    fill(either)
    before = either.counts()
    question = ask("compare", *shown, prompt=TENT).model_copy(update={"prompt": prompt.id})
    with pytest.raises(StoreError) as error:
        either.add_questions([ask("thumb", B), question])
    assert "add prompts and responses before their questions" in one_line(error)
    assert either.counts() == before


def test_what_is_referred_to_must_be_there(either: Store) -> None:
    with pytest.raises(StoreError) as error:
        either.add_responses(TENT, [A])
    assert "before their judgments" in one_line(error) or "FOREIGN" in one_line(error).upper()
    with pytest.raises(StoreError):
        either.add_questions([ask("write")])
    assert sum(either.counts().values()) == 0


WRONG = {
    "unknown question": (lambda: says(ANNA, ask("rank", C, B), Ranking(ranks=(1, 2))), "question"),
    "unknown rater": (
        lambda: says(Rater(name="eve", kind="human"), COMPARE, Preference(better=0)),
        "rater",
    ),
    "wrong kind": (lambda: says(ANNA, COMPARE, Thumb(up=True)), "answered by a preference"),
    "too few ranks": (lambda: says(ANNA, RANK, Ranking(ranks=(1, 2))), "2 ranks for 3"),
    "three compared": (
        lambda: says(ANNA, ask("compare", A, B, C), Preference(better=0)),
        "between 2 responses, not 3",
    ),
    "two thumbed": (lambda: says(ANNA, ask("thumb", A, B), Thumb(up=True)), "about 1 response"),
    "two rated": (
        lambda: says(ANNA, ask("rate", A, B), Rating(scores={"x": 1.0})),
        "about 1 response",
    ),
    "two stepped": (
        lambda: says(ANNA, ask("steps", A, B), StepLabels(labels=(1,))),
        "about 1 response",
    ),
    "edits nothing shown": (
        lambda: says(ANNA, ask("write"), Writing(text="x", edits=0)),
        "edits response 0 of 0",
    ),
    "edits beyond": (
        lambda: says(ANNA, ask("write", A), Writing(text="x", edits=1)),
        "edits response 1 of 1",
    ),
    "edits from the end": (
        lambda: says(ANNA, ask("write", A), Writing(text="x", edits=-1)),
        "edits response -1 of 1",
    ),
    "corrects nothing": (
        lambda: says(ANNA, COMPARE, Preference(better=0), supersedes="f" * 20),
        "supersedes",
    ),
}
ODD = [ask("compare", A, B, C), ask("thumb", A, B), ask("rate", A, B), ask("steps", A, B)]
ODD += [ask("write"), ask("write", A)]


@pytest.mark.parametrize("name", WRONG)
def test_an_answer_that_does_not_fit_is_refused_and_nothing_is_written(
    store: Store, name: str
) -> None:
    make, told = WRONG[name]
    fill(store, [*(q for q, _ in EVERY), *ODD])
    with pytest.raises(DataError) as error:
        store.add_judgments([*every(), make()])
    assert told in one_line(error)
    assert make().id in str(error.value)
    assert store.counts()["judgments"] == 0


def test_what_is_frozen_by_name_is_there_whatever_was_corrected_since(store: Store) -> None:
    """A stage freezes what the snapshot below it has: a correction that came later is none of it."""
    first = says(ANNA, COMPARE, Preference(better=0))
    fill(store).add_judgments([first])
    second = says(ANNA, COMPARE, Preference(better=1), supersedes=first.id)
    store.add_judgments([second])
    kept = store.freeze("kept", only=[first.id])
    assert [j.id for j in kept.judgments] == [first.id]
    assert [j.id for j in store.freeze("both", only=[first.id, second.id]).judgments] == [second.id]


def test_a_correction_supersedes_only_ones_own_word_on_the_same_question(store: Store) -> None:
    first = says(ANNA, COMPARE, Preference(better=0))
    fill(store).add_judgments([first])
    for other in (
        says(BEN, COMPARE, Preference(better=1), supersedes=first.id),
        says(ANNA, RANK, Ranking(ranks=(1, 1, 1)), supersedes=first.id),
    ):
        with pytest.raises(DataError, match="no judgment of this rater on this question"):
            store.add_judgments([other])
    second = says(ANNA, COMPARE, Preference(better=1), supersedes=first.id)
    third = says(ANNA, COMPARE, Preference(better=None), supersedes=second.id)
    store.add_judgments([second, third])
    assert store.judgments() == [first, second, third]
    assert store.freeze("v1").judgments == [third]


def test_a_snapshot_never_changes(either: Store) -> None:
    first = says(ANNA, COMPARE, Preference(better=0))
    fill(either).add_judgments([first])
    frozen = either.freeze("v1")
    assert either.freeze("v1").sha256 == frozen.sha256
    either.add_judgments([says(ANNA, COMPARE, Preference(better=1), supersedes=first.id)])
    again = either.snapshot("v1")
    assert (again.sha256, again.judgments) == (frozen.sha256, [first])
    with pytest.raises(StoreError, match=r"snapshots never change.*choose another name"):
        either.freeze("v1")
    assert either.freeze("v2").judgments != [first]
    assert either.snapshot_names() == ["v1", "v2"]


def test_a_snapshot_selects_by_kind_and_rater(store: Store) -> None:
    fill(store).add_judgments([*every(), says(BEN, COMPARE, Preference(better=0))])
    assert [j.answer.kind for j in store.freeze("a", kinds=["thumb", "rating"]).judgments] == [
        "rating",
        "thumb",
    ]
    assert len(store.freeze("b", raters=["ben"])) == len(store.snapshot("b")) == 1
    assert len(store.freeze("c", raters=["ben"], kinds=["thumb"])) == 0
    with pytest.raises(StoreError) as error:
        store.snapshot("d")
    assert "allowed: a, b, c" in one_line(error)


@pytest.mark.parametrize("options", [{"ties": "hlaf"}, {"even": "no"}, {"min_agreement": 60}])
def test_a_misspelt_reading_is_refused(store: Store, options: Any) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        store.freeze("v1").pairs(**options)


def test_a_transaction_keeps_all_or_nothing(either: Store) -> None:
    with pytest.raises(DataError), either.transaction():
        fill(either).add_judgments([*every(), says(BEN, COMPARE, Thumb(up=True))])
    assert sum(either.counts().values()) == 0
    with either.transaction():
        fill(either).add_judgments(every())
    assert either.verify() == 7


def votes(start: int, n: int) -> list[Judgment]:
    return [says(ANNA, COMPARE, Preference(better=0), seconds=float(start + i)) for i in range(n)]


def append(where: str, start: int, n: int) -> None:
    """One of several writers: n judgments one by one."""
    with Store(where) as store:
        for judgment in votes(start, n):
            store.add_judgments([judgment])


def test_two_processes_append_to_one_chain(either: Store, where: str) -> None:
    fill(either)
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=append, args=(where, 100 * k, 25)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [w.exitcode for w in workers] == [0, 0]
    assert either.verify() == 50
    assert {j.seconds for j in either.judgments()} == {*range(25), *range(100, 125)}


@pytest.mark.parametrize("shared", [True, False], ids=["one store", "a store each"])
def test_threads_append_to_one_chain(either: Store, where: str, shared: bool) -> None:
    fill(either)
    failed: list[BaseException] = []
    start = threading.Barrier(4)

    def work(k: int) -> None:
        mine = either if shared else Store(where)
        try:
            start.wait()
            for judgment in votes(100 * k, 15):
                assert mine.add_judgments([judgment]) == 1
                mine.counts()
        except BaseException as error:
            failed.append(error)
        finally:
            if not shared:
                mine.close()

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert either.verify() == 60


def test_a_transaction_of_one_thread_is_not_seen_by_another(either: Store) -> None:
    seen: list[int] = []
    with either.transaction():
        either.add_prompts([TENT])
        reader = threading.Thread(target=lambda: seen.append(either.counts()["prompts"]))
        reader.start()
        reader.join()
    assert seen == [0]
    assert either.counts()["prompts"] == 1


def test_many_stores_made_at_once_are_one(where: str) -> None:
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with Store(where) as store:
                fill(store)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    with Store(where, create=False) as store:
        assert store.counts()["prompts"] == 2


KILLED = """
import sys, time
from accord.store import Store, import_file
def wait(done, total):
    print("half", flush=True)
    time.sleep(60)
with Store(sys.argv[1]) as store:
    import_file(store, sys.argv[2], on_progress=wait)
"""


def test_a_kill_in_the_middle_of_an_import_leaves_the_store_as_it_was(
    either: Store, where: str, tmp_path: Path
) -> None:
    fill(either).add_judgments(every())
    before = either.counts()
    either.close()
    data = tmp_path / "data.jsonl"
    row = '{"prompt": "%d", "chosen": "a", "rejected": "b"}\n'
    data.write_text("".join(row % i for i in range(2500)))
    args = [sys.executable, "-c", KILLED, where, str(data)]
    with subprocess.Popen(args, stdout=subprocess.PIPE, env=dict(os.environ)) as process:
        assert process.stdout
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    for _ in range(50):
        assert either.counts() == before
        time.sleep(0.001)
    assert either.verify() == len(EVERY)
    assert fill(either).add_judgments(votes(0, 3)) == 3


def test_empty_text_is_a_response(store: Store) -> None:
    fill(store)
    assert (BOOT.id, E) in store.responses()
    assert (BOOT.id, D) in store.responses()
