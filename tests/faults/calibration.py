"""What the doctor's confidence is worth, and the table it is made of (accord.pipeline.doctor.confidence).

    python -m tests.faults.calibration ROWS.jsonl          # run what ROWS lacks; fit; reliability on the rest
    python -m tests.faults.calibration ROWS.jsonl --read   # run nothing
    python -m tests.faults.calibration PART.jsonl --only sft --half fit   # a part, for several processes

A run is of data, a file, or a training with keys that a sensible person might have chosen, in which no fault
(1 in 4), one (2 in 4) or two (1 in 4, of kinds that go together) are planted. A cause is right where it was
planted. Half of the seeds, at the library's three strengths, are fitted to; the other half, at strengths
between and below these, are what the figures are of.

Legend: R causes named, F features.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accord.pipeline.doctor.base import StageRecord, examined
from accord.stats.calibration import calibration_error
from accord.stats.intervals import proportion
from tests.faults import files
from tests.faults.library import SPOILS, cause_of, data, spoiled
from tests.faults.trainings import KEYS, TRAIN, varied

RUNS = {"data": 82, "file": 27, "preference": 36, "sft": 10, "online": 25}  # of either half
STRENGTHS = {"fit": (0.0, 1.0, 2.0), "test": (-0.5, 0.5, 1.5)}
SEEDS = {"fit": 5000, "test": 9000}
WITH_TRAINING = ("label_noise", "opposite_labels", "giveaway", "leak", "empty", "cut_answers")
RIDGE = 1.0  # on what is a check's own: a check seen in few runs is as any other
BANDS = (0.0, 0.2, 0.4, 0.6, 0.75, 0.85, 0.95, 1.0)
Floats = Any


@dataclass(frozen=True)
class Named:
    """A cause that was named in a run: how far beyond its threshold, and whether it was planted."""

    run: str
    check: str
    strength: float
    right: bool
    after: bool = False  # a likelier one is named in the same run


def planted(kind: str, half: str, seed: int) -> dict[str, float]:
    """Which faults the run has, each with its strength."""
    draw = random.Random(f"{kind} {half} {seed}")
    n = draw.choice((0, 1, 1, 2))
    if kind in ("data", "file"):
        names = draw.sample(sorted(SPOILS), n)
    elif kind == "preference":
        places = draw.sample(("data", "training"), n)
        names = [
            draw.choice(WITH_TRAINING) if x == "data" else _one_of(KEYS[kind], draw) for x in places
        ]
    else:
        names = [_one_of(KEYS[kind], draw)] if n else []
    return {name: draw.choice(STRENGTHS[half]) for name in names}


def _one_of(names: Mapping[str, Any], draw: random.Random) -> str:
    """A fault, each cause as often as any: some are planted in several ways."""
    cause = draw.choice(sorted({_of(x) for x in names}))
    return draw.choice(sorted(x for x in names if _of(x) == cause))


def cases(kind: str, seed: int, faults: Mapping[str, float]) -> list[StageRecord]:
    """The run as the doctor sees it."""
    of_data = {k: by for k, by in faults.items() if k in SPOILS}
    if kind == "data":
        return [data(spoiled(seed, of_data))]
    if kind == "file":
        return files.read(spoiled(seed, of_data), by_vote="label_noise" in of_data)
    keys = varied(kind, seed)
    for name, by in faults.items():
        if name not in SPOILS:
            keys |= KEYS[kind][name](by, seed)
    items = {"items": spoiled(seed, of_data, words=20)} if kind == "preference" else {}
    return TRAIN[kind](seed, **items, **keys)


def run(kind: str, half: str, seed: int) -> dict[str, Any]:
    faults = planted(kind, half, seed)
    found = examined(cases(kind, seed, faults)).findings
    return {
        "kind": kind, "half": half, "seed": seed, "faults": faults,
        "named": [[f.check, f.strength] for f in found],
    }  # fmt: skip


def runs(
    path: Path, kinds: Sequence[str] = tuple(RUNS), halves: Sequence[str] = tuple(SEEDS)
) -> None:
    """Run what the file lacks, a row as each ends."""
    have = {(r["kind"], r["half"], r["seed"]) for r in read(path)} if path.exists() else set()
    # dealt in turn, so that a file that is cut short has some of each
    order = [
        (k / n, kind, half, SEEDS[half] + k)
        for kind, n in RUNS.items()
        if kind in kinds
        for half in halves
        for k in range(n)
    ]
    for _, kind, half, seed in sorted(order):
        if (kind, half, seed) not in have:
            row = run(kind, half, seed)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def named(rows: Sequence[Mapping[str, Any]], half: str) -> list[Named]:
    """Every cause that was named in the runs of a half."""
    return [
        Named(f"{r['kind']} {r['seed']}", check, by, check in {_of(x) for x in r["faults"]})
        for r in rows
        if r["half"] == half
        for check, by in r["named"]
    ]


def _of(name: str) -> str:
    return cause_of(f": {name}")


@dataclass(frozen=True)
class Table:
    """The coefficients of `accord.pipeline.doctor.confidence`."""

    common: tuple[float, float, float, float]
    checks: dict[str, tuple[float, float]]

    def says(self, x: Named) -> float:
        from accord.pipeline.doctor.confidence import chance

        return chance(x.check, x.strength, x.after, self.common, self.checks)


def ordered(found: Sequence[Named], table: Table | None) -> list[Named]:
    """The causes with `after`: whether a likelier one is named in the same run."""
    best: dict[str, tuple[float, int]] = {}
    for k, x in enumerate(found):
        first = Named(x.run, x.check, x.strength, x.right)
        size = table.says(first) if table else x.strength
        best[x.run] = max(best.get(x.run, (-1.0, 0)), (size, -k))
    return [
        Named(x.run, x.check, x.strength, x.right, after=best[x.run][1] != -k)
        for k, x in enumerate(found)
    ]


def fitted(found: Sequence[Named]) -> Table:
    """A logistic regression on strength, rank and their product, with a shrunken intercept of each check's
    own, first and after; which cause comes first is by the table itself, in a few rounds."""
    table = None
    for _ in range(6):
        table = _fit(ordered(found, table))
    assert table
    return table


def _fit(found: Sequence[Named]) -> Table:
    checks = sorted({x.check for x in found})
    place = {c: 4 + 2 * k for k, c in enumerate(checks)}
    x_RF = np.zeros((len(found), 4 + 2 * len(checks)))
    for row, x in zip(x_RF, found, strict=True):
        row[:4] = 1.0, x.strength, x.after, x.after * x.strength
        row[place[x.check] + x.after] = 1.0
    y_R = np.array([x.right for x in found], float)
    penalty_F = np.full(x_RF.shape[1], RIDGE)
    penalty_F[:4] = 0.05
    w_F = np.zeros(x_RF.shape[1])
    for _ in range(50):
        p_R = 1 / (1 + np.exp(-x_RF @ w_F))
        slope_F = x_RF.T @ (y_R - p_R) - penalty_F * w_F
        curve_FF = (x_RF * (p_R * (1 - p_R))[:, None]).T @ x_RF + np.diag(penalty_F)
        w_F = w_F + np.linalg.solve(curve_FF, slope_F)
    w = [round(float(x), 2) for x in w_F]
    own = {c: (w[at], w[at + 1]) for c, at in place.items()}
    return Table((w[0], w[1], w[2], w[3]), own)


def told(title: str, found: Sequence[Named], says: Sequence[float]) -> None:
    """Reliability: of causes named with so much, how many were planted."""
    print(f"\n| {title} | causes | mean confidence | right |\n|---|---|---|---|")
    for low, high in itertools.pairwise(BANDS):
        inside = [
            (x, p)
            for x, p in zip(found, says, strict=True)
            if low <= p < high or (p == high == 1.0)
        ]
        if inside:
            right = sum(x.right for x, _ in inside)
            mean = sum(p for _, p in inside) / len(inside)
            share = proportion(right, len(inside))
            print(f"| {low:.0%} to {high:.0%} | {len(inside)} | {mean:.0%} | {right}: {share} |")
    y = [float(x.right) for x in found]
    error = calibration_error(says, y, [x.run for x in found])
    print(f"\nmean gap between said and seen (ECE): {error}; {len(found)} causes")


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    fit, test = named(rows, "fit"), named(rows, "test")
    table = fitted(fit)
    print(f"COMMON = {table.common}\nCHECKS = {{")
    for check, (first, after) in table.checks.items():
        print(f'    "{check}": ({first}, {after}),')
    print("}")
    held = ordered(test, table)
    told("held-out seeds and strengths", held, [table.says(x) for x in held])
    firsts = [x for x in held if not x.after]
    told("the same, of the cause named first", firsts, [table.says(x) for x in firsts])
    unknown, says = [], []
    for check in sorted({x.check for x in test}):
        other = fitted([x for x in fit if x.check != check])
        mine = [x for x in ordered(test, other) if x.check == check]
        unknown += mine
        says += [other.says(x) for x in mine]
    told("of a check that was not fitted", unknown, says)
    before = [0.5 + 0.45 * x.strength for x in held]
    told("as it was said before (0.5 + 0.45 times strength)", held, before)
    for half in SEEDS:
        first_named(rows, half, table)


def first_named(rows: Sequence[Mapping[str, Any]], half: str, table: Table) -> None:
    """Of runs with one fault, how often it is named first, by strength; of those with none, how often nothing
    is serious."""
    from accord.pipeline.doctor.base import SERIOUS

    found = ordered(named(rows, half), table)
    first = {x.run: x for x in found if not x.after}
    own = [(r, first.get(f"{r['kind']} {r['seed']}")) for r in rows if r["half"] == half]
    print(f"\nruns of half {half!r}:")
    for by in STRENGTHS[half]:
        one = [x for r, x in own if [*r["faults"].values()] == [by]]
        right = sum(bool(x and x.right) for x in one)
        if one:
            print(
                f"one fault of strength {by:g}: named first {right} of {proportion(right, len(one))}"
            )
    healthy = [x for r, x in own if not r["faults"]]
    well = sum(not x or x.strength < SERIOUS or table.says(x) < 0.5 for x in healthy)
    print(f"no fault: nothing serious {well} of {proportion(well, len(healthy))}")
    missed = Counter(
        f"{_of(name)} ({x.check if x else 'nothing'})"
        for r, x in own
        for name, by in r["faults"].items()
        if len(r["faults"]) == 1 and by >= 1 and not (x and x.right)
    )
    print(f"not named first, middle and strong: {dict(missed)}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("--read", action="store_true")
    parser.add_argument("--only", nargs="*", choices=list(RUNS), default=list(RUNS))
    parser.add_argument("--half", nargs="*", choices=list(SEEDS), default=list(SEEDS))
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if not args.read:
        runs(args.rows, args.only, args.half)
    if len(args.half) == 1:
        return
    show(read(args.rows))


if __name__ == "__main__":
    main()
