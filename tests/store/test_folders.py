"""Snapshots of the hub: the files their README declares, one split at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.core.errors import DataError
from accord.store import Store, import_file
from tests.store.test_import import pair, write_gz, write_jsonl, write_parquet

HEAD = """---
license: mit
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
---
# A data set
"""


def snapshot(folder: Path, readme: str, *files: str) -> Path:
    """A folder with these files, each of one pair about its own name."""
    for file in files:
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write = (
            write_parquet
            if file.endswith("parquet")
            else write_gz
            if file.endswith("gz")
            else write_jsonl
        )
        write(path, [pair(file, "a", "b")])
    if readme:
        (folder / "README.md").write_text(readme)
    (folder / ".gitattributes").write_text("*.parquet filter=lfs")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "x.json").write_text("{")
    return folder


def prompts(store: Store) -> set[str]:
    return {p.last for p in store.prompts()}


@pytest.mark.parametrize("readme", [HEAD, "# no head", "", "---\nlicense: mit\n---\n"])
def test_one_split_is_read_whole(store: Store, tmp_path: Path, readme: str) -> None:
    files = [f"data/train-0000{i}-of-00002.parquet" for i in range(2)]
    folder = snapshot(tmp_path / "set", readme, *files)
    report = import_file(store, folder)
    assert (report.format, report.judgments) == ("preference", 2)
    assert prompts(store) == set(files)


def test_a_bad_row_names_its_file(store: Store, tmp_path: Path) -> None:
    folder = snapshot(tmp_path / "set", "", "train.jsonl")
    write_jsonl(folder / "train.jsonl", [pair("p", "a", "b"), {"prompt": 3}])
    with pytest.raises(DataError, match=r"set:train\.jsonl:2 chosen: is missing"):
        import_file(store, folder)


def test_of_several_splits_one_is_to_be_named(store: Store, tmp_path: Path) -> None:
    shards = [f"data/train-0000{i}-of-00002.parquet" for i in range(2)]
    folder = snapshot(tmp_path / "set", "", *shards, "data/test-00000-of-00001.parquet")
    with pytest.raises(DataError) as error:
        import_file(store, folder)
    line = str(error.value)
    assert "holds 2 sets of rows: test, train" in line
    pattern, one = folder / "data" / "train-*.parquet", folder / "data/test-00000-of-00001.parquet"
    assert str(pattern) in line
    assert str(one) in line
    assert import_file(store, pattern).judgments == 2
    assert import_file(store, one).judgments == 1


def test_configs_are_sets_of_their_own(store: Store, tmp_path: Path) -> None:
    readme = """---
configs:
- config_name: preference
  default: true
  data_files:
    train: preference/train.jsonl.gz
- config_name: edit
  data_files: edit/*.jsonl.gz
---
"""
    folder = snapshot(tmp_path / "set", readme, "preference/train.jsonl.gz", "edit/train.jsonl.gz")
    with pytest.raises(DataError, match="sets of rows: preference/train, edit/train"):
        import_file(store, folder)
    assert import_file(store, folder / "preference").judgments == 1
    assert prompts(store) == {"preference/train.jsonl.gz"}


@pytest.mark.parametrize(
    ("readme", "why"),
    [
        (
            HEAD.replace("train-*", "dev-*"),
            r"README\.md: declares data/dev-\* for train, which is not there",
        ),
        (HEAD.replace("path:", "file:"), r"README\.md: the data files it declares can't be read"),
        ("---\nconfigs: [\n---\n", r"README\.md: the data files it declares can't be read"),
        ("---\nconfigs: 3\n---\n", r"README\.md: the data files it declares can't be read"),
    ],
)
def test_a_readme_that_is_wrong_is_told(
    store: Store, tmp_path: Path, readme: str, why: str
) -> None:
    folder = snapshot(tmp_path / "set", readme, "data/train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=why):
        import_file(store, folder)


def test_json_lines_named_json(store: Store, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.json", [pair("p", "a", "b"), pair("q", "a", "b")])
    assert import_file(store, path).judgments == 2
    bad = write_jsonl(tmp_path / "b.json", [pair("r", "a", "b"), {"prompt": 3}])
    with pytest.raises(DataError, match=r"b\.json:2 chosen: is missing"):
        import_file(store, bad)


def test_what_was_left_out_is_no_data_of_a_pattern(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(snapshot(tmp_path / "d", "", "a.jsonl", "b.jsonl"))
    (tmp_path / "d" / "b.jsonl").write_text("{\n")
    for judgments in (1, 0):
        report = import_file(store, "*.jsonl", skip_bad=True)
        assert (report.rows, report.judgments) == (2, judgments)
        assert str(report.rejects_path) == "_.jsonl.rejects.jsonl"
