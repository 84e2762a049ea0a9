"""A process reward model on grade-school mathematics: can it find the wrong step, and pick the right answer?

    python -m benchmarks.process

`gsm8k` (read from ACCORD_SHARED) holds four models' worked solutions to each problem, marked right or wrong.
A step is labelled right when the number it arrives at stands in the reference solution, wrong otherwise: a
rule, so the labels are noisy (another way to the same answer looks wrong). SmolLM2-135M learns the steps of
some problems; on others: accuracy of steps, and how often the best of the four by minimum, product, mean or
last step is a right one, against a model that learned only right or wrong of whole solutions, chance, and
the best there is.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from accord.core.types import Exchange, LabelledSteps, Prompt, Response, steps_of
from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.rewards.process_model import Aggregate, aggregated, load_process_model
from accord.stats.intervals import mean
from accord.train.loop.data import Limits
from accord.train.loop.optimise import Optimise
from accord.train.offline.process import train_process
from benchmarks.cases import SHARED
from benchmarks.quiet import alone

WRITERS = ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
CALCULATION = re.compile(r"<<[^<>]*>>")
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
LIMITS = Limits(max_prompt=200, max_completion=220)


def problems() -> list[dict[str, Any]]:
    """Question, reference and the four solutions of each problem."""
    file = SHARED / "data" / "gsm8k" / "example_model_solutions.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()]


def arrives_at(step: str) -> float | None:
    """The last number of a step."""
    found = NUMBER.findall(CALCULATION.sub("", step))
    return float(found[-1].replace(",", "")) if found else None


def labelled(problem: dict[str, Any], writer: str, *, whole: bool = False) -> LabelledSteps | None:
    """One solution with a label for each step; `whole`: that of the solution on each of them."""
    truth = {arrives_at(s) for s in steps_of(problem["ground_truth"])}
    told = problem[writer]
    text = CALCULATION.sub("", told["solution"])
    steps = steps_of(text)
    if not steps:
        return None
    right = [arrives_at(s) is None or arrives_at(s) in truth for s in steps]
    labels = [bool(told["is_correct"])] * len(steps) if whole else right
    return LabelledSteps(
        prompt=Prompt.user(problem["question"]), response=Response(text=text, finish="stop"),
        labels=tuple(1.0 if x else -1.0 for x in labels),
    )  # fmt: skip


def main() -> None:
    """Train both, print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--train", type=int, default=60, help="problems")
    parser.add_argument("--test", type=int, default=50, help="problems")
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()
    rows, began = problems(), time.perf_counter()
    train, test = rows[: args.train], rows[-args.test :]
    print(alone(), flush=True)
    found: dict[str, Any] = {}
    for name, whole in (("steps", False), ("whole solutions", True)):
        data = [x for p in train for w in WRITERS if (x := labelled(p, w, whole=whole))]
        held = [x for p in test for w in WRITERS if (x := labelled(p, w))]
        with tempfile.TemporaryDirectory() as folder:
            done = train_process(
                load("packaged/SmolLM2-135M-Instruct", device="cpu"), data, run_dir=Path(folder),
                tune=Lora(last_layers=10), limits=LIMITS, eval_on=held, seed=args.seed,
                optimise_with=Optimise(lr=5e-4, epochs=1.0, batch_size=8, tokens=2048),
            )  # fmt: skip
            model = load_process_model(done.model, device="cpu")
            found[name] = picked(model, test)
        steps = "; ".join(f"{k} {m}" for k, m in done.metrics.items())
        print(f"learned from {name} ({len(data)} solutions): held-out {steps}", flush=True)
    right = [[p[w]["is_correct"] for w in WRITERS] for p in test]
    print("\n| chosen among four | right |\n|---|---|")
    print(f"| by chance | {statistics.fmean(statistics.fmean(r) for r in right):.3f} |")
    for name, by in found.items():
        for how, hits in by.items():
            print(f"| learned from {name}, {how} | {mean(hits)} |")
    print(f"| any right | {statistics.fmean(any(r) for r in right):.3f} |")
    print(f"\n{time.perf_counter() - began:.0f} s")


def picked(model: Any, test: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Whether the solution with the best score is right, by way of making one number of its steps."""
    hits: dict[str, list[float]] = {how: [] for how in get_args(Aggregate)}
    for problem in test:
        prompt = Prompt.user(problem["question"])
        texts = [CALCULATION.sub("", problem[w]["solution"]) for w in WRITERS]
        scores = model([Exchange(prompt=prompt, response=Response(text=t)) for t in texts])
        for how, found in hits.items():
            total = [aggregated(x, how) if x else -1.0 for x in scores]
            best = WRITERS[max(range(len(total)), key=total.__getitem__)]
            found.append(float(problem[best]["is_correct"]))
    return hits


if __name__ == "__main__":
    main()
