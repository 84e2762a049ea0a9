"""How near a training step comes to what its matrix products alone would take.

    python -m benchmarks.floor --case hh --tune full

Counts the products a step must do (linear layers for every packed token, the head at scored positions,
attention for the pairs of tokens that see each other), measures in the same process what plain matrix
products of the model's shapes reach, and prints both beside the measured step.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping

import torch

from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.lm.trees.score import token_logps
from accord.lm.trees.tree import bins, pack
from accord.losses import get_preference_loss
from accord.train.loop.optimise import Optimise, _accumulate
from accord.train.loop.trainee import prepare
from accord.train.offline.pairs import preference_objective
from benchmarks.cases import CASES, rows_of
from benchmarks.quiet import alone
from benchmarks.worker import MODEL, pair_trees


def rate(run: Callable[[], object], flops: float, times: int = 9) -> float:
    """Median GFLOP/s."""
    run()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return flops / statistics.median(seconds) / 1e9


def plain_rates(shapes: Mapping[tuple[int, int], int], tokens: int) -> float:
    """GFLOP/s of forward, input-gradient and weight-gradient products, weighed by their share."""
    work = spent = 0.0
    for (wide, narrow), count in shapes.items():
        x, w, g = torch.randn(tokens, narrow), torch.randn(wide, narrow), torch.randn(tokens, wide)
        flops = 2.0 * tokens * wide * narrow
        products: list[Callable[[], object]] = [lambda: x @ w.T, lambda: g @ w, lambda: g.T @ x]  # noqa: B023
        for run in products:
            work += count * flops
            spent += count * flops / rate(run, flops)
    return work / spent


def shapes_of(model: torch.nn.Module) -> Counter[tuple[int, int]]:
    """(out, in) of the linear layers, adapters and head apart, and how many there are of each."""
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear)]
    return Counter(
        (m.out_features, m.in_features)
        for m in linear
        if m.out_features < 40_000 and m.in_features > 16 < m.out_features
    )


def main() -> None:
    """Print floor, step and the fraction."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", choices=CASES, default="hh")
    parser.add_argument("--tune", choices=["full", "lora"], default="full")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(alone())
    lm, case = load(MODEL, device="cpu"), CASES[args.case]
    data = pair_trees(rows_of(case, lm.tokenizer, case.batch))
    trainee = prepare(lm, Lora() if args.tune == "lora" else "full", 17)
    engine = trainee.engine
    rows = [
        pack([data.trees[i] for i in b]) for b in bins([t.tokens for t in data.trees], args.tokens)
    ]
    tokens, scored = sum(len(r.ids_T) for r in rows), sum(len(r.at_S) for r in rows)
    seen = sum(int(r.allowed_TT().sum()) for r in rows)
    shapes, config = shapes_of(lm.model), engine.config
    trunk = sum(wide * narrow * n for (wide, narrow), n in shapes.items())
    head = config.vocab_size * config.hidden_size
    adapters = sum(p.numel() for p in trainee.parameters().values()) if args.tune == "lora" else 0
    per_weight = 6 if args.tune == "full" else 4
    flops = per_weight * (trunk * tokens + head * scored) + 6 * adapters * tokens
    flops += (
        config.num_hidden_layers * seen * config.hidden_size * 4 * 3
    )  # q·k, p·v; backward twice
    objective = preference_objective(
        engine,
        data,
        token_logps(engine, data.trees, args.tokens),
        get_preference_loss("dpo"),
        "pair",
    )
    cfg = Optimise(tokens=args.tokens)
    steps, rates = [], []
    for _ in range(args.rounds):
        rates.append(plain_rates(shapes, tokens))
        began = time.perf_counter()
        _accumulate(objective, range(len(data.items)), cfg)
        steps.append(time.perf_counter() - began)
        lm.model.zero_grad(set_to_none=True)
    step, plain = statistics.median(steps), statistics.median(rates)
    floor = flops / plain / 1e9
    told = f"{tokens} packed tokens, {scored} scored, {flops / 1e9:.0f} GFLOP that must be done"
    print(f"{args.case}, {args.tune}: {told}")
    print(f"plain products of the model's shapes: {plain:.0f} GFLOP/s -> floor {floor:.2f} s")
    print(f"step (forward and backward): {step:.2f} s, {floor / step:.0%} of the plain rate")


if __name__ == "__main__":
    main()
