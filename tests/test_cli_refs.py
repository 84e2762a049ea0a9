"""STORE and STORE@SNAPSHOT on the command line: files, also with an @, and databases; no password shown."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from accord.cli import main
from accord.store import Store
from tests.store.conftest import postgres
from tests.store.words import every, fill


@pytest.fixture
def accord(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """The command line in this process: (exit code, what was printed)."""

    def called(*words: str | Path) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["accord", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return int(left.value.code or 0), out + err

    return called


@pytest.mark.parametrize("kind", ["a@b.db", "sqlite", "postgresql"])
def test_every_command_takes_the_same_reference(
    accord: Callable[..., tuple[int, str]], tmp_path: Path, kind: str
) -> None:
    where = str(tmp_path / "a@b.db")
    if kind == "sqlite":
        where = f"sqlite:///{where}"
    if kind == "postgresql":  # trusted, so that any password will do
        where = (
            sa.make_url(postgres()).set(password="S3CRET@/").render_as_string(hide_password=False)
        )
    with Store(where) as store:
        fill(store).add_judgments(every())
        store.freeze("v1")
    said = [
        accord("export", f"{where}@v1", tmp_path / "out.jsonl", "--format", "accord"),
        accord("trust", f"{where}@v1"),
        accord("trust", f"{where}@v1", "--quarantine", "ben", "--because", "asleep"),
        accord("data", where),
        accord("collect", "verify", where),
        accord("collect", "backup", where, tmp_path / "b.jsonl.gz"),
    ]
    assert [code for code, _ in said] == [0] * len(said), said
    faults = [
        accord("export", where, tmp_path / "none.jsonl"),
        accord("export", f"{where}@v9", tmp_path / "none.jsonl"),
        accord("collect", "restore", tmp_path / "b.jsonl.gz", where),
    ]
    assert [code for code, _ in faults] == [2] * len(faults), faults
    assert "allowed: v1" in faults[0][1]
    assert "S3CRET" not in f"{said} {faults}"
    assert (tmp_path / "b.jsonl.gz").stat().st_mode & 0o777 == 0o600
