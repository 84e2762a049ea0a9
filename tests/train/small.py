"""What the training tests share: a small vocabulary of items and a tiny model on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from accord.core.types import Demonstration, Edge, Group, Message, Pair, Prompt, Response
from accord.lm.model.load import LanguageModel, load
from accord.lm.model.lora import Lora
from accord.lm.trees.engine import Engine
from accord.losses import preference_losses
from accord.train.loop.data import Limits, Trees, group_by_prompt, group_trees
from accord.train.loop.optimise import Objective, Optimise
from accord.train.loop.saved import Trained
from accord.train.loop.trainee import Tune
from accord.train.offline.edges import Average
from accord.train.offline.pairs import preference_objective
from accord.train.offline.preference import train_preference
from accord.train.offline.reward import train_reward
from accord.train.offline.sft import train_sft
from tests.lm.tiny import tiny_model, tiny_tokenizer

LORA = Lora(r=4, alpha=8)
LIMITS = Limits(max_prompt=60, max_completion=30)
WIDE = 100_000  # a token budget that holds everything in one micro-batch
NARROW = 16  # one that gives every tree a micro-batch of its own
QUESTIONS = ("Where is my parcel?", "Can I return the boots?", "How long is the warranty?")
ANSWERS = ("It arrives on Tuesday.", "Yes.", "I do not know that, sorry.", "24 months.")


Train = Callable[..., Trained]


class Killed(Exception):
    """What the tests raise to stop a run in the middle."""


def save_tiny(folder: Path) -> Path:
    """A random two-layer Llama with its tokenizer, as `load` reads it."""
    tiny_model("llama").save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def fresh(folder: Path) -> LanguageModel:
    """The model of a folder, newly loaded: training changes it in place."""
    return load(folder, device="cpu")


def answer(number: int) -> Response:
    return Response(text=ANSWERS[number], source="test", finish="stop")


def prompt(number: int) -> Prompt:
    return Prompt.user(QUESTIONS[number % len(QUESTIONS)] + "?" * (number // len(QUESTIONS)))


def pair(at: int, chosen: int, rejected: int, **facts: Any) -> Pair:
    """`ANSWERS[chosen]` over `ANSWERS[rejected]` on prompt number `at`."""
    return Pair(prompt=prompt(at), chosen=answer(chosen), rejected=answer(rejected), **facts)


def pairs() -> list[Pair]:
    """Two prompts: one ranking of three answers (three pairs), one single pair. No two alike."""
    return [
        pair(0, 0, 1, p=0.9, weight=2.0, sources=("j1",)),
        pair(0, 1, 2, p=0.6, weight=0.5, sources=("j2",)),
        pair(0, 0, 2, weight=1.5, sources=("j3",)),
        pair(1, 3, 2, p=0.75, weight=3.0, sources=("j4",)),
    ]


def many_pairs(n: int = 9) -> list[Pair]:
    """n prompts with two or three answers each, in soft and hard labels and several weights."""
    found = []
    for i in range(n):
        found.append(pair(i, i % 4, (i + 1) % 4, p=1.0 - 0.1 * (i % 3), weight=1.0 + i % 2))
        if i % 3 == 0:
            found.append(pair(i, (i + 2) % 4, (i + 1) % 4))
    return found


def demonstrations(n: int = 6) -> list[Demonstration]:
    """n single answers of different length and weight; every third has an earlier turn."""
    found = []
    for i in range(n):
        asked = prompt(i)
        if i % 3 == 2:
            said = Message(role="assistant", content=ANSWERS[(i + 1) % 4])
            asked = Prompt(messages=(*asked.messages, said, *prompt(i + 1).messages))
        found.append(
            Demonstration(prompt=asked, response=answer(i % 4), weight=1.0 + 0.5 * (i % 2))
        )
    return found


def group(better: list[tuple[int, int]], answers: int = 3, **facts: Any) -> Group:
    """A group on prompt 0 with these (better, worse) edges."""
    edges = tuple(Edge(better=b, worse=w, **facts) for b, w in better)
    return Group(prompt=prompt(0), responses=tuple(map(answer, range(answers))), edges=edges)


def objective_of(
    engine: Engine,
    trees: Trees,
    reference: list[Tensor],
    average: Average = "pair",
    **loss: Any,
) -> Objective:
    """The preference objective with a loss given by its keys (dpo without any)."""
    name = loss.pop("name", "dpo")
    return preference_objective(
        engine, trees, reference, preference_losses.make(name, **loss), average
    )


def trees_of(items: list[Pair], *, alone: bool = False) -> Trees:
    """Token trees of pairs: one per prompt, or one per pair."""
    grouped = [g for p in items for g in group_by_prompt([p])] if alone else group_by_prompt(items)
    return group_trees(tiny_tokenizer(), grouped, LIMITS)


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Gradient of `loss` for every parameter it reaches."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_same(ours: Mapping[str, Tensor], other: Mapping[str, Tensor], **within: float) -> None:
    """The same tensors under the same names, and at least one."""
    assert ours.keys() == other.keys()
    assert ours
    for name in ours:
        torch.testing.assert_close(
            ours[name], other[name], msg=lambda m, n=name: f"{n}: {m}", **within
        )


def saved_tensors(model: Path) -> dict[str, Tensor]:
    """Everything a stage saved: adapter or full weights, and the head when it has one."""
    return {
        f"{file.name}:{name}": value
        for file in sorted(model.rglob("*.safetensors"))
        for name, value in load_file(file).items()
    }


def how(**keys: Any) -> Optimise:
    """Six steps of three items unless told otherwise."""
    return Optimise(**{"lr": 1e-2, "batch_size": 3, "max_steps": 6, "epochs": 9, **keys})


def sft(model: Path, folder: Path, cfg: Optimise, tune: Tune = LORA, **more: Any) -> Trained:
    return train_sft(
        fresh(model), demonstrations(9), run_dir=folder, tune=tune, optimise_with=cfg, limits=LIMITS,
        **more,
    )  # fmt: skip


def reward(model: Path, folder: Path, cfg: Optimise, tune: Tune = LORA, **more: Any) -> Trained:
    return train_reward(
        fresh(model), many_pairs(), run_dir=folder, tune=tune, optimise_with=cfg, limits=LIMITS, **more
    )  # fmt: skip


def preference(model: Path, folder: Path, cfg: Optimise, tune: Tune = LORA, **more: Any) -> Trained:
    return train_preference(
        fresh(model), many_pairs(), run_dir=folder, tune=tune, optimise_with=cfg, limits=LIMITS, **more
    )  # fmt: skip


def made(train: Train, model: Path, folder: Path, cfg: Optimise, **more: Any) -> dict[str, Tensor]:
    """What a training saves."""
    folder.mkdir(exist_ok=True)
    return saved_tensors(train(model, folder, cfg, **more).model)


def reward_model(model: Path, folder: Path) -> Path:
    """A reward model of a few steps, saved; its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return reward(model, folder, how(max_steps=3)).model
