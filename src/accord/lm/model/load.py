"""A name becomes a model: where weights are looked for, in order, and what identifies them.

1. a local directory with `config.json`: a transformers model;
2. a local directory with `accord_model.json`, a trained stage, or `adapter_config.json`, an adapter of
   peft: what it stands on is found (`lm.chain`) and loaded, and the adapters are merged in order. An
   adapter beside whole weights is merged into them;
3. `packaged/<name>`: weights inside a Python package;
4. a hub id: the local hub cache, then the hub, with short timeouts. When neither has it and an
   installed package carries the same model, that copy is used and a note says so.

`LanguageModel.weights` is the content hash of what was loaded: two paths to the same weights
share caches. It does not cover the dtype: a cache of numbers must add `lm.model.dtype` to its key.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack, cast

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedTokenizerBase,
)

from accord.core.errors import ModelError, door
from accord.core.hashing import content_hash
from accord.core.keys import SamplingKeys
from accord.core.messages import Prompt, Response, as_prompts
from accord.lm.model.chain import (
    adapter_hash,
    adapter_of,
    base_of,
    read_model_json,
    stands_on,
    weights_hash,
    write_model_json,
)
from accord.lm.model.check import check_vocabulary, check_weights, refused, unreadable
from accord.lm.model.find import (
    ADAPTER_FILE,
    MODEL_FILE,
    PACKAGED,
    bases_at,
    local,
    resolve,
    where_is,
)
from accord.lm.model.packaged import SOURCE_FILE, quiet_transformers
from accord.lm.template import default_template, find_turn, read_templates, stop_ids

__all__ = [
    "MODEL_FILE",
    "LanguageModel",
    "adapter_hash",
    "auto_model",
    "load",
    "load_shape",
    "read_model_json",
    "where_is",
    "write_model_json",
]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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

    @door
    def answer(
        self,
        prompts: Sequence[Prompt | str],
        *,
        batch_size: int = 32,
        on_progress: Callable[[int, int], None] | None = None,
        **sampling: Unpack[SamplingKeys],
    ) -> list[Response]:
        """One answer to each prompt, in order.

        Args:
            prompts: texts, each one user message, or `Prompt`s (conversations, system messages, tools).
            batch_size: answers sampled at a time, at least 1. It changes time and memory, not the draws.
            on_progress: called with (answers done, answers in all).
            sampling: max_new_tokens (64; tokens, longer answers are cut and have finish="length"),
                temperature (1; 0 is greedy), top_p (1, in (0, 1]), top_k (0 keeps all), stop (no strings),
                seed (17; the same prompt, seed and model give the same answer).

        Returns:
            A `Response` for each prompt: `text`, `finish` ("stop", "string" or "length"), `tokens`.

        Raises:
            ConfigError: an unknown key or a value out of range.
            DataError: a prompt too long for the model.
            TemplateError: a prompt the chat template can't say.
        """
        answers = self._sampled(prompts, batch_size, on_progress, {**sampling, "n": 1})
        return [one for (one,) in answers]

    @door
    def answers(
        self,
        prompts: Sequence[Prompt | str],
        n: int,
        *,
        batch_size: int = 32,
        on_progress: Callable[[int, int], None] | None = None,
        **sampling: Unpack[SamplingKeys],
    ) -> list[list[Response]]:
        """`n` (at least 1) answers to each prompt, each with a random stream of its own; the rest as of
        `answer`. Returns a list of n for each prompt."""
        return self._sampled(prompts, batch_size, on_progress, {**sampling, "n": n})

    def _sampled(
        self,
        prompts: Sequence[Prompt | str],
        batch_size: int,
        on_progress: Callable[[int, int], None] | None,
        keys: Mapping[str, Any],
    ) -> list[list[Response]]:
        from accord.lm.sample import LocalSampler
        from accord.lm.sampler import sampling_of

        how = sampling_of(keys, batch_size)
        return LocalSampler(self, batch_size=batch_size)(as_prompts(prompts), how, on_progress)

    def export(self, folder: str | Path, **how: Any) -> Path:
        """`accord.export_model` of this model: a plain transformers folder."""
        from accord.lm.model.export import export_model

        return export_model(self, folder, **how)


@door
def load(
    name: str | Path,
    *,
    device: str | None = None,
    dtype: str = "float32",
    base: str | Path | None = None,
) -> LanguageModel:
    """Find, load and identify a causal language model, in eval mode.

    Args:
        name: `packaged/NAME`, a hub id, a folder that transformers or peft wrote, or what training left
            (`result.model`, runs/…/model).
        device: "cpu", "cuda", "cuda:1"…; cuda when there is one.
        dtype: of the weights, "float32", "bfloat16" or "float16". Full tuning needs float32.
        base: where what a stage or an adapter stands on is now, should it have been moved.

    Raises:
        ModelError: not found, not a causal LM, weights missing or not finite, a vocabulary that does not fit.
    """
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}", where=str(name), allowed=", ".join(DTYPES))
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    path, notes = resolve(str(name))
    with bases_at(*([str(base)] if base else [])):
        lm = _load_stacked(path, dtype) if _stacked(path) else _load_plain(path, dtype)
    lm.model.to(where)
    lm.name, lm.path = str(name), path
    stop_ids(lm.tokenizer, lm.model.config, getattr(lm.model, "generation_config", None))
    lm.notes = tuple(dict.fromkeys((*notes, *lm.notes)))
    return lm


def _stacked(path: Path) -> bool:
    return (path / MODEL_FILE).is_file() or (path / ADAPTER_FILE).is_file()


def _load_plain(path: Path, dtype: str) -> LanguageModel:
    """A transformers directory: weights, tokenizer, hash, notes."""
    with quiet_transformers():
        try:
            config = AutoConfig.from_pretrained(path, trust_remote_code=False)
            loaded: Any = auto_model(config).from_pretrained(  # of a pair its stubs don't know
                path, dtype=DTYPES[dtype], output_loading_info=True, trust_remote_code=False,
                ignore_mismatched_sizes=True, **_attention(config),
            )  # fmt: skip
            tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        except (OSError, ValueError, ImportError, KeyError, RuntimeError, SafetensorError) as error:
            torn = unreadable(path) if isinstance(error, SafetensorError) else path
            raise refused(error, str(torn)) from None
    model, info = loaded
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
    return LanguageModel(model.eval(), tokenizer, str(path), path, weights_hash(path), tuple(notes))


def auto_model(config: Any) -> Any:
    """What builds the model: a language model, or one with an image encoder (LLaVA, Qwen2-VL), whose text
    is all that is read here. ModelError for other kinds."""
    for kind in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in kind._model_mapping:
            return kind
    raise ModelError(
        f"a {config.model_type} model writes no text that follows a text", where="config.json"
    )


def _attention(config: Any) -> dict[str, str]:
    """SDPA where the architecture has it; transformers refuses the wish elsewhere."""
    architecture = auto_model(config)._model_mapping[type(config)]
    sdpa = getattr(architecture, "_supports_sdpa", False)
    return {"attn_implementation": "sdpa"} if sdpa else {}


def load_shape(name: str | Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """Config and tokenizer of a model, as `load` would have them; no weights are read, and of a hub model
    none are downloaded."""
    there = str(name).startswith(PACKAGED) or local(str(name))
    path = resolve(str(name))[0] if there else Path(name)
    names, expected, _ = (there and stands_on(path)) or ([], "", [])
    if names and names != [str(path)]:
        config, tokenizer = load_shape(base_of(path, names, expected))
        tokenizer = _tokenizer_of(path) or tokenizer
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


def _load_stacked(path: Path, dtype: str) -> LanguageModel:
    """What the folder's adapters stand on, with the adapters merged in order."""
    names, expected, adapters = stands_on(path) or ([], "", [])
    if names == [str(path)]:
        with _without_adapter(path) as plain:
            lm = _load_plain(plain, dtype)
        lm.notes += ("the adapter in the folder is merged into the weights beside it",)
    else:
        lm = load(base_of(path, names, expected), device="cpu", dtype=dtype)
    for adapter in adapters:
        lm.model = _merged(lm.model, adapter)
        lm.weights = content_hash([lm.weights, adapter_hash(adapter)])
    check_weights(lm.model, str(path))
    lm.tokenizer = _tokenizer_of(path) or lm.tokenizer
    lm.tokenizer.chat_template = read_templates(path) or lm.tokenizer.chat_template
    lm.model.eval()
    return lm


