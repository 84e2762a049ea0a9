"""The micro-batch budget is a matter of memory: it changes no step of any training method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from accord.lm.trees.tree import bins
from accord.train.loop.trainee import Tune
from tests.train.small import (
    LORA,
    NARROW,
    WIDE,
    Train,
    assert_same,
    how,
    made,
    many_pairs,
    preference,
    reward,
    sft,
    trees_of,
)

METHODS = pytest.mark.parametrize("train", [sft, reward, preference])


def test_the_narrow_budget_gives_every_tree_a_micro_batch_of_its_own() -> None:
    sizes = [tree.tokens for tree in trees_of(many_pairs()).trees]
    assert len(bins(sizes, NARROW)) == len(sizes) == 9
    assert len(bins(sizes, WIDE)) == 1


@METHODS
@pytest.mark.parametrize("tune", [LORA, "full"])
def test_micro_batches_change_no_weight(
    tiny: Path, tmp_path: Path, train: Train, tune: Tune
) -> None:
    rows: dict[str, list[dict[str, float]]] = {"wide": [], "narrow": []}
    found = {}
    for name, tokens in (("wide", WIDE), ("narrow", NARROW)):
        seen = rows[name]
        found[name] = made(
            train, tiny, tmp_path / name, how(tokens=tokens, lr=1e-3), tune=tune,
            on_step=lambda done, total, row, seen=seen: seen.append(dict(row)),
        )  # fmt: skip
    for a, b in zip(rows["wide"], rows["narrow"], strict=True):
        for row in (a, b):  # before the first step a margin is rounding, and so is its sign
            row.pop("accuracy", None)
        assert a == pytest.approx(b, rel=1e-4, abs=1e-5)
    assert_same(found["wide"], found["narrow"], atol=1e-5, rtol=1e-5)


@METHODS
def test_training_moves_the_weights(tiny: Path, tmp_path: Path, train: Train) -> None:
    early = made(train, tiny, tmp_path / "early", how(max_steps=1, lr=1e-9))
    late = made(train, tiny, tmp_path / "late", how())
    assert max(float((late[n] - early[n]).abs().max()) for n in late) > 1e-3


def gradient(train: Train, model: Path, folder: Path, **more: Any) -> float:
    """Gradient norm of the first step of one batch of everything."""
    rows: list[dict[str, float]] = []
    folder.mkdir()
    cfg = how(batch_size=99, max_steps=1, lr=1e-9, tokens=more.pop("tokens", WIDE))
    train(model, folder, cfg, on_step=lambda *a: rows.append(dict(a[2])), **more)
    return rows[0]["grad_norm"]


@pytest.mark.parametrize("average", ["pair", "prompt"])
@pytest.mark.parametrize("tokens", [WIDE, NARROW])
def test_sharing_a_tree_changes_no_step(
    tiny: Path, tmp_path: Path, average: str, tokens: int
) -> None:
    keys = {"average": average, "tokens": tokens}
    shared = gradient(preference, tiny, tmp_path / "shared", share="prompt", **keys)
    alone = gradient(preference, tiny, tmp_path / "alone", share="pair", **keys)
    other = gradient(
        preference, tiny, tmp_path / "other", average={"pair": "prompt"}.get(average, "pair")
    )
    assert shared == pytest.approx(alone, rel=1e-5)
    assert shared != pytest.approx(other, rel=1e-3)


def test_seeds_draw_other_orders(tiny: Path, tmp_path: Path) -> None:
    one = made(sft, tiny, tmp_path / "one", how(), seed=1)
    same = made(sft, tiny, tmp_path / "same", how(), seed=1)
    other = made(sft, tiny, tmp_path / "other", how(), seed=2)
    assert all(torch.equal(one[n], same[n]) for n in one)
    assert not all(torch.equal(one[n], other[n]) for n in one)
