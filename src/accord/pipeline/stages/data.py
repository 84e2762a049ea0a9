"""What stages that give data share: the snapshot's card, its split, the world behind it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from accord.core.rundir import read_json, write_json, write_text
from accord.core.types import Prompt
from accord.feedback.trust.card import data_card
from accord.pipeline.context import StageContext, StageResult, data_store
from accord.store import Snapshot, Store, copy_store, remove, split_of
from accord.worlds.base import World, open_world

__all__ = [
    "CARD",
    "SNAPSHOT",
    "START",
    "STORE",
    "Clock",
    "copied",
    "finish",
    "held_out_of",
    "held_out_prompts",
    "keep_prompts",
    "keep_world",
    "prompts_of",
    "world_of",
]

STORE, SNAPSHOT, CARD, WORLD = "study.db", "v1", "card.json", "world.json"
PROMPTS = "prompts.json"  # of an opened store, which others may add to: the ids it had then
START = datetime(
    2026, 1, 5, 9, 0, tzinfo=UTC
)  # judgments of a simulation need a clock of their own


class Clock:
    """Deterministic times: the hash chain of a simulated study is the same on every machine."""

    def __init__(self, now: datetime = START) -> None:
        self.now = now

    def tick(self, seconds: float) -> str:
        self.now += timedelta(seconds=seconds)
        return self.now.isoformat(timespec="seconds")


def copied(ctx: StageContext[Any], data: str) -> tuple[Store, dict[str, Any]]:
    """A copy of a data stage's store in this stage's folder, to be added to: a file here, also where the
    parent's is a database. And the parent's facts."""
    opened, facts = data_store(ctx.stages[data])
    remove(ctx.folder / STORE)
    with opened:
        copy_store(opened, ctx.folder / STORE)
    if (kept := ctx.stages[data] / PROMPTS).exists():
        shutil.copyfile(kept, ctx.folder / PROMPTS)
    return Store(ctx.folder / STORE, create=False), facts


def keep_prompts(folder: Path, prompts: Iterable[Prompt]) -> None:
    """Note which prompts a data stage's store has; what comes to it later is not the stage's."""
    write_json(folder / PROMPTS, sorted({p.id for p in prompts}))


def prompts_of(folder: Path, every: Iterable[Prompt]) -> list[Prompt]:
    """The prompts of a data stage, out of every one that is in its store by now, or in a copy of that."""
    if not (kept := folder / PROMPTS).exists():
        return list(every)
    known = set(read_json(kept))
    return [p for p in every if p.id in known]


def keep_world(ctx: StageContext[Any], world: World, test: float) -> None:
    """A copy of the world in the stage's folder: the stage is done, wherever the recipe goes."""
    write_text(ctx.folder / "world.yaml", world.path.read_text(encoding="utf-8"))
    write_json(ctx.folder / WORLD, {"world": "world.yaml", "test": test})


def world_of(ctx: StageContext[Any], data: str) -> World | None:
    """The world behind a data stage, None for real data."""
    path = ctx.stages[data] / WORLD
    return open_world(path.parent / read_json(path)["world"]) if path.exists() else None


def finish(
    ctx: StageContext[Any], snapshot: Snapshot, test: float, seed: int | None = None
) -> StageResult:
    """The data card, and what the stages that read this one need to know. `seed` is the split's: a stage on
    top of another's judgments keeps that one's, or what was held out is trained on."""
    seed = ctx.seed if seed is None else seed
    every = prompts_of(ctx.folder, snapshot.tables.prompts.values())
    sides = Counter(split_of(p.id, test, seed) for p in every)
    split = {"train": sides["train"], "test": sides["test"], "seed": seed, "share": test}
    card = {
        **data_card(snapshot),
        "split": split,
        "snapshot": snapshot.name,
        "sha256": snapshot.sha256,
    }
    write_json(ctx.folder / CARD, card)
    facts = {
        "store": STORE, "snapshot": snapshot.name, "sha256": snapshot.sha256, "test": test, "seed": seed
    }  # fmt: skip
    headline = (
        f"{len(snapshot)} judgments on {sum(sides.values())} prompts ({sides['test']} held out), "
        f"snapshot {snapshot.sha256[:12]}"
    )
    return StageResult(facts=facts, headline=headline)


def held_out_prompts(ctx: StageContext[Any], data: str) -> list[Prompt]:
    """Held-out prompts of a data stage, in an order fixed by their ids."""
    return held_out_of(ctx.stages[data])


def held_out_of(folder: Path) -> list[Prompt]:
    """The same of its folder."""
    opened, facts = data_store(folder)
    with opened as store:
        every = prompts_of(folder, store.prompts())
    prompts = [p for p in every if split_of(p.id, facts["test"], facts["seed"]) == "test"]
    return sorted(prompts, key=lambda p: p.id)
