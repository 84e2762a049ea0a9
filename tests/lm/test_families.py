"""Model families of other shapes: token trees give the model's own log-probs or fall back visibly, and
gradients of adapters reach all that is adapted and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import nn

from accord.core.errors import ConfigError, ModelError
from accord.lm.model.adapters import _idle, add_lora, trainable
from accord.lm.model.lora import Lora
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from tests.lm.test_engine import random_trees

SHAPE: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "initializer_range": 0.2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
OLD: dict[str, Any] = {
    "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 128, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 2,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip


def gemma3() -> Any:
    """A language model with an image encoder whose layers are named as its own are."""
    text = SHAPE | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 8}
    config = transformers.Gemma3Config(
        text_config=text, vision_config=VISION, mm_tokens_per_image=1, image_token_index=399
    )
    return transformers.Gemma3ForConditionalGeneration(config)


def llava() -> Any:
    """One that transformers loads with its images' class alone."""
    vision = transformers.CLIPVisionConfig(**VISION, projection_dim=32)
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**SHAPE), vision_config=vision, image_token_index=399
    )
    return transformers.LlavaForConditionalGeneration(config)


def qwen2_vl() -> Any:
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 8}
    config = transformers.Qwen2VLConfig(
        text_config=SHAPE | {"rope_parameters": rope}, vision_config=vision
    )
    return transformers.Qwen2VLForConditionalGeneration(config)


def opt(**more: Any) -> Any:
    return transformers.OPTForCausalLM(transformers.OPTConfig(**OLD | {"ffn_dim": 64} | more))


def opt_350m() -> Any:
    """The states its output layer reads are narrower than its layers are."""
    return opt(word_embed_proj_dim=16, do_layer_norm_before=False, init_std=0.2)


def mamba() -> Any:
    config = transformers.MambaConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.2
    )
    return transformers.MambaForCausalLM(config)


def bloom() -> Any:
    config = transformers.BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4)
    return transformers.BloomForCausalLM(config)


def phimoe() -> Any:
    return transformers.PhimoeForCausalLM(transformers.PhimoeConfig(**SHAPE, num_local_experts=4))


def granite() -> Any:
    more = {"logits_scaling": 4.0, "residual_multiplier": 0.5}
    return transformers.GraniteForCausalLM(transformers.GraniteConfig(**SHAPE, **more))


def phi3() -> Any:
    return transformers.Phi3ForCausalLM(transformers.Phi3Config(**SHAPE))


def cohere() -> Any:
    return transformers.CohereForCausalLM(transformers.CohereConfig(**SHAPE))


def build(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make().eval()


TREES = {gemma3, llava, qwen2_vl, opt_350m, phimoe, granite, phi3, cohere}


@pytest.mark.parametrize("make", [*sorted(TREES, key=lambda f: f.__name__), bloom, mamba])
def test_log_probs_and_gradients_are_the_models_own(make: Callable[[], Any]) -> None:
    model = build(make)
    engine = Engine(model)
    assert engine.mode == ("tree" if make in TREES else "plain")
    assert bool(engine.notes) == (engine.mode == "plain")
    trees = random_trees(3)
    alone = [Tree(t.prompt, (c,)) for t in trees for c in t.completions]

    def gradients(values: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad(set_to_none=True)
        values.sum().backward()
        return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}

    ours_S = engine.logps(trees).tokens_S
    own_S = torch.cat([engine._own_logps(model, tree) for tree in alone])
    torch.testing.assert_close(ours_S, own_S, atol=2e-5, rtol=0)
    ours, own = gradients(ours_S), gradients(own_S)
    assert ours.keys() == own.keys()
    for name in own:
        torch.testing.assert_close(ours[name], own[name], atol=1e-3, rtol=1e-3, msg=name)


@pytest.mark.parametrize("make", [*sorted(TREES, key=lambda f: f.__name__), bloom])
def test_every_adapter_learns_and_nothing_else(make: Callable[[], Any]) -> None:
    model = add_lora(build(make), Lora(r=2, alpha=4), seed=1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.05)
    Engine(model).logps(random_trees(3)).tokens_S.sum().backward()
    learning = {n for n, p in model.named_parameters() if p.grad is not None and bool(p.grad.any())}
    assert learning == trainable(model).keys()
    assert not [name for name in learning if "lora_" not in name or "vis" in name]


def test_named_targets_pass_by_the_image_encoder_too() -> None:
    model = add_lora(build(gemma3), Lora(r=2, alpha=4, targets="q_proj,down_proj"), seed=1)
    names = list(trainable(model))
    assert len(names) == 8  # two layers, two kinds, A and B
    assert all(".language_model." in name for name in names)
    with pytest.raises(ConfigError, match="no module 'out_proj'"):  # the encoder's alone
        add_lora(build(gemma3), Lora(targets="out_proj"), seed=1)


def test_an_expert_that_no_token_went_to_counts_with_those_that_had_some() -> None:
    class Experts(nn.Module):
        """Token ids below 100 go to expert 0, the others to expert 1; layer 1 reads images only."""

        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(400, 8)
            self.layers = nn.ModuleList(nn.ModuleDict({"experts": two()}) for _ in range(2))

        def forward(self, input_ids: torch.Tensor, use_cache: bool = False) -> torch.Tensor:
            expert = self.layers[0]["experts"][int(input_ids.min() >= 100)]  # type: ignore[index]
            out: torch.Tensor = expert(self.embed(input_ids))
            return out

    def two() -> nn.ModuleList:
        return nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    assert _idle(Experts()) == {"layers.1.experts.0", "layers.1.experts.1"}


def test_what_peft_refuses_is_one_line_that_says_what_to_name() -> None:
    with pytest.raises(ModelError, match=r"tune.targets: .*'out_proj' is incompatible") as error:
        add_lora(build(mamba), Lora(r=2, alpha=4), seed=1)
    assert "\n" not in str(error.value)
    assert error.value.__cause__ is None
    assert "in_proj, lm_head, out_proj, x_proj" in str(error.value)
    add_lora(build(mamba), Lora(r=2, alpha=4, targets="in_proj,x_proj"), seed=1)


def test_the_width_of_a_head_is_that_of_the_states_it_reads() -> None:
    engine = Engine(build(opt_350m))
    assert engine.head.width == engine.last_hidden(random_trees(3)).shape[1] == 16
    assert engine.config.hidden_size == 32


def test_logits_made_of_something_else_are_refused_in_one_line() -> None:
    """BERT's output layer reads what another layer made of the trunk's states."""
    config = transformers.BertConfig(**OLD, intermediate_size=64, is_decoder=True)
    with pytest.raises(ModelError, match="BertLMHeadModel computes its logits in a way"):
        Engine(build(lambda: transformers.BertLMHeadModel(config)))
