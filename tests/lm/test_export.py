"""What leaves accord is what was trained: equal logits in plain transformers, and nothing left unsaid."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer

import accord
from accord.core.errors import ConfigError, ModelError
from accord.lm.model.load import load, write_model_json
from accord.lm.model.packaged import SOURCE_FILE, quiet_transformers
from accord.lm.model.scalar_head import FILE, ScalarHead
from accord.train.loop.trainee import prepare
from tests.lm.test_families import build, gemma3, llava, qwen2_vl
from tests.lm.test_load import logits, own_caches, save, stages
from tests.lm.tiny import ARCHITECTURES, CHATML, tiny_model, tiny_tokenizer
from tests.train.small import LORA

__all__ = ["own_caches"]


def plain(folder: Path, auto: Any = AutoModelForCausalLM) -> Any:
    """As any other tool loads it; every weight must be in the files."""
    with quiet_transformers():
        model, info = auto.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    return model.eval()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_merged_weights_have_equal_logits_in_plain_transformers(arch: str, tmp_path: Path) -> None:
    base = tmp_path / "base"
    tiny_model(arch, vocab_size=408).save_pretrained(base)  # Qwen2's tokenizer class adds a token
    tiny_tokenizer().save_pretrained(base)
    lm = load(base)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear")
    with quiet_transformers():
        model = peft.get_peft_model(lm.model, config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.2)
    model.save_pretrained(tmp_path / "sft/adapter")
    write_model_json(
        tmp_path / "sft", base=base, base_weights=lm.weights, adapters=[tmp_path / "sft/adapter"]
    )
    out = accord.export_model(tmp_path / "sft", tmp_path / "out")
    found = logits(plain(out))
    torch.testing.assert_close(found, logits(load(tmp_path / "sft").model), rtol=0, atol=1e-5)
    torch.testing.assert_close(found, logits(model), rtol=0, atol=1e-3)
    assert (found - logits(load(base).model)).abs().max() > 0.1


def test_lora_over_full_weights(tmp_path: Path) -> None:
    base = save(tmp_path / "base")
    whole = prepare(load(base), "full", seed=1)
    with torch.no_grad():
        for weight in whole.module.parameters():
            weight.add_(0.01)
    whole.save(tmp_path / "runs/sft/model")
    above = prepare(load(tmp_path / "runs/sft/model"), LORA, seed=1)
    with torch.no_grad():
        for weight in above.parameters().values():
            weight.normal_(std=0.2)
    trained = logits(above.module)
    above.save(tmp_path / "runs/dpo/model")
    out = load(tmp_path / "runs/dpo/model").export(tmp_path / "out")
    torch.testing.assert_close(logits(plain(out)), trained, rtol=0, atol=1e-3)
    with pytest.raises(ModelError, match="trained since it was loaded; export the result's model"):
        above.lm.export(tmp_path / "more")
    assert not (tmp_path / "more").exists()


def test_all_that_other_tools_read_is_there(tmp_path: Path) -> None:
    base, _, dpo = stages(tmp_path)
    (base / "tokenizer.model").write_bytes(b"pieces")
    published = json.loads((base / "config.json").read_text())
    published["rope_theta"] = published.pop("rope_parameters", {"rope_theta": 1e4})["rope_theta"]
    (base / "config.json").write_text(json.dumps(published))
    lm = load(base)
    facts = json.loads((dpo / "accord_model.json").read_text()) | {"base_weights": lm.weights}
    (dpo / "accord_model.json").write_text(json.dumps(facts))
    (dpo / "chat_template.jinja").write_text(CHATML + "{# as trained #}")
    out = accord.export_model(dpo, tmp_path / "out", dtype="bfloat16")
    config = json.loads((out / "config.json").read_text())
    assert (config["torch_dtype"], config["architectures"]) == ("bfloat16", ["LlamaForCausalLM"])
    assert (
        config["rope_theta"] == published["rope_theta"]
    )  # where readers before transformers 5 look
    assert {t.dtype for t in load_file(out / "model.safetensors").values()} == {torch.bfloat16}
    assert (out / "tokenizer.model").read_bytes() == b"pieces"
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == 2
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert tokenizer.chat_template == CHATML + "{# as trained #}"
    assert tokenizer("a tent")["input_ids"] == lm.tokenizer("a tent")["input_ids"]
    assert json.loads((out / "tokenizer_config.json").read_text())["tokenizer_class"] in (
        "PreTrainedTokenizerFast",
        lm.tokenizer.__class__.__name__.replace("TokenizersBackend", "PreTrainedTokenizerFast"),
    )
    exact = load(dpo).model.to(torch.bfloat16)
    torch.testing.assert_close(logits(plain(out)).float(), logits(exact).float(), rtol=0, atol=0.05)


def test_the_card_says_what_it_stands_on(tmp_path: Path) -> None:
    base, _, dpo = stages(tmp_path)
    (base / "README.md").write_text("---\ntags: [x]\nlicense: mit\n---\n# Base\n")
    about = {"Method": ["dpo on 12 pairs"], "Figures": []}
    card = (accord.export_model(dpo, tmp_path / "out", about=about) / "README.md").read_text()
    for said in ("license: mit", load(base).weights, load(dpo).weights, "dpo on 12 pairs",
                 "float32, 2 adapters merged", f"accord {accord.__version__}"):  # fmt: skip
        assert said in card
    assert "Figures" not in card
    (base / "README.md").unlink()
    card = (accord.export_model(dpo, tmp_path / "again") / "README.md").read_text()
    assert "license:" not in card
    assert "not stated" in card
    (base / SOURCE_FILE).write_text(json.dumps({"licence": "Apache-2.0", "note": "4-bit"}))
    assert "license: apache-2.0" in (load(dpo).export(tmp_path / "third") / "README.md").read_text()


def test_adapters_alone_are_the_model_too(tmp_path: Path) -> None:
    base, _, dpo = stages(tmp_path)
    out = accord.export_model(dpo, tmp_path / "out", merged=False)
    assert load(out).weights == load(dpo).weights
    model = load(base).model
    with quiet_transformers():  # as its README.md says
        for name in ("adapter-1", "adapter-2"):
            model = peft.PeftModel.from_pretrained(model, out / name).merge_and_unload()
    torch.testing.assert_close(logits(model), logits(load(dpo).model))
    with pytest.raises(ConfigError, match="whole weights; use --merged"):
        accord.export_model(base, tmp_path / "more", merged=False)


def test_an_adapter_on_a_stage_is_refused_by_plain_peft(tmp_path: Path) -> None:
    """On the plain base it would load in silence, and lack what lies between."""
    base = save(tmp_path / "base")
    for start, stage in ((base, "sft"), (tmp_path / "runs/sft/model", "dpo")):
        trainee = prepare(load(start), LORA, seed=1)
        trainee.save(tmp_path / "runs" / stage / "model")
    sft, dpo = (tmp_path / "runs" / s / "model/adapter" for s in ("sft", "dpo"))
    with quiet_transformers():
        found = peft.AutoPeftModelForCausalLM.from_pretrained(sft)
        torch.testing.assert_close(logits(found), logits(load(sft.parent).model))
        with pytest.raises(OSError, match="sft/model"):
            peft.AutoPeftModelForCausalLM.from_pretrained(dpo)
    assert load(dpo).weights == load(dpo.parent).weights
    told = (dpo / "README.md").read_text()
    assert "no plain model but `base` with 1 adapter below this one" in told
    assert load(tmp_path / "runs/sft/model").weights in told
    assert "no plain model" not in (sft / "README.md").read_text()


def test_a_moved_base_is_named(tmp_path: Path) -> None:
    base, _, dpo = stages(tmp_path)
    before = logits(load(dpo).model)
    shutil.move(base, tmp_path / "far/base")
    with pytest.raises(ModelError, match="not to be had"):
        accord.export_model(dpo, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    out = accord.export_model(dpo, tmp_path / "out", base=tmp_path / "far/base")
    torch.testing.assert_close(logits(plain(out)), before, rtol=0, atol=1e-5)


def test_a_reward_model_is_refused(tmp_path: Path) -> None:
    _, sft, _ = stages(tmp_path)
    ScalarHead(32, 1).save(sft)
    assert (sft / FILE).is_file()
    with pytest.raises(ModelError, match="is a reward model: its scalar head has no place"):
        accord.export_model(sft, tmp_path / "out")


class Hub:
    """A stand-in for the hub's API."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self) -> Hub:
        return self

    def __getattr__(self, name: str) -> Any:
        def called(*words: Any, **keys: Any) -> None:
            self.asked.append((name, {"repo_id": words[0] if words else "", **keys}))
            if name == self.fails:
                raise OSError("401 Unauthorized\nmore")

        return called


