"""What models stand on is found by its hash; identity covers all that decides tokens and weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from accord.core.errors import ModelError
from accord.lm.model.chain import identity, layers, weights_of
from accord.lm.model.find import bases_at
from accord.lm.model.load import MODEL_FILE, load, load_shape
from accord.lm.model.packaged import quiet_transformers
from accord.lm.model.roles import adapter_on
from tests.lm.test_load import logits, own_caches, save, save_adapter, stages
from tests.lm.tiny import CHATML, tiny_tokenizer

__all__ = ["own_caches"]


def merged(base: Path, folder: Path) -> torch.Tensor:
    """Logits of plain peft on the base."""
    with quiet_transformers():
        return logits(peft.PeftModel.from_pretrained(load(base).model, folder))


DECIDE = {
    "chat_template.jinja": CHATML + "{# new #}",
    "additional_chat_templates/tool_use.jinja": CHATML,
    "tokenizer.model": "pieces",
    "vocab.json": "{}",
    "merges.txt": "a b",
    "vocab.txt": "a",
    "spiece.model": "pieces",
    "tekken.json": "{}",
    "cl100k_base.tiktoken": "YQ== 0",
    "modeling_own.py": "x = 1",
    "generation_config.json": '{"eos_token_id": 7}',
    "adapter_config.json": '{"peft_type": "LORA", "r": 3}',
    "some_new_file_of_tomorrow": "?",
}


@pytest.mark.parametrize("file", DECIDE)
def test_a_file_that_decides_tokens_or_weights_is_part_of_the_identity(
    file: str, tmp_path: Path
) -> None:
    folder = save(tmp_path / "m")
    before = identity(str(folder))
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(DECIDE[file])
    after = identity(str(folder))
    assert after != before
    (folder / file).write_text(DECIDE[file] + " ")
    assert identity(str(folder)) != before


def test_where_a_model_lies_and_its_papers_are_not(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    before = identity(str(folder))
    for name in ("README.md", "LICENSE.txt", ".gitattributes", "onnx/model.onnx", "logo.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    folder.rename(tmp_path / "there")
    assert identity(str(tmp_path / "there")) == before


def test_the_identity_of_a_stage_covers_what_it_stands_on(tmp_path: Path) -> None:
    base, sft, dpo = stages(tmp_path)
    before = [identity(str(m)) for m in (base, sft, dpo)]
    assert len(set(before)) == 3
    (base / "chat_template.jinja").write_text(CHATML + "{# today #}")
    after = [identity(str(m)) for m in (base, sft, dpo)]
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_weights_are_known_without_loading(tmp_path: Path) -> None:
    for model in stages(tmp_path):
        assert weights_of(str(model)) == load(model).weights


def test_a_base_is_found_by_its_hash_where_it_is_now(tmp_path: Path) -> None:
    base, sft, dpo = stages(tmp_path)
    weights = load(dpo).weights
    shutil.move(base, tmp_path / "elsewhere/base")
    with pytest.raises(ModelError, match=r"not to be had .*base.* accord.load\(folder, base="):
        load(sft)
    assert load(dpo, base=tmp_path / "elsewhere/base").weights == weights
    with bases_at(str(tmp_path / "elsewhere/base")):
        assert load(dpo).weights == weights
        assert load_shape(dpo)[0].vocab_size == 400
    other = save(tmp_path / "other", seed=5)
    with pytest.raises(ModelError, match=r"trained on other weights of .*other: \w+, now"):
        load(dpo, base=other)
    with bases_at(str(other), str(tmp_path / "elsewhere/base")):
        assert load(dpo).weights == weights  # by its hash, not by its place


def test_what_moves_together_needs_nothing_said(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    _, _, dpo = stages(tmp_path / "here")
    weights = load(dpo).weights
    assert Path(json.loads((dpo / MODEL_FILE).read_text())["base"]).is_absolute()
    (tmp_path / "here").rename(tmp_path / "there")
    assert load(tmp_path / "there/runs/dpo/model").weights == weights


def test_an_adapter_of_peft_is_a_model(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    folder = save_adapter(load(base).model, tmp_path / "adapter", seed=4)
    named = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == str(base)
    lm = load(folder)
    torch.testing.assert_close(logits(lm.model), merged(base, folder), rtol=1e-4, atol=1e-4)
    assert lm.tokenizer.chat_template == CHATML
    assert lm.weights == weights_of(str(folder)) != load(base).weights
    assert layers(str(folder)) == (str(base), [folder])
    assert load_shape(folder)[0].vocab_size == 400
    tiny_tokenizer("{{ 'Mine.' }}" + CHATML).save_pretrained(folder)
    assert "Mine." in str(load(folder).tokenizer.chat_template)
    shutil.move(base, tmp_path / "moved")
    with pytest.raises(ModelError, match="what it stands on is not to be had"):
        load(folder)
    assert load(folder, base=tmp_path / "moved").weights == lm.weights


def test_an_adapter_beside_its_base_is_merged(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    apart = save_adapter(load(base).model, tmp_path / "adapter", seed=4)
    both = Path(shutil.copytree(base, tmp_path / "both"))
    for file in apart.glob("adapter_*"):
        shutil.copy(file, both)
    lm = load(both)
    torch.testing.assert_close(logits(lm.model), merged(base, apart), rtol=1e-4, atol=1e-4)
    assert not any("lora" in n or "base_layer" in n for n, _ in lm.model.named_parameters())
    assert any("merged into the weights beside it" in note for note in lm.notes)
    assert lm.weights == load(apart).weights
    assert adapter_on(both, lm.weights) is None


@pytest.mark.filterwarnings("ignore:Setting .save_embedding_layers")
def test_tokens_that_came_with_an_adapter(tmp_path: Path) -> None:
    base, folder = save(tmp_path / "base"), tmp_path / "adapter"
    model = load(base).model
    model.resize_token_embeddings(404, mean_resizing=False)
    save_adapter(model, folder, seed=4)
    state = load_file(folder / "adapter_model.safetensors")
    rows = 0.3 * torch.randn(404, 32)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[f"base_model.model.{name}"] = rows.clone()
    save_file(state, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    lm = load(folder)
    assert torch.equal(lm.model.get_input_embeddings().weight, rows)
    assert lm.model.config.vocab_size == 404


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"task_type": "SEQ_CLS"}, "for SEQ_CLS; allowed: adapters of causal LMs"),
        ({"r": 3}, "can't load adapter"),
        ({"peft_type": "NEW_THING"}, "can't load adapter"),
    ],
)
def test_an_adapter_without_a_place_is_refused(
    config: dict[str, object], said: str, tmp_path: Path
) -> None:
    base = save(tmp_path / "base")
    folder = save_adapter(load(base).model, tmp_path / "adapter", seed=4)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    with pytest.raises(ModelError, match=said) as told:
        load(folder)
    assert "\n" not in str(told.value)


def test_a_prompt_adapter_is_no_weights(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with quiet_transformers():
        peft.get_peft_model(load(base).model, config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match="PROMPT_TUNING can't be merged"):
        load(tmp_path / "adapter", base=base)
