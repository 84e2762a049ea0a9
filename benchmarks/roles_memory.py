"""What policy, reference, value and reward model take together, against one model.

    python -m benchmarks.roles_memory

Resident memory of a process that has loaded one model, and of one that holds all four roles on it (adapter
mode: three adapters of rank 16 and two heads), and of one that holds them as models of their own. The
interpreter and its libraries, measured before the model is loaded, are taken off.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from accord.lm.kernels.allocator import release_freed_memory
from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.lm.model.scalar_head import ScalarHead
from accord.rewards.learned import RewardModel, load_reward_model
from accord.train.loop.memory import in_use
from accord.train.loop.trainee import prepare
from accord.train.online.actors import cast, on_the_base
from benchmarks.quiet import alone
from benchmarks.worker import MODEL

CPU = torch.device("cpu")


def resident() -> float:
    """MB in use, after what can be given back was."""
    gc.collect()
    release_freed_memory()
    return in_use(CPU) / 2**20


def reward_folder(folder: Path) -> Path:
    """An untrained reward model as a stage would save it."""
    trainee = prepare(load(MODEL, device="cpu"), Lora(), 17)
    head = ScalarHead(trainee.engine.config.hidden_size, 17)
    model = RewardModel(trainee.engine, head, trainee.lm.tokenizer)
    trainee.save(folder, model.save)
    return folder


def one(what: str, folder: Path) -> float:
    """MB that the roles take."""
    before = resident()
    lm = load(MODEL, device="cpu")
    weights = lm.weights
    kept: list[object] = [lm]
    if what != "one model":
        tune = Lora() if what == "four roles, adapters" else "full"
        actors = cast(lm, tune, 17, value=True, reward_model=folder)
        base = on_the_base(actors, weights, folder)
        reward = load_reward_model(folder, device="cpu", on=base)
        kept += [actors, reward]
    for thing in gc.get_objects():  # mapped from the file, weights come in when they are read
        if isinstance(thing, torch.nn.Parameter):
            thing.detach().sum()
    return resident() - before


def main() -> None:
    """Measure each in a process of its own and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one[0], Path(args.one[1]))))
        return
    print(alone())
    print("\n| held | MB | of one model |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = reward_folder(Path(name) / "reward")
        single = 0.0
        for what in ("one model", "four roles, adapters", "four roles, full models"):
            command = [sys.executable, "-m", "benchmarks.roles_memory", "--one", what, str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            size = float(json.loads(done.stdout.splitlines()[-1]))
            single = single or size
            print(f"| {what} | {size:.0f} | {size / single:.2f}× |", flush=True)


if __name__ == "__main__":
    main()
