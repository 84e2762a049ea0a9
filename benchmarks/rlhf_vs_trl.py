"""accord's GRPO and PPO against TRL's: seconds a step, peak memory, and where accord's time goes.

    python -m benchmarks.rlhf_vs_trl grpo --tune full --all
    python -m benchmarks.rlhf_vs_trl ppo --tune lora --trl-python OTHER/bin/python

GRPO: 2 prompts × 4 answers × 32 tokens against the TRL installed here. PPO: 4 prompts × 64 tokens, 4 epochs,
against TRL 1.8, the last with a PPO: `--trl-python` is an environment of its own with trl==1.8.0. Both sides
train all weights, or both adapters (in TRL's PPO the policy only: its reward and value models are
models of their own). Same conversations, template and lengths on both sides: no answer ends early.
Contenders run in turn in processes of their own; the first step is not counted.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer

from accord.core.types import Prompt
from accord.lm.chat import render_prompt
from accord.lm.model.load import LanguageModel, load
from accord.lm.model.lora import Lora
from accord.lm.model.packaged import packaged_path
from accord.rewards.base import Context, reward
from accord.train.loop.memory import peak
from accord.train.online import on_policy as loop
from accord.train.online.policy import train_policy
from accord.train.settings import Grpo, OnPolicy, Ppo
from benchmarks.cases import CASES
from benchmarks.floor import plain_rates, rate, shapes_of
from benchmarks.quiet import alone
from benchmarks.roles_memory import reward_folder
from benchmarks.worker import MODEL

QUESTIONS = [
    Prompt.user(f"Write one sentence about {what} for a reader who has never heard of it, plainly.")
    for what in ("rain", "trains", "bread", "winter", "music", "maps", "bees", "rope")
]
SETTINGS: dict[str, OnPolicy] = {
    "grpo": Grpo(batch_size=2, minibatch=2, n=4, max_new_tokens=32, lr=1e-6, tokens=2048),
    "ppo": Ppo(batch_size=4, minibatch=4, max_new_tokens=64, lr=1e-6, tokens=2048, epochs=4),
}
NEW = {"grpo": 32, "ppo": 64}


@reward("vowels")
def vowels(_: Context) -> Any:
    """Share of vowels: something to score that costs nothing."""

    def score(exchanges: Any) -> list[float]:
        texts = [e.response.text for e in exchanges]
        return [sum(c in "aeiou" for c in t) / max(1, len(t)) for t in texts]

    return score


def prompts_of(case: str, tokenizer: Any) -> list[Prompt]:
    """Eight prompts: invented questions, or the first real ones whose length is the case's."""
    if case == "questions":
        return QUESTIONS
    pairs, (low, high) = CASES[case].pairs, CASES[case].prompt
    assert pairs
    some = {p.prompt.id: p.prompt for p in itertools.islice(pairs(), 2000)}.values()
    fitting = (p for p in some if low <= len(render_prompt(tokenizer, p)) <= high)
    return list(itertools.islice(fitting, 8))


def run_accord(method: str, tune: str, case: str, steps: int) -> dict[str, Any]:
    """accord's loop; the parts of its steps are timed apart, and what their products alone would take. PPO's
    reward is a reward model, as TRL's is."""
    lm = load(MODEL, device="cpu")
    lm.__dict__["eos_ids"] = ()  # no answer ends early
    prompts = prompts_of(case, lm.tokenizer)
    cfg = SETTINGS[method].model_copy(update={"steps": steps, "save_every": 10**6})
    parts: dict[str, list[float]] = defaultdict(list)
    for name, where in (("generation", "roll_out"), ("scoring", "experience")):
        _timed(where, parts[name])
    ends = [time.perf_counter()]
    with tempfile.TemporaryDirectory() as folder:
        scored = {"name": "vowels"}
        if method == "ppo":
            scored = {"name": "learned", "model": str(reward_folder(Path(folder) / "reward"))}
        train_policy(
            lm, prompts, [scored], run_dir=Path(folder), tune=Lora() if tune == "lora" else "full",
            settings=cfg, on_step=lambda *_: ends.append(time.perf_counter()),
        )  # fmt: skip
    seconds = [b - a for a, b in itertools.pairwise(ends)][:-1]  # the last one saves
    split = {name: statistics.median(x[1:-1]) for name, x in parts.items()}
    split["update"] = statistics.median(seconds[1:]) - sum(split.values())
    held = peak(lm.device)  # before the floors' own products
    return {"steps": seconds, "peak": held, "split": split, "floor": floors(lm, prompts, cfg, tune)}


