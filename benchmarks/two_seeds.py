"""How often an audit of two seeds of one training raises an alarm: writes a row of docs/detectors.md.

    python -m benchmarks.two_seeds runs/NAME-HASH/eval-*/answers.jsonl

The files are the kept answers of policies that differ in their seed alone: stages like
`again: {kind: sft, …, seed: 1}` beside `sft`, and an `eval` stage that names them all. Each is audited
against each other, both ways. Below stand the detectors whose figure moved: the standard deviation of its
change over these audits, and the largest, which is what its smallest effect must lie beyond.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from accord.core.types import Verdict
from accord.detect.base import DetectorContext, configured
from accord.detect.panel import looked
from accord.pipeline.auditing import of_files

__all__: list[str] = []


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("answers", nargs="+", type=Path)
    files = parser.parse_args().answers
    makes = [make for _, _, make in configured("all")]
    changes: dict[str, list[float]] = defaultdict(list)
    which: Counter[str] = Counter()
    audits = alarmed = 0
    for before, after in itertools.permutations(files, 2):
        sides = of_files([before, after])[0]
        first, second = sides
        rows = looked(makes, DetectorContext(), sides, [(second, first)])
        verdicts = [Verdict.model_validate(row["verdict"]) for row in rows]
        alarms = [v.detector for v in verdicts if v.outcome in ("warn", "fail")]
        audits, alarmed = audits + 1, alarmed + bool(alarms)
        which.update(alarms)
        for v in verdicts:
            if "change" in v.metrics:
                changes[v.detector].append(v.metrics["change"].value)
    print("| policies | audits | any alarm | which |\n|---|---|---|---|")
    shown = ", ".join(f"{k} {n}" for k, n in which.most_common()) or "none"
    print(f"| {len(files)} | {audits} | {alarmed} | {shown} |\n")
    print("| detector | spread of its change | largest |\n|---|---|---|")
    for name, values in changes.items():
        if any(values):
            print(f"| {name} | {np.std(values):.3f} | {max(values):.3f} |")


if __name__ == "__main__":
    main()
