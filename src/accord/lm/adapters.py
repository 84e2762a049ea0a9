"""LoRA through peft: one trainable adapter over frozen weights; the reference is the adapter off.

Names follow peft. The reference of a run is its starting weights: earlier stages' adapters are
already merged when a model is loaded, so "adapter off" is exactly where this run began.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers.pytorch_utils import Conv1D

from accord.core.errors import ConfigError
from accord.core.rundir import read_json, write_json
from accord.lm.lora import Lora
from accord.lm.lora_linear import fuse_lora
from accord.lm.packaged import quiet_transformers

__all__ = ["adapter_off", "add_lora", "lora_config", "save_adapter", "trainable"]


def add_lora(model: nn.Module, lora: Lora, seed: int) -> Any:
    """The model with a fresh adapter; only the adapter has gradients. B starts at 0."""
    config = lora_config(model, lora)
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    fuse_lora(adapted)
    return adapted


def lora_config(model: nn.Module, lora: Lora) -> LoraConfig:
    """peft's configuration of an adapter for this model; ConfigError for targets it lacks."""
    targets = lora.targets
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=targets if targets == "all-linear" else _named(model, targets),
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.modules()),  # GPT-2's layout
        exclude_modules=_layers_below(model, lora.last_layers),
        task_type="CAUSAL_LM",
    )


def _named(model: nn.Module, targets: str) -> list[str]:
    """The comma-separated module names, each of which must be there. A tied output layer is refused:
    merged into the embedding it shares, its adapter would change that too."""
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | Conv1D)]
    kinds = sorted({name.rpartition(".")[2] for name in linear})
    named = [name.strip() for name in targets.split(",")]
    head = model.get_output_embeddings()  # type: ignore[operator]
    tied = head.weight is model.get_input_embeddings().weight  # type: ignore[operator]
    for name in named:
        found = [m for n, m in model.named_modules() if n == name or n.endswith(f".{name}")]
        if not name or not found:
            where = "tune.targets"
            raise ConfigError(f"no module {name!r}", where=where, allowed=", ".join(kinds))
        if tied and (head in found or model.get_input_embeddings() in found):  # type: ignore[operator]
            raise ConfigError(
                f"{name} shares its weights with the embedding", where="tune.targets",
                allowed=", ".join(k for k in kinds if k != "lm_head"), mend="or tune: full",
            )  # fmt: skip
    return named


def _layers_below(model: nn.Module, last: int | None) -> str | None:
    """A pattern of the names of all modules below the last N layers; ConfigError when there are not
    so many. A layer's number is the first component of a name that is one (model.layers.3.mlp.up)."""
    layers = int(model.config.get_text_config().num_hidden_layers)  # type: ignore[union-attr, operator]
    if last is None or last == layers:
        return None
    if last > layers:
        raise ConfigError(
            f"{last} is more than the model's {layers} layers",
            where="tune.last_layers",
            mend="lower it, or leave it out to adapt all",
        )
    below = "|".join(map(str, range(layers - last)))
    return rf"(?:[^.]*[^.\d][^.]*\.)*(?:{below})\..*"


@contextlib.contextmanager
def adapter_off(model: Any) -> Iterator[None]:
    """The weights the run began with. Restores the adapter's requires_grad flags afterwards."""
    flags = [(p, p.requires_grad) for p in model.parameters()]
    with model.disable_adapter():
        yield
    for parameter, flag in flags:
        parameter.requires_grad_(flag)


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters with gradients by name, in a fixed order."""
    return {n: p for n, p in sorted(model.named_parameters()) if p.requires_grad}


def save_adapter(model: Any, folder: Path, name: str = "default") -> Path:
    """Save the adapter with peft (adapter_config.json, adapter_model.safetensors); where it lies: peft
    gives one with a name a folder of its own. Lists are sorted: peft writes sets, whose order differs
    from process to process."""
    model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=[name])
    folder = folder if name == "default" else folder / name
    config = read_json(folder / "adapter_config.json")
    named = {k: sorted(v) for k, v in config.items() if k.endswith("_modules") and type(v) is list}
    write_json(folder / "adapter_config.json", config | named)
    return folder
