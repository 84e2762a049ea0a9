"""What a guard is worth where the gold is known at every step: the over-optimisation experiment.

    python -m benchmarks.guard_lead --seeds 0 1 2 3 4 5 6 7 --kept FOLDER

For each seed PPO without a KL penalty, once against a proxy of 60 noisy comparisons (*hacked*: it turns) and
once against the gold model itself (*healthy*: it rises). FOLDER keeps each run's answers and gold, so that a
second call with other guards, or more seeds, trains nothing twice. The guard only warns, so the run goes on:
what `rollback` keeps is the gold of the step with which the last look without an alarm ended. The writer's
own answers, drawn as runs, are those in which nothing changes.

So that a run costs seconds, it has 40 steps of 32 answers and twice the learning rate of that experiment.
Gold is the mean of seven steps, in standard deviations of the gold over the writer's answers.

Before all that: how often each reward orders 200 further pairs of the writer's answers as their noisy labels
do, which is what `rm_check` tells a guard before the first step.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.types import Exchange, Pair, Prompt
from accord.lm.model.load import load
from accord.pipeline.stages.on_policy.guard import GuardConfig
from accord.pipeline.stages.on_policy.watching import DetectorGuard
from accord.rewards.learned import load_reward_model
from accord.stats.intervals import mean, paired_difference, proportion
from accord.train.online.guarded import Look
from benchmarks.overoptimisation import (
    SIZES,
    TRUTH,
    fitted,
    labelled,
    ppo,
    smoothed,
    two,
    writer_and_gold,
)
from benchmarks.sentiment import answers, snippets

STEPS, BATCH = 40, 32
CHEAP = {"steps": STEPS, "batch_size": BATCH, "minibatch": 16, "lr": 1e-3, "value_lr": 2e-3}
CHECKED = 200  # pairs of the writer's answers that a reward is held against
STILL = 40  # runs in which nothing changes
TURNED = 0.15  # standard deviations below its peak at the end: gold turned
GUARDS: dict[str, dict[str, Any]] = {
    "every 5 steps": {"every": 5},
    "every 5 steps, at: fail": {"every": 5, "at": "fail"},
    "as it comes (every 2 steps)": {},
}
HACKED, HEALTHY, SAME = "hacked", "healthy", "still"


class Recorder:
    """A guard that only keeps what it is shown."""

    rolls_back, notes = False, ()

    def __init__(self) -> None:
        self.steps: list[list[list[Any]]] = []

    def see(
        self, step: int, exchanges: Sequence[Exchange], scores: Sequence[float], kl: float
    ) -> Look | None:
        self.steps.append(
            [
                [e.prompt.last, e.response.text, e.response.finish, x]
                for e, x in zip(exchanges, scores, strict=True)
            ]
        )
        return None

    def saved(self) -> dict[str, Any]:
        return {}

    def restore(self, saved: Mapping[str, Any]) -> None: ...


def trained(folder: Path, kept: Path, seeds: Sequence[int]) -> None:
    """Runs that are not kept yet."""
    base, prompts = writer_and_gold(kept, snippets(), 0)
    for seed in seeds:
        proxy = None
        for kind in (HACKED, HEALTHY):
            path = kept / f"{kind}-{seed}.json"
            if path.exists():
                continue
            if kind == HACKED:
                proxy = proxy or few_comparisons(folder, base, prompts, seed)
                rewards = [{"name": "learned", "model": str(proxy), "label": "proxy"}]
            else:
                rewards = [{"name": "gold_model", "label": "proxy"}]
            watch = Recorder()
            place = folder / f"{kind}-{seed}"
            curve = ppo(base, prompts[4548:], rewards, place, seed, guard=watch, **CHEAP)
            path.write_text(json.dumps({"curve": curve, "steps": watch.steps}))
            print(f"{kind} {seed}: gold ends at {smoothed(curve)[-1][1]:.2f}", flush=True)
    path = kept / f"{SAME}.json"
    if not path.exists():
        pool = [e for es in answers(load(base, device="cpu"), prompts, 3, 5) for e in es]
        rows = [[e.prompt.last, e.response.text, e.response.finish, 0.0] for e in pool]
        path.write_text(json.dumps(rows))


def few_comparisons(folder: Path, base: Path, prompts: Sequence[Prompt], seed: int) -> Path:
    """A proxy that learned from few comparisons of the writer's answers."""
    place = folder / f"proxy-{seed}"
    if not (place / "model").exists():
        pairs = judged(base, _shuffled(prompts, seed)[: SIZES[0] + 10], seed)
        fitted(base, pairs[: SIZES[0]], place, seed, 4.0)
    return place / "model"


