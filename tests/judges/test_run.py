"""A judge on a store: its judgments beside people's, soft, once, only where it may; as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from accord.core.types import Preference, Rating
from accord.judges.ask import Judge
from accord.judges.backends import Job, StandIn
from accord.judges.cache import Cache, JudgeReply
from accord.judges.check import truths
from accord.judges.run import run_judge
from accord.rewards.learned import FILE
from accord.store import Store
from tests.feedback.study import simulate
from tests.test_cli import accord, assert_one_line


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with Store("s.db") as store:
        simulate(store, prompts=60)
        store.freeze("v1")
    return tmp_path


SOFT = StandIn(
    "soft", lambda answers: [0.8, 0.2] if len(answers[0]) > len(answers[1]) else [0.4, 0.6]
)


def test_judgments_are_soft_and_given_once() -> None:
    """p is the mean of both orders: .8 with .4 for the longer, so .7; it comes out on the pair's edge."""
    with Store("s.db") as store, Cache(":memory:") as cache:
        snapshot = store.snapshot("v1")
        done = run_judge(store, snapshot, Judge(), SOFT, cache)
        assert (done.written, done.missing, done.already) == (60, {}, 0)
        answers = [
            j.answer
            for j in store.judgments()
            if isinstance(j.answer, Preference) and j.answer.p is not None
        ]
        assert {round(a.p or 0, 6) for a in answers} <= {0.7, 0.3}
        mine = store.freeze("judged", raters=[done.rater])
        assert {round(p.p, 6) for p in mine.pairs()} == {0.7}
        again = run_judge(store, snapshot, Judge(), SOFT, cache)
        assert (again.written, again.already) == (0, 60)
        other = run_judge(store, snapshot, Judge(orders="one"), SOFT, cache)
        assert other.written == 60  # another setting is another rater
        assert other.rater != done.rater
        store.verify()


def test_old_judgments_keep_their_ids() -> None:
    """A preference without p says nothing of it: ids are hashes of what is said."""
    assert "p" not in Preference(better=0).model_dump()
    with pytest.raises(ValueError, match="different things"):
        Preference(better=0, p=0.3)


def test_missing_verdicts_leave_no_judgment() -> None:
    class Mute:
        name, chunk = "mute", 1000

        def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
            for at, _ in enumerate(jobs):
                yield at, JudgeReply(None, ("I'd rather not.",)) if at % 2 else "the server is gone"

    with Store("s.db") as store, Cache(":memory:") as cache:
        before = store.counts()["judgments"]
        done = run_judge(store, store.snapshot("v1"), Judge(), Mute(), cache)
        assert done.written == 0
        assert sum(done.missing.values()) == 60
        assert store.counts()["judgments"] == before


def test_ratings_by_axis_are_the_mean_of_the_scale() -> None:
    five = StandIn("five", lambda answers: [0.1, 0.2, 0.3, 0.4, 0.0])
    with Store("s.db") as store, Cache(":memory:") as cache:
        done = run_judge(
            store,
            store.snapshot("v1"),
            Judge(template="rating"),
            five,
            cache,
            axes=["clear", "kind"],
        )
        ratings = [j.answer for j in store.judgments() if isinstance(j.answer, Rating)]
    assert done.written == len(ratings) == 60 * 2 * 2
    assert {round(x, 6) for r in ratings for x in r.scores.values()} == {3.0}
    assert {a for r in ratings for a in r.scores} == {"clear", "kind"}


def test_a_judge_is_no_people() -> None:
    """What a judge said before has no say in what it is measured on."""
    with Store("s.db") as store, Cache(":memory:") as cache:
        before = truths(store.snapshot("v1"))
        run_judge(store, store.snapshot("v1"), Judge(), SOFT, cache)
        assert truths(store.freeze("v2")) == before


def test_check_then_run_in_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Length says nothing of quality there: the judge that likes it may label nothing, and labels nothing."""
    code, out, error = accord(
        capsys,
        "judge",
        "check",
        "s.db@v1",
        "--judge",
        "stand-in:longest",
        "--out",
        "check.json",
        "--retest",
        "20",
    )
    assert (code, error) == (0, "")
    for words in (
        "(a stand-in, no judge)",
        "Missing verdicts: 0. Rule: a reply without one verdict",
        "drawn to the longer answer",
        "it decides nothing alone",
        "says the same asked again: 1",
    ):
        assert words in " ".join(out.split())
    found = json.loads(Path("check.json").read_text())
    assert found["length"]["low"] > 0.5
    assert not any(p["passes"] for p in found["parts"])
    code, out, error = accord(
        capsys, "judge", "run", "s.db@v1", "--judge", "stand-in:longest", "--gate", "check.json"
    )
    assert (code, error) == (0, "")
    assert "0 judgments" in out
    assert "60 for people" in out
    code, out, _ = accord(
        capsys, "judge", "run", "s.db@v1", "--judge", "stand-in:longest", "--name", "v2"
    )
    assert code == 0
    assert "60 judgments by stand-in:longest pairwise@2" in out
    assert "snapshot v2 is frozen" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["s.db@v1", "--judge", "stand-in:best"], "longest, first"),
        (["s.db@v1", "--judge", "stand-in:first", "--set", "template=pairs"], "pairwise"),
        (["s.db@v1", "--judge", "stand-in:first", "--set", "samples=3"], "read: text"),
        (["s.db", "--judge", "stand-in:first"], "which snapshot"),
        (["s.db@v1", "--judge", "http://localhost:1/v1"], "http://host:port/v1#model-name"),
        (["s.db@v1", "--judge", "stand-in:first", "--set", "template=ranking"], "no question"),
        (["s.db@v1", "--judge", "stand-in:first", "--gate", "s.db"], "judge check"),
        (["s.db@v1", "--judge", "rm"], "is a reward model"),
    ],
)
def test_faults_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("rm").mkdir()
    Path("rm", FILE).write_text("{}")
    code, _, error = accord(capsys, "judge", "run", *words)
    assert_one_line(code, error, said)
