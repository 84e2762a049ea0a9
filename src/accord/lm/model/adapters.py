"""LoRA through peft: one trainable adapter over frozen weights; the reference is the adapter off.

Names follow peft. The reference of a run is its starting weights: earlier stages' adapters are
already merged when a model is loaded, so "adapter off" is exactly where this run began.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from accord.core.errors import ConfigError, ModelError
from accord.core.rundir import read_json, write_json
from accord.lm.kernels.lora_linear import fuse_lora
from accord.lm.model.lora import Lora
from accord.lm.model.packaged import quiet_transformers
from accord.lm.trees.engine import evaluating

__all__ = [
    "adapter_off",
    "add_lora",
    "lora_config",
    "peft_refusals",
    "refused_targets",
    "save_adapter",
    "trainable",
]


def add_lora(model: nn.Module, lora: Lora, seed: int) -> Any:
    """The model with a fresh adapter; only the adapter has gradients. B starts at 0."""
    config = lora_config(model, lora)
    with torch.random.fork_rng(devices=[]), refused_targets(model):
        torch.manual_seed(seed)
        adapted = get_peft_model(model, config)
    fuse_lora(adapted)
    return adapted


@contextlib.contextmanager
def peft_refusals(where: str, mend: str) -> Iterator[None]:
    """What peft refuses inside (Mamba's out_proj, a damaged file) is a ModelError of one line."""
    with quiet_transformers():
        try:
            yield
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            message = str(error).partition("\n")[0].partition(" Please ")[0].rstrip(".")
            raise ModelError(f"peft refuses this: {message}", where=where, mend=mend) from None


def refused_targets(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """`peft_refusals` of what `tune.targets` names."""
    kinds = ", ".join(sorted({name.rpartition(".")[2] for name in _linear(model)}))
    return peft_refusals("tune.targets", f"name some of {kinds}, comma-separated, or tune: full")


def lora_config(model: nn.Module, lora: Lora) -> LoraConfig:
    """peft's configuration of an adapter for this model; ConfigError for targets it lacks."""
    idle = _idle(model)
    if lora.targets == "all-linear":
        head = model.get_output_embeddings()  # type: ignore[operator]
        names = [n for n, m in _linear(model).items() if n not in idle and m is not head]
    else:
        names = _named(model, lora.targets, idle)
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft only divides it by r
        lora_dropout=lora.dropout,
        target_modules=names,
        fan_in_fan_out=any(isinstance(m, Conv1D) for m in model.modules()),  # GPT-2's layout
        exclude_modules=_layers_below(model, lora.last_layers),
        task_type="CAUSAL_LM",
    )


def _linear(model: nn.Module) -> dict[str, nn.Module]:
    """The linear layers by name; of one that has an adapter already, the whole."""
    layers: dict[str, nn.Module] = {}
    adapted = "."
    for name, module in model.named_modules():
        if name.startswith(adapted):
            continue
        tuned = isinstance(module, BaseTunerLayer)
        if tuned:
            adapted = f"{name}."
        if tuned or isinstance(module, nn.Linear | Conv1D):
            layers[name] = module
    return layers


def _idle(model: nn.Module) -> set[str]:
    """Linear layers that no text goes through (an image encoder's), which would never learn, and those
    that give more than a product (a router). An expert counts with its siblings: other tokens go there."""
    linear, ran = _linear(model), set()

    def hook(name: str) -> Any:
        return lambda _, inputs, out: ran.add(_kind(name)) if isinstance(out, Tensor) else None

    hooks = [module.register_forward_hook(hook(name)) for name, module in linear.items()]
    ids_1T = torch.arange(4, device=next(model.parameters()).device)[None]
    try:
        with evaluating(model):
            model(input_ids=ids_1T, use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
    return {name for name in linear if _kind(name) not in ran}


def _kind(name: str) -> str:
    """A layer's name without the number of the expert; that of its layer, the first, stays."""
    head, number, rest = re.match(r"((?:[^.\d][^.]*\.)*)(\d*)(.*)", name).groups()  # type: ignore[union-attr]
    return head + number + re.sub(r"(?<=\.)\d+(?=\.|$)", "*", rest)


def _named(model: nn.Module, targets: str, idle: set[str]) -> list[str]:
    """The modules of these comma-separated names, each of which must be there. A tied output layer is
    refused: merged into the embedding it shares, its adapter would change that too."""
    kinds = sorted({name.rpartition(".")[2] for name in _linear(model).keys() - idle})
    head = model.get_output_embeddings()  # type: ignore[operator]
    tied = head.weight is model.get_input_embeddings().weight  # type: ignore[operator]
    chosen: list[str] = []
    for name in (target.strip() for target in targets.split(",")):
        matches = {
            n: m
            for n, m in model.named_modules()
            if n not in idle and (n == name or n.endswith(f".{name}"))
        }
        if not name or not matches:
            where = "tune.targets"
            raise ConfigError(f"no module {name!r}", where=where, allowed=", ".join(kinds))
        if tied and {head, model.get_input_embeddings()} & set(matches.values()):  # type: ignore[operator]
            raise ConfigError(
                f"{name} shares its weights with the embedding", where="tune.targets",
                allowed=", ".join(k for k in kinds if k != "lm_head"), mend="or tune: full",
            )  # fmt: skip
        chosen += matches
    return chosen


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
