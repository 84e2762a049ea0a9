"""The reference is the weights the run began with: at its first step, after a kill, from the cache."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accord.core.errors import ModelError
from accord.lm.model.load import load
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_logps
from accord.lm.trees.tree import Tree
from accord.train.offline import family as module
from accord.train.offline import reference as cache_module
from accord.train.offline.preference import train_preference
from accord.train.offline.reference import reference_logps
from tests.lm.tiny import tiny_model
from tests.train.small import (
    LORA,
    WIDE,
    Killed,
    assert_same,
    fresh,
    how,
    made,
    many_pairs,
    preference,
    sft,
    trees_of,
)

TREES = [Tree((5, 6, 7), ((8, 9), (10, 11, 12))), Tree((5, 6, 13), ((14,), (15, 16)))]


@pytest.fixture(scope="module")
def sft_model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained stage: the tiny base with an SFT adapter that moves it."""
    return sft(tiny, tmp_path_factory.mktemp("sft"), how()).model


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many trees each reference pass computed."""
    calls: list[int] = []

    def counted(engine: Engine, trees: Sequence[Tree], *rest: Any) -> list[Tensor]:
        calls.append(len(trees))
        return token_logps(engine, trees, *rest)

    monkeypatch.setattr(cache_module, "token_logps", counted)
    return calls


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[list[Tensor]]:
    """The reference log-probs that each training was given."""
    seen: list[list[Tensor]] = []
    real = module.preference_objective

    def kept(engine: Engine, data: Any, reference: list[Tensor], *rest: Any) -> Any:
        seen.append(reference)
        return real(engine, data, reference, *rest)

    monkeypatch.setattr(module, "preference_objective", kept)
    return seen


def logps_of(model: Path) -> list[Tensor]:
    """Log-probs of the training answers under a saved model, as loaded."""
    return token_logps(Engine(load(model, device="cpu").model), trees_of(many_pairs()).trees, WIDE)


def close(ours: Sequence[Tensor], other: Sequence[Tensor], atol: float = 1e-4) -> bool:
    return all(torch.allclose(a, b, atol=atol) for a, b in zip(ours, other, strict=True))


@pytest.mark.parametrize("tune", [LORA, "full"])
@pytest.mark.parametrize("start", ["base", "sft"])
def test_the_first_step_has_margin_zero_and_loss_log_two(
    tiny: Path, sft_model: Path, tmp_path: Path, tune: Any, start: str
) -> None:
    assert not close(logps_of(tiny), logps_of(sft_model), atol=0.1)  # the adapter does move it
    rows: list[Mapping[str, float]] = []
    model = tiny if start == "base" else sft_model
    preference(model, tmp_path, how(), tune, on_step=lambda *a: rows.append(a[2]))
    first, last = rows[0], rows[-1]
    assert first["margin"] == pytest.approx(0, abs=1e-4)
    assert first["chosen_shift"] == pytest.approx(0, abs=1e-4)
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert abs(last["chosen_shift"]) > 0.01


def test_the_reference_is_the_starting_model(
    tiny: Path, sft_model: Path, tmp_path: Path, used: list[list[Tensor]]
) -> None:
    preference(sft_model, tmp_path, how(max_steps=1))
    assert close(used[0], logps_of(sft_model))
    assert not close(used[0], logps_of(tiny))


@pytest.mark.parametrize("tune", [LORA, "full"])
@pytest.mark.parametrize("keep_cache", [True, False])
def test_a_resumed_run_keeps_the_reference_it_began_with(
    tiny: Path, tmp_path: Path, used: list[list[Tensor]], computed: list[int], tune: Any, keep_cache: bool
) -> None:  # fmt: skip
    def die(done: int, total: int, row: Mapping[str, float]) -> None:
        if done == 3:
            raise Killed

    for name in ("whole", "cut"):
        (tmp_path / name).mkdir()
    whole = made(preference, tiny, tmp_path / "whole", how(), tune=tune)
    with pytest.raises(Killed):
        preference(tiny, tmp_path / "cut", how(save_every=1), tune, on_step=die)
    if not keep_cache:
        shutil.rmtree(tmp_path / "cut" / "reference")
    computed.clear()
    cut = made(preference, tiny, tmp_path / "cut", how(save_every=1), tune=tune)
    assert computed == ([] if keep_cache else [9])
    assert close(used[-1], logps_of(tiny), atol=1e-4)
    assert not close(logps_of(tmp_path / "whole" / "model"), logps_of(tiny), atol=0.1)
    assert_same(whole, cut, atol=0.0, rtol=0.0)


def test_a_second_run_reads_the_cache_whatever_its_loss(
    tiny: Path, tmp_path: Path, computed: list[int], used: list[list[Tensor]]
) -> None:
    for beta in (0.1, 0.5):
        (tmp_path / str(beta)).mkdir()
        preference(
            tiny, tmp_path / str(beta), how(max_steps=1), cache=tmp_path / "shared",
            loss={"name": "dpo", "beta": beta},
        )  # fmt: skip
    assert computed == [9]
    assert all(torch.equal(a, b) for a, b in zip(*used, strict=True))


def test_two_starting_models_share_a_cache_folder_and_no_entry(
    tiny: Path, sft_model: Path, tmp_path: Path, used: list[list[Tensor]]
) -> None:
    for name, model in (("base", tiny), ("sft", sft_model)):
        (tmp_path / name).mkdir()
        preference(model, tmp_path / name, how(max_steps=1), cache=tmp_path / "shared")
    assert close(used[0], logps_of(tiny))
    assert close(used[1], logps_of(sft_model))


def test_another_model_or_other_tokens_are_another_entry(
    tmp_path: Path, computed: list[int]
) -> None:
    engine, moved = Engine(tiny_model("llama")), Engine(tiny_model("llama", seed=1))
    first = reference_logps(engine, TREES, "weights", 64, tmp_path)
    second = reference_logps(moved, TREES, "others", 64, tmp_path)
    longer = [TREES[0], Tree((5, 6, 13), ((14,), (15, 16, 17)))]
    third = reference_logps(engine, longer, "weights", 64, tmp_path)
    assert computed == [2, 2, 2]
    assert not torch.allclose(first[0], second[0], atol=1e-2)
    torch.testing.assert_close(first[0], third[0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(first[1].sum(), third[1].sum(), atol=1e-2)
    # each is found again, as it was
    for kept, trees, weights in ((first, TREES, "weights"), (second, TREES, "others")):
        again = reference_logps(engine, trees, weights, 64, tmp_path)
        assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))
    assert computed == [2, 2, 2]


def test_half_precision_weights_are_another_entry(tmp_path: Path, computed: list[int]) -> None:
    reference_logps(Engine(tiny_model("llama")), TREES, "weights", 64, tmp_path)
    half = Engine(tiny_model("llama").bfloat16(), mode="tree")
    reference_logps(half, TREES, "weights", 64, tmp_path)
    assert computed == [2, 2]


@pytest.mark.parametrize("damage", ["truncated", "empty", "another"])
def test_a_damaged_shard_is_computed_again(
    tmp_path: Path, computed: list[int], damage: str
) -> None:
    engine = Engine(tiny_model("llama"))
    first = reference_logps(engine, TREES, "weights", 64, tmp_path / "a")
    (shard,) = (tmp_path / "a").glob("*.safetensors")
    whole = shard.read_bytes()
    if damage == "another":  # readable, but of other items
        reference_logps(engine, TREES[:1], "weights", 64, tmp_path / "b")
        (other,) = (tmp_path / "b").glob("*.safetensors")
        shard.write_bytes(other.read_bytes())
    else:
        shard.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    computed.clear()
    again = reference_logps(engine, TREES, "weights", 64, tmp_path / "a")
    assert computed == [2]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert shard.read_bytes() == whole


def test_shards_of_a_killed_pass_are_kept(
    tmp_path: Path, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "SHARD", 1)
    engine = Engine(tiny_model("llama"))
    trees = [Tree((5, 6, 7 + i), ((8, 9), (10, 11, 12))) for i in range(6)]

    def die(done: int, total: int) -> None:
        if done >= 4:
            raise Killed

    with pytest.raises(Killed):
        reference_logps(engine, trees, "weights", 16, tmp_path, die)
    assert computed == [2, 2]  # killed in the second shard, before it was written
    found = reference_logps(engine, trees, "weights", 16, tmp_path)
    assert computed == [2, 2, 2, 2]
    expected = token_logps(engine, trees, WIDE)
    assert close(found, expected, atol=1e-5)
    assert not list(tmp_path.glob("*.tmp"))


def test_a_model_that_was_trained_can_not_be_its_own_reference(tiny: Path, tmp_path: Path) -> None:
    lm = fresh(tiny)
    how_to = {"tune": "full", "optimise_with": how(max_steps=1)}
    train_preference(lm, many_pairs(), run_dir=tmp_path, **how_to)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="trained since it was loaded; load it again"):
        train_preference(lm, many_pairs(), run_dir=tmp_path, **how_to)  # type: ignore[arg-type]


def test_a_loss_without_reference_computes_none(
    tiny: Path, tmp_path: Path, computed: list[int]
) -> None:
    done = preference(
        tiny, tmp_path, how(max_steps=1), loss={"name": "simpo"}, eval_on=many_pairs(3)
    )
    assert computed == []
    assert not (tmp_path / "reference").exists()
    assert done.metrics["chosen_shift"].value != 0  # measured from the policy's own start
