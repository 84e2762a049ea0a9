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
from tests.faults.library import FAULTS as PLANTED
from tests.faults.library import HEALTHY as WELL
from tests.faults.library import Plant

BY_VOTE = ("label_noise",)
DATA = [name for name in PLANTED if name.startswith("data: ")]


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


def linted(name: str, by: int, seed: int, folder: Path) -> list[StageRecord]:
    """What the doctor reads of a file with this fault (`healthy`: with none)."""
    (case,) = WELL["data"](seed) if name == "healthy" else PLANTED[name](by, seed)
    by_vote = name.partition(": ")[2] in BY_VOTE
    path = write(folder / "data.jsonl", (*case.train, *case.held), by_vote)
    return of_data(str(path))


def _plant(name: str) -> Plant:
    def plant(by: int, seed: int) -> list[StageRecord]:
        with tempfile.TemporaryDirectory() as folder:
            return linted(name, by, seed, Path(folder))

    return plant


FAULTS = {name.replace("data: ", "file: "): _plant(name) for name in DATA}
HEALTHY = {"file": lambda seed: _plant("healthy")(0, seed)}
