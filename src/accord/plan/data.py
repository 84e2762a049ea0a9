"""What more judgments would buy: reward models on growing subsets, a curve through their accuracies.

Subsets are nested and drawn by prompt; the held-out prompts are the same for all. Every finished point is a
line of `points.jsonl`, so that a stopped measurement goes on where it was.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accord.core.hashing import canonical_json
from accord.core.rundir import read_jsonl
from accord.core.seeds import rng
from accord.core.types import Group, Metric
from accord.stats.learning_curve import Curve, Point

__all__ = ["limits_of", "measure", "subsets", "verdict"]

FLAT = 0.005  # a doubling that can't bring more than this is not worth its price
NEAR = 0.01
SEVERAL = 5  # prompts a category should have at least


def subsets(groups: Sequence[Group], sizes: Sequence[int], seed: int) -> list[list[Group]]:
    """Nested subsets with at least as many comparisons as asked for (all when there are fewer)."""
    order = list(groups)
    rng(seed, "plan").shuffle(order)
    nested, at, n = [], 0, 0
    for size in sorted(sizes):
        while at < len(order) and n < size:
            n += len(order[at].edges)
            at += 1
        nested.append(order[:at])
    return nested


def measure(
    groups: Sequence[Group],
    held: Sequence[Group],
    sizes: Sequence[int],
    seeds: int,
    file: Path,
    train: Callable[[Sequence[Group], Sequence[Group], int], Metric],
    tell: Callable[[str], None] = print,
) -> list[Point]:
    """A point for each size and seed; those in `file` already are not measured again. `train` gives the
    accuracy on the held-out comparisons of a reward model fitted to groups with a seed."""
    done = {(r["size"], r["seed"]): r for r in read_jsonl(file)} if file.exists() else {}
    file.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(seeds):
        for size, some in zip(sorted(sizes), subsets(groups, sizes, seed), strict=True):
            if (size, seed) not in done:
                metric = train(some, held, seed)
                row = {
                    "size": size, "seed": seed, "n": sum(len(g.edges) for g in some),
                    "accuracy": metric.value, "of": metric.n,
                }  # fmt: skip
                _append(file, row)
                done[size, seed] = row
            row = done[size, seed]
            tell(f"{row['n']} comparisons, seed {seed}: {row['accuracy']:.3f} of {row['of']}")
    kept = [r for r in done.values() if r["size"] in sizes and r["seed"] < seeds]
    return [Point(r["n"], r["accuracy"], r["of"]) for r in sorted(kept, key=lambda r: r["n"])]


def _append(file: Path, row: dict[str, Any]) -> None:
    with file.open("a", encoding="utf-8") as out:
        out.write(canonical_json(row) + "\n")


def verdict(curve: Curve, more: int, ceiling: Metric | None) -> str:
    """In words: whether more of the same helps, and what is the limit when it does not."""
    now, doubled, gain = curve.at(curve.largest), curve.buys(curve.largest), curve.buys(more)
    assert gain.value is not None
    assert now.value is not None
    if ceiling and ceiling.value is not None and now.value >= ceiling.value - NEAR:
        return (
            f"The labels are the limit: accuracy {now} is what their noise leaves ({ceiling}). Better raters "
            "or more of them on each question would help; more questions would not."
        )
    if (doubled.high or 0.0) < FLAT:
        return (
            f"The curve is flat: twice the data would add at most {doubled.high:.3f}. More of the same will "
            "not help; other prompts, a larger model or cleaner labels may."
        )
    if (gain.low or 0.0) <= 0.0:
        return (
            f"{more} more may add {gain}, or nothing: measure larger subsets, or with more seeds."
        )
    return f"{more} more comparisons would add {gain}."


def limits_of(groups: Sequence[Group]) -> list[str]:
    """Where quality or diversity, not quantity, is what is short."""
    notes = []
    texts = [_plain(g.prompt.last) for g in groups]
    alike = len(texts) - len(set(texts))
    if alike > 0.1 * len(texts):
        notes.append(
            f"{alike} of {len(texts)} prompts repeat another but for case, digits and punctuation: new "
            "prompts would bring more than more judgments of these"
        )
    kinds = Counter(v for g in groups for k, v in g.prompt.tags.items() if k == "category")
    few = [f"{k} ({n})" for k, n in sorted(kinds.items()) if n < SEVERAL]
    if few:
        notes.append(f"few prompts of {', '.join(few)}: nothing can be learned of them")
    split = [e for g in groups for e in g.edges if e.agreement is not None]
    if split:
        unsure = sum((e.agreement or 0) < 0.75 for e in split) / len(split)
        if unsure > 0.3:
            notes.append(
                f"raters are split on {unsure:.0%} of the pairs judged twice: clearer guidelines or more "
                "raters a question would bring more than more questions"
            )
    return notes


def _plain(text: str) -> str:
    return re.sub(r"[\W\d_]+", " ", text.casefold()).strip()
