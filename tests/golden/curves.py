"""The first twenty losses and gradient norms of each training on a tiny model: numbers of our own, kept.

    python -m tests.golden.curves      # writes curves.json anew: only when a change of the numbers is meant

A redesign, a faster kernel or a new release of torch moves none of them by more than rounding does.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accord.train.policy import train_policy
from accord.train.preference import train_preference
from accord.train.settings import Grpo, OnPolicy, Ppo
from tests.train.small import LIMITS, LORA, fresh, how, many_pairs, prompt, reward, save_tiny, sft

FILE = Path(__file__).with_name("curves.json")
STEPS = 20
KEPT = ("loss", "grad_norm")
ON_POLICY: dict[str, Any] = {
    "steps": STEPS, "batch_size": 4, "minibatch": 2, "epochs": 2, "lr": 1e-3, "max_new_tokens": 6,
    "tokens": 256, "kl": {"beta": 0.05},
}  # fmt: skip

Curve = dict[str, list[float]]


def _preference(loss: dict[str, Any]) -> Callable[[Path, Path], Any]:
    def run(model: Path, folder: Path) -> Any:
        return train_preference(
            fresh(model), many_pairs(), run_dir=folder, tune=LORA, loss=loss, limits=LIMITS,
            optimise_with=how(max_steps=STEPS, lr=1e-3),
        )  # fmt: skip

    return run


def _on_policy(settings: OnPolicy) -> Callable[[Path, Path], Any]:
    def run(model: Path, folder: Path) -> Any:
        return train_policy(
            fresh(model), [prompt(i) for i in range(6)], [{"name": "pattern", "regex": "[aeiou]"}],
            run_dir=folder, settings=settings, tune=LORA, seed=3,
        )  # fmt: skip

    return run


TRAININGS: dict[str, Callable[[Path, Path], Any]] = {
    "sft": lambda model, folder: sft(model, folder, how(max_steps=STEPS, lr=1e-3)),
    "reward": lambda model, folder: reward(model, folder, how(max_steps=STEPS, lr=1e-3)),
    "dpo": _preference({"name": "dpo"}),
    "kto": _preference({"name": "kto"}),
    "ppo": _on_policy(Ppo(**ON_POLICY)),
    "grpo": _on_policy(Grpo(**ON_POLICY, n=4)),
}


def curve(name: str, folder: Path) -> Curve:
    """What the training of this name logs, from the same start every time."""
    model, out = save_tiny(folder / "model"), folder / name
    out.mkdir()
    TRAININGS[name](model, out)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {key: [row[key] for row in rows[:STEPS]] for key in KEPT}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        made = {n: curve(n, Path(tempfile.mkdtemp(dir=where))) for n in TRAININGS}
    rounded = {
        n: {k: [float(f"{v:.8g}") for v in vs] for k, vs in c.items()} for n, c in made.items()
    }
    FILE.write_text(json.dumps(rounded, indent=1) + "\n")