def test_the_hub_is_asked_before_the_work_and_told_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = save(tmp_path / "base")
    hub = Hub()
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    out = accord.export_model(base, tmp_path / "out", push_to_hub="me/mine")
    assert hub.asked == [
        ("create_repo", {"repo_id": "me/mine", "private": True, "exist_ok": True}),
        ("upload_folder", {"repo_id": "me/mine", "folder_path": str(out)}),
    ]
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub("create_repo"))
    with pytest.raises(ModelError, match=r"me/mine: the hub refused .*401 Unauthorized\); log in"):
        accord.export_model(base, tmp_path / "two", push_to_hub="me/mine")
    assert not (tmp_path / "two").exists()
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub("upload_folder"))
    with pytest.raises(ModelError, match="it is whole in"):
        accord.export_model(base, tmp_path / "two", push_to_hub="me/mine")
    assert (tmp_path / "two/config.json").is_file()


@pytest.mark.parametrize("make", [gemma3, llava, qwen2_vl])
def test_a_model_with_an_image_encoder_leaves_whole(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    model = build(make)
    model.resize_token_embeddings(408)
    model.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    (tmp_path / "base/preprocessor_config.json").write_text("{}")
    trainee = prepare(load(tmp_path / "base"), LORA, seed=1)
    with torch.no_grad():
        for weight in trainee.parameters().values():
            weight.normal_(std=0.2)
    trainee.save(tmp_path / "sft")
    lm = load(tmp_path / "sft")
    assert lm.answer(["Hi"], max_new_tokens=2)[0].text
    out = lm.export(tmp_path / "out")
    torch.testing.assert_close(logits(plain(out, AutoModelForImageTextToText)), logits(lm.model))
    assert (logits(lm.model) - logits(load(tmp_path / "base").model)).abs().max() > 0.1
    assert (out / "preprocessor_config.json").is_file()
    named = "AutoModelForCausalLM" if make is gemma3 else "AutoModelForImageTextToText"
    assert f"model = {named}.from_pretrained" in (out / "README.md").read_text()


def test_lm_eval_loads_it(tmp_path: Path) -> None:
    huggingface = pytest.importorskip(
        "lm_eval.models.huggingface", reason="lm_eval is not installed: pip install lm-eval"
    )
    base, _, dpo = stages(tmp_path)
    out = accord.export_model(dpo, tmp_path / "out")
    model = huggingface.HFLM(pretrained=str(out), device="cpu", batch_size=1, dtype="float32")
    ids = load(base).tokenizer("We take it back.")["input_ids"]
    torch.testing.assert_close(
        model.model(torch.tensor([ids])).logits,
        load(dpo).model(torch.tensor([ids])).logits, rtol=0, atol=1e-5,
    )  # fmt: skip
