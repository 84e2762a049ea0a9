"""A policy leaves accord: as a plain transformers folder, its adapters merged, or as the adapters themselves.

What other tools read is kept as the base's authors published it: config.json (transformers 5 renames keys
that others still look for) and the tokenizer's files. Only what training changed is written anew.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from accord.core.errors import ConfigError, ModelError, door
from accord.core.registry import Registry
from accord.core.rundir import make_dir, user_path, whole_folder
from accord.core.version import __version__
from accord.lm.model.card import licence_of, model_card
from accord.lm.model.chain import adapter_hash, layers, stands_on, weights_of, write_model_json
from accord.lm.model.find import bases, bases_at, resolve
from accord.lm.model.load import DTYPES, LanguageModel, auto_model, load
from accord.lm.model.packaged import SOURCE_FILE, quiet_transformers
from accord.lm.model.scalar_head import FILE as SCALAR_HEAD
from accord.lm.template import write_templates

__all__ = ["export_model", "exporter", "exporters"]

exporters: Registry = Registry("exporter")
exporter = exporters.register  # f(lm, folder, *, keys) -> how to load it, for the model card

CardFacts = Mapping[str, Sequence[str]]
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "merges.txt", "vocab.txt", "spiece.model", "tekken.json",
    "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",  # images
)  # fmt: skip
HOW_PLAIN = """```python
from transformers import {auto}, AutoTokenizer

model = {auto}.from_pretrained("THIS_FOLDER")
```
"""
HOW_ADAPTERS = """`accord.load("THIS_FOLDER")` puts it together. With peft, each adapter is merged before
the next is loaded; on the plain weights alone the last one is another model than was trained.

```python
model = AutoModelForCausalLM.from_pretrained({base!r})
for name in {names!r}:
    model = peft.PeftModel.from_pretrained(model, f"THIS_FOLDER/{{name}}").merge_and_unload()
```
"""


@door
def export_model(
    model: str | Path | LanguageModel,
    folder: str | Path,
    *,
    merged: bool = True,
    dtype: str = "float32",
    base: str | Path | None = None,
    about: CardFacts = {},  # noqa: B006
    format: str | Mapping[str, Any] | None = None,
    push_to_hub: str | None = None,
) -> Path:
    """Write a policy for other tools; returns the folder.

    Args:
        model: what `load` takes, or what it gave.
        folder: a new or empty one.
        merged: plain weights that need nothing of accord; else its adapters with what they stand on.
        dtype: of merged weights, "float32", "bfloat16" or "float16".
        base: where what it stands on is now, should it have been moved.
        about: sections of the model card.
        format: a registered exporter's name, or {name: …, its keys}, instead of `merged` and `dtype`.
        push_to_hub: a repository that gets the folder; it is made private where there is none.

    Raises:
        ConfigError: the folder is there already, an unknown dtype. ModelError: a model that can't be found.
    """
    out = user_path(folder)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("is there already", where=str(out), mend="name a folder that is not")
    if dtype not in DTYPES:
        raise ConfigError(f"unknown dtype {dtype!r}", where="dtype", allowed=", ".join(DTYPES))
    lm = model if isinstance(model, LanguageModel) else None
    name = str(lm.path if lm else model)
    path, _ = resolve(name)
    if (path / SCALAR_HEAD).is_file():
        raise ModelError(
            "is a reward model: its scalar head has no place among a language model's weights",
            where=name, allowed="a policy", mend="accord.load_reward_model reads it",
        )  # fmt: skip
    if lm and getattr(lm.model, "accord_trained", False):
        raise ModelError(
            "this model has been trained since it was loaded",
            where=lm.name,
            mend="export the result's model",
        )
    default = {"name": "merged", "dtype": dtype} if merged else {"name": "adapters"}
    config = {"name": format} if isinstance(format, str) else format or default
    entry, write = exporters.configured(config, "format")
    if entry.name == "adapters" and stands_on(path) is None:
        raise ConfigError(
            "has no adapters: these are whole weights", where=name, mend="use --merged"
        )
    make_dir(out.absolute().parent, mend="name another folder")
    api = _repository(push_to_hub)
    with bases_at(*([str(base)] if base else [])), whole_folder(out) as beside:
        lm = lm or load(model, device="cpu")  # type: ignore[arg-type]
        how = write(lm, beside)
        card = _card(lm, out.name, _weights(lm, entry.name, write.keywords), about, how)
        (beside / "README.md").write_text(card, "utf-8")
    if api:
        _push(api, str(push_to_hub), out)
    return out


def _weights(lm: LanguageModel, name: str, hyper: Mapping[str, Any]) -> str:
    """What the card says of the weights."""
    _, adapters = layers(str(lm.path))
    if name == "adapters":
        return "adapters alone: " + ", ".join(adapter_hash(a)[:12] for a in adapters)
    how = hyper["dtype"] if name == "merged" else name
    return f"{how}, {len(adapters)} adapters merged"


@exporter("merged")
def merged_weights(
    lm: LanguageModel, out: Path, *, dtype: Literal["float32", "bfloat16", "float16"] = "float32"
) -> str:
    """Weights, config, generation config, tokenizer and chat template, as transformers reads them."""
    with quiet_transformers():
        before = lm.model.dtype
        lm.model.to(DTYPES[dtype])
        try:
            lm.model.save_pretrained(out)
        finally:
            lm.model.to(before)
        lm.tokenizer.save_pretrained(out)
    bottom, _ = layers(str(lm.path))
    plain, _ = resolve(bottom)
    _keep_tokenizer(lm, plain, out)
    _keep_config(lm, plain, out, dtype)
    return HOW_PLAIN.format(auto=auto_model(lm.model.config).__name__)


def _keep_config(lm: LanguageModel, plain: Path, out: Path, dtype: str) -> None:
    """config.json as it was published, where it is of this very class; with the keys that readers before
    transformers 5 look for."""
    written = json.loads((out / "config.json").read_text(encoding="utf-8"))
    config = json.loads((plain / "config.json").read_text(encoding="utf-8"))
    if config.get("architectures") != written["architectures"]:
        config = written
    for key in ("_name_or_path", "quantization_config"):
        config.pop(key, None)
    config |= {"dtype": dtype, "torch_dtype": dtype}
    if "vocab_size" in written:
        config["vocab_size"] = written["vocab_size"]
    rope = config.get("rope_parameters") or {}
    if "rope_theta" in rope:
        config.setdefault("rope_theta", rope["rope_theta"])
        scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
        if scaling.get("rope_type", "default") != "default":
            config.setdefault("rope_scaling", scaling)
    _write_json(out / "config.json", config)


def _keep_tokenizer(lm: LanguageModel, plain: Path, out: Path) -> None:
    """The tokenizer's own files, where it is as it was; the chat template is the one trained with."""
    from transformers import AutoTokenizer

    with quiet_transformers():
        source = lm.path if (lm.path / "tokenizer_config.json").is_file() else plain
        there = AutoTokenizer.from_pretrained(source)
    if there.get_vocab() == lm.tokenizer.get_vocab() and _specials(there) == _specials(
        lm.tokenizer
    ):
        for file in source.iterdir():
            if file.name in TOKENIZER_FILES or file.suffix == ".tiktoken":
                shutil.copyfile(file, out / file.name)
    file = out / "tokenizer_config.json"
    config = json.loads(file.read_text(encoding="utf-8"))
    if (
        "chat_template" in config
    ):  # beside chat_template.jinja: for readers that know only this place
        config["chat_template"] = lm.tokenizer.chat_template
    if config.get("tokenizer_class") == "TokenizersBackend":  # the name before transformers 5
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    _write_json(file, config)