def floors(lm: LanguageModel, prompts: list[Prompt], cfg: OnPolicy, tune: str) -> dict[str, float]:
    """Seconds of a step's matrix products alone (trunk and head, no attention), at the rate that plain ones
    of the same shapes reach here: a decode step's with a row for each answer, the others' with all tokens."""
    shapes, config = shapes_of(load(MODEL, device="cpu").model), lm.model.config.get_text_config()
    head = {(config.vocab_size, config.hidden_size): 1}
    trunk, words = (sum(w * n * k for (w, n), k in x.items()) for x in (shapes, head))
    asked = [len(render_prompt(lm.tokenizer, p)) for p in prompts]
    read = sum(asked) / len(asked) * cfg.batch_size
    answers = cfg.batch_size * cfg.n
    written = answers * cfg.max_new_tokens
    tokens, plain = read + written, plain_rates(shapes, int(read + written)) * 1e9

    def forward(many: int, of: Mapping[tuple[int, int], int]) -> float:
        total = 0.0
        for (wide, narrow), count in of.items():
            x, w = torch.randn(many, narrow), torch.randn(wide, narrow)
            flops = 2.0 * many * wide * narrow
            total += count * flops / (rate(lambda x=x, w=w: x @ w.T, flops) * 1e9)  # type: ignore[misc]
        return total

    models = 2 if isinstance(cfg, Ppo) else 1
    once = (2 * trunk * tokens + 2 * words * written) / plain
    trained = (6 if tune == "full" else 4) * (models * trunk * tokens + words * written) / plain
    return {
        "generation": 2 * trunk * read / plain
        + cfg.max_new_tokens * forward(answers, {**shapes, **head}),
        "scoring": 2 * once + (4 * trunk * tokens / plain if models == 2 else 0.0),
        "update": trained * cfg.epochs,
    }


def _timed(name: str, into: list[float]) -> None:
    own = getattr(loop, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        found = own(*args, **kwargs)
        into.append(time.perf_counter() - began)
        return found

    setattr(loop, name, run)


def run_trl(
    python: str, method: str, tune: str, case: str, steps: int, as_it_comes: bool
) -> dict[str, Any]:
    """TRL in a process, maybe of another environment."""
    folder = packaged_path("SmolLM2-135M-Instruct")
    prompts = prompts_of(case, AutoTokenizer.from_pretrained(folder))
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([[m.model_dump() for m in p.messages] for p in prompts], file)
        file.flush()
        command = [python, "benchmarks/rlhf_trl_worker.py", method, "--model", str(folder)]
        batch = SETTINGS[method].batch_size
        command += ["--prompts", file.name, "--steps", str(steps), "--batch", str(batch)]
        command += ["--new", str(NEW[method]), "--tune", tune]
        command += ["--as-it-comes"] if as_it_comes else []
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"trl failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def main() -> None:
    """Run both in turn and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("method", choices=SETTINGS)
    parser.add_argument("--tune", choices=["full", "lora"], default="full")
    parser.add_argument("--case", choices=["questions", "hh", "p186"], default="hh")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trl-python", default=sys.executable)
    parser.add_argument("--all", action="store_true", help="every other way TRL runs it too")
    parser.add_argument("--only-accord", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only_accord:
        print(json.dumps(run_accord(args.method, args.tune, args.case, args.steps + 1)))
        return
    others = {f"TRL, {args.tune}, settings matched": (args.tune, False)}
    if args.all:
        others |= {f"TRL, {args.tune}, as it comes": (args.tune, True)}
        if args.tune != "full":
            others |= {"TRL, full, settings matched": ("full", False)}
    where, runs = alone(), defaultdict[str, list[dict[str, Any]]](list)
    for _ in range(args.rounds):
        command = [sys.executable, "-m", "benchmarks.rlhf_vs_trl", args.method, "--tune", args.tune]
        more = ["--case", args.case, "--steps", str(args.steps), "--only-accord"]
        done = subprocess.run([*command, *more], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr[-3000:])
        runs["accord"].append(json.loads(done.stdout.strip().splitlines()[-1]))
        for name, (tune, as_it_comes) in others.items():
            told = run_trl(args.trl_python, args.method, tune, args.case, args.steps, as_it_comes)
            runs[name].append(told)
    print(f"{args.method}, {args.tune}, {args.case}; {where}\n")
    print("| contender | s a step | peak MB | time: it / accord | memory: accord / it |")
    print("|---|---|---|---|---|")
    seconds = {k: statistics.median(s for r in x for s in r["steps"][1:]) for k, x in runs.items()}
    peaks = {k: max(r["peak"] for r in x) / 2**20 for k, x in runs.items()}
    for name in runs:
        time_ratio, memory = seconds[name] / seconds["accord"], peaks["accord"] / peaks[name]
        ratios = f"{time_ratio:.2f}× | {memory:.2f}"
        print(f"| {name} | {seconds[name]:.1f} | {peaks[name]:.0f} | {ratios} |")
    split, floor = runs["accord"][-1]["split"], runs["accord"][-1]["floor"]
    told = (f"{name} {s:.2f} s (products alone {floor[name]:.2f})" for name, s in split.items())
    print("\naccord's step: " + ", ".join(told))


if __name__ == "__main__":
    main()
