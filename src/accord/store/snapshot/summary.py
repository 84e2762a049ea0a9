"""The data card: what is in a store or snapshot, who said it, and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median
from typing import Any

from accord.core.types import Judgment, Metric, Preference, Rater
from accord.stats.agreement import krippendorff_alpha, percent_agreement
from accord.stats.intervals import cluster_mean, mean
from accord.store.db.store import Store
from accord.store.snapshot.frozen import Snapshot
from accord.store.snapshot.pairs import Tables, Vote, by_pair, votes

__all__ = ["summarise"]


def summarise(what: Store | Snapshot) -> dict[str, Any]:
    """Plain data and Metrics: counts, raters, agreement, lengths, how often longer is preferred."""
    if isinstance(what, Store):
        what = Snapshot.now(what)
    judgments, tables = what.judgments, what.tables
    cast, written = votes(judgments, tables)
    words = {i: len(r.text.split()) for i, r in {**tables.responses, **written}.items()}
    pairs = [v for by in by_pair(cast).values() for v in by.values()]
    kinds = Counter(j.answer.kind for j in judgments)
    answers = [[v.value for v in votes_on] for votes_on in pairs]
    left_out = what.groups().notes
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
        "agreement": {
            "percent": percent_agreement(answers),
            "krippendorff_alpha": krippendorff_alpha(answers, mirror=lambda v: 1 - v),
            "pairs_judged": len(pairs),
            "pairs_judged_twice": sum(len(a) > 1 for a in answers),
        },
        "longer_preferred": _longer(cast, words),
        "lengths": {
            "prompt_words": mean([len(p.last.split()) for p in tables.prompts.values()]),
            "response_words": mean(list(words.values())),
        },
        "problems": {**left_out, **_faults(tables, votes(judgments, tables, repeats=True)[0])},
        "raters": [
            _rater_row(rater, judgments, cast, pairs, tables, words)
            for rater in sorted(tables.raters.values(), key=lambda r: r.name)
        ],
    }


def _faults(tables: Tables, cast: Sequence[Vote]) -> dict[str, int]:
    texts: dict[tuple[str, str], int] = Counter()
    prompt_of = {r: q.prompt for q in tables.questions.values() for r in q.responses}
    for i, response in tables.responses.items():
        texts[prompt_of.get(i, ""), response.text] += 1
    against = sum(
        len({v.value for v in votes_on if v.rater == rater} - {0.5}) > 1
        for by in by_pair(cast).values()
        for votes_on in by.values()
        for rater in {v.rater for v in votes_on}
    )
    return {
        "responses with no text": sum(not r.text.strip() for r in tables.responses.values()),
        "responses repeated under one prompt": sum(n - 1 for n in texts.values()),
        "raters contradicting themselves on a pair": against,
    }


def _longer(cast: Sequence[Vote], words: dict[str, int]) -> Metric:
    """Share of decided votes that went to the response with more words."""
    hits = [
        ((words[v.first] > words[v.second]) == (v.value == 1.0), v.prompt)
        for v in cast
        if v.value != 0.5 and words[v.first] != words[v.second]
    ]
    return _by_prompt(hits)


def _by_prompt(rows: Sequence[tuple[bool, str]]) -> Metric:
    """The share of hits, an interval by prompt."""
    return cluster_mean([float(hit) for hit, _ in rows], [prompt for _, prompt in rows])


def _rater_row(
    rater: Rater,
    judgments: Sequence[Judgment],
    cast: Sequence[Vote],
    pairs: Sequence[Sequence[Vote]],
    tables: Tables,
    words: dict[str, int],
) -> dict[str, Any]:
    own = [j for j in judgments if j.rater == rater.id]
    seconds = [j.seconds for j in own if j.seconds is not None]
    agree = [
        (mine.value == other.value, mine.prompt)
        for votes_on in pairs
        for mine in votes_on
        if mine.rater == rater.id
        for other in votes_on
        if other.rater != rater.id
    ]
    left = [
        (j.answer.better == 0, tables.questions[j.question].prompt)
        for j in own
        if isinstance(j.answer, Preference) and j.answer.better is not None
    ]
    known_order = rater.facts.get("order_shown") != "unknown"
    return {
        "name": rater.name,
        "kind": rater.kind,
        "judgments": len(own),
        "seconds": median(seconds) if seconds else None,
        "agreement": _by_prompt(agree),
        "left": _by_prompt(left) if known_order else None,
        "longer": _longer([v for v in cast if v.rater == rater.id], words),
    }
