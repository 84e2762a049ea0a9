"""Loading: every way a name resolves, what identifies weights, and trained stages."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from accord.core.errors import ModelError
from accord.core.types import Prompt, Response
from accord.lm.chat import render_exchange
from accord.lm.model import find, hub
from accord.lm.model.load import MODEL_FILE, load, write_model_json
from accord.lm.model.packaged import KNOWN, SOURCE_FILE, PackagedModel, quiet_transformers
from tests.lm.tiny import tiny_model, tiny_tokenizer

IDS_BT = torch.tensor([[5, 17, 33, 60, 8, 101]])


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")


def save(folder: Path, *, seed: int = 0, arch: str = "llama", **tokenizer: Any) -> Path:
    tiny_model(arch, seed=seed).save_pretrained(folder)
    tiny_tokenizer(**tokenizer).save_pretrained(folder)
    return folder


def save_adapter(base: Any, folder: Path, seed: int) -> Path:
    """A LoRA with random (not zero) weights on both projections."""
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
    with quiet_transformers():
        model = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    model.save_pretrained(folder)
    model.unload()
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(IDS_BT).logits


def test_a_directory(tmp_path: Path) -> None:
    lm = load(save(tmp_path / "m"), device="cpu")
    assert (lm.name, lm.path) == (str(tmp_path / "m"), tmp_path / "m")
    assert lm.notes == ()
    assert lm.eos_ids == (2,)
    assert lm.pad_id == 0
    assert lm.device.type == "cpu"
    assert not lm.model.training
    assert lm.model.config._attn_implementation == "sdpa"
    torch.testing.assert_close(logits(lm.model), logits(tiny_model()))


def test_dtype_and_eager_fallback(tmp_path: Path) -> None:
    lm = load(save(tmp_path / "m", arch="gemma2"), dtype="bfloat16")
    assert lm.model.dtype == torch.bfloat16
    assert any("eager" in note for note in lm.notes)
    with pytest.raises(ModelError, match="float32, bfloat16, float16"):
        load(tmp_path / "m", dtype="int3")


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    first = save(tmp_path / "a")
    same = Path(shutil.copytree(first, tmp_path / "b"))
    other = save(tmp_path / "c", seed=1)
    hashes = [load(m).weights for m in (first, same, other)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert load(first, dtype="bfloat16").weights == hashes[0]
    config = json.loads((same / "config.json").read_text())
    config["rms_norm_eps"] = 0.5  # the same files compute something else
    (same / "config.json").write_text(json.dumps(config))
    assert load(same).weights != hashes[0]


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    before = load(save(tmp_path / "m")).weights
    assert load(save(tmp_path / "m", seed=3)).weights != before


def test_no_chat_template_gets_the_plain_one_and_a_note(tmp_path: Path) -> None:
    lm = load(save(tmp_path / "m", chat_template=None))
    assert any("no chat template" in note for note in lm.notes)
    done = render_exchange(lm.tokenizer, Prompt.user("hi"), Response(text="it is"))
    text = lm.tokenizer.decode(done.prompt + done.completion)
    assert text == "User: hi\n\nAssistant: it is<|im_end|>"


def test_missing_weights_are_an_error(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save(tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weights are missing.*up_proj"):
        load(folder)


def test_what_can_not_be_found_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"holds no model.*config.json or accord_model.json"):
        load(tmp_path / "empty")
    with pytest.raises(ModelError, match="no such directory"):
        load(tmp_path / "nothing")
    with pytest.raises(ModelError, match=r"packaged/GPT-9: is not a packaged model"):
        load("packaged/GPT-9")


@pytest.mark.parametrize("name", ["nobody/no-such-model", "not a name!"])
def test_an_unknown_hub_id_fails_fast(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    with pytest.raises(ModelError, match="model not found: no directory of that name"):
        load(name)
    assert time.monotonic() - started < 20


def test_the_hub_cache_is_used_without_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = save(tmp_path / "snapshot")

    def local_only(name: str, **options: Any) -> str:
        assert options == {"local_files_only": True}
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", local_only)
    lm = load("someone/tiny")
    assert (lm.name, lm.path) == ("someone/tiny", snapshot)
    (snapshot / "model.safetensors").unlink()
    assert not hub._complete(snapshot)


def test_an_interrupted_sharded_download_is_not_complete(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path, max_shard_size="40KB")
    assert hub._complete(tmp_path)
    next(tmp_path.glob("model-*-of-*.safetensors")).unlink()
    assert not hub._complete(tmp_path)


def test_the_hub_id_falls_back_to_the_package_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "m")
    (folder / SOURCE_FILE).write_text(json.dumps({"note": "dequantised 4-bit weights"}))
    monkeypatch.setattr(find, "find_on_hub", lambda name, download=True: (None, "no network"))
    monkeypatch.setattr(find, "packaged_models", lambda: {KNOWN[0].name: KNOWN[0]})
    monkeypatch.setattr(find, "packaged_path", lambda name: folder)
    lm = load(KNOWN[0].hub_id)
    assert lm.notes[0].startswith(f"{KNOWN[0].hub_id} was not to be had (no network)")
    assert lm.notes[1] == "dequantised 4-bit weights"
    with pytest.raises(ModelError, match=r"someone/else: .*no network.*packaged/SmolLM2"):
        load("someone/else")
    assert isinstance(KNOWN[0], PackagedModel)


def stages(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A base, a stage on it (sft) and a stage on that stage (dpo), as training writes them."""
    base = save(tmp_path / "base")
    sft, dpo = tmp_path / "runs/sft/model", tmp_path / "runs/dpo/model"
    lm = load(base)
    save_adapter(lm.model, sft / "adapter", seed=1)
    write_model_json(sft, base=base, base_weights=lm.weights, adapters=[sft / "adapter"])
    trained = load(sft)
    save_adapter(trained.model, dpo / "adapter", seed=2)
    both = [sft / "adapter", dpo / "adapter"]
    write_model_json(dpo, base=base, base_weights=lm.weights, adapters=both)
    return base, sft, dpo


