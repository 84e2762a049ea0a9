"""FlexAttention's form of the tree mask: the same sight as the plain mask, the same log-probs.

Its backward pass exists on a GPU only; the mask and the forward pass are tested everywhere.
"""

from __future__ import annotations

import pytest
import torch

from accord.lm.trees.engine import Engine
from accord.lm.trees.flex import BUCKET, block_mask, padded
from accord.lm.trees.tree import Tree, pack
from tests.lm.tiny import tiny_model

CPU = torch.device("cpu")
TREES = [
    Tree((1, 2, 3, 4), ((5, 6, 7), (8, 9))),
    Tree((1, 2, 9), ((4, 4, 4, 4), (3,), (7, 7))),
    Tree((1, 2, 3, 4, 5, 6, 7, 8), ((1, 2),)),
]


@pytest.mark.parametrize("window", [None, 3])
def test_the_block_mask_sees_what_the_plain_mask_sees(window: int | None) -> None:
    packed = pack(TREES)
    made = block_mask(packed, window, CPU)
    T, at = len(packed.ids_T), torch.arange(len(padded(packed.ids_T)))
    seen = made.mask_mod(torch.tensor(0), torch.tensor(0), at[:, None], at[None, :])
    assert len(at) == BUCKET
    assert torch.equal(seen[:T, :T], packed.allowed_TT(window=window))
    assert not seen[:T, T:].any()  # no one sees the padding
    assert seen.any(1).all()  # and no row of the softmax is empty


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma3_text"])
def test_the_forward_pass_equals_plain_sequences(arch: str) -> None:
    model = tiny_model(arch)
    plain = Engine(model, mode="plain")
    flex = Engine(model, mode="tree")
    flex.attention = "flex"
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        torch.testing.assert_close(
            flex.logps(TREES).tokens_S, plain.logps(TREES).tokens_S, atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            flex.last_hidden(TREES), plain.last_hidden(TREES), atol=1e-4, rtol=1e-4
        )


@pytest.mark.gpu
@pytest.mark.parametrize("arch", ["llama", "qwen3", "gemma2", "gemma3_text"])
def test_on_a_gpu_values_and_gradients_equal_plain_sequences(arch: str) -> None:
    model = tiny_model(arch).to("cuda")
    tree = Engine(model)
    assert (tree.mode, tree.attention) == ("tree", "flex"), tree.notes
    found = []
    for engine in (tree, Engine(model, mode="plain")):
        tokens_S = engine.logps(TREES).tokens_S
        (tokens_S * torch.linspace(-1, 1, len(tokens_S), device="cuda")).sum().backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        found.append((tokens_S.detach(), grads))
        model.zero_grad(set_to_none=True)
    torch.testing.assert_close(found[0][0], found[1][0], atol=1e-3, rtol=1e-3)
    for name, grad in found[1][1].items():
        torch.testing.assert_close(found[0][1][name], grad, atol=1e-3, rtol=1e-2)


@pytest.mark.gpu
def test_on_a_gpu_bf16_is_near_fp32() -> None:
    model = tiny_model("llama").to("cuda")
    exact, low = (Engine(model, precision=p).logps(TREES).tokens_S for p in ("fp32", "bf16"))
    assert low.dtype == torch.float32
    torch.testing.assert_close(low, exact, atol=0.1, rtol=0.05)
