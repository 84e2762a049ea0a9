"""A killed run goes on to the same bytes: weights and metrics, for every training method."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from accord.core.errors import RunError
from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.train.loop.checkpoint import checkpoint_step, load_checkpoint, save_checkpoint
from accord.train.offline.sft import train_sft
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.train.small import (
    LIMITS,
    LORA,
    Killed,
    Train,
    demonstrations,
    fresh,
    how,
    made,
    many_pairs,
    preference,
    reward,
    saved_tensors,
    sft,
)

DROPOUT = Lora(r=4, alpha=8, dropout=0.3)  # its random numbers must be the same again too
HELD = {"sft": demonstrations(3), "reward": many_pairs(3), "preference": many_pairs(3)}
METHODS = pytest.mark.parametrize("train", [sft, reward, preference])


def die_at_three(done: int, total: int, row: Mapping[str, float]) -> None:
    if done == 3:
        raise Killed


def killed(train: Train, model: Path, folder: Path, **keys: Any) -> None:
    folder.mkdir()
    with pytest.raises(Killed):
        made(train, model, folder, on_step=die_at_three, **keys)
    assert not (folder / "model").exists()


@METHODS
@pytest.mark.parametrize("save_every", [1, 2])
@pytest.mark.parametrize("tune", [DROPOUT, "full"])
def test_three_kill_resume_three_is_bitwise_six(
    tiny: Path, tmp_path: Path, train: Train, save_every: int, tune: Any
) -> None:
    keys = {
        "cfg": how(save_every=save_every, eval_every=2, weight_decay=0.1),
        "tune": tune,
        "eval_on": HELD[train.__name__],
    }
    whole = made(train, tiny, tmp_path / "whole", **keys)
    killed(train, tiny, tmp_path / "cut", **keys)
    assert checkpoint_step(tmp_path / "cut") == (3 if save_every == 1 else 2)
    cut = made(train, tiny, tmp_path / "cut", **keys)
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    logs = [(tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut")]
    assert logs[0] == logs[1]
    assert logs[0].count(b"\n") == 6
    assert sum(b"eval/" in line for line in logs[0].splitlines()) == 3


@METHODS
def test_a_finished_run_is_measured_again_not_trained_again(
    tiny: Path, tmp_path: Path, train: Train
) -> None:
    # measured without dropout: otherwise the second measurement would differ
    keys = {"cfg": how(save_every=1), "tune": DROPOUT, "eval_on": HELD[train.__name__]}
    first = train(tiny, tmp_path, **keys)
    weights, log = saved_tensors(first.model), (tmp_path / "metrics.jsonl").read_bytes()
    shutil.rmtree(first.model)  # killed after the last step, before the model was saved
    steps: list[int] = []
    again = train(tiny, tmp_path, on_step=lambda done, *_: steps.append(done), **keys)
    assert steps == []
    assert again.metrics == first.metrics
    assert first.metrics
    assert all(torch.equal(v, weights[n]) for n, v in saved_tensors(again.model).items())
    assert (tmp_path / "metrics.jsonl").read_bytes() == log


def test_a_directory_of_another_run_is_refused_not_taken_for_this_one(
    tiny: Path, tmp_path: Path
) -> None:
    """Other data, settings or weights: the checkpoint there is no part of what is asked for."""
    sft(tiny, tmp_path, how())
    other = {
        "data": lambda: train_sft(fresh(tiny), demonstrations(8), run_dir=tmp_path, tune=LORA,
                                  optimise_with=how(), limits=LIMITS),
        "lr": lambda: sft(tiny, tmp_path, how(lr=1e-3)),
        "seed": lambda: sft(tiny, tmp_path, how(), seed=18),
        "weights": lambda: sft(save_other(tmp_path / "other"), tmp_path, how()),
    }  # fmt: skip
    for train in other.values():
        with pytest.raises(RunError, match=r"other data, weights or settings.*another directory"):
            train()
    steps: list[int] = []
    sft(tiny, tmp_path, how(save_every=1, tokens=64), on_step=lambda done, *_: steps.append(done))
    assert steps == []  # how often it saves decides nothing


def save_other(folder: Path) -> Path:
    tiny_model("llama", seed=1).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def test_another_way_of_tuning_takes_the_place_of_the_old_model(tiny: Path, tmp_path: Path) -> None:
    full = sft(tiny, tmp_path, how(max_steps=1), "full")
    before = load(full.model).weights
    (tmp_path / "checkpoint.pt").unlink()
    lora = sft(tiny, tmp_path, how(max_steps=1))
    assert load(lora.model).weights != before
    assert not (lora.model / "config.json").exists()


def one_parameter(rows: int) -> tuple[dict[str, nn.Parameter], torch.optim.AdamW]:
    parameter = nn.Parameter(torch.full((rows, 3), float(rows)))
    return {"w": parameter}, torch.optim.AdamW([parameter])


def test_a_checkpoint_of_another_shape_is_refused_not_broadcast(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *one_parameter(1), 5)
    other, optimiser = one_parameter(4)
    with pytest.raises(RunError, match="of another model"):
        load_checkpoint(tmp_path, other, optimiser)
    assert torch.equal(other["w"], torch.full((4, 3), 4.0))
    assert load_checkpoint(tmp_path, *one_parameter(1)) == 5


def test_an_unreadable_checkpoint_is_one_line(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(RunError, match=r"the checkpoint is unreadable.*--fresh"):
        sft(tiny, tmp_path, how())
