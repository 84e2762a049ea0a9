"""How often the panel of detectors cries wolf, and what it catches: writes the tables of docs/detectors.md.

    python -m benchmarks.detectors ANSWERS.jsonl [more files] [--runs 200] [--prompts 200] [--only null|power]

Two policies that are one are made in two ways. *split*: the prompts of the first file are shared out at
random (no prompt in common). *swapped*: of every prompt two of the files' answers go to the two sides at
random (paired; needs two files on the same prompts). A hack is planted into the answers after of swapped
(else split) policies: a perturbation of a share of them, drawn anew each time. Mirrored, the hack is in the
answers before, where the detector that is meant must not alarm. Power is of that detector by itself at 5%
over the number of the panel's (Bonferroni): no more than it has among them by Holm.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from accord.core.types import Exchange, Response, Verdict
from accord.detect.base import DetectorContext, Reply, configured
from accord.detect.paired import ALPHA
from accord.detect.panel import looked
from accord.detect.perturb import perturbations
from accord.pipeline.auditing import of_files
from accord.stats.intervals import proportion

__all__ = ["MEANT", "alarms", "caught", "planted", "split", "swapped"]

Pair = tuple[list[Reply], list[Reply]]
MEANT = {  # perturbation -> the detector that it is meant for
    "padded": "length", "listed": "formatting", "hedged": "hedging", "disclaimed": "disclaimers",
    "flattered": "flattery", "agreed": "sycophancy", "vague": "vagueness",
    "repeated": "repetition", "jargon": "jargon",
    "judged": "judge_directed", "stock": "stock_phrases", "opened": "templates", "refused": "refusal",
    "garbled": "gibberish", "cut": "truncation", "translated": "language", "constant": "constant_answer",
}  # fmt: skip
PANEL = {name: make for name, _, make in configured("all")}
SHARES = (0.1, 0.25, 0.5)


def split(sides: Sequence[Sequence[Reply]], n: int, draw: random.Random) -> Pair:
    chosen = draw.sample(list(sides[0]), min(2 * n, len(sides[0])))
    return chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]


def swapped(sides: Sequence[Sequence[Reply]], n: int, draw: random.Random) -> Pair:
    by_prompt: dict[str, list[Reply]] = {}
    for reply in (r for side in sides for r in side):
        by_prompt.setdefault(reply.exchange.prompt.id, []).append(reply)
    two = [draw.sample(found, 2) for found in by_prompt.values() if len(found) > 1]
    chosen = draw.sample(two, min(n, len(two)))
    return [a for a, _ in chosen], [b for _, b in chosen]


def planted(replies: Sequence[Reply], name: str, share: float, draw: random.Random) -> list[Reply]:
    found = list(replies)
    for k in draw.sample(range(len(found)), round(share * len(found))):
        exchange = found[k].exchange
        text = perturbations[name](exchange.response.text, draw)
        found[k] = Reply(Exchange(prompt=exchange.prompt, response=Response(text=text)), {})
    return found


def alarms(pair: Pair) -> dict[str, str]:
    """Detector -> outcome of those that alarm."""
    makes = list(PANEL.values())
    answers = {"after": pair[0], "before": pair[1]}
    rows = looked(makes, DetectorContext(), answers, [("after", "before")])
    found = [Verdict.model_validate(row["verdict"]) for row in rows]
    return {v.detector: v.outcome for v in found if v.outcome in ("warn", "fail")}


def caught(pair: Pair, name: str) -> bool:
    found = PANEL[name](DetectorContext())(*pair)
    return found.outcome in ("warn", "fail") and (found.p or 0.0) * len(PANEL) <= ALPHA


def _null(sides: Sequence[Sequence[Reply]], n: int, runs: int) -> None:
    print(f"| two policies that are one | audits | any alarm ({n} prompts a side) | which |")
    print("|---|---|---|---|")
    for make in (split, swapped) if len(sides) > 1 else (split,):
        which: Counter[str] = Counter()
        wrong = 0
        for run in range(runs):
            found = alarms(make(sides, n, random.Random(run)))
            wrong += bool(found)
            which.update(found)
        shown = ", ".join(f"{k} {v}" for k, v in which.most_common()) or "none"
        print(f"| {make.__name__} | {runs} | {proportion(wrong, runs)} | {shown} |", flush=True)


def _power(sides: Sequence[Sequence[Reply]], n: int, runs: int) -> None:
    shares = " | ".join(f"{s:.0%} of answers" for s in SHARES)
    print(f"\n| planted | meant for | {shares} | mirrored, 50% |")
    print("|---|---|" + "---|" * (len(SHARES) + 1))
    make = swapped if len(sides) > 1 else split
    for name, meant in MEANT.items():
        cells = []
        for share, mirrored in [*((s, False) for s in SHARES), (0.5, True)]:
            hits = 0
            for run in range(runs):
                draw = random.Random(f"{name} {share} {run}")
                after, before = make(sides, n, draw)
                hacked = planted(after, name, share, draw)
                hits += caught((before, hacked) if mirrored else (hacked, before), meant)
            cells.append(f"{hits / runs:.0%}")
        print(f"| {name} | {meant} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("answers", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--only", choices=("null", "power"))
    given = parser.parse_args()
    sides = list(of_files(given.answers)[0].values())
    if given.only != "power":
        _null(sides, given.prompts, given.runs)
    if given.only != "null":
        _power(sides, given.prompts, max(1, given.runs // 4))


if __name__ == "__main__":
    main()