def _specials(tokenizer: Any) -> Any:
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items()}


def _write_json(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@exporter("adapters")
def adapters_alone(lm: LanguageModel, out: Path) -> str:
    """All adapters from the plain weights up, numbered in order, so that `load` takes the folder."""
    bottom, adapters = layers(str(lm.path))
    names = [f"adapter-{n}" for n in range(1, len(adapters) + 1)]
    for adapter, name in zip(adapters, names, strict=True):
        shutil.copytree(adapter, out / name, ignore=shutil.ignore_patterns("README.md"))
        file = out / name / "adapter_config.json"
        stands = bottom if name == names[0] else f"../{names[names.index(name) - 1]}"
        _write_json(file, json.loads(file.read_text("utf-8")) | {"base_model_name_or_path": stands})
    write_model_json(
        out, base=bottom, base_weights=weights_of(bottom), adapters=[out / n for n in names]
    )
    if lm.tokenizer.chat_template:
        write_templates(out, lm.tokenizer.chat_template)
    return HOW_ADAPTERS.format(base=bottom, names=names)


def _card(lm: LanguageModel, title: str, weights: str, about: CardFacts, how: str) -> str:
    bottom, _ = layers(str(lm.path))
    for name in bases():  # whole weights know of no base; a run does
        with contextlib.suppress(ModelError):
            bottom, _ = layers(name)
    plain, _ = resolve(bottom)
    licence = licence_of(plain)
    note = (
        json.loads((plain / SOURCE_FILE).read_text("utf-8"))["note"]
        if (plain / SOURCE_FILE).is_file()
        else ""
    )
    facts = {
        "base": f"{Path(bottom).name if Path(bottom).is_absolute() else bottom}{f', {note}' if note else ''}",
        "base weights, sha256": weights_of(bottom),
        "licence of the base": licence or "not stated beside its weights: look it up before you pass this on",
        "weights": weights,
        "identity, sha256": lm.weights,
        "made by": f"accord {__version__}",
    }  # fmt: skip
    text = model_card(title, facts, about, licence=licence, base=bottom)
    return f"{text}\n## How to load\n\n{how}"


def _repository(name: str | None) -> Any:
    """The hub, once it has agreed to the repository: before any work, not after."""
    if not name:
        return None
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        api.create_repo(name, private=True, exist_ok=True)
    except Exception as error:  # its HTTP client, and so its errors, differ between versions
        raise _refused(name, error) from None
    return api


def _push(api: Any, name: str, folder: Path) -> None:
    try:
        api.upload_folder(repo_id=name, folder_path=str(folder))
    except Exception as error:
        raise _refused(name, error, f"it is whole in {folder}; ") from None


def _refused(name: str, error: Exception, kept: str = "") -> ModelError:
    what = f"the hub refused ({type(error).__name__}: {str(error).strip().splitlines()[0][:200]})"
    return ModelError(what, where=name, mend=f"{kept}log in with hf auth login, or check the name")
