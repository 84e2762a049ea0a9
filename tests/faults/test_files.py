"""Data faults written into a file, as the doctor reads files: an import leaves rows out and knows less."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.core.errors import DataError
from accord.pipeline.doctor.base import examined
from accord.pipeline.doctor.reading import of_data
from tests.faults.files import DATA, linted


@pytest.mark.parametrize("name", DATA)
def test_a_strong_fault_of_a_file_is_named_first(name: str, tmp_path: Path) -> None:
    first = examined(linted(name, 2, 7, tmp_path)).findings[0]
    assert first.check == name.removeprefix("data: ")
    assert first.serious


def test_a_healthy_file_has_nothing_serious(tmp_path: Path) -> None:
    assert not [f for f in examined(linted("healthy", 0, 7, tmp_path)).findings if f.serious]


def test_answers_of_a_style_without_full_stops_are_not_cut(tmp_path: Path) -> None:
    rows = "".join(
        f'{{"prompt": "q{k}", "completion": "well it is number {k} of them all and so on"}}\n'
        for k in range(40)
    )
    (tmp_path / "plain.jsonl").write_text(rows)
    assert "cut_answers" not in {
        f.check for f in examined(of_data(str(tmp_path / "plain.jsonl"))).findings
    }


def test_of_a_file_without_a_row_that_can_be_read_the_first_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"prompt": "q", "chosen": "", "rejected": "x"}\n' * 3)
    with pytest.raises(DataError, match="row 1 : with an empty response"):
        of_data(str(tmp_path / "bad.jsonl"))
