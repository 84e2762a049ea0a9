"""From a figure back to the clicks: the rows each stage read, and the judgments behind every row.

The page carries them as plain data and lays them out when asked: a row is
[better or text, worse or null, facts, judgment numbers], a judgment what was said, by whom, about
what, in which order shown. Texts stand once.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from accord.core.hashing import content_hash
from accord.core.rundir import read_jsonl
from accord.core.types import Judgment, Preference, Ranking, Rating, Response, Thumb, Writing
from accord.pipeline.context import data_store
from accord.pipeline.report.gather import Done, Outputs, Row
from accord.pipeline.report.words import number
from accord.store import Lineage

__all__ = ["trace"]

ROWS = 2000  # of a part; drawn at random when there are more
JUDGMENTS = 20_000  # told in full; of further ones the page has the ids
MISTAKES = 6
TRUTH = {1: "the raters are right", -1: "the raters are wrong", 0: "equally good"}


def trace(outputs: Outputs) -> Row | None:
    """Parts (id, title, count) for the template, and all they show as JSON for the page's script."""
    parts = [part for part in _parts(outputs) if part[2]]
    if not parts:
        return None
    drawn = [_draw(rows) for *_, rows in parts]
    ids = list(dict.fromkeys(i for rows in drawn for row in rows for i in row["sources"]))
    numbers = {i: n for n, i in enumerate(ids)}
    texts = _Texts()
    wire = {
        "parts": [[_row(row, numbers, texts) for row in rows] for rows in drawn],
        "ids": ids,
        "judgments": _told(outputs.data, ids[:JUDGMENTS], texts),
        "texts": texts.all,
    }
    plain = json.dumps(wire, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    told = [
        {"id": id, "title": title, "number": n, "shown": len(drawn[n]), "of": len(rows)}
        for n, (id, title, rows) in enumerate(parts)
    ]
    return {"parts": {part["id"]: part for part in told}, "json": Markup(plain)}


def _parts(outputs: Outputs) -> list[tuple[str, str, list[Row]]]:
    found = []
    for stage in outputs.of("sft", "reward", "process", "reward_axes", "preference"):
        rows = read_jsonl(stage.folder / "trained_on.jsonl")
        what = "demonstrations" if stage.kind == "sft" else "comparisons"
        what = "judged answers" if rows and {"good", "steps"} & rows[0].keys() else what
        found.append((stage.name, f"{stage.name}: the {what} it was trained on", rows))
    if stage := outputs.reward:
        rows = [r for r in read_jsonl(stage.folder / "held_out.jsonl") if r["sources"]]
        wrong = sorted((r for r in rows if r["gap"] < 0 and r["p"] > 0.6), key=lambda r: r["gap"])
        found.append((f"{stage.name}-held-out", f"{stage.name}: held-out comparisons", rows))
        found.append((f"{stage.name}-mistakes", "", wrong[:MISTAKES]))
    return found


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
    better, worse = row.get("better", row.get("text", "")), row.get("worse")
    shown = None if worse is None else texts(worse)
    return [texts(better), shown, " · ".join(facts), [numbers[i] for i in row["sources"]]]


def _told(data: Done | None, ids: Sequence[str], texts: _Texts) -> list[Any]:
    """What was said, by whom, about what, in which order shown; [] without a store to ask."""
    if data is None or not ids:
        return []
    with data_store(data.folder)[0] as store:
        found = store.lineage(ids)
    return [_judgment(found[i], texts) for i in ids]


def _judgment(found: Lineage, texts: _Texts) -> list[Any]:
    j = found.judgment
    unknown = found.rater.facts.get("order_shown") == "unknown"
    about = f"{j.at}" + (f" · {j.seconds:g} s" if j.seconds is not None else "")
    return [
        texts(f"{found.rater.name} ({found.rater.kind})"),
        texts(_answer(j, found.responses)),
        f"{about} · number {found.seq} of the chain, hash {found.hash[:12]}",
        texts(found.prompt.last),
        [texts(r.text) for r in found.responses],
        "order not known (imported)" if unknown and len(found.responses) > 1 else "",
        j.rationale or "",
    ]


def _answer(judgment: Judgment, shown: tuple[Response, ...]) -> str:
    said = judgment.answer
    if isinstance(said, Preference):
        return "a tie" if said.better is None else f"response {said.better + 1} is better"
    if isinstance(said, Ranking):
        return "ranks " + ", ".join(map(str, said.ranks))
    if isinstance(said, Rating):
        return ", ".join(f"{axis} {score:g}" for axis, score in said.scores.items())
    if isinstance(said, Thumb):
        return "thumb up" if said.up else "thumb down"
    if isinstance(said, Writing):
        return f"wrote: {said.text}"
    return "steps " + ", ".join(map(str, said.labels))
