"""From a figure back to the clicks: the rows each stage read, and the judgments behind every row.

The page carries them as plain data and lays them out when asked: a row is
[better or text, worse or null, facts, judgment numbers], a judgment what was said, by whom, about
what, in which order shown. Texts stand once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from accord.core.errors import StoreError
from accord.core.hashing import content_hash
from accord.core.rundir import read_jsonl
from accord.core.types import Judgment, Preference, Ranking, Rating, Response, Thumb, Writing
from accord.pipeline.report.gather import Done, Outputs, Row
from accord.pipeline.report.words import number
from accord.store import Lineage, Store

__all__ = ["trace"]

ROWS = 2000  # of a part; drawn at random when there are more
JUDGMENTS = 20_000  # told in full; of further ones the page has the ids
MISTAKES = 6
TRUTH = {1: "the raters are right", -1: "the raters are wrong", 0: "equally good"}


def trace(outputs: Outputs) -> Row | None:
    """Parts (id, title, count) for the template, and all they show as JSON for the page's script."""
    parts = [part for part in _parts(outputs) if part.rows]
    if not parts:
        return None
    drawn = [_draw(part.rows) for part in parts]
    texts, judgments = _Texts(), _Judgments()
    numbers = [
        judgments.of(part.read, dict.fromkeys(i for row in rows for i in row["sources"]))
        for part, rows in zip(parts, drawn, strict=True)
    ]
    wire = {
        "parts": [
            [_row(row, known, texts) for row in rows]
            for rows, known in zip(drawn, numbers, strict=True)
        ],
        "ids": [id for id, _ in judgments.all],
        "judgments": [
            _judgment(lineage, texts) if lineage else None for _, lineage in judgments.all
        ],
        "texts": texts.all,
    }
    plain = json.dumps(wire, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    headings = [
        {"id": part.id, "title": part.title, "number": n, "shown": len(rows), "of": len(part.rows)}
        for n, (part, rows) in enumerate(zip(parts, drawn, strict=True))
    ]
    return {
        "parts": {part["id"]: part for part in headings},
        "stores": sorted({part.read.store for part in parts if part.read}),
        "untold": judgments.untold,
        "json": Markup(plain),
    }


@dataclass(frozen=True)
class _Part:
    """Rows that a stage read, and the data stage whose store holds the judgments behind them."""

    id: str
    title: str
    rows: list[Row]
    read: Done | None


def _parts(outputs: Outputs) -> list[_Part]:
    parts = []
    for stage in outputs.stages:
        kept = stage.folder / "trained_on.jsonl"
        rows = read_jsonl(kept) if kept.exists() else []  # an older accord's sweep has none
        keys = rows[0].keys() if rows else {"worse"}
        what = "comparisons" if "worse" in keys else "demonstrations"
        what = "judged answers" if {"good", "steps"} & keys else what
        title = f"{stage.name}: the {what} it was trained on"
        parts.append(_Part(stage.name, title, rows, outputs.read_by(stage)))
    if reward := outputs.reward:
        rows = [r for r in read_jsonl(reward.folder / "held_out.jsonl") if r["sources"]]
        wrong = sorted((r for r in rows if r["gap"] < 0 and r["p"] > 0.6), key=lambda r: r["gap"])
        title, read = f"{reward.name}: held-out comparisons", outputs.read_by(reward)
        parts.append(_Part(f"{reward.name}-held-out", title, rows, read))
        parts.append(_Part(f"{reward.name}-mistakes", "", wrong[:MISTAKES], read))
    return parts


def _draw(rows: Sequence[Row]) -> Sequence[Row]:
    """All rows in their order, or ROWS of them by the hash of their sources."""
    if len(rows) <= ROWS:
        return rows
    chosen = sorted(range(len(rows)), key=lambda i: content_hash([i, rows[i]["sources"]]))[:ROWS]
    return [rows[i] for i in sorted(chosen)]


@dataclass
class _Texts:
    """Each text once; a call gives its number."""

    all: list[str] = field(default_factory=list)
    known: dict[str, int] = field(default_factory=dict)

    def __call__(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = len(self.all)
            self.all.append(text)
        return self.known[text]


@dataclass
class _Judgments:
    """Each judgment once, by its place in a chain: stores share those that one copied from the other."""

    all: list[tuple[str, Lineage | None]] = field(default_factory=list)
    known: dict[tuple[str, str], int] = field(default_factory=dict)
    untold: list[str] = field(default_factory=list)  # stores that can't be asked, and why

    def of(self, read: Done | None, ids: Collection[str]) -> dict[str, int]:
        """Their numbers, by id. Of a store that can't be asked, and beyond JUDGMENTS, only ids are told."""
        wanted = list(ids)[: max(JUDGMENTS - len(self.all), 0)]
        lineages: dict[str, Lineage] = {}
        if read and wanted:
            try:
                with Store(read.store, create=False) as store:
                    lineages = store.lineage(wanted)
            except StoreError as error:
                self.untold = list(dict.fromkeys([*self.untold, str(error)]))
        return {i: self._number(i, lineages.get(i)) for i in ids}

    def _number(self, id: str, lineage: Lineage | None) -> int:
        key = (id, lineage.hash if lineage else "")
        if key not in self.known:
            self.known[key] = len(self.all)
            self.all.append((id, lineage))
        return self.known[key]


def _row(row: Row, numbers: dict[str, int], texts: _Texts) -> list[Any]:
    facts = []
    if "good" in row:
        facts.append("judged good" if row["good"] else "judged bad")
    if "p" in row:
        facts.append(f"{row['p']:.0%} of votes")
    if "gap" in row:
        facts.append(f"score gap {number(row['gap'])}")
    if "truth" in row:
        facts.append(TRUTH[row["truth"]])
    better = row["better"] if "better" in row else row.get("text", "")
    worse = row.get("worse")
    shown = None if worse is None else texts(worse)
    return [texts(better), shown, " · ".join(facts), [numbers[i] for i in row["sources"]]]


def _judgment(lineage: Lineage, texts: _Texts) -> list[Any]:
    j = lineage.judgment
    unknown = lineage.rater.facts.get("order_shown") == "unknown"
    about = f"{j.at}" + (f" · {j.seconds:g} s" if j.seconds is not None else "")
    return [
        texts(f"{lineage.rater.name} ({lineage.rater.kind})"),
        texts(_answer(j, lineage.responses)),
        f"{about} · number {lineage.seq} of the chain, hash {lineage.hash[:12]}",
        texts(lineage.prompt.last),
        [texts(r.text) for r in lineage.responses],
        "order not known (imported)" if unknown and len(lineage.responses) > 1 else "",
        j.rationale or "",
    ]


def _answer(judgment: Judgment, shown: tuple[Response, ...]) -> str:
    answer = judgment.answer
    if isinstance(answer, Preference):
        return "a tie" if answer.better is None else f"response {answer.better + 1} is better"
    if isinstance(answer, Ranking):
        return "ranks " + ", ".join(map(str, answer.ranks))
    if isinstance(answer, Rating):
        return ", ".join(f"{axis} {score:g}" for axis, score in answer.scores.items())
    if isinstance(answer, Thumb):
        return "thumb up" if answer.up else "thumb down"
    if isinstance(answer, Writing):
        return f"wrote: {answer.text}"
    return "steps " + ", ".join(map(str, answer.labels))
