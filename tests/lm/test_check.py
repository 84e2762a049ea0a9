"""What of a model is refused at load, and texts it can't read alike in any company: each in one line that
names the tensor, the token or the length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from accord.core.errors import DataError, ModelError
from accord.core.types import Demonstration, Prompt, Response
from accord.lm.model.adapters import add_lora, save_adapter
from accord.lm.model.check import room, steady
from accord.lm.model.load import LanguageModel, load, load_shape, write_model_json
from accord.lm.model.lora import Lora
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from accord.train.loop.data import Limits, check_room, demonstration_trees
from tests.lm.tiny import tiny_config, tiny_model, tiny_tokenizer

SHORT = 24  # positions of the short factors


def save(folder: Path, **tokenizer: Any) -> Path:
    tiny_model().save_pretrained(folder)
    tiny_tokenizer(**tokenizer).save_pretrained(folder)
    return folder


def rewrite(file: Path, **keys: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | keys))


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    assert error.__cause__ is None
    return str(error)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_broken_weight_is_named(tmp_path: Path, value: float) -> None:
    folder = save(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(
        ModelError, match=r"model.layers.1.mlp.up_proj.weight holds NaN or inf"
    ) as e:
        load(folder, device="cpu")
    one_line(e.value)


def test_of_several_files_the_broken_one_is_named(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path, max_shard_size="40KB")
    tiny_tokenizer().save_pretrained(tmp_path)
    name = "model.layers.1.mlp.up_proj.weight"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    file = tmp_path / index["weight_map"][name]
    weights = load_file(file)
    weights[name][0, 0] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"{file.name}: {name} holds NaN"):
        load(tmp_path, device="cpu")
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ModelError, match=rf"{file.name}: can't load") as e:
        load(tmp_path, device="cpu")
    one_line(e.value)


def test_a_broken_adapter_is_named_by_the_weight_it_breaks(tmp_path: Path) -> None:
    lm = load(save(tmp_path / "base"), device="cpu")
    adapted = add_lora(lm.model, Lora(r=2, alpha=4, targets="q_proj", last_layers=1), seed=1)
    adapter = save_adapter(adapted, tmp_path / "stage/adapter")
    weights = load_file(adapter / "adapter_model.safetensors")
    next(w for n, w in weights.items() if "lora_B" in n)[0, 0] = torch.nan
    save_file(weights, adapter / "adapter_model.safetensors")
    write_model_json(
        tmp_path / "stage", base=tmp_path / "base", base_weights=lm.weights, adapters=[adapter]
    )
    with pytest.raises(
        ModelError, match=r"stage: model.layers.1.self_attn.q_proj.weight holds NaN"
    ):
        load(tmp_path / "stage", device="cpu")


def test_what_float16_cannot_hold_is_named(tmp_path: Path) -> None:
    folder = save(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] = 1e6
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load(folder, device="cpu")
    with pytest.raises(ModelError, match=r"model.norm.weight holds NaN or infinity.*float16"):
        load(folder, device="cpu", dtype="float16")


def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_sizes(tmp_path: Path) -> None:
    folder = save(tmp_path)
    larger = tiny_tokenizer()
    larger.add_tokens(["<extra>", "<more>"])
    larger.save_pretrained(folder)
    message = r"402 tokens and the model embeds 400; the first beyond is '<extra>' \(id 400\)"
    with pytest.raises(ModelError, match=message) as e:
        load(folder, device="cpu")
    one_line(e.value)
    padded = tiny_tokenizer()
    padded.add_special_tokens({"pad_token": "<new pad>"})
    padded.save_pretrained(folder)
    with pytest.raises(ModelError, match="'<new pad>'"):
        load(folder, device="cpu")


def test_tokens_of_images_may_lie_beyond_a_text_models_embedding(tmp_path: Path) -> None:
    """Gemma 3's 1B embeds 262144 tokens, and its tokenizer has an image's as number 262145. A text that
    holds it is refused before anything runs."""
    folder = save(tmp_path)
    rewrite(folder / "tokenizer_config.json", image_token="<image>")
    lm = load(folder, device="cpu")
    assert len(lm.tokenizer) == 401
    said = Demonstration(prompt=Prompt.user("look: <image>"), response=Response(text="a tent"))
    trees = demonstration_trees(lm.tokenizer, [said], Limits(), all_turns=False)
    message = "token with id 400, and the model embeds 400"
    with pytest.raises(DataError, match=message):
        check_room(lm, trees)
    with pytest.raises(DataError, match=message):
        LocalSampler(lm)([said.prompt], Sampling(max_new_tokens=2))
    with pytest.raises(DataError, match=message):
        Engine(lm.model).logps(trees.trees)


def test_code_of_the_models_own_is_refused_without_an_option_accord_lacks(tmp_path: Path) -> None:
    folder = save(tmp_path)
    ran = tmp_path / "ran"
    code = f"import pathlib\npathlib.Path({str(ran)!r}).touch()\n"
    (folder / "modeling_own.py").write_text(code)
    (folder / "configuration_own.py").write_text(code)
    auto = {"AutoConfig": "configuration_own.C", "AutoModelForCausalLM": "modeling_own.M"}
    rewrite(folder / "config.json", model_type="own", auto_map=auto)
    for read in (load, load_shape):
        with pytest.raises(ModelError, match=r"Python code .*which accord never runs") as e:
            read(folder)
        assert "trust_remote_code" not in one_line(e.value)
    assert not ran.exists()


def test_a_config_of_another_shape_is_refused_with_both(tmp_path: Path) -> None:
    folder = save(tmp_path)
    rewrite(folder / "config.json", intermediate_size=48)
    message = r"mlp.down_proj.weight is \(32, 64\) in the weights and \(32, 48\) by config.json"
    with pytest.raises(ModelError, match=message) as e:
        load(folder, device="cpu")
    assert "ignore_mismatched_sizes" not in one_line(e.value)


def longrope() -> Any:
    config = transformers.Phi3Config(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2,
        max_position_embeddings=8 * SHORT, original_max_position_embeddings=SHORT,
        rope_scaling={"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [6.0] * 4},
        bos_token_id=None, eos_token_id=2, pad_token_id=0,
    )  # fmt: skip
    return config


def phi3() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.Phi3ForCausalLM(longrope()).eval()


def dynamic(**more: Any) -> Any:
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
    return tiny_config("llama", max_position_embeddings=SHORT, rope_parameters=rope, **more)


def test_positions_end_where_rotary_frequencies_change() -> None:
    assert room(longrope()) == (SHORT, "24 positions before its rotary frequencies change")
    assert room(dynamic())[0] == steady(dynamic()) == SHORT
    assert room(tiny_config("llama")) == (512, "512 positions")
    assert room(tiny_config("gemma3_text")) == (
        512,
        "512 positions",
    )  # a rope for each kind of layer
    assert room(transformers.BloomConfig())[0] is None
    mixed = tiny_config("gemma3_text")
    mixed.rope_parameters["full_attention"] = dict(longrope().rope_parameters)
    assert steady(mixed) == SHORT


@pytest.mark.parametrize("model", ["longrope", "dynamic"])
@pytest.mark.parametrize("mode", ["tree", "plain"])
def test_no_row_crosses_and_neighbours_change_nothing(model: str, mode: str) -> None:
    made = phi3() if model == "longrope" else transformers.LlamaForCausalLM(dynamic()).eval()
    engine = Engine(made, mode=mode)
    short, long = Tree((5, 6, 7), ((8, 9, 10),)), Tree(tuple(range(5, 20)), (tuple(range(30, 39)),))
    assert long.tokens == SHORT
    alone = engine.logps([short]).tokens_S
    together = engine.logps([short, long]).tokens_S[:3]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    over = Tree(long.prompt, ((*long.completions[0], 40, 41),))
    with pytest.raises(DataError, match=r"2\d tokens is longer than the 24 .* rotary frequencies"):
        engine.logps([short, over])
    torch.testing.assert_close(engine.logps([short]).tokens_S, alone, atol=0, rtol=0)


def test_sampling_and_training_end_before_the_change() -> None:
    lm = LanguageModel(phi3(), tiny_tokenizer(), "phi", Path(), "hash")
    ask = [Prompt.user("hi"), Prompt.user("hi there")]
    with pytest.raises(DataError, match="24 positions before its rotary frequencies change"):
        LocalSampler(lm)(ask, Sampling(max_new_tokens=20))
    said = Demonstration(prompt=ask[0], response=Response(text="yes " * 12, finish="stop"))
    trees = demonstration_trees(lm.tokenizer, [said], Limits(), all_turns=False)
    with pytest.raises(DataError, match=r"does not fit the model's 24 positions before"):
        check_room(lm, trees)


def test_a_shared_beginning_is_read_as_the_answers_that_follow_it() -> None:
    """Greedy answers from a batch whose prompts share their beginning are those of each prompt alone."""
    lm = LanguageModel(phi3(), tiny_tokenizer(), "phi", Path(), "hash")
    ask = [Prompt.user(text) for text in ("a", "b", "c")]
    how = Sampling(max_new_tokens=6, temperature=0)
    together = [r[0].ids for r in LocalSampler(lm).tokens(ask, how)]
    assert together == [LocalSampler(lm).tokens([p], how)[0][0].ids for p in ask]


def test_a_broken_scalar_head_is_named(tmp_path: Path) -> None:
    head = ScalarHead(8, 1)
    with torch.no_grad():
        head.weight[3] = torch.nan
    head.save(tmp_path)
    with pytest.raises(ModelError, match=r"scalar_head.safetensors: weight holds NaN"):
        ScalarHead.load(tmp_path)
