"""Weights in half precision: log-probs of an fp32 product, and what would lose updates is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from accord.core.errors import ModelError
from accord.lm.model.adapters import add_lora
from accord.lm.model.load import LanguageModel, load
from accord.lm.model.lora import Lora
from accord.lm.sample import LocalSampler, _Step
from accord.lm.sampler import Sampling
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree, pack
from accord.lm.trees.vocab_head import VocabHead
from accord.train.loop.trainee import Tune, check_trainable, prepare
from accord.train.online.actors import cast
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.train.small import LORA, demonstrations, how, preference, reward, sft

TREE = [Tree((5, 6, 7), ((8, 9, 20, 30), (10, 11, 12, 40, 50)))]
HALF = [torch.bfloat16, torch.float16]


def half(dtype: torch.dtype = torch.bfloat16, *, tied: bool = False) -> nn.Module:
    model = tiny_model("llama", tie_word_embeddings=tied, initializer_range=0.5)
    made: nn.Module = model.to(dtype)
    return made


def by_hand(hidden_SH: Tensor, weight_VH: Tensor, target_S: Tensor) -> Tensor:
    logps_SV = (hidden_SH.double() @ weight_VH.double().T).log_softmax(-1)
    return logps_SV.gather(1, target_S[:, None])[:, 0].float()


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("frozen", [True, False])
def test_the_heads_product_is_not_rounded(dtype: torch.dtype, frozen: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(64, 300, bias=True, dtype=dtype).requires_grad_(not frozen)
    hidden = (torch.randn(20, 64) * 4).to(dtype).requires_grad_()
    target = torch.randint(0, 300, (20,))
    rounded = linear(hidden).float().log_softmax(-1).gather(1, target[:, None])[:, 0]
    head = VocabHead(linear)
    logps = (hidden.double() @ linear.weight.double().T + linear.bias.double()).log_softmax(-1)
    expected = logps.gather(1, target[:, None])[:, 0]
    ours = head.logps(hidden, target)
    torch.testing.assert_close(ours, expected.float(), atol=2e-5, rtol=0)
    assert float((rounded - expected).detach().abs().max()) > 1e-3  # what it was
    torch.testing.assert_close(head.entropy(hidden), -(logps.exp() * logps).sum(1).float())
    torch.testing.assert_close(head.collision(hidden), (2 * logps).logsumexp(1).float())
    (grad,) = torch.autograd.grad(ours.sum(), hidden, retain_graph=True)
    (exact,) = torch.autograd.grad(expected.sum(), hidden)
    torch.testing.assert_close(grad, exact, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("mode", ["tree", "plain"])
def test_an_engine_of_bf16_weights(mode: str, tied: bool) -> None:
    engine = Engine(half(tied=tied), mode=mode)
    packed = pack(TREE)
    hidden_SH = engine.states(TREE)[0]
    assert hidden_SH.dtype == torch.bfloat16
    got_S = engine.logps(TREE).tokens_S
    expected_S = by_hand(hidden_SH, engine.head.linear.weight, packed.target_S)
    torch.testing.assert_close(got_S, expected_S, atol=2e-5, rtol=0)


def test_an_adapter_on_the_head_is_multiplied_in_fp32_too() -> None:
    model = add_lora(half(), Lora(r=2, alpha=2, targets="lm_head"), seed=1)
    head = model.get_base_model().lm_head
    nn.init.normal_(head.lora_B["default"].weight)
    engine = Engine(model, mode="tree")
    hidden_SH = engine.states(TREE)[0]
    update = head.lora_B["default"].weight @ head.lora_A["default"].weight
    expected_S = by_hand(hidden_SH, head.base_layer.weight + update, pack(TREE).target_S)
    torch.testing.assert_close(engine.logps(TREE).tokens_S, expected_S, atol=2e-5, rtol=0)


def test_states_narrower_than_the_head_are_widened() -> None:
    """Autocast leaves such states behind where a model ends without a norm."""
    linear, hidden = nn.Linear(8, 50), torch.randn(5, 8).bfloat16()
    target = torch.arange(5)
    expected = VocabHead(linear).logps(hidden.float(), target)
    torch.testing.assert_close(VocabHead(linear).logps(hidden, target), expected)


def test_a_sampler_draws_from_unrounded_logits() -> None:
    lm = LanguageModel(half(), tiny_tokenizer(), "half", Path(), "hash")
    LocalSampler(lm).tokens([demonstrations(1)[0].prompt], Sampling(max_new_tokens=2))
    logits_BV = _Step(lm).first([(5, 6, 7, 8)], [1])
    assert logits_BV.dtype == torch.float32
    assert not torch.equal(logits_BV, logits_BV.bfloat16().float())


@pytest.fixture
def untied(tmp_path: Path) -> Path:
    tiny_model("llama").save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("dtype", "tune", "refused"),
    [
        ("bfloat16", "full", "tune: full would round most updates of bfloat16 weights away"),
        ("float16", "full", "float16 weights vanish without loss scaling"),
        ("float16", LORA, "float16 weights vanish without loss scaling"),
        ("bfloat16", LORA, ""),
        ("float32", "full", ""),
    ],
)
def test_what_half_weights_are_not_trained_as(
    untied: Path, dtype: str, tune: Tune, refused: str
) -> None:
    for begin in (
        lambda lm: prepare(lm, tune, 1),
        lambda lm: cast(lm, tune, 1, value=True),
    ):
        lm = load(untied, device="cpu", dtype=dtype)
        if not refused:
            begin(lm)
            continue
        with pytest.raises(ModelError, match=refused + r".*load it with dtype=.float32"):
            begin(lm)
        assert not getattr(lm.model, "accord_trained", False)


def test_one_half_weight_among_others_is_found(untied: Path) -> None:
    lm = load(untied, device="cpu")
    lm.model.lm_head.to(torch.bfloat16)
    with pytest.raises(ModelError, match="updates of bfloat16 weights"):
        check_trainable(lm, "full")
    check_trainable(lm, LORA)


@pytest.mark.parametrize("train", [sft, reward, preference])
def test_adapters_on_bf16_weights_move_in_fp32(
    train: object, untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update of a millionth of a weight is kept: of the weights that move, all do."""
    from safetensors.torch import load_file

    monkeypatch.setattr(
        "tests.train.small.fresh", lambda folder: load(folder, device="cpu", dtype="bfloat16")
    )
    done = train(untied, tmp_path / "run", how(max_steps=2, lr=1e-6))  # type: ignore[operator]
    adapter = load_file(done.model / "adapter/adapter_model.safetensors")
    moved = torch.cat([w.flatten() for n, w in adapter.items() if "lora_B" in n])
    assert moved.dtype == torch.float32
    assert float((moved != 0).float().mean()) > 0.95
