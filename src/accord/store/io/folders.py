"""Folders of rows: what `datasets` saved, or a snapshot of the hub (README.md, data/train-*.parquet).

A snapshot's files are those that its README.md declares (`configs`, YAML between two lines ---), else all of
them, by the split in their names. Where there are several configs or splits the caller has to name one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from accord.core.errors import DataError

__all__ = ["data_files", "saved_rows"]

HEAD = re.compile(r"---\s*\n(.*?)\n---\s*(?:\n|$)", re.DOTALL)
SPLIT = re.compile(r"(?:^|[-_./])(train|test|validation|valid|val|dev|eval)(?=[-_./]|$)")
SAVED = ("dataset_info.json", "state.json", "dataset_dict.json")  # what save_to_disk writes
FACTS = "dataset_infos.json"  # of a snapshot, not rows


def saved_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a folder that `datasets` saved."""
    import datasets

    try:
        dataset = datasets.load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"is no datasets folder ({error})", where=str(path), mend="save one with save_to_disk"
        ) from None
    if isinstance(dataset, datasets.DatasetDict):
        raise DataError(
            "holds several splits",
            where=str(path),
            allowed=", ".join(f"{path}/{s}" for s in dataset),
        )
    for number, row in enumerate(dataset, 1):
        yield f"row {number}", dict(row)


def data_files(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The data files of a snapshot of the hub, of its one split; none where the folder is no snapshot."""
    if any((path / name).exists() for name in SAVED):
        return []
    files = sorted(
        f.relative_to(path).as_posix()
        for f in path.rglob("*")
        if f.name.removesuffix(".gz").lower().endswith(suffixes) and f.is_file()
        and f.name != FACTS and not any(part.startswith(".") for part in f.relative_to(path).parts)
    )  # fmt: skip
    declared = _declared(path / "README.md")
    splits = _matched(declared, files, path) if declared else _by_name(files)
    if len(splits) > 1:
        raise DataError(
            f"holds {len(splits)} sets of rows: {', '.join(splits)}", where=str(path),
            allowed=", ".join(str(path / _named(some, files)) for some in splits.values()),
            mend="name one of them",
        )  # fmt: skip
    return [path / file for some in splits.values() for file in some]


def _declared(readme: Path) -> list[tuple[str, Any]]:
    """(config/split, patterns) of the YAML at the head of a README."""
    try:
        head = HEAD.match(readme.read_text(encoding="utf-8-sig"))
        configs = (yaml.safe_load(head[1]) if head else {}).get("configs") or []
        declared = []
        for config in configs:
            files = config["data_files"]
            if isinstance(files, Mapping):
                files = [{"split": s, "path": p} for s, p in files.items()]
            elif not isinstance(files, list) or not all(isinstance(f, Mapping) for f in files):
                files = [{"split": "train", "path": files}]
            of = f"{config['config_name']}/" if len(configs) > 1 else ""
            declared += [(f"{of}{f['split']}", f["path"]) for f in files]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError) as e:
        what = f"the data files it declares can't be read ({str(e).splitlines()[0]})"
        raise DataError(what, where=str(readme), mend="name a file of the folder instead") from None
    return declared


def _matched(declared: list[tuple[str, Any]], files: list[str], path: Path) -> dict[str, list[str]]:
    """The files of each split; DataError where a pattern finds none."""
    by_split: dict[str, list[str]] = {}
    for split, patterns in declared:
        several = patterns if isinstance(patterns, list) else [patterns]
        wanted = re.compile("|".join(_pattern(str(p)) for p in several))
        by_split[split] = [f for f in files if wanted.fullmatch(f)]
        if not by_split[split]:
            raise DataError(
                f"declares {', '.join(map(str, several))} for {split}, which is not there",
                where=str(path / "README.md"), mend="get the data files too (Git LFS), or name a file",
            )  # fmt: skip
    return by_split


def _pattern(text: str) -> str:
    """A pattern of files as the hub writes it: * within a folder, ** across folders, ? one character."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", text.removeprefix("./"))
    return "".join(signs.get(part, re.escape(part)) for part in parts)


def _by_name(files: list[str]) -> dict[str, list[str]]:
    by_split: dict[str, list[str]] = {}
    for file in files:
        split = SPLIT.search(file.lower())
        by_split.setdefault(split[1] if split else "train", []).append(file)
    return by_split


def _named(some: list[str], files: list[str]) -> str:
    """How a split is named: its file, or the pattern that finds its files and no others."""
    pattern = re.sub(r"\d+-of-\d+", "*", some[0])
    alone = [f for f in files if re.fullmatch(_pattern(pattern), f)] == some
    return pattern if len(some) > 1 and alone else some[0]
