"""The tree engine equals the naive computation: values, gradients, any packing, any shape."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from accord.core.errors import ModelError
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import by_tree, each_tree
from accord.lm.trees.tree import Tree, bins, hash_trees, pack, split_tree
from accord.lm.trees.vocab_head import VocabHead
from tests.lm.tiny import ARCHITECTURES, gpt_neo, tiny_model


def exact_norms(model: torch.nn.Module) -> torch.nn.Module:
    """The model in fp64 throughout: transformers' RMSNorm rounds to fp32 whatever the dtype."""

    def forward(self: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
        eps = getattr(self, "eps", None) or self.variance_epsilon
        gain = 1 + self.weight if "Gemma" in type(self).__name__ else self.weight
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * gain

    for module in model.modules():
        if "RMSNorm" in type(module).__name__:
            module.forward = forward.__get__(module)
    return model.double()


def random_trees(seed: int, vocab: int = 400, n: int = 4) -> list[Tree]:
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        size = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(4, vocab, (size,), generator=generator).tolist())

    head = ids(1, 9) if seed % 2 else ()  # odd seeds: all prompts begin alike
    return [Tree(head + ids(1, 14), tuple(ids(1, 12) for _ in range(1 + i % 3))) for i in range(n)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_tree_equals_naive(arch: str, seed: int) -> None:
    model = tiny_model(arch)
    trees = random_trees(seed)
    engine = Engine(model)
    assert engine.mode == "tree", engine.notes
    tree_S = engine.logps(trees)
    naive = Engine(model, mode="plain").logps(trees)
    assert tree_S.lengths == naive.lengths
    torch.testing.assert_close(tree_S.tokens_S, naive.tokens_S, atol=1e-4, rtol=0)
    torch.testing.assert_close(
        engine.last_hidden(trees), Engine(model, mode="plain").last_hidden(trees), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("freeze_head", [False, True])
def test_gradients_equal_naive_in_fp64(
    arch: str, freeze_head: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keep_dtype(x: torch.Tensor, dim: int, dtype: object = None) -> torch.Tensor:
        return x.softmax(dim)  # eager attention asks for fp32

    monkeypatch.setattr(torch.nn.functional, "softmax", keep_dtype)

    def gradients(mode: str) -> list[torch.Tensor]:
        model = exact_norms(tiny_model(arch))
        if freeze_head:
            model.get_output_embeddings().weight.requires_grad_(False)
        trees, engine = random_trees(3), Engine(model, mode=mode)
        if mode == "plain":  # one unpadded sequence at a time
            single = [Tree(t.prompt, (c,)) for t in trees for c in t.completions]
            sums_C = torch.cat([engine.logps([t]).sums_C() for t in single])
        else:
            sums_C = engine.logps(trees).sums_C()
        (sums_C * torch.linspace(-1, 1, len(sums_C), dtype=torch.float64)).sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    ours, naive = gradients("tree"), gradients("plain")
    assert len(ours) == len(naive) > 0
    for a, b in zip(ours, naive, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_log_probs_equal_the_models_own_softmax() -> None:
    model = tiny_model("gemma2", final_logit_softcapping=5.0)
    tree = Tree((5, 6, 7), ((8, 9), (10, 11, 12)))
    got = Engine(model).logps([tree])
    expected = []
    for completion in tree.completions:
        ids = torch.tensor([tree.prompt + completion])
        logps_TV = model(ids).logits[0].log_softmax(-1)
        expected += [logps_TV[2 + j, t] for j, t in enumerate(completion)]
    torch.testing.assert_close(got.tokens_S, torch.stack(expected), atol=1e-5, rtol=0)
    torch.testing.assert_close(got.sums_C()[0], expected[0] + expected[1])


def test_packing_and_order_change_nothing() -> None:
    model = tiny_model("qwen3")
    engine = Engine(model)
    trees = random_trees(3, n=6)
    together = engine.logps(trees).sums_C()
    alone = torch.cat([engine.logps([t]).sums_C() for t in trees])
    backwards = torch.cat([engine.logps([t]).sums_C() for t in reversed(trees)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    counts = [len(t.completions) for t in reversed(trees)]
    parts = backwards.split(counts)
    torch.testing.assert_close(torch.cat(list(reversed(parts))), alone, atol=1e-5, rtol=1e-5)


def test_score_mask_leaves_out_tokens() -> None:
    engine = Engine(tiny_model("llama"))
    whole = engine.logps([Tree((5, 6), ((7, 8, 9),))])
    masked = engine.logps([Tree((5, 6), ((7, 8, 9),), ((True, False, True),))])
    assert masked.lengths == (2,)
    torch.testing.assert_close(masked.tokens_S, whole.tokens_S[[0, 2]])


def test_layout_by_hand() -> None:
    packed = pack([Tree((1, 2), ((3, 4), (5,)))], keep_last=True)
    assert packed.ids_T.tolist() == [1, 2, 3, 4, 5]
    assert packed.positions_T.tolist() == [0, 1, 2, 3, 2]
    assert packed.at_S.tolist() == [1, 2, 1]
    assert packed.target_S.tolist() == [3, 4, 5]
    assert packed.last_C.tolist() == [3, 4]
    assert packed.allowed_TT().int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
    assert packed.allowed_TT(window=2).int().tolist()[4] == [0, 1, 0, 0, 1]
    assert pack([Tree((1, 2), ((3, 4), (5,)))]).ids_T.tolist() == [1, 2, 3]


def test_a_shared_beginning_stands_once() -> None:
    trees = [Tree((1, 2, 3), ((4,),)), Tree((1, 2, 5), ((6, 7),)), Tree((1, 2), ((8,),))]
    packed = pack(trees, keep_last=True)
    assert packed.ids_T.tolist() == [1, 2, 3, 4, 2, 5, 6, 7, 2, 8]
    assert packed.positions_T.tolist() == [0, 1, 2, 3, 1, 2, 3, 4, 1, 2]
    assert packed.at_S.tolist() == [2, 5, 6, 8]
    sees = packed.allowed_TT().int().tolist()
    assert sees[5] == [1, 0, 0, 0, 1, 1, 0, 0, 0, 0]
    assert sees[9] == [1, 0, 0, 0, 0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("scale", [1.0, 0.25])
@pytest.mark.parametrize("softcap", [None, 3.0])
def test_frozen_head_gradient_equals_autograd(scale: float, softcap: float | None) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(8, 50, bias=False).double()
    hidden = torch.randn(11, 8, dtype=torch.float64)
    target = torch.randint(0, 50, (11,))
    weights = torch.randn(11, dtype=torch.float64)

    def run(frozen: bool) -> tuple[torch.Tensor, torch.Tensor]:
        linear.weight.requires_grad_(not frozen)
        h = hidden.clone().requires_grad_()
        out = VocabHead(linear, scale, softcap).logps(h, target)
        (out * weights).sum().backward()
        return out.detach(), h.grad

    for ours, reference in zip(run(True), run(False), strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-12, rtol=1e-12)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny_model("llama"))
    whole = engine.logps(random_trees(4)).tokens_S
    monkeypatch.setattr("accord.lm.trees.vocab_head.chunk_bytes", lambda device: 4 * 400 * 3)
    torch.testing.assert_close(engine.logps(random_trees(4)).tokens_S, whole)


def test_models_that_ignore_the_mask_fall_back_visibly() -> None:
    import transformers

    config = transformers.MambaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.2
    )
    torch.manual_seed(0)
    engine = Engine(transformers.MambaForCausalLM(config).eval())
    assert engine.mode == "plain"
    assert "token trees are off" in engine.notes[0]
    trees = random_trees(5)
    together = engine.logps(trees).sums_C()
    torch.testing.assert_close(together[0], engine.logps(trees[:1]).sums_C()[0], atol=1e-4, rtol=0)


def test_bins_hold_the_budget_and_every_item_once() -> None:
    sizes = [5, 9, 3, 3, 20, 1]
    packed = bins(sizes, 10)
    assert sorted(i for b in packed for i in b) == list(range(6))
    assert all(sum(sizes[i] for i in b) <= 10 or len(b) == 1 for b in packed)
    assert packed == bins(sizes, 10)


def test_a_tree_over_the_budget_is_split_and_scores_the_same() -> None:
    engine = Engine(tiny_model("llama"))
    tree = Tree((5, 6, 7), tuple(tuple(range(20 + k, 24 + k + k % 3)) for k in range(20)))
    sizes: list[int] = []

    def sums(trees: Sequence[Tree]) -> Sequence[torch.Tensor]:
        sizes.append(sum(t.tokens for t in trees))
        return by_tree(engine.logps(trees).sums_C(), trees)

    (whole,) = each_tree(engine.model, sums, [tree], 10_000)
    (split,) = each_tree(engine.model, sums, [tree], 24)
    assert max(sizes[1:]) <= 24 < sizes[0]
    torch.testing.assert_close(split, whole, atol=1e-5, rtol=0)
    assert [c for part in split_tree(tree, 1) for c in part.completions] == list(tree.completions)


def test_trees_are_told_apart_by_tokens_and_by_what_is_scored() -> None:
    trees = [
        [Tree((1, 2), ((3, 4),))],
        [Tree((1,), ((2, 3, 4),))],
        [Tree((1, 2), ((3,), (4,)))],
        [Tree((1, 2), ((3, 4),), ((True, False),))],
        [Tree((1, 2), ((3, 4),))] * 2,
    ]
    assert len({hash_trees(t) for t in trees}) == len(trees)


def test_windows_counted_along_the_row_fall_back() -> None:
    """GPT-Neo sees the last rows, not positions: a sibling in between would push the prompt out."""
    engine = Engine(gpt_neo(window=32))
    assert engine.mode == "plain"
    assert "token trees are off" in engine.notes[0]


def test_the_gradient_is_the_same_bits_every_time_with_two_threads() -> None:
    """A prompt's last token predicts the first of every continuation: its gradients are added up in
    one order, or a killed run would not end with an undisturbed one's bytes."""
    model = tiny_model("llama", hidden_size=256)
    engine = Engine(model)
    tree = Tree(tuple(range(5, 25)), tuple(tuple(range(30 + k, 60 + k)) for k in range(9)))
    seen = set()
    torch.set_num_threads(2)
    try:
        for _ in range(40):
            model.zero_grad()
            engine.logps([tree]).tokens_S.sum().backward()
            seen.add(model.model.layers[0].mlp.up_proj.weight.grad.numpy().tobytes())
    finally:
        torch.set_num_threads(1)
    assert len(seen) == 1


def test_no_cudnn_attention_runs_in_an_engine() -> None:
    """Under a mask its backward pass gives NaN at lengths of 64 mod 128 (pytorch #196678)."""
    seen = []
    for mode in ("plain", "tree"):
        engine = Engine(tiny_model("llama"), mode=mode)
        engine.trunk.register_forward_hook(
            lambda *_: seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        )
        trees = random_trees(3)
        before = torch.backends.cuda.cudnn_sdp_enabled()
        for run in (engine.logps, engine.states, engine.last_hidden):
            run(trees)
        assert torch.backends.cuda.cudnn_sdp_enabled() == before
    assert seen
    assert not any(seen)


@pytest.mark.parametrize("mode", ["tree", "plain"])
@pytest.mark.parametrize("arch", ["llama", "gemma3_text"])
def test_rows_filled_up_as_on_a_gpu_give_the_same(arch: str, mode: str) -> None:
    """Whole rows are masked there, filled up to a multiple of 128; learned or rotary limits are kept."""
    model, trees = tiny_model(arch), random_trees(3)
    plain = Engine(model, mode="plain")
    engine = Engine(model, mode=mode)
    assert engine.attention == "mask"
    engine.multiple = 128
    lengths = []
    hook = engine.trunk.register_forward_hook(
        lambda _, inputs, out: lengths.append(out.last_hidden_state.shape[1])
    )
    ours = engine.logps(trees).tokens_S
    hook.remove()
    assert lengths == [128]
    expected = plain.logps(trees).tokens_S
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=0)
    grads = [torch.autograd.grad(x.sum(), model.parameters()) for x in (ours, expected)]
    for a, b in zip(*grads, strict=True):
        assert bool(a.isfinite().all())
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_filling_up_stops_at_the_positions_there_are() -> None:
    engine = Engine(tiny_model("llama", max_position_embeddings=40), mode="plain")
    engine.multiple = 128
    lengths = []
    engine.trunk.register_forward_hook(
        lambda _, inputs, out: lengths.append(out.last_hidden_state.shape[1])
    )
    engine.logps(random_trees(3))
    assert lengths == [40]


def test_a_broken_backward_pass_is_named_before_training() -> None:
    class Broken(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: object, *grads: torch.Tensor) -> torch.Tensor:
            return grads[0] * torch.nan

    engine = Engine(tiny_model("llama"), precision="bf16")
    engine.check_gradients()
    layer = engine.trunk.layers[1].self_attn.o_proj  # type: ignore[union-attr, index]
    layer.register_forward_hook(lambda _, inputs, out: Broken.apply(out))
    with pytest.raises(ModelError, match=r"NaN or infinity, first in .*by_tree.*bf16.*196678"):
        engine.check_gradients()
