"""One contender of the preference benchmark in a process of its own: prints what it measured as JSON.

    python -m benchmarks.worker accord --case hh --method dpo --tune full --steps 3

`trl*` contenders get the very same token ids in the same batches: their own data preparation is replaced,
nothing else is (what each variant changes is in `benchmarks.trl_worker`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from accord.core.types import Edge, Group, LabelledResponse, Prompt, Response
from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.trees.tree import Tree
from accord.losses import choose_loss, get_reward_loss
from accord.rewards.learned import RewardModel
from accord.train.loop.data import Trees
from accord.train.loop.memory import in_use, peak, reset_peak
from accord.train.loop.optimise import Objective, Optimise, batch_items, optimise
from accord.train.loop.trainee import prepare
from accord.train.offline.pairs import preference_objective
from accord.train.offline.reference import reference_logps
from accord.train.offline.reward import reward_objective
from accord.train.offline.unpaired import unpaired_objective
from benchmarks.cases import CASES, Row, rows_of

MODEL = "packaged/SmolLM2-135M-Instruct"
SEED = 17
LOSSES: dict[str, dict[str, Any]] = {
    "dpo": {"name": "dpo", "beta": 0.1},
    "ipo": {"name": "ipo", "beta": 0.1, "average": True},
    "simpo": {"name": "simpo", "beta": 2.0, "gamma": 1.0},
    "orpo": {"name": "orpo", "lam": 0.1},
    "kto": {"name": "kto", "beta": 0.1},
}
METHODS = [*LOSSES, "reward", "reward_k4"]


def settings(args: argparse.Namespace, batch: int) -> Optimise:
    """AdamW as TRL is told to run it: constant rate, no decay, gradient norm 1."""
    return Optimise(
        lr=1e-5, schedule="constant", warmup=0.0, epochs=1.0, max_steps=args.steps + 2, batch_size=batch,
        tokens=args.tokens, max_grad_norm=1.0, precision=args.precision, save_every=10**6,
    )  # fmt: skip


def batch_of(args: argparse.Namespace) -> int:
    """Prompts a step: a prompt of four answers is six comparisons, twelve sequences to TRL."""
    return CASES[args.case].batch // (4 if args.method == "reward_k4" else 1)


def in_batches(rows: list[Any], cfg: Optimise) -> list[Any]:
    """The rows placed so that accord's shuffle draws them in the order given."""
    order = [
        i
        for step in range(len(rows) // cfg.batch_size)
        for i in batch_items(len(rows), step, cfg, SEED)
    ]
    placed: list[Any] = [None] * len(rows)
    for at, row in zip(order, rows, strict=True):
        placed[at] = row
    return placed


def _texts(n: int) -> tuple[Response, ...]:
    return tuple(Response(text=str(k), source="benchmark", finish="stop") for k in range(n))


def pair_trees(rows: list[Row]) -> Trees:
    """One tree a pair."""
    groups = [
        Group(prompt=Prompt.user(str(i)), responses=_texts(2), edges=(Edge(better=0, worse=1),))
        for i in range(len(rows))
    ]
    return Trees([Tree(p, (c, r)) for p, c, r in rows], groups)


def ranked_trees(rows: list[tuple[Any, ...]]) -> Trees:
    """One tree a prompt: four answers, six comparisons."""
    edges = tuple(Edge(better=a, worse=b) for a in range(4) for b in range(a + 1, 4))
    groups = [
        Group(prompt=Prompt.user(str(i)), responses=_texts(4), edges=edges)
        for i in range(len(rows))
    ]
    return Trees([Tree(p, answers) for p, answers in rows], groups)


def single_trees(rows: list[Row]) -> Trees:
    """One tree an answer, chosen then rejected: KTO's rows."""
    trees, items = [], []
    for i, (p, c, r) in enumerate(rows):
        for answer, good in ((c, True), (r, False)):
            trees.append(Tree(p, (answer,)))
            items.append(
                LabelledResponse(prompt=Prompt.user(str(i)), response=_texts(1)[0], desirable=good)
            )
    return Trees(trees, items)


def four_answers(rows: list[Row]) -> list[tuple[Any, ...]]:
    """Rows with K = 4: each prompt keeps its answers and takes its neighbour's two (by twos)."""
    return [(p, (c, r, *rows[i ^ 1][1:])) for i, (p, c, r) in enumerate(rows)]


def run_accord(args: argparse.Namespace) -> dict[str, Any]:
    """accord's own loop over token trees; reference log-probs timed apart."""
    case, lm = CASES[args.case], load(args.model, device=args.device)
    kto, k4 = args.method == "kto", args.method == "reward_k4"
    batch = batch_of(args)
    rows: list[Any] = rows_of(case, lm.tokenizer, batch * (args.steps + 2))
    cfg = settings(args, batch * (2 if kto else 1))
    trainee = prepare(lm, Lora() if args.tune == "lora" else "full", SEED, cfg.precision)
    engine, extra, live = trainee.engine, [], [0.0]
    with tempfile.TemporaryDirectory() as folder:

        def references(trees: Any) -> list[torch.Tensor]:
            began = time.perf_counter()
            found = reference_logps(engine, trees, lm.weights, args.tokens, Path(folder) / "ref")
            live[0] += time.perf_counter() - began
            return found

        objective: Objective
        if args.method.startswith("reward"):
            data = (
                ranked_trees(in_batches(four_answers(rows), cfg))
                if k4
                else pair_trees(in_batches(rows, cfg))
            )
            head = ScalarHead(engine.config.hidden_size, SEED).to(lm.device)
            model = RewardModel(engine, head, lm.tokenizer, 10_000)
            objective = reward_objective(model, data, get_reward_loss("bradley_terry"), "pair")
            extra = [head]
        elif kto:
            plain = single_trees(rows)
            order = in_batches(list(range(len(plain.items))), cfg)
            data = Trees([plain.trees[i] for i in order], [plain.items[i] for i in order])
            size, place = cfg.batch_size, {at: k for k, at in enumerate(order)}
            before = [
                i - 1 if i % size else i + size - 1 for i in order
            ]  # TRL's rotation, by one in a batch
            objective = unpaired_objective(
                engine, data, references, choose_loss(LOSSES["kto"]).function, reads="mismatched",
                tokens=args.tokens, partners=[place[i] for i in before],
            )  # fmt: skip
        else:
            data, loss = pair_trees(in_batches(rows, cfg)), choose_loss(LOSSES[args.method])
            kept = references(data.trees) if loss.facts["needs_reference"] else None
            objective = preference_objective(engine, data, kept, loss.function, "pair", loss.facts)
        steps: list[dict[str, float]] = []
        began = [time.perf_counter()]

        def on_step(done: int, total: int, row: Any) -> None:
            now = time.perf_counter()
            steps.append({"s": now - began[0], "loss": row["loss"]})
            if done == 1:
                reset_peak(engine.device)
            began[0] = time.perf_counter()

        base = in_use(engine.device)
        began[0] = time.perf_counter()
        optimise(
            trainee.parameters(*extra),
            objective,
            cfg,
            seed=SEED,
            folder=Path(folder),
            on_step=on_step,
        )
    per = {"reward_k4": 6}.get(args.method, 1)
    share = live[0] / (args.steps + 2) if args.contender.endswith("-live") else 0.0
    return {  # the last step's time holds the checkpoint's writing
        "steps": [{**x, "s": x["s"] + share} for x in steps[:-1]],
        "per_step": batch * per,
        "peak": peak(engine.device),
        "base": base,
        "tokens": data.tokens,
    }


def main() -> None:
    """Run one contender and print its figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("contender")
    parser.add_argument("--case", choices=CASES, default="hh")
    parser.add_argument("--method", choices=METHODS, default="dpo")
    parser.add_argument("--tune", choices=["full", "lora"], default="full")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default=MODEL)
    args = parser.parse_args()
    if args.contender.startswith("accord-bf16"):
        args.precision = "bf16"
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    if args.contender.startswith("trl"):
        from benchmarks.trl_worker import run_trl

        found = run_trl(args)
    else:
        found = run_accord(args)
    print(json.dumps(found), file=sys.stdout, flush=True)


if __name__ == "__main__":
    main()
