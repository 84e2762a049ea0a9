"""The command line as a user meets it: every fault is one line that names the place and the mend."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from accord.cli import main
from accord.store import Store

ROW = {"prompt": "Hi?", "chosen": "Hello.", "rejected": "Go away."}
RECIPE = """\
name: t
model: packaged/SmolLM2-135M-Instruct
stages:
  study: {kind: import, file: pairs.jsonl}
  rm: {kind: reward, data: study}
"""


def accord(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of one command."""
    before, sys.argv = sys.argv, ["accord", *words]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.jsonl").write_text(json.dumps(ROW) + "\n")
    (tmp_path / "r.yaml").write_text(RECIPE)
    return tmp_path


def line(**changes: object) -> bytes:
    return json.dumps({**ROW, **changes}).encode() + b"\n"


BAD_FILES: dict[str, tuple[bytes, str]] = {  # content, what the line must say
    "broken JSON": (line() + b'{"prompt": "a", \n', "bad.jsonl:2"),
    "a list": (b"[1, 2]\n", "bad.jsonl:1"),
    "a number for text": (line(chosen=3), "bad.jsonl:1 chosen"),
    "null": (line(rejected=None), "bad.jsonl:1 rejected"),
    "a missing field": (b'{"chosen": "a", "prompt": "b"}\n', "bad.jsonl:1"),
    "an unknown role": (line(prompt=[{"role": "robot", "content": "x"}]), "prompt[0].role"),
    "no content": (line(prompt=[{"role": "user"}]), "prompt[0].content"),
    "a spare key": (line(prompt=[{"role": "user", "content": "x", "n": 1}]), "prompt[0].n"),
    "a prompt that ends with the assistant": (
        line(prompt=[{"role": "assistant", "content": "x"}]),
        "bad.jsonl:1 prompt",
    ),
    "a chosen that ends with the user": (
        line(chosen=[{"role": "user", "content": "x"}]),
        "bad.jsonl:1 chosen",
    ),
    "an empty file": (b"", "bad.jsonl"),
    "blank lines": (b"\n\n \n", "bad.jsonl"),
    "a 10 MB line": (line(chosen="x" * (10 << 20)), "bad.jsonl:1"),
    "Latin-1 in UTF-8": (line() + '{"prompt": "é"}\n'.encode("latin-1"), "bad.jsonl:2"),
    "UTF-16": (line().decode().encode("utf-16"), "bad.jsonl:1"),
    "NaN": (b'{"prompt": NaN}\n', "bad.jsonl:1"),
    "half a surrogate pair": (b'{"prompt": "\\ud800", "chosen": "a", "rejected": "b"}\n', ":1"),
    "unknown columns": (b'{"question": "a", "answer": "b"}\n', "bad.jsonl:1"),
    "a label that is none": (b'{"prompt": "a", "completion": "b", "label": "maybe"}\n', ":1 label"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, place = BAD_FILES[name]
    (here / "bad.jsonl").write_bytes(content)
    code, _, error = accord(capsys, "import", "bad.jsonl", "--store", "s.db")
    assert_one_line(code, error, place)
    assert not (here / "s.db").exists(), "a failed import leaves no store behind"


def assert_one_line(code: int, error: str, *said: str) -> None:
    assert code == 2
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert len(error) < 700
    for words in said:
        assert words in error


BAD_COMMANDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "an unknown command": (("fly",), ("fly", "accord --help")),
    "a missing file": (("import", "none.jsonl", "--store", "s.db"), ("none.jsonl", "check the path")),
    "an unknown format": (
        ("import", "pairs.jsonl", "--store", "s.db", "--format", "xml"),
        ("xml", "allowed: auto"),
    ),
    "a store that is none": (("data", "r.yaml"), ("r.yaml",)),
    "export without snapshot": (("export", "none.db@v1", "out.jsonl"), ("none.db", "no such store")),
    "a missing recipe": (("run", "none.yaml"), ("none.yaml",)),
    "an unknown key": (("run", "r.yaml", "--set", "rm.lrr=1"), ("rm.lrr", "lr")),
    "a value out of range": (("run", "r.yaml", "--set", "rm.lr=-1"), ("rm.lr", "> 0")),
    "a wrong type": (("run", "r.yaml", "--set", "rm.epochs=many"), ("rm.epochs",)),
    "an unknown loss": (("run", "r.yaml", "--set", "rm.loss={name: x}"), ("rm.loss", "bradley_terry")),
    "an unknown loss key": (
        ("run", "r.yaml", "--set", "rm.loss={name: bradley_terry, beta: 1}"),
        ("beta", "label_smoothing"),
    ),
    "an unknown parent": (("run", "r.yaml", "--set", "rm.data=stud"), ("stud", "study")),
    "an unknown kind": (("run", "r.yaml", "--set", "rm.kind=rewrd"), ("rewrd", "reward")),
    "an unknown stage": (("run", "r.yaml", "--only", "rmm"), ("rmm", "rm")),
    "a missing input": (("run", "r.yaml", "--set", "study.file=gone.jsonl"), ("gone.jsonl", "--set")),
    "a missing model": (("run", "r.yaml", "--set", "model=/no/such/model"), ("/no/such/model",)),
    "an unwritable directory": (("run", "r.yaml", "--runs", "/proc/runs"), ("/proc/runs", "--runs")),
    "a file for a directory": (("run", "r.yaml", "--runs", "r.yaml"), ("r.yaml", "--runs")),
    "a report of no run": (("report", "."), ("no run",)),
    "a chat with nobody": (("chat", "/no/such/run"), ("/no/such/run",)),
    "--set without a value": (("run", "r.yaml", "--set", "rm.lr"), ("rm.lr", "=")),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_COMMANDS)
def test_bad_commands(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, said = BAD_COMMANDS[name]
    code, _, error = accord(capsys, *words)
    assert_one_line(code, error, *said)


BAD_RECIPES = {
    "not YAML": ("name: [", "r.yaml:1"),
    "a list": ("- 1\n", "r.yaml"),
    "empty": ("", "r.yaml"),
    "no stages": ("name: t\nmodel: m\n", "stages"),
    "no kind": ("name: t\nmodel: m\nstages:\n  a: {lr: 1}\n", "kind"),
    "a key twice": ("name: t\nname: u\nmodel: m\nstages: {}\n", "name"),
    "a circle": (
        "name: t\nmodel: m\nstages:\n  a: {kind: sft, init: b, data: d.jsonl}\n"
        "  b: {kind: sft, init: a, data: d.jsonl}\n",
        "wait for each other",
    ),
    "Latin-1": ("name: é\n".encode("latin-1"), "r.yaml"),
}


@pytest.mark.parametrize("name", BAD_RECIPES)
def test_bad_recipes(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content, place = BAD_RECIPES[name]
    (here / "r.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    code, _, error = accord(capsys, "run", "r.yaml")
    assert_one_line(code, error, place)


def test_skip_bad_keeps_the_good_and_tells_where_the_bad_went(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "half.jsonl").write_bytes(line() + b"{broken\n" + line(chosen=""))
    words = ("import", "half.jsonl", "--store", "s.db", "--skip-bad", "--snapshot", "v1")
    code, out, _ = accord(capsys, *words)
    assert code == 0
    assert "1 bad rows" in out
    assert "1 with an empty response" in out
    rejects = [json.loads(x) for x in (here / "half.jsonl.rejects.jsonl").read_text().splitlines()]
    assert [r["place"] for r in rejects] == ["2", "3"]
    assert all(r["reason"] for r in rejects)
    with Store(here / "s.db", create=False) as store:
        assert len(store.snapshot("v1").pairs()) == 1


def test_import_look_export(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accord(capsys, "import", "pairs.jsonl", "--store", "s.db", "--snapshot", "v1")[0] == 0
    code, out, _ = accord(capsys, "data", "s.db")
    assert code == 0
    assert "judgments" in out
    code, out, _ = accord(capsys, "export", "s.db@v1", "out.jsonl", "--format", "preference_text")
    assert code == 0
    assert "1 rows" in out
    row = json.loads((here / "out.jsonl").read_text())
    assert {k: row[k] for k in ROW} == ROW
    code, out, _ = accord(capsys, "data", "s.db", "--judgment", row["sources"][0])
    assert code == 0
    assert "Go away." in out
    code, _, error = accord(capsys, "export", "s.db", "out.jsonl")
    assert_one_line(code, error, "s.db@NAME", "v1")
    code, _, error = accord(capsys, "data", "s.db", "--judgment", "0" * 20)
    assert_one_line(code, error, "no judgment")


def test_check_runs_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = accord(capsys, "run", "r.yaml", "--check")
    assert code == 0
    assert "to do  rm (reward)" in out
    assert "1 rows of format preference" in out
    assert not (here / "runs").exists()


CHECKED: dict[str, tuple[tuple[str, ...], str]] = {
    "a bad row": (("study.file=bad.jsonl",), "bad.jsonl:2"),
    "a missing model": (("model=/no/such/model",), "/no/such/model"),
    "a package that is not there": (("model=packaged/none",), "packaged/none"),
    "a directory without a model": (("model=.",), "holds no model"),
}


@pytest.mark.parametrize("name", CHECKED)
def test_check_finds(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "bad.jsonl").write_bytes(line() + b"{broken\n")
    sets, said = CHECKED[name]
    words = [word for item in sets for word in ("--set", item)]
    code, _, error = accord(capsys, "run", "r.yaml", "--check", *words)
    assert_one_line(code, error, said)
    assert sorted(p.name for p in here.iterdir()) == ["bad.jsonl", "pairs.jsonl", "r.yaml"]
