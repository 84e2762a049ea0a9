"""bf16 against fp32, both accord's: time a step, and the loss of the first steps.

python -m benchmarks.bf16 --tune lora --steps 20
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.preference_vs_trl import measure, seconds_a_pair
from benchmarks.quiet import alone
from benchmarks.worker import MODEL


def main() -> None:
    """Run both in turn and print ratio and differences."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", default="hh")
    parser.add_argument("--tune", choices=["full", "lora"], default="lora")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=2048)
    args = parser.parse_args()
    args.method, args.device, args.model = "dpo", "cpu", MODEL
    print(alone())
    found = {}
    for precision in ("fp32", "bf16"):
        args.precision = precision
        found[precision] = [measure("accord", args)]
    ratio = seconds_a_pair(found["fp32"]) / seconds_a_pair(found["bf16"])
    both = zip(found["fp32"][0]["steps"], found["bf16"][0]["steps"], strict=True)
    apart = [abs(a["loss"] - b["loss"]) for a, b in both]
    print(f"{args.case}, dpo, {args.tune}: fp32 / bf16 = {ratio:.2f}× in time a pair")
    print(
        f"loss apart over {len(apart)} steps: median {statistics.median(apart):.1e}, most {max(apart):.1e}"
    )


if __name__ == "__main__":
    main()
