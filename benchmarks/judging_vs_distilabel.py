"""accord's judges against distilabel's: pairs a second through one fast stand-in server on loopback.

    python -m venv DL; DL/bin/pip install 'distilabel[openai]==1.5.3' requests 'openai<2'
    python -m benchmarks.judging_vs_distilabel --python DL/bin/python --pairs 1000

Both ask the same prompts (accord's pairwise template, both orders) with the same settings, one request each;
the server counts them. distilabel is run as its Task alone, the faster way, at each batch size named (it asks
a batch's rows all at once), and with `--pipeline` as a whole pipeline too. Contenders run in turn, in
processes of their own, imports not counted; medians of the clock and of the processes' own seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from accord.judges.ask import Judge, judge_items
from accord.judges.backends import ServerBackend
from accord.judges.cache import Cache
from accord.judges.templates import ask_of
from accord.lm.remote import ServerSampler
from benchmarks.judging import pairs, serve
from benchmarks.quiet import alone

ORDERS = ((0, 1), (1, 0))


def run_accord(url: str, n: int, at_once: int) -> dict[str, Any]:
    """All pairs, both orders; as many requests as are judged."""
    items, backend = pairs(n), ServerBackend(ServerSampler(url, "stand-in", at_once=at_once))
    began = time.perf_counter(), time.process_time()
    with Cache(":memory:") as cache:
        verdicts, spent = judge_items(Judge(), backend, items, cache)
    clock, own = time.perf_counter() - began[0], time.process_time() - began[1]
    lost = sum(v.probs is None for v in verdicts)
    return {"clock": clock, "own": own, "judged": spent.asked - 2 * lost}


def run(command: list[str]) -> dict[str, Any]:
    """What a process tells on its last line."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def commands(args: argparse.Namespace, url: str, prompts: str) -> dict[str, list[str]]:
    """Each contender's."""
    own = [sys.executable, "-m", "benchmarks.judging_vs_distilabel", "--only-accord", url]
    own += ["--pairs", str(args.pairs), "--at-once", str(args.at_once)]
    told = {f"accord, {args.at_once} at once": own}
    theirs = [args.python, "benchmarks/distilabel_worker.py"]
    for batch in args.batches:
        more = ["--prompts", prompts, "--url", url, "--batch", str(batch)]
        told[f"distilabel, its Task, batches of {batch}"] = [*theirs, "step", *more]
        if args.pipeline:
            told[f"distilabel, a pipeline, batches of {batch}"] = [*theirs, "pipeline", *more]
    return told


def main() -> None:
    """Run all in turn and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--python", default=sys.executable, help="of distilabel's environment")
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--batches", type=int, nargs="+", default=[50, 250])
    parser.add_argument("--pipeline", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-accord", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_accord:
        print(json.dumps(run_accord(args.only_accord, args.pairs, args.at_once)))
        return
    where = alone()
    ours, theirs = multiprocessing.Pipe()
    asked = multiprocessing.RawValue("q", 0)
    server = multiprocessing.Process(target=serve, args=(theirs, asked), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{ours.recv()}/v1"
    talks = [
        [{"role": m.role, "content": m.shown} for m in ask_of("pairwise", item, o).prompt.messages]
        for item in pairs(args.pairs)
        for o in ORDERS
    ]
    runs: dict[str, list[dict[str, Any]]] = {}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(talks, file)
        file.flush()
        for _ in range(args.rounds):
            for name, command in commands(args, url, file.name).items():
                before = asked.value
                told = run(command) | {"asked": asked.value - before}
                runs.setdefault(name, []).append(told)
                print(f"{name}: {told}", file=sys.stderr, flush=True)
    server.terminate()
    table(runs, args.pairs, where)


def table(runs: dict[str, list[dict[str, Any]]], n: int, where: str) -> None:
    """Medians; ratios to the first contender."""
    print(f"{n} pairs, both orders; {where}\n")
    print(
        "| contender | requests | pairs a second | times accord's clock | own s | times accord's |"
    )
    print("|---|---|---|---|---|---|")
    middle = {
        name: {key: statistics.median(r[key] for r in some) for key in some[0]}
        for name, some in runs.items()
    }
    first = next(iter(middle.values()))
    for name, m in middle.items():
        if not m["judged"] == m["asked"] == 2 * n:
            sys.exit(f"{name} judged {m['judged']} of {m['asked']} requests, not {2 * n}")
        clock, own = (f"{m[key] / first[key]:.2f}" for key in ("clock", "own"))
        speed = f"{n / m['clock']:.0f}"
        print(f"| {name} | {m['asked']:.0f} | {speed} | {clock} | {m['own']:.2f} | {own} |")


if __name__ == "__main__":
    main()
