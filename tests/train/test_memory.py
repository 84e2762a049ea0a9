"""The plan of a stage's memory: its parts by hand, "auto", and that it is told, kept and kept to."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch

from accord.core.rundir import read_json
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from accord.train.loop import memory
from tests.lm.tiny import tiny_model
from tests.train.small import LORA, how, made, preference, reward, saved_tensors, sft

CPU = torch.device("cpu")
TREES = [Tree((5, 6, 7, 8), ((9, 10, 11), (12, 13))) for _ in range(40)]


def test_measuring_leaves_nothing_behind() -> None:
    """An operation that keeps its own output (exp) must not keep itself, and the weights, for ever."""
    w = torch.ones(3, 4, requires_grad=True)
    memory.kept_bytes(lambda w=w: (torch.ones(2, 3) @ (1 * w)).exp(), [w])  # type: ignore[misc]
    there = weakref.ref(w)
    del w
    gc.collect()
    assert there() is None


def test_kept_bytes_by_hand() -> None:
    w, x = torch.ones(5, requires_grad=True), torch.ones(3, 5)

    def run() -> torch.Tensor:
        return (x * w).exp().sum()  # keeps x (60 bytes) and the exponential (60); w is a weight

    assert memory.kept_bytes(run, [w]) == 120
    with torch.no_grad():
        assert memory.kept_bytes(run, [w]) == 0


def planned(tokens: memory.MicroBatch, **free: int) -> memory.Plan:
    engine = Engine(tiny_model("llama"))
    model = engine.model.requires_grad_(True)
    return memory.plan(model, lambda t: engine.logps(t).tokens_S, TREES, tokens, 30, CPU)


def test_a_plan_counts_gradients_moments_and_tokens() -> None:
    small, large = planned(20), planned(200)
    weights = sum(p.numel() for p in Engine(tiny_model("llama")).model.parameters())
    assert small.gradients == 4 * weights
    assert small.moments == 8 * weights
    assert large.activations == pytest.approx(10 * small.activations, rel=0.01)
    assert small.total > small.in_use + small.gradients
    assert "activations of 20 tokens" in str(small)


def test_auto_takes_what_is_free_and_no_more_than_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert planned("auto").tokens == 30 * TREES[0].tokens  # all of a batch
    one = planned(100).activations / 100
    fixed = 3 * memory.chunk_bytes(torch.device("cpu")) + 3 * planned(100).gradients
    monkeypatch.setattr(memory, "LEAST", 16)
    monkeypatch.setattr(memory, "available", lambda device: int((fixed + 60 * one) / memory.SHARE))
    assert planned("auto").tokens == pytest.approx(60, abs=1)
    monkeypatch.setattr(memory, "available", lambda device: 0)
    assert planned("auto").tokens == 16


@pytest.mark.parametrize("train", [sft, reward, preference])
def test_a_stage_tells_its_plan_and_keeps_what_was_measured(
    train: object, tiny: Path, tmp_path: Path
) -> None:
    told: list[str] = []
    train(tiny, tmp_path, how(max_steps=1, tokens="auto"), tell=told.append)  # type: ignore[operator]
    assert told[0].startswith("memory: about ")
    assert told[1].startswith("peak memory ")
    kept = read_json(tmp_path / "memory.json")
    assert kept["measured"] > 0
    assert kept["total"] > 0


def test_auto_chooses_once_for_a_run(tiny: Path, tmp_path: Path) -> None:
    """A resumed run whose machine has other memory free keeps its micro-batches, and its bytes."""
    (tmp_path / "a").mkdir()
    memory.write_json(tmp_path / "a" / "memory.json", {"tokens": 64})
    ours = saved_tensors(
        preference(tiny, tmp_path / "a", how(max_steps=2, tokens="auto"), LORA).model
    )
    assert read_json(tmp_path / "a" / "memory.json")["tokens"] == 64
    theirs = made(preference, tiny, tmp_path / "b", how(max_steps=2, tokens=64))
    assert all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_more_than_is_free_is_said(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda device: 1)
    told: list[str] = []
    preference(tiny, tmp_path, how(max_steps=1), tell=told.append)
    assert "more than is free: lower tokens" in told[0]


@pytest.mark.parametrize("first", [0, 1, 398, 400])
def test_the_probe_asks_for_tokens_there_are(first: int) -> None:
    """Of a vocabulary of 401; another first token, so that the two trees share nothing."""
    engine = Engine(tiny_model("llama", vocab_size=401))
    asked: list[list[Tree]] = []

    def values(trees: list[Tree]) -> torch.Tensor:
        asked.append(trees)
        return engine.logps(trees).tokens_S

    trees = [Tree((first, 6, 7, 8), ((9, 10, 11), (12, 13)))]
    memory.plan(engine.model, values, trees, 100, 1, CPU)  # type: ignore[arg-type]
    one, two = asked[1]
    assert 0 <= two.prompt[0] < 401
    assert two.prompt[0] != one.prompt[0] == first