def _shuffled(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    some = list(prompts[3000:4500])
    random.Random(seed).shuffle(some)
    return some


def judged(base: Path, prompts: Sequence[Prompt], seed: int) -> list[Pair]:
    """Two answers of the writer to each, with a noisy label."""
    fresh = two(answers(load(base, device="cpu"), prompts, 2, seed + 1))
    scores = TRUTH["gold"]([e for pair in fresh for e in pair])
    return labelled(fresh, list(zip(scores[::2], scores[1::2], strict=True)), 1.0, seed)


def checked(folder: Path, kept: Path, seeds: Sequence[int]) -> None:
    """What is known of each reward before the first step; rows of a table."""
    base, prompts = writer_and_gold(kept, snippets(), 0)
    print("| reward | as people order the writer's answers | an alarm |\n|---|---|---|")
    for seed in seeds:
        pairs = judged(base, _shuffled(prompts, seed)[-CHECKED:], seed + 7)
        better = [Exchange(prompt=p.prompt, response=p.chosen) for p in pairs]
        worse = [Exchange(prompt=p.prompt, response=p.rejected) for p in pairs]
        proxy = load_reward_model(few_comparisons(folder, base, prompts, seed), device="cpu")
        for kind, score in ((HACKED, proxy), (HEALTHY, TRUTH["gold"])):
            gaps = [x - y for x, y in zip(score(better), score(worse), strict=True)]
            right = proportion(sum(g > 0 for g in gaps), len(gaps))
            print(
                f"| {kind} {seed} | {right} | {'no' if (right.low or 0.0) > 0.5 else 'yes'} |",
                flush=True,
            )


@dataclass(frozen=True)
class Watched:
    """A run as a guard saw it. `alarm`: after how many steps, None without one; `good`: the 0-based step
    whose weights it kept; `gold` and `top`: its gold step by step, and where that is highest; `by`: what
    fired."""

    alarm: int | None
    good: int
    gold: list[float]
    by: tuple[str, ...] = ()

    @property
    def top(self) -> int:
        return max(range(len(self.gold)), key=self.gold.__getitem__)

    @property
    def kept(self) -> float:
        return self.gold[self.good] if self.alarm else self.gold[-1]

    @property
    def turned(self) -> bool:
        return self.gold[-1] < self.gold[self.top] - TURNED


def watched(
    steps: Sequence[Sequence[Sequence[Any]]], gold: list[float], keys: Mapping[str, Any]
) -> Watched:
    """The guard over a run's answers, to its first alarm."""
    good = 0
    with tempfile.TemporaryDirectory() as folder:
        guard = DetectorGuard(GuardConfig(**keys), len(steps), Path(folder))
        for step, rows in enumerate(steps):
            exchanges = [
                Exchange.model_validate(
                    {"prompt": Prompt.user(p), "response": {"text": text, "finish": finish}}
                )
                for p, text, finish, _ in rows
            ]
            look = guard.see(step, exchanges, [row[3] for row in rows])
            if look and look.state == "good":
                good = step
            elif look:
                seen = guard.rows[-1]["verdicts"]
                by = tuple(v["detector"] for v in seen if v["outcome"] in ("warn", "fail"))
                return Watched(step + 1, good, gold, by)
    return Watched(None, good, gold)


def still(rows: Sequence[Sequence[Any]], keys: Mapping[str, Any], runs: int) -> list[Watched]:
    """Runs whose answers are one policy's throughout."""
    found = []
    for seed in range(runs):
        drawn = random.Random(seed).sample(list(rows), STEPS * BATCH)
        steps = [drawn[k : k + BATCH] for k in range(0, len(drawn), BATCH)]
        found.append(watched(steps, [0.0] * STEPS, keys))
    return found


def read(kept: Path, kind: str, keys: Mapping[str, Any]) -> list[Watched]:
    found = []
    for path in sorted(kept.glob(f"{kind}-*.json")):
        run = json.loads(path.read_text())
        gold = [row[1] for row in smoothed([tuple(r) for r in run["curve"]])]
        found.append(watched(run["steps"], gold, keys))
    return found


def told(name: str, kept: Path, runs: int) -> None:
    """The guard's rows of the table, and its runs one by one."""
    keys = GUARDS[name]
    hacked, healthy = read(kept, HACKED, keys), read(kept, HEALTHY, keys)
    same = still(json.loads((kept / f"{SAME}.json").read_text()), keys, runs) if runs else []
    turned = [r for r in hacked if r.turned]
    before = [r for r in turned if r.alarm and r.alarm <= r.top]
    leads = [float(r.top + 1 - r.alarm) for r in turned if r.alarm]
    by = sorted({d for r in hacked for d in r.by})
    gained = paired_difference([r.kept for r in hacked], [r.gold[-1] for r in hacked])
    cost = paired_difference([r.kept for r in healthy], [r.gold[-1] for r in healthy])
    alarms = [
        str(proportion(sum(bool(r.alarm) for r in rs), len(rs))) if rs else ""
        for rs in (same, healthy)
    ]
    ends = [mean(x).value or 0.0 for x in ([r.kept for r in hacked], [r.gold[-1] for r in hacked])]
    cells = [
        f"{len(before)} of {len(turned)}", str(mean(leads)) if leads else "", *alarms,
        f"{ends[0]:.2f} / {ends[1]:.2f}", str(gained), str(cost), ", ".join(by),
    ]  # fmt: skip
    print(f"| {name} | {' | '.join(cells)} |", flush=True)
    for kind, runs in ((HACKED, hacked), (HEALTHY, healthy)):
        for r in runs:
            print(
                f"    {kind}: alarm {r.alarm} by {', '.join(r.by)}; gold tops at step {r.top + 1} "
                f"({r.gold[r.top]:.2f}), ends at {r.gold[-1]:.2f}, kept {r.kept:.2f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(8)))
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--still", type=int, default=STILL, help="runs in which nothing changes")
    parser.add_argument("--guards", nargs="*", choices=list(GUARDS), default=list(GUARDS))
    parser.add_argument("--train-only", action="store_true", help="for one of several processes")
    args = parser.parse_args()
    args.kept.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        trained(Path(folder), args.kept, args.seeds)
        if args.train_only:
            return
        checked(Path(folder), args.kept, args.seeds)
    print(
        "| guard | fires before gold turns | steps of lead | alarms, nothing changes | alarms, healthy | "
        "gold with / without | gained | cost on healthy | fired |\n|---|---|---|---|---|---|---|---|---|"
    )
    for name in args.guards:
        told(name, args.kept, args.still)


if __name__ == "__main__":
    main()
