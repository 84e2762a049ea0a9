"""From a figure back to the clicks: the judgments behind a comparison, as plain data."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from accord.core.types import Judgment, Preference, Ranking, Rating, Response, Thumb, Writing
from accord.pipeline.report.gather import Done
from accord.store import Lineage, Store

__all__ = ["judgments"]


def judgments(data: Done | None, ids: Collection[str]) -> dict[str, dict[str, Any]]:
    """What was said, by whom, about what, in which order shown; {} without a store to ask."""
    if data is None or not ids:
        return {}
    with Store(data.folder / data.result.facts["store"], create=False) as store:
        return {i: _told(found) for i, found in store.lineage(ids).items()}


def _told(found: Lineage) -> dict[str, Any]:
    unknown = found.rater.facts.get("order_shown") == "unknown"
    return {
        "id": found.judgment.id,
        "number": found.seq,
        "hash": found.hash,
        "rater": found.rater.name,
        "rater_kind": found.rater.kind,
        "at": found.judgment.at,
        "seconds": found.judgment.seconds,
        "rationale": found.judgment.rationale,
        "prompt": found.prompt.last,
        "answer": _answer(found.judgment, found.responses),
        "shown": [r.text for r in found.responses],
        "order": "not known" if unknown else "as shown",
    }


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
