"""Trainings of the tiny model (that of the golden curves), and the faults of them: a fault is other keys.

So that a run can have several, and others drawn by chance, a fault is what it changes (`KEYS`); one that no
key makes plants itself around the training (`starts`).
"""

from __future__ import annotations

import contextlib
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from accord.core.errors import RunError
from accord.core.rundir import read_jsonl
from accord.core.types import Demonstration, Group
from accord.lm.model.lora import Lora
from accord.pipeline.doctor.base import StageRecord
from accord.train.loop.data import Limits
from accord.train.offline.preference import train_preference
from accord.train.offline.reward import train_reward
from accord.train.offline.sft import train_sft
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.policy import train_policy
from accord.train.settings import Optimise
from tests.faults import starts
from tests.faults.library import FAULTS, HEALTHY, changed, data, groups, level, text_of
from tests.train.small import fresh, save_tiny

Keys = dict[str, Any]
KEYS: dict[str, dict[str, Callable[[float, int], Keys]]] = {
    "preference": {
        "learning_rate_low": lambda by, _: {"lr": level(by, 3e-5, 3e-6, 3e-7)},
        "learning_rate_high": lambda by, _: {"lr": level(by, 0.1, 0.5, 2.0)},
        "beta_low": lambda by, _: {"beta": level(by, 3e-2, 1e-2, 1e-3), "lr": 3e-2, "steps": 24},
        "beta_high": lambda by, _: {"beta": level(by, 1.0, 3.0, 10.0)},
        "truncated": lambda by, _: {"cut": round(level(by, 24, 12, 6)), "steps": 8},
        **{
            f"not_the_reference ({how})": partial(
                lambda how, by, seed: {"around": starts.preference(how, by, seed), "steps": 8}, how
            )
            for how in starts.PREFERENCE
        },
    },
    "sft": {
        "learning_rate_low": lambda by, _: {"lr": level(by, 3e-5, 3e-6, 3e-7)},
        "learning_rate_high": lambda by, _: {"lr": level(by, 2.0, 10.0, 50.0)},
        "truncated": lambda by, _: {"cut": round(level(by, 24, 12, 6))},
    },
    "online": {
        "kl_runaway": lambda by, _: {
            "lr": level(by, 1e-2, 2e-2, 4e-2), "kl": {"beta": 0.0}, "steps": 12
        },
        "silent_groups": lambda by, _: {
            "method": Grpo, "rewards": [{"name": "pattern", "regex": SILENT[round(2 * by) + 1]}]
        },
        "answers_cut": lambda by, _: {"missing_eos": {"treatment": "leave"}, "steps": 6},
        "reward_wide": lambda by, _: {
            "rewards": [{**r, "weight": level(by, 30, 300, 3000) * r["weight"]} for r in LETTERS]
        },
        **{
            f"not_the_reference ({how})": partial(
                lambda how, by, seed: {"around": starts.online(how, by, seed), "steps": 4}, how
            )
            for how in starts.ONLINE
        },
    },
}  # fmt: skip
SILENT = ("[a-s]", "[a-z]", "[a-z0-9]", "[a-zA-Z]", "[^ ]", "(?s)^")  # what nearly every answer has
LETTERS = [
    {"name": "pattern", "regex": f"[{x}]", "label": x, "weight": 2.0**-k}
    for k, x in enumerate(("aeiou", "k-p", "q-t", "b-d", "f-h", "A-Z"))
]


def _record(
    folder: str,
    name: str,
    of: str,
    config: Keys,
    train: Callable[[], Any],
    around: Any = None,
) -> StageRecord:
    """What a training leaves; of one that breaks off (a gradient that is NaN) what it logged until then."""
    try:
        with around or contextlib.nullcontext():
            done = train()
    except RunError as error:
        logged = read_jsonl(Path(folder) / "metrics.jsonl")
        return StageRecord(name, of, config, logged, {"not finite": str(error)})
    facts = {}
    if read := getattr(done, "data", None):
        facts = {"completions cut off": read.truncated, "items": len(read.items)}
    return StageRecord(name, of, config, done.log, facts, getattr(done, "metrics", {}))


@cache
def _model() -> Path:
    return save_tiny(Path(tempfile.mkdtemp()) / "tiny")


def preference(
    seed: int,
    items: Sequence[Group] | None = None,
    *,
    beta: float = 0.1,
    lr: float = 3e-3,
    cut: int = 80,
    steps: int = 20,
    around: Any = None,
    mixed: float = 0.0,
) -> list[StageRecord]:
    """A DPO of the tiny model and the data it read; `mixed`: the weight of the likelihood beside it."""
    items = groups(seed, 160, words=20) if items is None else items
    loss: Keys = {"name": "dpo", "beta": beta}
    if mixed:
        loss = {"name": "mix", "parts": [loss, {"name": "sft", "weight": mixed}]}
    case = data(items)
    with tempfile.TemporaryDirectory() as folder:
        run = _record(
            folder,
            "dpo",
            "preference",
            {"loss": loss, "lr": lr, "max_completion": cut},
            lambda: train_preference(
                fresh(_model()),
                case.train,
                loss=loss,
                eval_on=case.held,
                run_dir=folder,
                tune=Lora(r=4, alpha=8),
                limits=Limits(max_prompt=120, max_completion=cut),
                seed=seed,
                optimise_with=Optimise(lr=lr, batch_size=8, max_steps=steps, epochs=9, tokens=4096),
            ),
            around,
        )
    return [case, replace(run, train=case.train)]


