"""The data faults of the library as files: what `accord data lint FILE` reads, not records made by hand.

A row a pair as trainers write them (prompt, chosen, rejected); where raters matter a row a vote, in the
form of published comparisons of summaries (info, summaries, choice, worker).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from accord.core.types import Group
from accord.pipeline.doctor.base import StageRecord
from accord.pipeline.doctor.reading import of_data
from tests.faults.library import SPOILS, Plant, groups, spoiled

BY_VOTE = ("label_noise",)
DATA = [f"data: {cause}" for cause in SPOILS]


def as_pair(g: Group) -> list[dict[str, Any]]:
    return [
        {
            "prompt": g.prompt.last,
            "chosen": g.responses[e.better].text,
            "rejected": g.responses[e.worse].text,
        }
        for e in g.edges
    ]


def as_votes(g: Group) -> list[dict[str, Any]]:
    rows = []
    for e in g.edges:
        votes = len(e.sources)
        for k in range(votes):
            row = {
                "info": {"subreddit": "x", "title": "y", "post": g.prompt.last},
                "summaries": [{"text": r.text} for r in g.responses],
            }
            rows.append(
                row | {"choice": e.better if k < round(e.p * votes) else e.worse, "worker": f"r{k}"}
            )
    return rows


def write(path: Path, groups: Iterable[Group], by_vote: bool = False) -> Path:
    rows = [row for g in groups for row in (as_votes(g) if by_vote else as_pair(g))]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def linted(name: str, by: float, seed: int, folder: Path) -> list[StageRecord]:
    """What the doctor reads of a file with this fault (`healthy`: with none)."""
    cause = name.partition(": ")[2]
    items = spoiled(seed, {cause: by}) if cause else groups(seed)
    return of_data(str(write(folder / "data.jsonl", items, cause in BY_VOTE)))


def read(items: Iterable[Group], by_vote: bool = False) -> list[StageRecord]:
    """What the doctor reads of a file of these comparisons."""
    with tempfile.TemporaryDirectory() as folder:
        return of_data(str(write(Path(folder) / "data.jsonl", items, by_vote)))


def _plant(name: str) -> Plant:
    def plant(by: float, seed: int) -> list[StageRecord]:
        with tempfile.TemporaryDirectory() as folder:
            return linted(name, by, seed, Path(folder))

    return plant


FAULTS = {name.replace("data: ", "file: "): _plant(name) for name in DATA}
HEALTHY = {"file": lambda seed: _plant("healthy")(0, seed)}