@contextlib.contextmanager
def _without_adapter(path: Path) -> Iterator[Path]:
    """A view of a folder without the adapter in it: transformers would leave that on, in layers that
    can be neither trained nor saved as they are."""
    with tempfile.TemporaryDirectory() as folder:
        for file in path.iterdir():
            if not file.name.startswith("adapter_"):
                (Path(folder) / file.name).symlink_to(file)
        yield Path(folder)


def _merged(model: Any, adapter: Path) -> Any:
    """The model with an adapter merged into its weights; ModelError for one that has no place there."""
    import peft

    config = adapter_of(adapter) or {}
    kind, task = str(config.get("peft_type")), config.get("task_type") or "CAUSAL_LM"
    if task != "CAUSAL_LM":
        raise ModelError(
            f"this adapter is for {task}", where=str(adapter), allowed="adapters of causal LMs"
        )
    with quiet_transformers():
        try:
            _fit_vocabulary(model, adapter)
            stacked = peft.PeftModel.from_pretrained(model, str(adapter))
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
            raise ModelError(f"can't load adapter: {error}", where=str(adapter)) from None
        if not hasattr(stacked.base_model, "merge_and_unload"):
            raise ModelError(
                f"an adapter of kind {kind} can't be merged into weights",
                where=str(adapter),
                allowed="LoRA and its kin",
            )
        return stacked.merge_and_unload()


def _fit_vocabulary(model: Any, adapter: Path) -> None:
    """Give the embedding as many rows as the adapter's own, which was trained with tokens added."""
    file = adapter / "adapter_model.safetensors"
    if not file.is_file():
        return
    names = {id(m): n for n, m in model.named_modules()}
    wanted = f".{names[id(model.get_input_embeddings())]}.weight"
    with safe_open(file, "pt") as tensors:
        keys = [k for k in tensors.keys() if f".{k}".endswith(wanted)]  # noqa: SIM118
        rows = tensors.get_slice(keys[0]).get_shape()[0] if keys else None
    if rows not in (None, model.get_input_embeddings().weight.shape[0]):
        model.resize_token_embeddings(rows, mean_resizing=False)


def _tokenizer_of(path: Path) -> PreTrainedTokenizerBase | None:
    """The tokenizer beside an adapter; None where it has none of its own."""
    if not (path / "tokenizer_config.json").is_file():
        return None
    with quiet_transformers():
        try:
            return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(path.as_posix()))
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise ModelError(f"can't read the tokenizer: {error}", where=str(path)) from None
