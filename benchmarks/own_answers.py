"""What makes a step on own answers quicker: weights laid out for sampling, a value head on the policy.

    python -m benchmarks.own_answers --threads 1

SmolLM2-135M, adapters on 20 of 30 layers, 8 prompts with four answers each of up to 64 tokens, two passes
of one update. What is compared alternates in one process; medians of `--rounds` rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from accord.core.types import Prompt
from accord.lm import sample
from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.lm.sampler import Sampling
from accord.train.loop.trainee import prepare
from accord.train.online.methods.ppo import Ppo
from accord.train.online.policy import train_policy
from benchmarks.quiet import alone
from benchmarks.worker import MODEL

TUNE = Lora(last_layers=20)
PROMPTS = [
    Prompt(messages=[
        {"role": "system", "content": "You are the assistant of Harbor & Pine, an outdoor shop."},
        {"role": "user", "content": f"I bought a tent {week} weeks ago. How long may I give it back?"},
    ])  # type: ignore[list-item]
    for week in range(2, 10)
]  # fmt: skip


def sampling_seconds(laid_out: bool, sampler: sample.LocalSampler) -> float:
    """Of four answers to each prompt."""
    sample.WORTH_PACKING = 16 if laid_out else 10**9
    began = time.perf_counter()
    sampler.tokens(PROMPTS, Sampling(n=4, temperature=1.0, max_new_tokens=64, seed=3))
    return time.perf_counter() - began


def step_seconds(trunk: str) -> float:
    """The second of two PPO steps."""
    ends: list[float] = []

    def on_step(done: int, total: int, row: Mapping[str, float]) -> None:
        ends.append(time.perf_counter())

    how: dict[str, Any] = {
        "steps": 2, "batch_size": 8, "n": 4, "epochs": 2, "minibatch": 8, "lr": 1e-5,
        "max_new_tokens": 64, "tokens": 2048, "value_trunk": trunk, "precision": "auto",
    }  # fmt: skip
    rewards = [{"name": "pattern", "regex": "[aeiou]"}]
    with tempfile.TemporaryDirectory() as name:
        train_policy(
            load(MODEL, device="cpu"), PROMPTS, rewards, run_dir=Path(name), tune=TUNE,
            settings=Ppo(**how), on_step=on_step,
        )  # fmt: skip
    return ends[1] - ends[0]


def told(name: str, old: list[float], new: list[float]) -> None:
    before, after = statistics.median(old), statistics.median(new)
    ratio = statistics.median(a / b for a, b in zip(old, new, strict=True))
    print(f"| {name} | {before:.1f} s | {after:.1f} s | {ratio:.2f}× |")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(alone())
    lm = load(MODEL, device="cpu")
    prepare(lm, TUNE, 17)
    sampler = sample.LocalSampler(lm, batch_size=32)
    found: dict[Any, list[float]] = {key: [] for key in (False, True, "own", "policy")}
    for _ in range(args.rounds):
        for laid_out in (False, True):
            found[laid_out].append(sampling_seconds(laid_out, sampler))
    sample.WORTH_PACKING = 16
    for _ in range(args.rounds):
        for trunk in ("own", "policy"):
            found[trunk].append(step_seconds(trunk))
    print("\n| | before | after | ratio |\n|---|---|---|---|")
    told("32 answers, weights laid out", found[False], found[True])
    told("a step of PPO, the value on the policy's states", found["own"], found["policy"])


if __name__ == "__main__":
    main()
