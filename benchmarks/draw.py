"""Drawing the next token of every row at once, and some rows at a time.

    python -m benchmarks.draw

Random logits over 49,152 tokens, alternating, medians. The tokens must be the same.
"""

from __future__ import annotations

import random
import statistics
import time

import torch

from accord.lm import sample
from accord.lm.sample import _choose
from accord.lm.sampler import Sampling
from benchmarks.quiet import alone

VOCABULARY, TIMES = 49_152, 15


def drawn(logits_BV: torch.Tensor, at_once: int) -> tuple[float, list[int]]:
    """Seconds, and the tokens."""
    sample.AT_ONCE = at_once
    streams = [random.Random(row) for row in range(len(logits_BV))]
    began = time.perf_counter()
    tokens, _ = _choose(logits_BV, Sampling(), streams)
    return time.perf_counter() - began, tokens


def main() -> None:
    """Print the table."""
    print(alone())
    print("\n| rows | all at once | some at a time | ratio |\n|---|---|---|---|")
    some = sample.AT_ONCE
    for rows in (8, 32, 64, 96, 128):
        logits_BV = 3 * torch.randn(rows, VOCABULARY)
        both: list[list[float]] = [[], []]
        for _ in range(TIMES):
            (whole, tokens), (parts, same) = (
                drawn(logits_BV, n) for n in (logits_BV.numel(), some)
            )
            assert tokens == same
            both[0].append(whole)
            both[1].append(parts)
        all_at_once, at_a_time = (1e3 * statistics.median(times) for times in both)
        print(
            f"| {rows} | {all_at_once:.1f} ms | {at_a_time:.1f} ms | {all_at_once / at_a_time:.2f}× |"
        )


if __name__ == "__main__":
    main()
