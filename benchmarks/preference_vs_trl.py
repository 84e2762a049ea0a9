"""accord against TRL on the same pairs: time a pair, peak memory, and the loss of every step.

    python -m benchmarks.preference_vs_trl --case hh --tune full

Each contender runs in a process of its own, in turn (A B C, A B C, …): one uncounted step, then `--steps`
counted ones. Medians are compared. A lock keeps two benchmarks apart, and the load before each run is
recorded: on two cores a second busy process slows torch many times over.
Exits with 1 when a step's loss differs from TRL's (matched) by more than 1e-3 relative.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.quiet import alone
from benchmarks.worker import MODEL

# *-live: the reference pass is in the time. TRL as it comes runs in bf16 with a live reference
CONTENDERS = [
    "accord", "accord-live", "accord-bf16", "accord-bf16-live", "trl-patched", "trl-matched", "trl",
]  # fmt: skip
Figures = dict[str, list[dict[str, Any]]]


def measure(contender: str, args: argparse.Namespace) -> dict[str, Any]:
    """One run of one contender."""
    keys = ("case", "method", "tune", "steps", "tokens", "precision", "device", "model")
    options = [x for key in keys for x in (f"--{key}", str(getattr(args, key)))]
    load = os.getloadavg()[0]
    command = [sys.executable, "-m", "benchmarks.worker", contender, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{contender} failed:\n{done.stderr[-3000:]}")
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "load_before": load}


def seconds_a_pair(runs: list[dict[str, Any]]) -> float:
    """Median over all counted steps of all rounds."""
    return statistics.median(x["s"] / run["per_step"] for run in runs for x in run["steps"][1:])


def apart(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float:
    """Largest relative difference of the loss at the same step."""
    both = zip(ours[0]["steps"], theirs[0]["steps"], strict=True)
    return max(abs(a["loss"] - b["loss"]) / abs(b["loss"]) for a, b in both)


def table(found: Figures, args: argparse.Namespace) -> list[str]:
    """The figures as a markdown table."""
    baselines = [name for name in found if name.startswith("trl")]
    lines = [
        "| contender | ms a pair | peak MB | above start MB | "
        + " | ".join(f"time: {b} / it" for b in baselines)
        + " | "
        + " | ".join(f"memory: it / {b}" for b in baselines)
        + " | loss against trl-matched |",
        "|---|" + "---|" * (4 + 2 * len(baselines)),
    ]
    for name, runs in found.items():
        peak = max(run["peak"] for run in runs) / 2**20
        above = max(run["peak"] - run["base"] for run in runs) / 2**20
        times = [f"{seconds_a_pair(found[b]) / seconds_a_pair(runs):.2f}×" for b in baselines]
        sizes = [f"{peak / (max(r['peak'] for r in found[b]) / 2**20):.2f}" for b in baselines]
        near = f"{apart(runs, found['trl-matched']):.1e}" if "trl-matched" in found else ""
        cells = [
            name,
            f"{1000 * seconds_a_pair(runs):.0f}",
            f"{peak:.0f}",
            f"{above:.0f}",
            *times,
            *sizes,
            near,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    """Run all contenders in turn and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--case", choices=CASES, default="hh")
    parser.add_argument("--method", default="dpo")
    parser.add_argument("--tune", choices=["full", "lora"], default="full")
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    found: Figures = defaultdict(list)
    where = alone()
    for _ in range(args.rounds):
        for contender in args.contenders:
            found[contender].append(measure(contender, args))
            last = found[contender][-1]
            told = " ".join(f"{x['s']:.2f}" for x in last["steps"])
            print(f"{contender}: {told} s a step, load {last['load_before']:.2f}", file=sys.stderr)
    title = f"{args.case}, {args.method}, {args.tune}, {args.precision}, {args.tokens} tokens a micro-batch"
    print("\n".join([title, where, "", *table(found, args)]))
    if args.json:
        args.json.write_text(
            json.dumps({"title": title, "hardware": where, "runs": found}, indent=1)
        )
    if "trl-matched" in found:
        sys.exit(int(apart(found["accord"], found["trl-matched"]) > 1e-3))


if __name__ == "__main__":
    main()