def reward(seed: int, *, lr: float = 3e-3, steps: int = 20) -> list[StageRecord]:
    """A reward model of the tiny model; the data it read is as it was."""
    case = data(groups(seed, 160, words=20))
    with tempfile.TemporaryDirectory() as folder:
        run = _record(
            folder,
            "rm",
            "reward",
            {"lr": lr},
            lambda: train_reward(
                fresh(_model()),
                case.train,
                eval_on=case.held,
                run_dir=folder,
                tune=Lora(r=4, alpha=8),
                seed=seed,
                optimise_with=Optimise(lr=lr, batch_size=8, max_steps=steps, epochs=9, tokens=4096),
            ),
        )
    return [replace(run, train=case.train)]


def sft(seed: int, *, lr: float = 1e-2, cut: int = 80, steps: int = 24) -> list[StageRecord]:
    """An SFT of the tiny model on what was preferred."""
    shown = [
        Demonstration(prompt=g.prompt, response=g.responses[g.edges[0].better])
        for g in groups(seed, 160, words=20)[:60]
    ]
    with tempfile.TemporaryDirectory() as folder:
        return [
            _record(
                folder,
                "sft",
                "sft",
                {"lr": lr, "max_completion": cut},
                lambda: train_sft(
                    fresh(_model()),
                    shown[10:],
                    eval_on=shown[:10],
                    run_dir=folder,
                    tune=Lora(r=4, alpha=8),
                    seed=seed,
                    limits=Limits(max_prompt=120, max_completion=cut),
                    optimise_with=Optimise(
                        lr=lr, batch_size=8, max_steps=steps, epochs=9, tokens=4096
                    ),
                ),
            )
        ]


def online(
    seed: int,
    method: Any = Ppo,
    rewards: Sequence[Keys] = tuple(LETTERS),
    around: Any = None,
    **keys: Any,
) -> list[StageRecord]:
    """A run of the tiny model on its own answers; a random model never ends one, so that costs something."""
    several = {} if method is Ppo else {"n": 4}
    settings = method(
        **{
            "steps": 8,
            "batch_size": 4,
            "minibatch": 4,
            "lr": 1e-3,
            "max_new_tokens": 5,
            "tokens": 1024,
            "kl": {"beta": 0.1},
            "missing_eos": {"treatment": "penalty", "value": 0.1},
            **several,
            **keys,
        }
    )
    prompts = [g.prompt for g in groups(seed, 24)]
    with tempfile.TemporaryDirectory() as folder:
        return [
            _record(
                folder,
                "policy",
                "online",
                settings.model_dump(mode="json"),
                lambda: train_policy(
                    fresh(_model()),
                    prompts,
                    rewards,
                    run_dir=folder,
                    settings=settings,
                    tune=Lora(r=4, alpha=8),
                    seed=seed,
                ),
                around,
            )
        ]


TRAIN: dict[str, Callable[..., list[StageRecord]]] = {
    "preference": preference, "sft": sft, "online": online
}  # fmt: skip


def varied(of: str, seed: int) -> Keys:
    """Keys of a training that a sensible person might have chosen: each up to three times more or less."""
    draw = random.Random(f"varied {seed}")

    def about(value: float) -> float:
        return value * math.exp(draw.uniform(-math.log(3), math.log(3)))

    if of == "preference":
        return {"lr": about(3e-3), "beta": about(0.1), "steps": draw.randint(12, 28)}
    if of == "sft":
        return {"lr": about(1e-2), "steps": draw.randint(16, 32)}
    return {
        "lr": about(1e-3), "kl": {"beta": about(0.1)}, "steps": draw.randint(6, 10),
        "method": (Ppo, Grpo)[seed % 2],
    }  # fmt: skip


def _dead(by: float, seed: int) -> list[StageRecord]:
    """The two answers are one: no gradient. (β = 0 is refused when a recipe is read.)"""
    items = [changed(g, 1, text_of(g, 0)) for g in groups(seed, 60, words=20)]
    return preference(seed + round(by), items, steps=8)


def _planted(of: str, make: Callable[[float, int], Keys], by: float, seed: int) -> Any:
    return TRAIN[of](seed, **make(by, seed))


FAULTS["preference: dead"] = _dead
FAULTS |= {
    f"{of}: {name}": partial(_planted, of, make)
    for of, makes in KEYS.items()
    for name, make in makes.items()
}
# of the table alone: `calibration` draws from KEYS, and was fitted before these
FAULTS |= {
    "preference: beta_low (beside sft)": lambda by, seed: preference(
        seed, mixed=1.0, beta=level(by, 3e-2, 1e-2, 1e-3)
    ),
    "preference: beta_high (beside sft)": lambda by, seed: preference(
        seed, mixed=1.0, beta=level(by, 1.0, 3.0, 10.0)
    ),
    "online: penalty_outweighs": lambda by, seed: online(
        seed, kl={"beta": level(by, 30.0, 100.0, 1000.0)}, steps=12
    ),
    "reward: learning_rate_high": lambda by, seed: reward(seed, lr=level(by, 1.0, 3.0, 10.0)),
}
HEALTHY["preference"] = preference
HEALTHY["preference (beside sft)"] = partial(preference, mixed=1.0)
HEALTHY["reward"] = reward
HEALTHY["sft"] = sft
HEALTHY["online"] = lambda seed: online(seed, (Ppo, Grpo)[seed % 2])
