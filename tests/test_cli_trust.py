"""`accord trust` as a user meets it: the report, JSON, decisions that are recorded, faults in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.store import Store
from tests.feedback.study import RATERS, simulate
from tests.test_cli import accord, assert_one_line


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with Store("s.db") as store:
        simulate(store, prompts=300)
        store.freeze("v1")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    code, out, error = accord(capsys, "trust", *words)
    assert (code, error) == (0, "")
    return out


def test_the_report_says_who_is_biased_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "s.db@v1")
    for words in (
        "Snapshot v1: 1,500 judgments by 5 raters on 300 prompts",
        "Suggested label smoothing:",
        "topic=boots",
        "Dmitri: prefers the left side",
        "Chiara: prefers longer answers",
        "model:good",
        "accord trust s.db@v1 --quarantine",
    ):
        assert words in out
    assert max(map(len, out.splitlines())) <= 130
    assert "nan" not in out.lower()


def test_json_holds_every_figure_with_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, Any] = json.loads(told(capsys, "s.db@v1", "--json"))
    dmitri = next(r for r in found["raters"] if r["name"] == "Dmitri")
    assert dmitri["side"]["low"] < 1.5 < dmitri["side"]["high"]
    assert dmitri["gold"]["value"] is None
    assert dmitri["gold"]["note"] == "no gold question answered"
    whole = found["agreement"][0]
    assert (whole["within"], whole["units"], whole["alpha"]["n"]) == ("all", 300, 300)
    with Store("s.db") as store:
        assert found["sha256"] == store.snapshot("v1").sha256


def test_gold_questions_are_counted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store("s.db") as store:
        questions = store.questions()[:40]
    lines = (
        f"{q.prompt}: {{better: {q.responses[0]}}}"
        for q in {q.prompt: q for q in questions}.values()
    )
    (here / "gold.yaml").write_text("\n".join(lines))
    found = json.loads(told(capsys, "s.db@v1", "--gold", "gold.yaml", "--json"))
    assert all(r["gold"]["n"] == len({q.prompt for q in questions}) for r in found["raters"])


def test_a_quarantine_is_a_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--quarantine", "Dmitri", "--because", "likes the left")
    out = told(capsys, "s.db@v1", *words)
    assert "snapshot v1-without-Dmitri: 1200 of 1500 judgments" in out
    assert "Nothing was deleted." in out
    assert "made because: likes the left" in told(capsys, "s.db@v1-without-Dmitri")
    assert told(capsys, "s.db@v1", *words) == out  # again is fine
    with Store("s.db") as store:
        assert store.counts()["judgments"] == 1500


def test_weights_are_a_snapshot(capsys: pytest.CaptureFixture[str]) -> None:
    out = told(capsys, "s.db", "--reweight", "--because", "measured", "--as", "weighted")
    assert "snapshot weighted: 1500 of 1500 judgments" in out
    assert all(f"{r.name} counts" in out for r in RATERS)
    with Store("s.db") as store:
        assert set(store.snapshot("weighted").selection.weights) == {r.name for r in RATERS}


def test_an_empty_store_has_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    with Store("empty.db"):
        pass
    assert "agreement is undefined" in told(capsys, "empty.db")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("none.db",), "no such store"),
        (("s.db@v9",), "no snapshot 'v9'"),
        (("s.db", "--quarantine", "Dmitri"), "say it with --because"),
        (("s.db", "--quarantine", "Zoe", "--because", "x"), "no rater 'Zoe'"),
        (("s.db", "--quarantine", "Ada", "--reweight", "--because", "x"), "one decision at a time"),
        (("s.db", "--ties", "coin"), "allowed: half, davidson, rao_kupper"),
        (("s.db", "--gold", "none.yaml"), "none.yaml: no such file"),
    ],
)
def test_faults_are_one_line(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = accord(capsys, "trust", *words)
    assert_one_line(code, error, said)
