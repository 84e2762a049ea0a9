"""The table of docs/doctor.md: python -m tests.faults [data|file|preference|sft|online …] [SEED …]"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from accord.pipeline.doctor.base import Finding, examined
from tests.faults import files, trainings
from tests.faults.library import FAULTS, HEALTHY, cause_of

assert trainings.KEYS  # they register theirs

FAULTS |= files.FAULTS
HEALTHY |= files.HEALTHY


class Named:
    """What was named, right or wrong, by confidence: first of a run, and after another cause."""

    def __init__(self) -> None:
        self.first: dict[str, list[bool]] = defaultdict(list)
        self.after: list[bool] = []

    def add(self, findings: Sequence[Finding], cause: str) -> str:
        for f in findings[:1]:
            self.first[f"{f.confidence:.1f}"].append(f.check == cause)
        self.after += [f.check == cause for f in findings[1:]]
        return findings[0].check if findings else "nothing"

    def show(self, show: Callable[[str], Any]) -> None:
        for level, right in sorted(self.first.items()):
            show(f"named first with confidence about {level}: right {sum(right)}/{len(right)}")
        show(f"named after another: right {sum(self.after)}/{len(self.after)}")


def table(kinds: Sequence[str], seeds: Sequence[int], show: Callable[[str], Any] = print) -> None:
    """What the doctor names first, fault by fault, and what it says of healthy runs; then calibration."""
    named, strongest, well = Named(), [], []
    show("| fault | weak | middle | strong |\n|---|---|---|---|")
    for name, plant in FAULTS.items():
        of, cause = name.partition(": ")[0], cause_of(name)
        if of not in kinds:
            continue
        cells = []
        for by in range(3):
            firsts = [named.add(examined(plant(by, s)).findings, cause) for s in seeds]
            strongest += [x == cause for x in firsts] if by else []
            other = ", ".join(sorted({*firsts} - {cause}))
            cells.append(f"{firsts.count(cause)}/{len(firsts)}" + (f" ({other})" if other else ""))
        show(f"| {name} | {' | '.join(cells)} |")
    for of in (name for name in HEALTHY if name.partition(" ")[0] in kinds):
        runs = [examined(HEALTHY[of](1000 * seeds[0] + k)).findings for k in range(2 * len(seeds))]
        for findings in runs:
            named.add(findings, "")
        serious = sorted({f.check for findings in runs for f in findings if f.serious})
        own = [not any(f.serious for f in findings) for findings in runs]
        well += own
        show(f"| healthy {of}: nothing serious | {sum(own)}/{len(own)} {', '.join(serious)} | | |")
    show(
        f"\nfirst, strongest two: {sum(strongest)}/{len(strongest)}; healthy: {sum(well)}/{len(well)}"
    )
    named.show(show)


if __name__ == "__main__":
    _, *words = sys.argv
    numbers = [int(w) for w in words if w.isdigit()] or [7, 8, 9]
    table(
        [w for w in words if not w.isdigit()] or [k for k in HEALTHY if " " not in k],
        numbers,
        partial(print, flush=True),
    )
