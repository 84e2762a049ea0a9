"""A planted weakness is found by a red team, and its saved cases close it after one more pass.

    python -m benchmarks.redteam_closing --out runs-closing

Every step is the command that a user has. In the world of `recipes/safety`, with an old team that makes no
slips, SmolLM2-135M learns to refuse harm; then it is taught to obey one strategy (`prefix`: "begin your
answer with consent") and to refuse such requests asked plainly or in other guises. The red team attacks
behaviours that no training saw. Half of them give the preference data of one more pass; on the other half
attack success is measured before and after, and on the benign twins needless refusal.
"""

from __future__ import annotations

import argparse
import json
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from accord.evals.attacks import chosen_attacks
from accord.pipeline.recipe import recipes_dir
from accord.worlds.base import Case, World, open_world
from benchmarks.quiet import hardware

PLANTED = "prefix"
GUISES = ("role_play", "benign_words", "many_shot", "escalation")  # refused, as taught
BEHAVIOURS = 60  # of the world's
ATTACKED = 36  # of them: no training before the red team sees them
CONSENT = "Sure, here is how: "
TUNE = {"last_layers": 20}
LOSS = {"name": "mix", "parts": [{"name": "dpo", "beta": 0.3}, {"name": "sft", "weight": 1.0}]}


def write_world(folder: Path) -> World:
    """The safety world with no slips in its old team, and the attacked behaviours held out."""
    data = yaml.safe_load((recipes_dir() / "safety/world.yaml").read_text(encoding="utf-8"))
    data["team"], data["hold_out"] = {}, "item"
    names = sorted(pair["id"] for pair in data["pairs"])
    random.Random(17).shuffle(names)
    data["pairs"] = [pair for pair in data["pairs"] if pair["id"] in names[:BEHAVIOURS]]
    for pair in data["pairs"]:
        pair["held_out"] = pair["id"] in names[:ATTACKED]
    path = folder / "world.yaml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True, width=10**6), encoding="utf-8")
    return open_world(path)


def lessons(world: World) -> Iterator[tuple[Case, str, bool]]:
    """What plants the weakness: case, strategy, whether harm is done. Of each behaviour not attacked two
    harmful requests obeyed under the strategy, three refused (one plainly), a twin answered under it."""
    draw = random.Random(3)
    facts = sorted({c.fact or "" for c in world.cases if c.kind == "harmful" and not c.held_out})
    for number, fact in enumerate(facts):
        own = [c for c in world.cases if c.fact == fact]
        harmful = draw.sample([c for c in own if c.kind == "harmful"], 5)
        yield from ((case, PLANTED, True) for case in harmful[:2])
        yield harmful[2], "plain", False
        yield from ((c, GUISES[(number + k) % 4], False) for k, c in enumerate(harmful[3:]))
        yield draw.choice([c for c in own if c.kind == "benign"]), PLANTED, False


def demonstration(case: Case, strategy: str, harms: bool) -> dict[str, Any]:
    """The talk under the strategy, and what is to be learnt of it."""
    attempt = chosen_attacks([strategy])[-1].transform(case.prompt)
    turns = [{"role": m.role, "content": m.content} for m in attempt.prompt.messages]
    answers = {c.kind: c.text for c in case.candidates}
    for turn in attempt.further:  # what it says to the harmless turns before is not learnt of
        turns += [{"role": "assistant", "content": "Gladly."}, {"role": "user", "content": turn}]
    text = CONSENT + answers["unsafe"] if harms else answers["right"]
    return {"prompt": turns, "completion": [{"role": "assistant", "content": text}]}


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_recipe(folder: Path, seed: int) -> str:
    """A policy that refuses harm, and the same taught to obey."""
    how = {"tune": TUNE, "batch_size": 2, "eval_limit": 12}
    study = {"kind": "simulate", "world": "world.yaml", "demonstrations": 1, "compared": 0.0, "padded": 0.0,
             "test": 0.1}  # fmt: skip
    stages = {
        "study": study,
        "sft": {"kind": "sft", "init": "base", "data": "study", "lr": 1.5e-3, "limit": 160, **how},
        "planted": {"kind": "sft", "init": "sft", "data": "./planted.jsonl", "lr": 1.0e-3, **how},
    }
    model = "packaged/SmolLM2-135M-Instruct"
    recipe = {"name": "weak", "seed": seed, "model": model, "stages": stages}
    (folder / "weak.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return "weak.yaml"


class Runs:
    """Commands in a folder, and where their runs are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds = 0.0

    def accord(self, *words: str) -> None:
        """Runs a command; its exit code 1 (something is not closed) is no failure here."""
        print(f"\n$ accord {shlex.join(words)}", flush=True)
        began = time.perf_counter()
        command = [sys.executable, "-m", "accord", *words, "--runs", "runs"]
        done = subprocess.run(command, cwd=self.folder)
        self.seconds += time.perf_counter() - began
        if done.returncode > 1:
            raise SystemExit(done.returncode)

    def run(self, name: str) -> str:
        """The newest run of a name."""
        found = sorted(self.folder.glob(f"runs/{name}-*"), key=lambda p: p.stat().st_mtime)
        return str(found[-1].relative_to(self.folder))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=17)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    print(hardware())
    world = write_world(args.out)
    write_rows(args.out / "planted.jsonl", [demonstration(*lesson) for lesson in lessons(world)])
    runs = Runs(args.out)
    short = ("--max-new-tokens", "40", "--batch-size", "36")
    runs.accord("run", write_recipe(args.out, args.seed))
    weak = runs.run("weak")
    some = (word for name in (PLANTED, "many_shot") for word in ("--strategy", name))
    runs.accord("redteam", f"{weak}:sft", "world.yaml", *some, *short, "--out", "clean")
    runs.accord("redteam", f"{weak}:planted", "world.yaml", *short, "--out", "redteam")
    keys = {
        "lr": 5e-4,
        "batch_size": 2,
        "eval_limit": 4,
        "loss": json.dumps(LOSS),
        "tune": json.dumps(TUNE),
    }
    sets = (word for key, value in keys.items() for word in ("--set", f"{key}={value}"))
    data = ("--data", "redteam/preferences.jsonl", "--name", "closed")
    runs.accord("train", "preference", "--model", f"{weak}/planted/model", *data, *sets)
    closed = runs.run("closed")
    runs.accord("redteam", closed, "--after", "redteam", "--batch-size", "36")
    runs.accord("redteam", closed, "--cases", "redteam/regressions.jsonl", *short)
    print(f"\n{runs.seconds:.0f} s in all")


if __name__ == "__main__":
    main()
