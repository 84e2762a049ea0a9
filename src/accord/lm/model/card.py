"""What a folder of weights says of itself to whoever finds it: the README.md of an adapter, and the model
card of an export."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from accord.core.rundir import read_json, write_json, write_text
from accord.core.version import __version__
from accord.lm.model.chain import layers, stands_on
from accord.lm.model.find import ADAPTER_FILE
from accord.lm.model.packaged import SOURCE_FILE

__all__ = ["licence_of", "model_card", "sign"]

ADAPTER = """\
# An adapter made by accord {version}

It stands on `{base}` (weights sha256 `{weights}`).
{below}
`accord.load` on the folder above this one gives the whole model; `accord export FOLDER DIR --merged` writes
it as plain weights that transformers, vLLM and others read.
"""
NOT_ALONE = """
**That is no plain model but {bottom} with {n} below this one.** On the plain weights alone this adapter
makes another model than was trained.
"""


def sign(adapter: Path, lm: Any, *, relative: bool) -> None:
    """Write into a saved adapter what it stands on. transformers and peft know of no chains: of a model
    that is one they are given its folder, relative to the adapter's, which they refuse to load, instead of
    the plain weights at its bottom, which they would load in silence."""
    named_by_hub = not Path(lm.name).is_dir() and not (lm.path / SOURCE_FILE).is_file()
    base = lm.name if named_by_hub else str(lm.path)
    if relative:
        base = os.path.relpath(lm.path, adapter.resolve())
    file = adapter / ADAPTER_FILE
    write_json(file, read_json(file) | {"base_model_name_or_path": base})
    below = ""
    if stands_on(lm.path) is not None:
        bottom, adapters = layers(str(lm.path))
        n = f"{len(adapters)} adapter{'s' if len(adapters) > 1 else ''}"
        below = NOT_ALONE.format(bottom=_name(bottom), n=n)
    text = ADAPTER.format(version=__version__, base=base, weights=lm.weights, below=below)
    head = {"base_model": base, "library_name": "peft", "tags": ["accord"]}
    write_text(adapter / "README.md", _front(head) + text)


def _name(model: str) -> str:
    """A model as a stranger can read it: a folder by its last part."""
    return f"`{Path(model).name if Path(model).is_absolute() else model}`"


def _front(facts: dict[str, Any]) -> str:
    return f"---\n{yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)}---\n\n"


def licence_of(folder: Path) -> str:
    """The licence a model's own folder states; "" where it states none."""
    if (folder / SOURCE_FILE).is_file():
        return str(
            json.loads((folder / SOURCE_FILE).read_text(encoding="utf-8"))["licence"]
        ).lower()
    readme = folder / "README.md"
    text = readme.read_text(encoding="utf-8", errors="replace") if readme.is_file() else ""
    match = re.match(r"---\n.*?^license: *([^\n#]+)", text, re.DOTALL | re.MULTILINE)
    return match[1].strip().strip("'\"") if match else ""


def model_card(title: str, facts: dict[str, str], about: Mapping[str, Sequence[str]], *,
               licence: str, base: str, tags: Sequence[str] = ()) -> str:  # fmt: skip
    """README.md of an export: `facts` as a table, `about` as sections of lines."""
    hub = base if not Path(base).is_absolute() else None
    head = {
        **({"license": licence} if licence else {}), **({"base_model": hub} if hub else {}),
        "library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["accord", *tags],
    }  # fmt: skip
    rows = "".join(f"| {key} | {value} |\n" for key, value in facts.items())
    parts = [
        f"## {name}\n\n" + "".join(f"- {x}\n" for x in lines)
        for name, lines in about.items()
        if lines
    ]
    return f"{_front(head)}# {title}\n\n| | |\n|---|---|\n{rows}\n" + "\n".join(parts)
