"""What a trained stage or an adapter stands on: written down, found again, and hashed.

    accord_model.json      base, base_weights (its hash), adapters: merged into the base in order
    adapter_config.json    peft's: base_model_name_or_path, what the adapter's weights stand on

A base is known by its hash. It is looked for where it was, beside the stage as it was, and wherever a
recipe (`bases_at`) says it is now; the first of these that has the hash is taken.
"""

from __future__ import annotations

import fnmatch
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from accord.core.errors import ModelError
from accord.core.hashing import content_hash, file_hash
from accord.core.rundir import user_path
from accord.lm.model.find import ADAPTER_FILE, MODEL_FILE, bases, resolve, source_of
from accord.lm.template import write_templates

__all__ = [
    "adapter_hash", "adapter_of", "base_of", "has_weights", "identity", "identity_or_name", "layers",
    "read_model_json", "stands_on", "weight_files", "weights_hash", "weights_of", "write_model_json",
]  # fmt: skip

# written by libraries, without effect on what the weights compute
VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
# where an adapter's base lies, and who wrote it: not what the adapter is
PLACES = ("base_model_name_or_path", "revision", "inference_mode", "peft_version")
NOT_READ = (  # of a model's folder; everything else may decide its tokens or weights
    "*.md", "*.lock", "*.tmp", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "*.tflite", "*.png", "*.jpg",
    "*.svg", "*.pdf", ".git*", ".DS_Store", "LICENSE*", "NOTICE*", "USE_POLICY*", "trainer_state.json",
    "training_args.bin", "optimizer.*", "scheduler.pt", "rng_state*.pth", "events.out.tfevents.*",
)  # fmt: skip
NOT_READ_IN = (".git", ".cache", "__pycache__", "onnx", "original", "runs", "checkpoint-*")


