"""A name becomes a model: where weights are looked for, in order, and what identifies them.

1. a local directory with `config.json`: a transformers model;
2. a local directory with `accord_model.json`: a trained stage. Its base is loaded, its hash is
   compared with the one the stage was trained on, and the adapters are merged in order;
3. `packaged/<name>`: weights inside a Python package;
4. a hub id: the local hub cache, then the hub, with short timeouts. When neither has it and an
   installed package carries the same model, that copy is used and a note says so.

`LanguageModel.weights` is the content hash of what was loaded: two paths to the same weights
share caches. It does not cover the dtype: a cache of numbers must add `lm.model.dtype` to its key.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase

from accord.core.errors import ModelError
from accord.core.hashing import content_hash, file_hash
from accord.core.rundir import user_path
from accord.lm.check import check_vocabulary, check_weights, refused
from accord.lm.hub import find_on_hub
from accord.lm.packaged import (
    SOURCE_FILE,
    PackagedModel,
    find_packaged,
    packaged_models,
    packaged_path,
    quiet_transformers,
)
from accord.lm.template import (
    default_template,
    find_turn,
    read_templates,
    stop_ids,
    write_templates,
)

__all__ = [
    "MODEL_FILE",
    "LanguageModel",
    "adapter_hash",
    "load",
    "load_shape",
    "read_model_json",
    "where_is",
    "write_model_json",
]

MODEL_FILE = "accord_model.json"
PACKAGED = "packaged/"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# written by libraries, without effect on what the weights compute
VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")


@dataclass
class LanguageModel:
    """A causal language model with its tokenizer and its identity."""

    model: Any  # a transformers causal LM; adapters of earlier stages are already merged
    tokenizer: PreTrainedTokenizerBase
    name: str  # as the user asked
    path: Path  # the local directory it was resolved to
    weights: str  # content hash of the weights and the adapter chain
    notes: tuple[str, ...] = ()  # shown to the user, recorded in the manifest

    @property
    def device(self) -> torch.device:
        return cast(torch.device, next(self.model.parameters()).device)

    @cached_property
    def eos_ids(self) -> tuple[int, ...]:
        """Every token that ends a turn: of the tokenizer, the chat template and the configs."""
        generation = getattr(self.model, "generation_config", None)
        return stop_ids(self.tokenizer, self.model.config, generation)

    @property
    def pad_id(self) -> int:
        """A token to fill with; it may equal a stop token, so masks are made from lengths."""
        pad = self.tokenizer.pad_token_id
        if pad is not None:
            return cast(int, pad)
        return self.eos_ids[0] if self.eos_ids else 0


def load(name: str | Path, *, device: str | None = None, dtype: str = "float32") -> LanguageModel:
    """Find, load and identify a model; in eval mode, on `device` (default: cuda when present)."""
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}", where=str(name), allowed=", ".join(DTYPES))
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    path, notes = _resolve(str(name))
    lm = _load_stage(path, dtype) if _is_stage(path) else _load_plain(path, dtype)
    lm.model.to(where)
    lm.name, lm.path = str(name), path
    stop_ids(lm.tokenizer, lm.model.config, getattr(lm.model, "generation_config", None))
    lm.notes = tuple(dict.fromkeys((*notes, *lm.notes)))
    return lm


def _is_stage(path: Path) -> bool:
    return (path / MODEL_FILE).is_file() and not (path / "config.json").is_file()


def where_is(name: str) -> str:
    """Where `load` would take a model from, in words; nothing is loaded, converted or downloaded.

    Raises ModelError as `load` does for a model that can't be had.
    """
    if _local(name):
        return "local directory"
    if name.startswith(PACKAGED):
        return find_packaged(name.removeprefix(PACKAGED)).note
    found, problem = find_on_hub(name, download=False)
    if found is None and problem:
        return f"{PACKAGED}{_stand_in(name, problem).name} instead of the hub's"
    return "in the local hub cache" if found else "on the hub, to be downloaded"


def _resolve(name: str) -> tuple[Path, tuple[str, ...]]:
    """The local directory of model `name`, and notes about how it was found."""
    if folder := _local(name):
        return folder, ()
    if name.startswith(PACKAGED):
        return packaged_path(name.removeprefix(PACKAGED)), ()
    found, problem = find_on_hub(name)
    if found is not None:
        return found, ()
    packaged = _stand_in(name, problem)
    note = f"{name} was not to be had ({problem}): using {PACKAGED}{packaged.name} instead"
    return packaged_path(packaged.name), (note,)


def _local(name: str) -> Path | None:
    """The directory a name means; None for a packaged model or a hub id."""
    if not name:
        raise ModelError("no model is named", mend="give a directory, a hub id or packaged/NAME")
    folder = user_path(name)
    if folder.is_dir():
        if (folder / "config.json").is_file() or (folder / MODEL_FILE).is_file():
            return folder.resolve()
        raise ModelError(
            "this directory holds no model",
            where=name,
            allowed=f"config.json or {MODEL_FILE} in it",
        )
    if name.startswith(PACKAGED):
        return None
    if folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise ModelError("no such directory", where=name, mend="give a directory or a hub id")
    return None


def _stand_in(name: str, problem: str) -> PackagedModel:
    """The installed package that carries a hub model which was not to be had."""
    for packaged in packaged_models().values():
        if packaged.hub_id == name:
            return packaged
    ready = [PACKAGED + known for known in packaged_models()]
    raise ModelError(
        f"model not found: no directory of that name, not in the local hub cache, and {problem}",
        where=name,
        mend="give a model directory, download the model where there is a network"
        + (f", or use {ready[0]}" if ready else ""),
    )


def _load_plain(path: Path, dtype: str) -> LanguageModel:
    """A transformers directory: weights, tokenizer, hash, notes."""
    with quiet_transformers():
        try:
            model, info = AutoModelForCausalLM.from_pretrained(
                path, dtype=DTYPES[dtype], output_loading_info=True, trust_remote_code=False,
                ignore_mismatched_sizes=True, **_attention(path),
            )  # fmt: skip
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
            raise refused(error, str(path)) from None
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"{len(missing)} weights are missing, first {missing[0]}",
            where=str(path),
            mend="give the whole model; an adapter alone needs accord_model.json beside it",
        )
    for name, filed, asked in sorted(info["mismatched_keys"]):
        raise ModelError(
            f"{name} is {tuple(filed)} in the weights and {tuple(asked)} by config.json",
            where=str(path),
            mend="give the config.json the weights were saved with",
        )
    check_weights(model, str(path))
    check_vocabulary(tokenizer, model, str(path))
    notes = []
    if info["unexpected_keys"]:
        unused = sorted(info["unexpected_keys"])
        notes.append(f"{len(unused)} weights in the files are not used, first {unused[0]}")
    if (path / SOURCE_FILE).is_file():
        notes.append(json.loads((path / SOURCE_FILE).read_text(encoding="utf-8"))["note"])
    if model.config._attn_implementation == "eager":
        notes.append(f"{model.config.model_type} has no SDPA attention: eager is used, slower")
    if not tokenizer.chat_template:
        if tokenizer.eos_token is None:
            raise ModelError("the tokenizer has neither chat template nor eos", where=str(path))
        tokenizer.chat_template = default_template(tokenizer)
        notes.append("the tokenizer has no chat template: using 'User: ... Assistant: ...'")
    if problem := find_turn(tokenizer).problem:
        notes.append(f"sampling only, no training: {problem}")
    return LanguageModel(
        model.eval(), tokenizer, str(path), path, _weights_hash(path), tuple(notes)
    )


def _attention(path: Path) -> dict[str, str]:
    """SDPA where the architecture has it; transformers refuses the wish elsewhere."""
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    architecture = AutoModelForCausalLM._model_mapping.get(type(config), None)
    sdpa = architecture is not None and getattr(architecture, "_supports_sdpa", False)
    return {"attn_implementation": "sdpa"} if sdpa else {}


def load_shape(name: str | Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """Config and tokenizer of a model, as `load` would have them; no weights are read, and of a hub model
    none are downloaded."""
    local = str(name).startswith(PACKAGED) or _local(str(name))
    path = _resolve(str(name))[0] if local else Path(name)
    if local and _is_stage(path):
        base_name, _, _ = read_model_json(path / MODEL_FILE)
        config, tokenizer = load_shape(base_name)
        tokenizer.chat_template = read_templates(path) or tokenizer.chat_template
        return config, tokenizer
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(path.as_posix(), trust_remote_code=False)
            tokenizer = AutoTokenizer.from_pretrained(path.as_posix(), trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise refused(error, str(name)) from None
    if not tokenizer.chat_template:
        if tokenizer.eos_token is None:
            raise ModelError("the tokenizer has neither chat template nor eos", where=str(name))
        tokenizer.chat_template = default_template(tokenizer)
    return config, tokenizer


def _load_stage(path: Path, dtype: str) -> LanguageModel:
    """A trained stage: its base with its adapters merged in order."""
    import peft

    base_name, expected, adapters = read_model_json(path / MODEL_FILE)
    lm = load(base_name, device="cpu", dtype=dtype)
    if lm.weights != expected:
        raise ModelError(
            f"trained on other weights of {base_name}: {expected[:12]}, now {lm.weights[:12]}",
            where=str(path / MODEL_FILE),
            mend="restore the base model or train the stage again",
        )
    for adapter in adapters:
        with quiet_transformers():
            try:
                stacked = peft.PeftModel.from_pretrained(lm.model, str(adapter))
            except (OSError, ValueError, RuntimeError, SafetensorError) as error:
                raise ModelError(f"can't load adapter: {error}", where=str(adapter)) from error
            lm.model = stacked.merge_and_unload()
        lm.weights = content_hash([lm.weights, adapter_hash(adapter)])
    check_weights(lm.model, str(path))
    lm.tokenizer.chat_template = read_templates(path) or lm.tokenizer.chat_template
    lm.model.eval()
    return lm


def read_model_json(file: Path) -> tuple[str, str, list[Path]]:
    """(base, hash of its weights, adapter directories) with paths made absolute."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        base, weights = str(facts["base"]), str(facts["base_weights"])
        adapters = [(file.parent / adapter).resolve() for adapter in facts["adapters"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"unreadable ({type(error).__name__}: {error})",
            where=str(file),
            allowed="base, base_weights, adapters",
        ) from error
    if base.startswith("."):
        base = str((file.parent / base).resolve())
    for adapter in adapters:
        if not (adapter / "adapter_config.json").is_file():
            raise ModelError("no adapter here", where=str(adapter), mend=f"named in {file}")
    return base, weights, adapters


def write_model_json(
    folder: Path,
    *,
    base: str | Path,
    base_weights: str,
    adapters: list[Path],
    template: str | dict[str, str] | None = None,
) -> Path:
    """Describe a trained stage: `load(folder)` gives the base with `adapters` merged in order, and
    its chat template where one is given.

    `base_weights` is `.weights` of the base as loaded. Relative paths are written relative to
    `folder`, so that a run directory can be moved; absolute ones and hub ids stay as they are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = str(base)
    if Path(name).is_dir() and not Path(name).is_absolute():
        name = os.path.relpath(Path(name).resolve(), folder.resolve())
        name = name if name.startswith(".") else f"./{name}"
    facts = {
        "base": name,
        "base_weights": base_weights,
        "adapters": [os.path.relpath(adapter, folder) for adapter in adapters],
    }
    if template:
        write_templates(folder, template)
    temporary = folder / f".{MODEL_FILE}"
    temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return temporary.replace(folder / MODEL_FILE)


_HASHES: dict[tuple[str, int, int], str] = {}  # (path, size, mtime) -> hash, for this process


def _hash_of(file: Path) -> str:
    real = file.resolve()
    stat = real.stat()
    key = (str(real), stat.st_size, stat.st_mtime_ns)
    if key not in _HASHES:
        _HASHES[key] = file_hash(real)
    return _HASHES[key]


def _weights_hash(path: Path) -> str:
    """Hash of a model's weight files and of the config fields that change what they compute."""
    files = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in VOLATILE}
    return content_hash([config, [_hash_of(file) for file in files]])


def adapter_hash(folder: Path) -> str:
    """Hash of an adapter: its weights and config, without the name of the base it points to."""
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    for key in ("base_model_name_or_path", "revision", "inference_mode", "peft_version"):
        config.pop(key, None)
    files = sorted(folder.glob("adapter_model.*"))
    return content_hash([config, [_hash_of(file) for file in files]])