def test_a_chain_of_adapters_equals_peft_stacked(tmp_path: Path) -> None:
    base, sft, dpo = stages(tmp_path)
    plain = load(base).model
    with quiet_transformers():
        model = peft.PeftModel.from_pretrained(plain, sft / "adapter", adapter_name="a")
    model.load_adapter(dpo / "adapter", adapter_name="b")
    model.base_model.set_adapter(["a"])
    torch.testing.assert_close(logits(load(sft).model), logits(model), rtol=1e-4, atol=1e-4)
    model.base_model.set_adapter(["a", "b"])
    merged = load(dpo)
    torch.testing.assert_close(logits(merged.model), logits(model), rtol=1e-4, atol=1e-4)
    assert not any("lora" in name for name, _ in merged.model.named_parameters())
    assert (logits(merged.model) - logits(load(base).model)).abs().max() > 0.1


def test_a_stage_may_stand_on_a_stage(tmp_path: Path) -> None:
    base, sft, dpo = stages(tmp_path)
    nested = tmp_path / "nested"
    write_model_json(nested, base=sft, base_weights=load(sft).weights, adapters=[dpo / "adapter"])
    assert load(nested).weights == load(dpo).weights  # one chain, one identity
    assert len({load(m).weights for m in (base, sft, dpo)}) == 3
    torch.testing.assert_close(logits(load(nested).model), logits(load(dpo).model))


def test_a_run_directory_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save(Path("base"))
    lm = load("base")
    save_adapter(lm.model, Path("runs/sft/adapter"), seed=1)
    write_model_json(
        Path("runs/sft"), base="base", base_weights=lm.weights, adapters=[Path("runs/sft/adapter")]
    )
    facts = json.loads(Path("runs/sft", MODEL_FILE).read_text())
    assert facts["base"] == "../../base"
    assert facts["adapters"] == ["adapter"]
    before = load("runs/sft").weights
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").rename(tmp_path / "there")
    assert load("there/runs/sft").weights == before


def test_another_base_is_refused(tmp_path: Path) -> None:
    base, sft, _ = stages(tmp_path)
    save(base, seed=9)
    with pytest.raises(ModelError, match="trained on other weights"):
        load(sft)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "unreadable"),
        ('{"base": "x"}', "base_weights"),
        ('{"base": "x", "base_weights": "y", "adapters": ["gone"]}', "no adapter here"),
    ],
)
def test_a_broken_stage_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / MODEL_FILE).write_text(text)
    with pytest.raises(ModelError, match=message):
        load(tmp_path)


def test_loading_is_quiet_and_importing_accord_is_light(tmp_path: Path) -> None:
    folder = save(tmp_path / "m")
    code = f"from accord.lm.model.load import load; load({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
    code = "import accord, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
