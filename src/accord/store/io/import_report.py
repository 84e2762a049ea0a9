"""What an import brought in, what it left out and why, and which columns it did not read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["REASONS", "ImportReport"]

REASONS = {
    "bad": "bad rows",
    "duplicate": "duplicates of a judgment already there",
    "empty": "with an empty response",
    "identical": "with identical chosen and rejected",
    "over_limit": "over the length limit",
    "diverging": "of conversations that part before the last answer: no two answers to one prompt",
    "unjudged": "that hold no judgment",
}


@dataclass
class ImportReport:
    """What came in, what did not and why."""

    path: Path
    format: str = ""
    rows: int = 0
    judgments: int = 0
    prompts: int = 0
    contradictory: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)  # parts of rows, by what they are
    tags: Counter[str] = field(default_factory=Counter)  # columns kept as tags of prompts
    untagged: int = 0  # prompts that the store has without these tags, or with others
    rejects: list[dict[str, Any]] = field(default_factory=list)
    rejects_path: Path | None = None

    def not_used(self) -> list[str]:
        """Columns of which nothing was read in any row."""
        return [column for column in self.unused if column not in self.tags]

    def counts(self) -> dict[str, Any]:
        """As plain data, zeros included."""
        return {
            "format": self.format,
            "rows": self.rows,
            "judgments": self.judgments,
            "prompts": self.prompts,
            **{reason: self.left_out[reason] for reason in REASONS},
            "contradictory": self.contradictory,
            "columns not used": ", ".join(self.not_used()),
            "kept as tags": ", ".join(sorted(self.tags)),
            **({"not read": dict(self.skipped)} if self.skipped else {}),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.rows} rows of format {self.format}, {self.judgments} new judgments, "
            f"{self.prompts} prompts"
        ]
        lines += [f"  left out: {n} {REASONS[r]}" for r, n in self.left_out.items() if n]
        lines += [f"  not read: {n} {what}" for what, n in self.skipped.items() if n]
        if self.contradictory:
            lines.append(f"  kept: {self.contradictory} judgments that contradict another one")
        if self.tags:
            lines.append(f"  kept as tags of the prompts: {', '.join(sorted(self.tags))}")
        if self.untagged:
            lines.append(
                f"  tags not kept: of {self.untagged} prompts that the store has otherwise"
            )
        if self.not_used():
            lines.append(f"  columns not used: {', '.join(self.not_used())}")
        if self.rejects_path:
            lines.append(f"  rows left out, with reasons: {self.rejects_path}")
        return "\n".join(lines)