def read_model_json(file: Path) -> tuple[list[str], str, list[Path]]:
    """(where the base was, hash of its weights, adapter directories) with paths made absolute."""
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        weights = str(facts["base_weights"])
        bases = [str(facts[key]) for key in ("base", "beside") if key in ("base", *facts)]
        adapters = [(file.parent / adapter).resolve() for adapter in facts["adapters"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"unreadable ({type(error).__name__}: {error})",
            where=str(file),
            allowed="base, base_weights, adapters",
        ) from None
    for adapter in adapters:
        if not (adapter / ADAPTER_FILE).is_file():
            raise ModelError("no adapter here", where=str(adapter), mend=f"named in {file}")
    return [_from(file.parent, base) for base in bases], weights, adapters


def _from(folder: Path, name: str) -> str:
    return str((folder / name).resolve()) if name.startswith(".") else name


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
    `folder`, so that a run directory can be moved; absolute ones and hub ids stay as they are, and of
    a directory where it lies from here is noted too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = str(base)
    facts: dict[str, Any] = {"base": name, "base_weights": base_weights}
    if Path(name).is_dir():
        beside = os.path.relpath(Path(name).resolve(), folder.resolve())
        beside = beside if beside.startswith(".") else f"./{beside}"
        facts |= {"beside": beside} if Path(name).is_absolute() else {"base": beside}
    facts["adapters"] = [os.path.relpath(adapter, folder) for adapter in adapters]
    if template:
        write_templates(folder, template)
    temporary = folder / f".{MODEL_FILE}"
    temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return temporary.replace(folder / MODEL_FILE)


def adapter_of(folder: Path) -> dict[str, Any] | None:
    """peft's configuration of the adapter that lies in a folder; None without one."""
    file = folder / ADAPTER_FILE
    if not file.is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        _ = config["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"unreadable ({type(error).__name__}: {error})", where=str(file)) from None
    return dict(config)


def stands_on(folder: Path) -> tuple[list[str], str, list[Path]] | None:
    """What a folder's adapters stand on, as `read_model_json`; None for plain weights. The hash is ""
    where nobody wrote it down (an adapter of peft)."""
    if (folder / MODEL_FILE).is_file():
        return read_model_json(folder / MODEL_FILE)
    config = adapter_of(folder)
    if config is None:
        return None
    if has_weights(folder):  # the base and its adapter together
        return [str(folder)], "", [folder]
    named = str(config.get("base_model_name_or_path") or "")
    beside = [str((folder / named).resolve())] if not user_path(named).is_absolute() else []
    candidates = [*(b for b in beside if named and Path(b).is_dir()), *([named] if named else [])]
    return candidates, "", [folder]


def base_of(folder: Path, names: Iterable[str], expected: str) -> str:
    """Which of `names`, and of the places a recipe knows, is the base with that hash. Without a hash
    the first that is there. ModelError tells what was found instead."""
    other = missing = ""
    for name in dict.fromkeys((*names, *bases())):
        if user_path(name).resolve() == folder:  # a recipe's model may be this very folder
            continue
        weights = ""
        try:
            if expected:
                weights = weights_of(name)
            else:
                resolve(name)
        except ModelError as error:
            missing = missing or str(error)
            continue
        if weights == expected:
            return name
        other = other or f"trained on other weights of {name}: {expected[:12]}, now {weights[:12]}"
    mend = "restore the base model, or say where it is now: accord.load(folder, base=...)"
    raise ModelError(
        other or f"what it stands on is not to be had ({missing or 'no base is named'})",
        where=str(folder),
        mend=mend,
    )


def weights_of(name: str) -> str:
    """`LanguageModel.weights` of a model, without loading it."""
    folder, _ = resolve(name)
    standing = stands_on(folder)
    if standing is None:
        return weights_hash(folder)
    names, expected, adapters = standing
    if names == [str(folder)]:
        weights = weights_hash(folder)
    else:
        weights = expected or weights_of(base_of(folder, names, expected))
    for adapter in adapters:
        weights = content_hash([weights, adapter_hash(adapter)])
    return weights


def layers(name: str) -> tuple[str, list[Path]]:
    """The plain weights at the bottom of a model, by name, and all adapters above them, in order."""
    folder, _ = resolve(name)
    standing = stands_on(folder)
    if standing is None:
        return name, []
    names, expected, adapters = standing
    if names == [str(folder)]:
        return name, adapters
    bottom, below = layers(base_of(folder, names, expected))
    return bottom, [*below, *adapters]


_HASHES: dict[tuple[str, int, int], str] = {}  # (path, size, mtime) -> hash, for this process


def _hash_of(file: Path) -> str:
    real = file.resolve()
    stat = real.stat()
    key = (str(real), stat.st_size, stat.st_mtime_ns)
    if key not in _HASHES:
        _HASHES[key] = file_hash(real)
    return _HASHES[key]


def weight_files(folder: Path) -> list[Path]:
    """The files of whole weights, an adapter's left out."""
    for kind in ("*.safetensors", "*.bin"):
        if files := [f for f in sorted(folder.glob(kind)) if not f.name.startswith("adapter_")]:
            return files
    return []


def has_weights(folder: Path) -> bool:
    return (folder / "config.json").is_file() and bool(weight_files(folder))


def weights_hash(path: Path) -> str:
    """Hash of a model's weight files and of the config fields that change what they compute."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in VOLATILE}
    return content_hash([config, [_hash_of(file) for file in weight_files(path)]])


def adapter_hash(folder: Path) -> str:
    """Hash of an adapter: its weights and config, without the name of the base it points to."""
    config = {k: v for k, v in (adapter_of(folder) or {}).items() if k not in PLACES}
    files = sorted(folder.glob("adapter_model.*"))
    return content_hash([config, [_hash_of(file) for file in files]])


def identity(name: str) -> str:
    """Hash of all that decides a model's tokens and weights: every file of its folder that is not known
    to decide neither, and the same of what it stands on. Where folders lie does not count. Of a hub's
    model the commit is enough."""
    source = source_of(name)
    if isinstance(source, str):
        return source
    facts: list[Any] = [[f.relative_to(source).as_posix(), _content(f)] for f in _read(source)]
    standing = stands_on(source)
    if standing and standing[0] != [str(source)]:
        names, expected, adapters = standing
        outside = [a for a in adapters if not a.is_relative_to(source)]
        facts += [adapter_hash(a) for a in outside]
        facts.append(identity(base_of(source, names, expected)))
    return content_hash(facts)


def identity_or_name(name: str) -> str:
    """`identity`, or the name of a model that is not to be had: the first that loads it tells so."""
    try:
        return identity(name)
    except ModelError:
        return name


def _read(folder: Path) -> Iterator[Path]:
    """The files of a model's folder that may decide something."""
    for file in sorted(folder.rglob("*")):
        *inside, name = file.relative_to(folder).parts
        skipped = any(fnmatch.fnmatch(part, p) for part in inside for p in NOT_READ_IN)
        if file.is_file() and not skipped and not any(fnmatch.fnmatch(name, p) for p in NOT_READ):
            yield file


def _content(file: Path) -> str:
    """Hash of a file; of one that says where a base lies, without that."""
    if file.name not in (MODEL_FILE, ADAPTER_FILE):
        return _hash_of(file)
    facts = json.loads(file.read_text(encoding="utf-8"))
    return content_hash({k: v for k, v in facts.items() if k not in (*PLACES, "base", "beside")})
