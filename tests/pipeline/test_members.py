"""Reward models of one recipe that differ by seed and fold, and the ensemble they make."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.core.hashing import tree_hash
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Exchange
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.pipeline.stage import kind_of
from accord.rewards.base import Context
from accord.rewards.compose import build_rewards
from accord.rewards.learned import load_reward_model
from accord.store import part_of
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe
from tests.train.small import answer, prompt

RM = "{kind: reward, init: sft, data: study, eval_limit: 2, batch_size: 2, max_steps: 3, tune: {r: 2}%s}"
KEYS = (", fold: 1/3", ", fold: 2/3", ", fold: 3/3", ", seed: 1", "")
NAMES = ("one", "two", "three", "seeded", "plain")
MEMBERS = "".join(f"  {name}: {RM % keys}\n" for name, keys in zip(NAMES, KEYS, strict=True))


def recipe(folder: Path, more: str = MEMBERS) -> Path:
    path = write_recipe(folder, save_tiny_model(folder / "model"), facts=8)
    path.write_text(path.read_text() + more)
    return path


def test_members_differ_and_their_minimum_is_below_their_mean(tmp_path: Path) -> None:
    wanted = ["study", "sft", *NAMES]
    done = run(read_recipe(recipe(tmp_path)), tmp_path / "runs", Heard(), only=wanted)
    places = {name: done.stages[name] for name in NAMES}
    assert len({tree_hash(place / "model" / "adapter") for place in places.values()}) == 5
    seed = read_json(done.stages["study"] / "result.json")["facts"]["seed"]
    read = {n: {r["prompt"] for r in read_jsonl(p / "trained_on.jsonl")} for n, p in places.items()}
    assert read["one"] | read["two"] | read["three"] == read["plain"] == read["seeded"]
    for number, name in enumerate(NAMES[:3], start=1):
        assert read[name] == {p for p in read["plain"] if part_of(p, 3, seed) != number}
        assert len(read["plain"]) / 2 < len(read[name]) < len(read["plain"]) * 5 / 6
        told = read_json(places[name] / "result.json")["facts"]["not_used"]
        assert told[f"in fold {number}/3"] == len(read["plain"]) - len(read[name])
    held = {n: (p / "held_out.jsonl").read_text().count("\n") for n, p in places.items()}
    assert len(set(held.values())) == 1  # all are measured on the same

    context = Context(model=lambda name: load_reward_model(places[name] / "model", device="cpu"))
    exchanges = [Exchange(prompt=prompt(i), response=answer(i)) for i in range(4)]
    least, mean = (
        build_rewards(
            [{"name": "ensemble", "models": [*NAMES[:3]], "combine": how}], context, "rewards"
        )(exchanges).total
        for how in ("minimum", "mean")
    )
    assert all(a < b for a, b in zip(least, mean, strict=True))


def test_without_the_keys_a_stage_is_what_it_was() -> None:
    plain = {"kind": "reward", "data": "study"}
    for kind in ("reward", "process", "reward_axes"):
        before = kind_of(kind).config.model_validate({**plain, "kind": kind}).hashed()
        assert not {"seed", "fold"} & before.keys()
        now = kind_of(kind).config.model_validate({**plain, "kind": kind, "seed": 0, "fold": "1/2"})
        assert now.hashed() == {**before, "seed": 0, "fold": "1/2"}


@pytest.mark.parametrize("fold", ["0/3", "4/3", "1/1", "1", "a/b", "1/3/5"])
def test_a_fold_that_is_none_is_refused(tmp_path: Path, fold: str) -> None:
    more = f"  one: {RM % f', fold: {fold!r}'}\n"
    with pytest.raises(ConfigError, match=r"one.fold: .* is no fold; allowed: PART/PARTS"):
        read_recipe(recipe(tmp_path, more))
