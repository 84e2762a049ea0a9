"""A constitution: a readable file of principles that a model criticises, revises and compares answers by.

    name: mine
    version: 2
    principles:
      - {id: respect, category: toxicity, text: …, critique: …, revision: …, question: …, weight: 1.0}

The form {"constitutions": [{"critic": …, "revision": …}]} (Hugging Face's recipe for CAI) is read too: it has
no questions for comparing, so they are made of the requests for revision.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from accord.core.config import Strict, read_yaml, validate
from accord.core.errors import ConfigError
from accord.core.hashing import file_hash
from accord.core.registry import Positive
from accord.core.rundir import user_path
from accord.core.seeds import derive_seed

__all__ = [
    "DEFAULT",
    "Constitution",
    "Principle",
    "chosen",
    "differences",
    "identity",
    "place_of",
    "read_constitution",
    "wrong",
]

DEFAULT = "default"
HOUSE = Path(__file__).with_name("default.yaml")
Text = Annotated[str, Field(min_length=1)]
NEEDS_LESS = "Which answer needs this less: {revision}"


class Principle(Strict):
    """What answers are held to."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    text: Text
    """What it asks, in a sentence."""
    critique: Text
    """The request for a critique of an answer of one's own."""
    revision: Text
    """The request to write it again."""
    question: Text
    """Which of two answers it prefers."""
    category: Text
    weight: Positive = 1.0
    """How often it is sampled, beside the others."""
    version: Annotated[int, Field(ge=1)] = 1
    """Raised with every change of its texts."""


class Constitution(Strict):
    """Principles by a name and a version."""

    name: Text
    version: Annotated[int, Field(ge=1)] = 1
    principles: Annotated[list[Principle], Field(min_length=1)]

    @property
    def categories(self) -> dict[str, str]:
        """Category by id."""
        return {p.id: p.category for p in self.principles}

    def label(self, principle: Principle) -> str:
        """A principle as labels name it."""
        return f"{self.name}@{self.version} {principle.id}@{principle.version}"

    def but(self, ids: Collection[str]) -> Constitution:
        """Without these principles; ConfigError for one that is not there, or if none is left."""
        unknown = sorted(set(ids) - set(self.categories))
        if unknown:
            raise ConfigError(
                f"no principle {unknown[0]!r}", where="without", allowed=", ".join(self.categories)
            )
        left = [p for p in self.principles if p.id not in ids]
        if not left:
            raise ConfigError("no principle is left", where="without")
        return self.model_copy(update={"principles": left})


def read_constitution(where: str | Path = DEFAULT) -> Constitution:
    """A constitution by its file, or the house's own ("default"); ConfigError names file, line and key."""
    path = HOUSE if str(where) == DEFAULT else Path(where)
    if not path.is_file():
        raise ConfigError("no such constitution", where=str(where), allowed=f"a file, or {DEFAULT}")
    data, lines = read_yaml(path)
    if "constitutions" in data:
        data, lines = _imported(path, data), {}
    constitution = validate(Constitution, data, source=str(path), lines=lines)
    twice = [id for id, n in Counter(p.id for p in constitution.principles).items() if n > 1]
    if twice:
        raise ConfigError(f"two principles are called {twice[0]!r}", where=str(path))
    return constitution


def place_of(constitution: str, folder: Path) -> str:
    """Where a constitution that a recipe of this folder names is."""
    return constitution if constitution == DEFAULT else str(folder / user_path(constitution))


def identity(where: str | Path) -> str:
    """What a constitution says, as a hash of its file."""
    return file_hash(HOUSE if str(where) == DEFAULT else Path(where))


def _imported(path: Path, data: dict[str, Any]) -> dict[str, Any]:
    rows = data["constitutions"]
    if not isinstance(rows, list) or not all(
        isinstance(r, dict) and {"critic", "revision"} <= set(r) for r in rows
    ):
        raise ConfigError(
            "is no list of critiques and revisions", where=f"{path} constitutions",
            allowed='[{"critic": …, "revision": …}, …]',
        )  # fmt: skip
    return {
        "name": path.stem,
        "principles": [
            {
                "id": f"p{n:02d}", "text": row["revision"], "critique": row["critic"],
                "revision": row["revision"], "question": NEEDS_LESS.format(revision=row["revision"]),
                "category": "imported",
            }
            for n, row in enumerate(rows, 1)
        ],
    }  # fmt: skip


def chosen(constitution: Constitution, key: str, n: int = 1) -> list[Principle]:
    """n principles for what `key` names, the same every time; without replacement, each first with a
    probability that is its share of the weights (exponential clocks: Efraimidis & Spirakis 2006)."""

    def rings(p: Principle) -> float:
        u = (derive_seed(0, "principle", key, p.id) + 1) / 2**63
        return -math.log(min(u, 1.0)) / p.weight

    return sorted(constitution.principles, key=rings)[:n]


def wrong(constitution: Constitution) -> list[str]:
    """What a reader should look at: texts that stand twice, requests that ask nothing."""
    notes = []
    for key in ("text", "critique", "revision", "question"):
        seen: dict[str, str] = {}
        for p in constitution.principles:
            words = " ".join(getattr(p, key).lower().split())
            if words in seen:
                notes.append(f"{p.id}: its {key} is that of {seen[words]}")
            seen.setdefault(words, p.id)
    notes += [f"{p.id}: its question asks nothing of two answers ({p.question!r})"
             for p in constitution.principles if "answer" not in p.question.lower()]  # fmt: skip
    return notes


def differences(old: Constitution, new: Constitution) -> list[str]:
    """A line for each principle that came, went or changed; a change without a new version is said so."""
    before = {p.id: p for p in old.principles}
    after = {p.id: p for p in new.principles}
    notes = [f"+ {id}: {after[id].text}" for id in after if id not in before]
    notes += [f"- {id}: {before[id].text}" for id in before if id not in after]
    for id in (i for i in after if i in before):
        a, b = before[id].model_dump(), after[id].model_dump()
        changed = [k for k in b if a[k] != b[k] and k != "version"]
        if changed:
            same = (
                " (its version is the same: labels of both can't be told apart)"
                if a["version"] == b["version"]
                else ""
            )
            notes += [f"~ {id}.{k}: {a[k]!r} -> {b[k]!r}{same}" for k in changed]
    return notes
