"""Products by oneDNN and packed weights: what torch's own layers give, forward and backward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from accord.core.types import Prompt
from accord.lm import sample
from accord.lm.kernels import laid_out as packing
from accord.lm.kernels import products
from accord.lm.kernels.laid_out import laid_out
from accord.lm.kernels.linear import fuse_linear
from accord.lm.model.adapters import add_lora
from accord.lm.model.load import LanguageModel
from accord.lm.model.lora import Lora
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from tests.lm.tiny import tiny_model, tiny_tokenizer

HAS_ONEDNN = torch.backends.mkldnn.is_available()


@pytest.fixture(autouse=True)
def faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine where oneDNN is the faster one, whatever this one is."""
    if not HAS_ONEDNN:
        pytest.skip("torch without oneDNN")
    for module in (products, packing):
        monkeypatch.setattr(module, "has_faster_products", lambda: True)
        monkeypatch.setattr(module, "has_laid_out_products", lambda: True)
    monkeypatch.setattr("accord.lm.kernels.linear.has_faster_products", lambda: True)


@pytest.mark.parametrize("rows", [1, 7, 600])
@pytest.mark.parametrize("shape", [(96, 64), (16, 96), (64, 16)])
def test_both_products_are_torchs(rows: int, shape: tuple[int, int]) -> None:
    weight, bias = torch.randn(shape), torch.randn(shape[0])
    x, g = torch.randn(2, rows, shape[1]), torch.randn(2, rows, shape[0])
    for given in (None, bias):
        close(products.times_weight_t(x, weight, given), F.linear(x, weight, given))
    close(products.times_weight(g, weight), g @ weight)


def test_no_rows_and_doubles_go_torchs_way() -> None:
    weight = torch.randn(80, 64)
    assert products.times_weight_t(torch.empty(0, 64), weight).shape == (0, 80)
    x = torch.randn(3, 64, dtype=torch.float64)
    assert torch.equal(products.times_weight_t(x, weight.double()), F.linear(x, weight.double()))


@pytest.mark.parametrize("frozen", [False, True])
def test_a_fused_layer_has_the_gradients_of_a_plain_one(frozen: bool) -> None:
    layer = nn.Linear(64, 96)
    layer.requires_grad_(not frozen)
    x, towards = torch.randn(4, 5, 64, requires_grad=True), torch.randn(4, 5, 96)

    def gradients() -> list[torch.Tensor]:
        found = [x, *(p for p in layer.parameters() if p.requires_grad)]
        return list(torch.autograd.grad((layer(x) * towards).sum(), found))

    expected, value = gradients(), layer(x)
    assert fuse_linear(layer) == 1
    close(layer(x), value)
    for got, want in zip(gradients(), expected, strict=True):
        close(got, want)


def tiny_lm() -> LanguageModel:
    return LanguageModel(tiny_model("llama"), tiny_tokenizer(), "tiny", Path(), "hash")


def close(got: torch.Tensor, want: torch.Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=torch.arange(2, 9)[None]).logits
    return found


def test_a_packed_model_plays_the_adapter_that_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "NARROW", 1)
    lm = tiny_lm()
    model = add_lora(lm.model, Lora(r=2, alpha=4), seed=1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.3)
    model.eval()
    on = logits(model)
    with model.disable_adapter():
        off = logits(model)
    assert not torch.allclose(on, off, atol=1e-2)
    with laid_out(model) as count:
        assert count > 0
        close(logits(model), on)
    with model.disable_adapter(), laid_out(model) as count:
        assert count > 0
        close(logits(model), off)
    assert torch.equal(logits(model), on)  # and afterwards it is what it was


def test_dropout_and_short_memory_pack_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "NARROW", 1)
    model = add_lora(tiny_lm().model, Lora(r=2, dropout=0.5), seed=1)
    model.train()
    with laid_out(model) as count:  # only what has no adapter
        adapted = [m for m in model.modules() if hasattr(m, "lora_A")]
        assert count == sum(isinstance(m, nn.Linear) for m in model.modules()) - 3 * len(adapted)
    monkeypatch.setattr(packing, "SHARE", 1e12)
    with laid_out(model) as count:
        assert count == 0


def test_greedy_answers_are_the_same_packed_or_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "NARROW", 1)
    sampler = LocalSampler(tiny_lm())
    found = []
    for from_steps in (1, 10**9):
        monkeypatch.setattr(sample, "WORTH_PACKING", from_steps)
        how = Sampling(temperature=0.0, max_new_tokens=12)
        found.append(sampler([Prompt.user("one"), Prompt.user("two three")], how))
    assert found[0] == found[1]


def test_a_batch_is_answered_alike_whatever_is_asked_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where few rows gain nothing by it, a short last batch is not laid out, alone or in a longer call."""
    monkeypatch.setattr(packing, "NARROW", 1)
    monkeypatch.setattr(packing, "has_faster_products", lambda: False)
    rows: list[int] = []
    decode = sample._decode

    def watched(lm: Any, groups: Any, *rest: Any) -> None:
        laid = any("forward" in m.__dict__ for m in lm.model.modules() if type(m) is nn.Linear)
        rows.append(sum(map(len, groups)) if laid else 0)
        decode(lm, groups, *rest)

    monkeypatch.setattr(sample, "_decode", watched)
    sampler = LocalSampler(tiny_lm(), batch_size=10)
    prompts = [Prompt.user(f"number {n}") for n in range(44)]
    how = Sampling(temperature=1.0, max_new_tokens=16, seed=1)
    whole = sampler.tokens(prompts, how)
    assert rows == [10] * 4 + [0]
    by_prompt = {p.id: row for p, (row,) in zip(prompts, whole, strict=True)}
    parts = sampler.parts(prompts, 1)
    assert [len(part) for part in parts] == [40, 4]
    for part in parts:
        for p, (row,) in zip(part, sampler.tokens(part, how), strict=True):
            assert (row.ids, row.logps) == (by_prompt[p.id].ids, by_prompt[p.id].logps)
