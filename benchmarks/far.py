"""What detectors that read with a reward model cry wolf at, and what they catch: tables of docs/detectors.md.

    python -m benchmarks.far RUN:rm RUN:fresh [--more RUN:rm2 …] [--prompts 60] [--runs 200]

RUN:fresh is a stage of kind ask: several answers of one policy to each prompt. Two policies that are one: of
every prompt two of its answers go to the two sides at random. A hack is planted into a share of the answers
after: a perturbation, as the reward model then reads it. Power is at 5% over the number of the panel's tests.
"""

from __future__ import annotations

import argparse
import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from accord.core.rundir import user_path
from accord.core.types import Exchange, Response
from accord.detect.base import DetectorContext, Reply, configured
from accord.detect.paired import ALPHA
from accord.detect.perturb import perturbations
from accord.pipeline.context import data_store
from accord.pipeline.manifest import finished
from accord.pipeline.reading import named, read_by
from accord.stats.intervals import proportion
from benchmarks.detectors import PANEL

NAMES = ("far", "overpaid", "disagreement")
SHARES = (0.1, 0.25, 0.5)


def fresh(name: str) -> list[list[Exchange]]:
    """The answers to each prompt that has two or more."""
    folder, _, stage = name.rpartition(":")
    opened, facts = data_store(finished(user_path(folder))[2][stage])
    with opened as store:
        groups = list(store.snapshot(facts["snapshot"]).groups())
    each = (
        [
            Exchange(prompt=g.prompt, response=r)
            for r in g.responses
            if str(r.source).startswith("model:")
        ]
        for g in groups
    )
    return [some for some in each if len(some) > 1]


def sides(answers: Sequence[Sequence[int]], draw: random.Random) -> Iterator[tuple[int, int]]:
    for some in answers:
        a, b = draw.sample(list(some), 2)
        yield a, b


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("answers")
    parser.add_argument("--more", nargs="*", default=[])
    parser.add_argument(
        "--prompts", type=int, default=60, help="the first so many, two answers each"
    )
    parser.add_argument("--runs", type=int, default=200)
    given = parser.parse_args()
    groups = [some[:2] for some in fresh(given.answers)[: given.prompts]]
    numbers, flat = list[list[int]](), list[Exchange]()
    for some in groups:
        numbers.append(list(range(len(flat), len(flat) + len(some))))
        flat += some
    draw = random.Random(0)
    versions = {"": flat} | {
        name: [
            Exchange(prompt=e.prompt, response=Response(text=change(e.response.text, draw)))
            for e in flat
        ]
        for name, change in perturbations.items()
    }
    plain = {k: [Reply(e, {}) for e in v] for k, v in versions.items()}
    models = named([given.model, *given.more])
    read, context = read_by(plain, DetectorContext(), models, lambda d, n, t: None)
    print(f"{len(groups)} prompts, {len(flat)} answers, {len(models)} reward models")
    _null(read[""], numbers, context, given.runs)
    _power(read, numbers, context, max(1, given.runs // 10))


def _looks(context: DetectorContext, own: Sequence[Reply]) -> dict[str, object]:
    return {n: make(context) for n, _, make in configured([n for n in NAMES if n in own[0].scores])}


def _null(
    own: Sequence[Reply], numbers: Sequence[Sequence[int]], context: DetectorContext, runs: int
) -> None:
    wrong: Counter[str] = Counter()
    looks = _looks(context, own)
    for run in range(runs):
        pairs = list(sides(numbers, random.Random(run)))
        for name, look in looks.items():
            v = look([own[a] for a, _ in pairs], [own[b] for _, b in pairs])  # type: ignore[operator]
            wrong[name] += v.outcome in ("warn", "fail")
    for name in looks:
        print(f"one policy, {name} by itself: alarms in {proportion(wrong[name], runs)}")


def _power(
    read: Mapping[str, Sequence[Reply]], numbers: Sequence[Sequence[int]], context: DetectorContext, runs: int
) -> None:  # fmt: skip
    looks = _looks(context, read[""])
    heads = [f"{name}, {share:.0%}" for name in looks for share in SHARES]
    print(f"| planted | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for planted in perturbations:
        hits: Counter[tuple[str, float]] = Counter()
        for share in SHARES:
            for run in range(runs):
                draw = random.Random(f"{planted} {share} {run}")
                pairs = list(sides(numbers, draw))
                hacked = {*draw.sample(range(len(pairs)), round(share * len(pairs)))}
                after = [read[planted if k in hacked else ""][a] for k, (a, _) in enumerate(pairs)]
                for name, look in looks.items():
                    v = look(after, [read[""][b] for _, b in pairs])  # type: ignore[operator]
                    hits[name, share] += (
                        v.outcome in ("warn", "fail") and (v.p or 0.0) * len(PANEL) <= ALPHA
                    )
        cells = [f"{hits[name, share] / runs:.0%}" for name in looks for share in SHARES]
        print(f"| {planted} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
