"""The data card: what is in a store or snapshot, who said it, and how far they agree. Counts are the store's,
figures those of feedback.trust.reliability and feedback.trust.observed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from accord.core.types import Metric, Rater
from accord.feedback.trust.ballots import ballots, category
from accord.feedback.trust.observed import Observed, longer_preferred, observed
from accord.feedback.trust.reliability import agreement_rows
from accord.stats.intervals import mean
from accord.store import Snapshot, Store
from accord.store.snapshot.pairs import Tables, Vote, by_pair, votes

__all__ = ["data_card"]


def data_card(what: Store | Snapshot) -> dict[str, Any]:
    """Plain data and Metrics: counts, raters, agreement, lengths, how often longer is preferred."""
    if isinstance(what, Store):
        what = Snapshot.now(what)
    judgments, tables = what.judgments, what.tables
    written = votes(judgments, tables)[1]
    cast = ballots(what)
    seen = observed(what, cast=cast)
    kinds = Counter(j.answer.kind for j in judgments)
    left_out = what.groups().notes
    texts = [r.text for r in {**tables.responses, **written}.values()]
    return {
        "prompts": len(tables.prompts),
        "responses": len(tables.responses),
        "questions": len(tables.questions),
        "judgments": len(judgments),
        "demonstrations": kinds["writing"],
        "by_kind": dict(sorted(kinds.items())),
        "response_sources": dict(
            Counter(r.source for r in tables.responses.values()).most_common(12)
        ),
        "agreement": _agreement(what),
        "longer_preferred": longer_preferred(cast),
        "lengths": {
            "prompt_words": mean([len(p.last.split()) for p in tables.prompts.values()]),
            "response_words": mean([len(text.split()) for text in texts]),
        },
        "problems": {**left_out, **_faults(tables, votes(judgments, tables, repeats=True)[0])},
        "raters": [
            _rater_row(rater, seen.get(rater.id))
            for rater in sorted(tables.raters.values(), key=lambda r: r.name)
        ],
    }


def _agreement(what: Snapshot) -> dict[str, Any]:
    """Of each kind of answer and axis, over all of them."""
    figures: dict[str, Metric | int] = {}
    for row in agreement_rows(what):
        if row.within == "all":
            name = f"{row.kind} {row.axis}".strip()
            figures |= {
                f"{name}: percent": row.percent,
                f"{name}: {row.scale} α": row.alpha,
                f"{name}: units": row.units,
                f"{name}: judged twice": row.percent.n,
            }
    return figures


def _faults(tables: Tables, cast: Sequence[Vote]) -> dict[str, int]:
    texts: dict[tuple[str, str], int] = Counter()
    prompt_of = {r: q.prompt for q in tables.questions.values() for r in q.responses}
    for i, response in tables.responses.items():
        texts[prompt_of.get(i, ""), response.text] += 1
    against = sum(
        len({float(category(v.value)) for v in votes_on if v.rater == rater} - {0.5}) > 1
        for by in by_pair(cast).values()
        for votes_on in by.values()
        for rater in {v.rater for v in votes_on}
    )
    return {
        "responses with no text": sum(not r.text.strip() for r in tables.responses.values()),
        "responses repeated under one prompt": sum(n - 1 for n in texts.values()),
        "raters contradicting themselves on a pair": against,
    }


def _rater_row(rater: Rater, seen: Observed | None) -> dict[str, Any]:
    row: dict[str, Any] = {"name": rater.name, "kind": rater.kind, "judgments": 0}
    if seen is None:
        return row
    left = None if rater.facts.get("order_shown") == "unknown" else seen.left
    return row | {
        "judgments": seen.judgments, "seconds": seen.seconds.value, "agreement": seen.agreement,
        "left": left, "longer": seen.longer,
    }  # fmt: skip
