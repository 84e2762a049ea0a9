"""The first twenty losses and gradient norms of each training on a tiny model: numbers of our own, kept.

    python -m tests.golden.curves      # writes curves.json anew: only when a change of the numbers is meant

A redesign, a faster kernel or a new release of torch moves none of them by more than rounding does.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accord.core.types import Edge, Group, LabelledSteps, Response
from accord.lm.model.lora import Lora
from accord.train.offline.axes import train_axes
from accord.train.offline.preference import train_preference
from accord.train.offline.process import train_process
from accord.train.online.methods.best_of_n import BestOfN
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.online_dpo import OnlineDpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.methods.rloo import Rloo
from accord.train.online.policy import train_policy
from accord.train.settings import OnPolicy
from tests.train.small import (
    ANSWERS,
    LIMITS,
    LORA,
    answer,
    demonstrations,
    fresh,
    how,
    many_pairs,
    prompt,
    reward,
    save_tiny,
    sft,
)

FILE = Path(__file__).with_name("curves.json")
STEPS = 20
KEPT = ("loss", "grad_norm", "value_loss")  # the last where there is a value model
ON_POLICY: dict[str, Any] = {
    "steps": STEPS, "batch_size": 4, "minibatch": 2, "epochs": 2, "lr": 1e-3, "max_new_tokens": 6,
    "tokens": 256, "kl": {"beta": 0.05},
}  # fmt: skip

Curve = dict[str, list[float]]


VOWELS = {"name": "pattern", "regex": "[aeiou]"}
SPREAD = [  # of many values: no group of answers is alike
    {"name": "pattern", "regex": f"[{letters}]", "label": letters, "weight": 2.0**-k}
    for k, letters in enumerate(("aeiou", "k-p", "q-t", "b-d", "f-h", "A-Z"))
]


def _ranked(at: int) -> Group:
    """Three answers in one full order, the middle one by a soft label."""
    order = [(0, 1, 1.0), (1, 2, 0.8), (0, 2, 1.0)]
    edges = tuple(Edge(better=b, worse=w, p=p, weight=1.0 + at % 2) for b, w, p in order)
    responses = tuple(answer((at + k) % len(ANSWERS)) for k in range(3))
    return Group(prompt=prompt(at), responses=responses, edges=edges)


RANKED = [_ranked(i) for i in range(9)]
BY_AXIS = {
    "tone": RANKED[:6],
    "facts": [
        Group(prompt=g.prompt, responses=g.responses[1:], edges=(Edge(better=1, worse=0, p=0.9),))
        for g in RANKED[3:]
    ],
}


def _stepped(at: int) -> LabelledSteps:
    text = "\n".join(ANSWERS[(at + k) % len(ANSWERS)] for k in range(2))
    return LabelledSteps(
        prompt=prompt(at), response=Response(text=text, finish="stop"),
        labels=(1.0, (-1.0, 0.0)[at % 2]), weight=1.0 + at % 2,
    )  # fmt: skip


def _trained(train: Callable[..., Any], items: Any, **more: Any) -> Callable[[Path, Path], Any]:
    def run(model: Path, folder: Path) -> Any:
        return train(
            fresh(model), items, run_dir=folder, tune=LORA, limits=LIMITS,
            optimise_with=how(max_steps=STEPS, lr=1e-3), **more,
        )  # fmt: skip

    return run


def _preference(loss: dict[str, Any], **more: Any) -> Callable[[Path, Path], Any]:
    return _trained(train_preference, more.pop("items", many_pairs()), loss=loss, **more)


def _on_policy(
    settings: OnPolicy, rewards: Sequence[dict[str, Any]] = (VOWELS,)
) -> Callable[[Path, Path], Any]:
    def run(model: Path, folder: Path) -> Any:
        return train_policy(
            fresh(model), [prompt(i) for i in range(6)], rewards, run_dir=folder, settings=settings,
            tune=LORA, seed=3,
        )  # fmt: skip

    return run


def _sft_held(model: Path, folder: Path) -> Any:
    """Measured on the way: that draws nothing which the steps draw from."""
    cfg = how(max_steps=STEPS, lr=1e-3, eval_every=5)
    return sft(model, folder, cfg, Lora(r=4, alpha=8, dropout=0.2), eval_on=demonstrations(3))


TRAININGS: dict[str, Callable[[Path, Path], Any]] = {
    "sft": lambda model, folder: sft(model, folder, how(max_steps=STEPS, lr=1e-3)),
    "reward": lambda model, folder: reward(model, folder, how(max_steps=STEPS, lr=1e-3)),
    "dpo": _preference({"name": "dpo"}),
    "kto": _preference({"name": "kto"}),
    "ppo": _on_policy(Ppo(**ON_POLICY)),
    "grpo": _on_policy(Grpo(**ON_POLICY, n=4)),
    "sft_dropout": _sft_held,
    "axes": _trained(train_axes, BY_AXIS),
    "process": _trained(train_process, [_stepped(i) for i in range(9)]),
    "bco": _preference({"name": "bco"}),
    "simpo": _preference({"name": "simpo"}),
    "orpo": _preference({"name": "orpo"}, average="prompt"),
    "plackett_luce": _preference({"name": "plackett_luce"}, items=RANKED),
    "ipo_by_pair": _preference({"name": "ipo"}, items=RANKED, share="pair", average="prompt"),
    "rloo": _on_policy(Rloo(**ON_POLICY, n=4)),
    "online_dpo": _on_policy(OnlineDpo(**ON_POLICY, n=3), SPREAD),
    "best_of_n": _on_policy(BestOfN(**ON_POLICY, n=3), SPREAD),
}


def curve(name: str, folder: Path) -> Curve:
    """What the training of this name logs, from the same start every time."""
    model, out = save_tiny(folder / "model"), folder / name
    out.mkdir()
    TRAININGS[name](model, out)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {key: [row[key] for row in rows[:STEPS]] for key in KEPT if key in rows[0]}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        made = {n: curve(n, Path(tempfile.mkdtemp(dir=where))) for n in TRAININGS}
    rounded = {
        n: {k: [float(f"{v:.8g}") for v in vs] for k, vs in c.items()} for n, c in made.items()
    }
    FILE.write_text(json.dumps(rounded, indent=1) + "\n")
