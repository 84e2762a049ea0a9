"""Operations with gradients written by hand, against autograd's of the plain formula."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from accord.lm.kernels.fused import fuse, rms_norm, swiglu
from accord.lm.kernels.lora_linear import lora_linear
from accord.lm.model.adapters import adapter_off, add_lora
from accord.lm.model.lora import Lora
from accord.lm.trees import tree_attention
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import pack
from accord.lm.trees.tree_attention import _ByTree, _span_by_span, tree_mask
from tests.lm.test_engine import random_trees
from tests.lm.tiny import ARCHITECTURES, tiny_model

F64 = torch.float64


def rand(*shape: int, grad: bool = True) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64).requires_grad_(grad)


def test_rms_norm() -> None:
    torch.manual_seed(0)
    x, gain = rand(2, 3, 6), rand(6)
    own = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * gain
    torch.testing.assert_close(rms_norm(x, gain, 1e-5), own)
    assert torch.autograd.gradcheck(lambda a, b: rms_norm(a, b, 1e-5), (x, gain))
    assert rms_norm(x.bfloat16(), gain.bfloat16(), 1e-5).dtype == torch.bfloat16


def test_swiglu() -> None:
    torch.manual_seed(0)
    gate, up = rand(4, 5), rand(4, 5)
    torch.testing.assert_close(swiglu(gate, up), F.silu(gate) * up)
    assert torch.autograd.gradcheck(swiglu, (gate, up))


@pytest.mark.parametrize("bias", [True, False])
def test_lora_linear(bias: bool) -> None:
    torch.manual_seed(0)
    x, w, b = rand(2, 5, 6), rand(7, 6, grad=False), rand(7, grad=False) if bias else None
    down, up = rand(3, 6), rand(7, 3)
    own = F.linear(x, w, b) + 0.7 * x @ down.T @ up.T
    torch.testing.assert_close(lora_linear(x, w, b, down, up, 0.7), own)
    assert torch.autograd.gradcheck(
        lambda *v: lora_linear(v[0], w, b, v[1], v[2], 0.7), (x, down, up)
    )


@pytest.mark.parametrize(("heads", "kv"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize("seed", [2, 3])  # without and with a shared root
@pytest.mark.parametrize("window", [None, 4])
@pytest.mark.parametrize("worth", [8192, 0])  # each tree at once, and branch by branch
def test_attention_by_tree_is_masked_attention(
    heads: int, kv: int, seed: int, window: int | None, worth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of both ways equal one masked square over the whole row."""
    monkeypatch.setattr(tree_attention, "WORTH", worth)
    torch.manual_seed(seed)
    packed = pack(random_trees(seed))
    size = len(packed.ids_T)
    q, k, v = (rand(1, n, size, 8) for n in (heads, kv, kv))
    allowed = packed.allowed_TT(window=window)
    full = [x.repeat_interleave(heads // kv, 1) for x in (k, v)]
    own = F.scaled_dot_product_attention(q, *full, attn_mask=allowed, scale=0.3).transpose(1, 2)
    weight = torch.randn_like(own)
    spans = tree_mask(packed, window).accord_layout  # type: ignore[attr-defined]
    assert (packed.root > 0) == (seed % 2 == 1)
    assert (len(spans) > len(packed.spans())) == (worth == 0)
    expected = torch.autograd.grad((own * weight).sum(), (q, k, v), retain_graph=True)
    for ours in (
        _ByTree.apply(q, k, v, spans, 0.3),
        _span_by_span(q, k, v, spans, 0.3, None),
    ):
        torch.testing.assert_close(ours, own)
        for a, b in zip(
            torch.autograd.grad((ours * weight).sum(), (q, k, v)), expected, strict=True
        ):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_fusing_changes_no_output_and_is_done_once(arch: str) -> None:
    model = tiny_model(arch)
    plain = copy.deepcopy(model)
    fused = fuse(model)
    assert fused >= (
        5 if arch in ("llama", "qwen2", "qwen3") else 0
    )  # norms and MLPs of two layers
    assert fuse(model) == 0
    ids = torch.tensor([[5, 6, 7, 8]])
    torch.testing.assert_close(model(ids).logits, plain(ids).logits, atol=1e-5, rtol=1e-5)
    again = copy.deepcopy(model)  # its forwards are its own, not the first model's
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    assert not torch.allclose(again(ids).logits, model(ids).logits)


class TwistedRMSNorm(nn.Module):
    """Named like the usual one, with a rule of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.variance_epsilon = nn.Parameter(torch.ones(4)), 1e-5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * (1 + self.weight)


def test_a_module_with_a_rule_of_its_own_is_left_alone() -> None:
    assert fuse(TwistedRMSNorm()) == 0


class Experts(nn.Module):
    """A gated MLP for each expert, their weights in one tensor (Inkling's shared experts)."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = (
            nn.Parameter(torch.ones(2, 4, 4)) for _ in range(3)
        )
        self.act_fn = nn.SiLU()


def test_experts_that_share_a_tensor_are_left_alone() -> None:
    assert fuse(Experts()) == 0


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_fused_lora_gives_what_peft_gives(dropout: float) -> None:
    models = [
        add_lora(tiny_model("llama"), Lora(r=4, alpha=8, dropout=dropout), 1) for _ in range(2)
    ]
    for module in models[1].modules():
        module.__dict__.pop("forward", None)  # peft's own
    trees = random_trees(3)
    grads = []
    for model in models:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.02)
        model.train(dropout > 0)
        engine = Engine(model, mode="tree")
        engine.attention = "by_tree"
        torch.manual_seed(7)
        logps = engine.logps(trees).tokens_S
        logps.sum().backward()
        grads.append(
            [logps, *(p.grad for _, p in sorted(model.named_parameters()) if p.grad is not None)]
        )
        model.train(False)
        with adapter_off(model):
            off = engine.logps(trees).tokens_S
        assert not torch.allclose(off, logps)
    assert len(grads[0]) == len(grads[1]) > 10
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
