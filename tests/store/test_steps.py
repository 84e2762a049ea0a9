"""Step labels from a file to what a process reward model reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import DataError
from accord.core.types import Judgment, Rater, StepLabels
from accord.store import Store, import_file

ROW = {"prompt": "2+2+1?", "completions": ["2+2=4", "4+1=6"], "labels": [True, False]}


def brought_in(folder: Path, *rows: dict[str, Any]) -> Store:
    file = folder / "steps.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    store = Store(folder / "s.db")
    import_file(store, file)
    return store


def test_a_stepwise_row_is_read_as_labelled_steps(tmp_path: Path) -> None:
    with brought_in(tmp_path, ROW) as store:
        store.freeze("v1")
        (found,) = store.snapshot("v1").stepped()
    assert found.response.text == "2+2=4\n4+1=6"
    assert found.labels == (1.0, -1.0)
    assert len(found.sources) == 1


def test_labels_of_several_raters_are_averaged_and_wrong_counts_told(tmp_path: Path) -> None:
    with brought_in(tmp_path, {**ROW, "labels": [1, 0]}) as store:
        (question,) = store.questions()
        rater = Rater(name="second", kind="human")
        store.add_raters([rater])
        at = "2026-01-01T00:00:00+00:00"
        store.add_judgments(
            [
                Judgment(
                    question=question.id, rater=rater.id, answer=StepLabels(labels=labels), at=at
                )
                for labels in [(1, -1), (1,)]
            ]
        )
        store.freeze("v1")
        found = store.snapshot("v1").stepped()
    assert [x.labels for x in found] == [(1.0, -0.5)]
    assert found.notes == {"labels that differ in number from the steps": 1}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"labels": [True]}, "labels"),
        ({"labels": [2, 0]}, "labels"),
        ({"labels": "good"}, "labels"),
        ({"completions": ["a", " "]}, "completions"),
        ({"completions": ["a\nb", "c"]}, "completions"),
        ({"completions": "a"}, "completions"),
    ],
)
def test_a_wrong_row_names_its_field(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    with pytest.raises(DataError, match=field):
        brought_in(tmp_path, {**ROW, **change})
