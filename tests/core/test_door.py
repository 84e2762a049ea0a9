"""What a user sees of a fault of theirs at the Python door: the line that names it, near their own."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pytest

import accord

CALLS = {
    "accord.load('nowhere/at-all')": "nowhere/at-all",
    "accord.Store('there_is_none.db', create=False)": "there_is_none.db",
    "accord.Store('new.db').snapshot('v9')": "v9",
    "accord.run('no_recipe.yaml')": "no_recipe.yaml",
    "accord.import_file(accord.Store(':memory:'), 'no_rows.jsonl')": "no_rows.jsonl",
    "accord.train_sft(None, [1], run_dir='r', max_step=3)": "unknown argument 'max_step'",
    "accord.train_policy(None, ['hi'], [], run_dir='r', method='ppoo')": "'ppoo'",
    "accord.load_reward_model('nothing/here')": "nothing/here",
}


@pytest.mark.parametrize("call", CALLS)
def test_a_fault_of_the_users_is_told_in_few_lines(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frames are the user's and the door's alone; nothing is chained; the last line says it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    try:
        exec(compile(call, "mine.py", "exec"), {"accord": accord})
    except accord.AccordError:
        told = traceback.format_exc()
    assert CALLS[call] in told.strip().splitlines()[-1]
    _, _, theirs = told.partition('File "mine.py"')
    assert len(re.findall(r'^  File "', theirs, re.M)) <= 1, told
    assert "During handling" not in told
    assert "direct cause" not in told
