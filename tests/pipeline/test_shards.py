"""A split of several files, a store without its snapshot, and the order of a run's policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.core.rundir import read_json, write_json
from accord.pipeline.folder import check, plan
from accord.pipeline.manifest import manifest
from accord.pipeline.policies import policy_path
from accord.pipeline.recipe import Recipe, read_recipe
from accord.store import Store, import_file
from tests.pipeline.tiny_recipe import save_tiny_model
from tests.test_cli import accord


def shard(path: Path, word: str) -> None:
    path.parent.mkdir(exist_ok=True)
    row = {"prompt": f"{word}?", "chosen": "yes", "rejected": "no"}
    path.write_text(json.dumps(row) + "\n")


def recipe(folder: Path, data: str) -> Recipe:
    stages = (
        f"  dpo: {{kind: preference, data: {data!r}}}\n  alone: {{kind: sft, data: {data!r}}}\n"
    )
    (folder / "r.yaml").write_text(f"name: r\nmodel: {save_tiny_model(folder)}\nstages:\n{stages}")
    return read_recipe(folder / "r.yaml")


def test_several_files_are_one_input_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n, word in enumerate(("Heron", "Tent")):
        shard(tmp_path / f"d/train-0000{n}-of-00002.jsonl", word)
    shard(tmp_path / "d/test-00000-of-00001.jsonl", "Hat")
    made = recipe(tmp_path, "d/train-*.jsonl")
    assert any("2 rows of format preference" in line for line in check(made, tmp_path / "runs"))
    before = plan(made, tmp_path / "runs").stages
    shard(tmp_path / "d/train-00001-of-00002.jsonl", "Boot")
    after = plan(made, tmp_path / "runs").stages
    assert all(before[name] != after[name] for name in before)
    code, out, _ = accord(capsys, "data", str(tmp_path / "d/train-*.jsonl"))
    assert (code, "2 rows of format preference" in out) == (0, True)


def test_a_store_without_a_snapshot_tells_which_there_are(tmp_path: Path) -> None:
    shard(tmp_path / "d/a.jsonl", "Heron")
    with Store(tmp_path / "study.db") as store:
        import_file(store, tmp_path / "d/a.jsonl")
        store.freeze("v1")
        store.freeze("spring")
    with pytest.raises(
        ConfigError,
        match=r"which snapshot\?; allowed: spring, v1; name one: study\.db@NAME",
    ):
        recipe(tmp_path, "study.db")


def test_the_last_policy_is_the_last_of_the_recipe(tmp_path: Path) -> None:
    shard(tmp_path / "d/a.jsonl", "Heron")
    made = recipe(tmp_path, "d/a.jsonl")
    folder = plan(made, tmp_path / "runs")
    folder.path.mkdir(parents=True)
    write_json(folder.path / "manifest.json", manifest(made, folder))
    assert read_json(folder.path / "manifest.json")["order"][-1] == "alone"
    for name in ("dpo", "alone"):
        (folder.path / name / "model").mkdir(parents=True)
    assert policy_path(str(folder.path))[0] == "alone"  # by its name it would be dpo
