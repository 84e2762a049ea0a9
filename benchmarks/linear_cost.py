"""Does cost grow with what is scored, and no faster: time a packed token, and the head's memory.

    python -m benchmarks.linear_cost

Time: rows of 1k, 4k and 16k packed tokens, all trees alike (prompt 170, two answers of 85), one forward
and backward pass of full DPO, attention timed apart; the model is cut to 8 layers, so that 16k tokens fit
24 GB. Memory: what the output layer takes beyond its inputs and gradients, for scored positions and
vocabularies four times as many. Each figure has a process of its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import Any

import torch
from torch import nn

from accord.lm.model.load import load
from accord.lm.trees import tree_attention
from accord.lm.trees.vocab_head import VocabHead
from accord.train.loop.memory import in_use, peak, reset_peak
from accord.train.loop.trainee import prepare
from benchmarks.cases import CASES, rows_of
from benchmarks.quiet import alone
from benchmarks.worker import MODEL, pair_trees

CPU = torch.device("cpu")
LAYERS = 8
ROWS, SCORED, WORDS = (1024, 4096, 16384), (1024, 4096), (49_152, 196_608)


def _timed(name: str, spent: list[float]) -> None:
    """Add the time of an attention kernel to `spent`."""
    own = getattr(tree_attention, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        found = own(*args, **kwargs)
        spent[0] += time.perf_counter() - began
        return found

    setattr(tree_attention, name, run)


def time_a_token(tokens: int, rounds: int) -> dict[str, float]:
    """Microseconds a packed token in a row of so many: whole, and without attention's kernels."""
    lm = load(MODEL, device="cpu")
    lm.model.model.layers = lm.model.model.layers[:LAYERS]
    lm.model.config.num_hidden_layers = LAYERS
    trees = pair_trees(rows_of(CASES["ratio21"], lm.tokenizer, tokens // 340)).trees
    engine, packed = prepare(lm, "full", 17).engine, sum(t.tokens for t in trees)
    spent = [0.0]
    _timed("FLASH", spent)
    _timed("FLASH_BACKWARD", spent)
    whole, rest = [], []
    for _ in range(rounds + 1):
        spent[0], began = 0.0, time.perf_counter()
        sums = engine.logps(trees).sums_C()
        nn.functional.logsigmoid(sums[0::2] - sums[1::2]).sum().backward()
        took = time.perf_counter() - began
        lm.model.zero_grad(set_to_none=True)
        whole.append(took / packed * 1e6)
        rest.append((took - spent[0]) / packed * 1e6)
    return {
        "packed": packed,
        "whole": statistics.median(whole[1:]),
        "rest": statistics.median(rest[1:]),
        "peak": peak(CPU) / 2**20,
    }


def head_memory(scored: int, words: int, frozen: bool) -> dict[str, float]:
    """MB at the peak of forward and backward beyond inputs and gradients."""
    linear, wide = nn.Linear(576, words, bias=False), 576
    linear.requires_grad_(not frozen)
    hidden = torch.randn(scored, wide, requires_grad=True)
    target = torch.randint(0, words, (scored,))
    VocabHead(linear).logps(hidden[:2], target[:2]).sum().backward()  # libraries, working space
    hidden.grad, linear.weight.grad = None, None
    base = in_use(CPU)
    reset_peak(CPU)
    VocabHead(linear).logps(hidden, target).sum().backward()
    due = hidden.numel() * 4 + (0 if frozen else linear.weight.numel() * 4)
    return {"extra": (peak(CPU) - base - due) / 2**20}


def _apart(*what: object) -> dict[str, float]:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.linear_cost", "--one", *map(str, what)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        kind, *numbers = args.one[0], *map(int, args.one[1:])
        measure = {"row": time_a_token, "head": head_memory}[kind]
        print(json.dumps(measure(*numbers)))
        return
    print(alone())
    print("\n| packed tokens | µs a token | without attention | peak MB |\n|---|---|---|---|")
    rest = []
    for tokens in ROWS:
        found = _apart("row", tokens, args.rounds)
        rest.append(found["rest"])
        figures = f"{found['whole']:.0f} | {found['rest']:.0f} | {found['peak']:.0f}"
        print(f"| {found['packed']:.0f} | {figures} |", flush=True)
    print(f"\nlargest / smallest without attention: {max(rest) / min(rest):.3f}")
    print("\n| head | scored | vocabulary | MB beyond inputs and gradients | all logits, MB |")
    print("|---|---|---|---|---|")
    for frozen in (1, 0):
        for scored in SCORED:
            for words in WORDS:
                extra = _apart("head", scored, words, frozen)["extra"]
                name, logits = ("frozen" if frozen else "trained"), scored * words * 4 / 2**20
                print(f"| {name} | {scored} | {words} | {extra:.0f} | {logits:.0f} |", flush=True)


if __name__ == "__main__":
    main()
