"""What of a loaded model is refused before hours of work: broken weights, tokens without embedding, sequences
beyond what it reads alike in any company."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from accord.core.errors import DataError, ModelError
from accord.core.rundir import read_json

__all__ = [
    "check_token",
    "check_vocabulary",
    "check_weights",
    "embedded",
    "refused",
    "room",
    "steady",
    "unreadable",
]

# special tokens of text; a tokenizer's others stand for images or sound
OF_TEXT = {f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask")}


def refused(error: Exception, where: str) -> ModelError:
    """What transformers said, without the options of its own that it proposes."""
    if "trust_remote_code" in str(error):
        return ModelError(
            "needs Python code from the model's own folder, which accord never runs",
            where=where,
            mend="use a model whose architecture and tokenizer are in transformers itself",
        )
    return ModelError(f"can't load: {error}", where=where)


def check_weights(model: nn.Module, where: str) -> None:
    """ModelError that names the first weight with NaN or infinity in it, and of several files its own."""
    broken = [name for name, p in model.named_parameters() if not _finite(p)]
    if broken:
        more = f" ({len(broken)} weights are so)" if len(broken) > 1 else ""
        raise ModelError(
            f"{broken[0]} holds NaN or infinity{more}",
            where=_shard(where, broken[0]),
            mend="restore the file; of sound float32 weights, load another dtype than float16",
        )


def _shard(folder: str, weight: str) -> str:
    """The file of a folder that holds a weight; the folder where no index tells."""
    index = Path(folder) / "model.safetensors.index.json"
    named = read_json(index)["weight_map"] if index.is_file() else {}
    return str(Path(folder) / named[weight]) if weight in named else folder


def unreadable(folder: Path) -> Path:
    """The first weights file of a folder whose header does not fit it; the folder where all do."""
    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt"):
                pass
        except (OSError, SafetensorError):
            return file
    return folder


def _finite(weight: torch.Tensor) -> bool:
    if not weight.is_floating_point() or weight.element_size() < 2 or not weight.numel():
        return True
    low, high = weight.detach().aminmax()  # NaN goes through both
    return bool(low.isfinite() & high.isfinite())


def embedded(model: Any) -> int:
    """How many tokens a model has numbers for, as input and as output."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return min(int(end.weight.shape[0]) for end in ends if hasattr(end, "weight"))


def check_vocabulary(tokenizer: Any, model: Any, where: str) -> None:
    """ModelError where the tokenizer has tokens past the model's embedding. Those of images and sound
    (Gemma 3's smallest keeps its family's) do not count: no text is made of them."""
    rows, ids = embedded(model), tokenizer.get_vocab()
    named = tokenizer.special_tokens_map.items()
    other = {str(token) for kind, token in named if kind not in OF_TEXT}
    over = sorted((i, token) for token, i in ids.items() if i >= rows and token not in other)
    if over:
        raise ModelError(
            f"the tokenizer has {len(ids)} tokens and the model embeds {rows}; "
            f"the first beyond is {over[0][1]!r} (id {over[0][0]})",
            where=where,
            mend="save the tokenizer it was trained with, or resize its embedding (transformers: "
            "resize_token_embeddings) and save both",
        )


def check_token(top: int, rows: int, where: str) -> None:
    """DataError where the largest token id of some texts has no embedding."""
    if top >= rows:
        raise DataError(
            f"a text holds the token with id {top}, and the model embeds {rows}",
            where=where,
            mend="take that special token out of the texts",
        )


def room(config: Any) -> tuple[int | None, str]:
    """Positions of a model that can be used, None for any number; and in words. Where rotary frequencies
    change beyond a length it ends there: short rows would be read otherwise beside a long one, and an
    answer's beginning otherwise than its end."""
    config = config.get_text_config()
    room = getattr(config, "max_position_embeddings", None)
    fixed = steady(config)
    if fixed is None or (room is not None and room < fixed):
        return room, f"{room} positions"
    return fixed, f"{fixed} positions before its rotary frequencies change"


def steady(config: Any) -> int | None:
    """Positions within which rotary frequencies stay as they are; None where they always do."""
    ropes = getattr(config, "rope_parameters", None) or {}
    limits = []
    for rope in (ropes, *ropes.values()):  # one for all layers, or one for each kind
        kind = str(rope.get("rope_type")) if isinstance(rope, dict) else ""
        if kind == "longrope":
            limits.append(int(rope["original_max_position_embeddings"]))
        elif "dynamic" in kind:
            limits.append(int(config.max_position_embeddings))
    return min(limits, default=None)
