"""The vocabulary head: values, gradients and memory against the plain softmax."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from accord.lm.kernels.half import half_backward
from accord.lm.trees import vocab_head
from accord.lm.trees.vocab_head import VocabHead

F64 = torch.float64


def case(bias: bool = False, dtype: torch.dtype = F64) -> tuple[nn.Linear, Tensor, Tensor]:
    """A head of 30 words, 7 positions of width 5, their targets."""
    torch.manual_seed(0)
    linear = nn.Linear(5, 30, bias=bias, dtype=dtype)
    hidden = torch.randn(7, 5, dtype=dtype, requires_grad=True)
    return linear, hidden, torch.randint(0, 30, (7,))


def plain(head: VocabHead, hidden_SH: Tensor, target_S: Tensor) -> Tensor:
    logits = head.linear(hidden_SH) * head.scale
    logits = head.softcap * torch.tanh(logits / head.softcap) if head.softcap else logits
    logits = logits / head.temperature
    return logits.log_softmax(-1).gather(1, target_S[:, None])[:, 0]


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("scale", "softcap"), [(1.0, None), (0.3, None), (1.0, 2.0), (0.7, 3.0)])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_values_and_gradients(
    frozen: bool, bias: bool, scale: float, softcap: float | None, temperature: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(
        vocab_head, "chunk_bytes", lambda device: 4 * 30 * 3
    )  # three positions a chunk
    linear, hidden, target = case(bias)
    linear.requires_grad_(not frozen)
    head, inputs = (
        VocabHead(linear, scale, softcap, temperature),
        [hidden, *([] if frozen else linear.parameters())],
    )
    weight_S = torch.linspace(-1, 2, 7, dtype=F64)
    ours, own = head.logps(hidden, target), plain(head, hidden, target)
    torch.testing.assert_close(ours, own)
    for a, b in zip(
        torch.autograd.grad((ours * weight_S).sum(), inputs),
        torch.autograd.grad((own * weight_S).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("frozen", [True, False])
def test_half_backward_leaves_the_value_and_moves_gradients_a_little(frozen: bool) -> None:
    linear, hidden, target = case(bias=True, dtype=torch.float32)
    linear.requires_grad_(not frozen)
    inputs = [hidden] if frozen else [hidden, linear.weight, linear.bias]
    head = VocabHead(linear)
    exact = head.logps(hidden, target)
    with half_backward(True):
        half = head.logps(hidden, target)
    assert torch.equal(half, exact)
    got, expected = (torch.autograd.grad(x.sum(), inputs) for x in (half, exact))
    assert not torch.equal(got[0], expected[0])
    for a, b in zip(got, expected, strict=True):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < 0.01


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_entropy_and_its_gradient(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocab_head, "chunk_bytes", lambda device: 4 * 30 * 3)
    linear, hidden, _ = case()
    head = VocabHead(linear, 0.7, 3.0, temperature)
    logits = 3.0 * torch.tanh(linear(hidden) * 0.7 / 3.0) / temperature
    own = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(head.entropy(hidden), own)
    inputs = [hidden, linear.weight]
    for a, b in zip(
        torch.autograd.grad(head.entropy(hidden).sum(), inputs),
        torch.autograd.grad(own.sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        torch.testing.assert_close(head.entropy(hidden), own)


def test_nothing_of_all_positions_by_vocabulary_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest tensor alive is one chunk's."""
    monkeypatch.setattr(
        vocab_head, "chunk_bytes", lambda device: 4 * 1000 * 4
    )  # four positions a chunk
    linear = nn.Linear(8, 1000, bias=False)
    hidden, target = torch.randn(64, 8, requires_grad=True), torch.zeros(64, dtype=torch.long)
    kept: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    for frozen in (True, False):
        linear.requires_grad_(not frozen)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
            VocabHead(linear).logps(hidden, target).sum().backward()
    assert max(kept) <= 8 * 1000  # the weights themselves; positions by vocabulary would be 64 000


def test_a_tied_head_gives_its_gradient_to_the_embedding() -> None:
    embedding = nn.Embedding(30, 5, dtype=F64)
    linear = nn.Linear(5, 30, bias=False, dtype=F64)
    linear.weight = embedding.weight
    ids, target = torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])
    head = VocabHead(linear)
    (ours,) = torch.autograd.grad(head.logps(embedding(ids), target).sum(), embedding.weight)
    (own,) = torch.autograd.grad(plain(head, embedding(ids), target).sum(), embedding.weight)
    torch.testing.assert_close(ours, own)


def test_collision_by_hand() -> None:
    linear, hidden, _ = case()
    p_SV = linear(hidden).softmax(-1)
    got = VocabHead(linear).collision(hidden)
    torch.testing.assert_close(got, (p_SV**2).sum(-1).log())
    assert not got.requires_grad


def test_a_chunk_is_a_share_of_the_machines_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        total = 2 << 30

    chunk_bytes = vocab_head.chunk_bytes.__wrapped__
    cpu = torch.device("cpu")
    assert chunk_bytes(cpu) <= 28 << 20
    monkeypatch.setattr(vocab_head.psutil, "virtual_memory", lambda: Small)
    assert chunk_bytes(cpu) == 4 << 20
