"""bf16 in the backward products: the value is fp32's, the gradient is near, and little is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from accord.lm.kernels.half import backward_dtype, half_backward, settled
from accord.lm.kernels.linear import fuse_linear
from accord.lm.model.adapters import add_lora
from accord.lm.model.lora import Lora
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from tests.lm.tiny import tiny_model

TREE = Tree((1, 2, 3, 4), ((5, 6, 7), (8, 9)))


def grads(model: Any, precision: Any) -> tuple[Tensor, dict[str, Tensor]]:
    logps_C = Engine(model, precision=precision).logps([TREE]).sums_C()
    (logps_C[0] - logps_C[1]).backward()
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return logps_C.detach(), found


@pytest.mark.parametrize("tune", ["full", "lora"])
@pytest.mark.parametrize("kind", ["llama", "gpt_neox", "gemma2"])
def test_the_value_is_fp32s_and_the_gradient_near(kind: str, tune: str) -> None:
    model: Any = tiny_model(kind)
    if tune == "lora":
        model = add_lora(model, Lora(r=2, alpha=4), seed=1)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.1)
    exact, expected = grads(model, "fp32")
    value, got = grads(model, "bf16")
    again, after = grads(model, "fp32")
    assert torch.equal(value, exact)
    assert torch.equal(again, exact)
    assert got.keys() == expected.keys()
    assert any(not torch.equal(got[n], expected[n]) for n in got)
    a, b = (torch.cat([x[n].flatten() for n in expected]) for x in (got, expected))
    assert float((a - b).norm() / b.norm()) < 0.03
    for name, gradient in after.items():  # an engine in fp32 over the same model is exact again
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-7)


def test_layers_that_read_one_tensor_share_one_copy_and_frozen_ones_keep_none() -> None:
    layers = nn.ModuleList(nn.Linear(8, 4, bias=False) for _ in range(3))
    layers[2].requires_grad_(False)
    assert fuse_linear(layers) == 3
    assert fuse_linear(layers) == 0
    x, kept = torch.randn(5, 8, requires_grad=True), []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with half_backward(True), torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        total = sum(layer(x).sum() for layer in layers)
    halves = [t for t in kept if t.dtype == torch.bfloat16 and t.numel()]
    assert len(halves) == 2
    assert halves[0].data_ptr() == halves[1].data_ptr()
    assert not any(t.dtype == torch.float32 and t.shape == x.shape for t in kept)
    total.backward()
    expected = torch.ones(5, 4) @ sum(layer.weight for layer in layers)
    torch.testing.assert_close(x.grad, expected, rtol=0.02, atol=0.02)


def test_a_tensor_changed_in_place_is_copied_anew() -> None:
    layer = nn.Linear(4, 4, bias=False)
    fuse_linear(layer)
    x = torch.randn(3, 4)
    with half_backward(True):
        layer(x)
        x.mul_(10.0)
        layer(x).sum().backward()
    expected = x.sum(0).expand(4, 4)
    torch.testing.assert_close(layer.weight.grad, expected, rtol=0.02, atol=0.02)


def test_only_fp32_weights_inside_the_block_go_lower() -> None:
    single, double = torch.zeros(1), torch.zeros(1, dtype=torch.float64)
    assert backward_dtype(single) == torch.float32
    with half_backward(True):
        assert backward_dtype(single) == torch.bfloat16
        assert backward_dtype(double) == torch.float64
        with half_backward(False):
            assert backward_dtype(single) == torch.float32


@pytest.mark.parametrize("units", [True, False])
def test_auto_is_bf16_where_the_cpu_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, units: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": units})
    monkeypatch.setattr("accord.lm.kernels.half.has_bf16_products", lambda: True)
    cpu = torch.device("cpu")
    assert settled("auto", cpu) == ("bf16" if units else "fp32")
    assert [settled("fp32", cpu), settled("bf16", cpu)] == ["fp32", "bf16"]
    engine = Engine(tiny_model("llama"), precision="auto")
    assert engine.precision == settled("auto", cpu)
    assert engine.forward_precision == "fp32"


def test_auto_is_fp32_where_torch_has_no_such_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a Mac: the operator that is asked is not there either."""
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    monkeypatch.setattr(torch.ops, "mkldnn", None)
    for machine in ("arm64", "x86_64"):
        monkeypatch.setattr("platform.machine", lambda machine=machine: machine)
        assert settled("auto", torch.device("cpu")) == "fp32"
