"""Several roles on one frozen base: each is an adapter, one plays at a time, the reference is none.

peft's `set_adapter` moves `requires_grad` with the active adapter, so a role that was switched away
from would train no more. Here what each adapter's parameters are is fixed when it is added. Run a
role's backward pass in any order: what a forward pass recorded stays as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import nn

from accord.lm.kernels.lora_linear import fuse_lora
from accord.lm.model.adapters import adapter_off, lora_config, peft_refusals, refused_targets
from accord.lm.model.load import MODEL_FILE, LanguageModel, read_model_json
from accord.lm.model.lora import Lora

__all__ = ["Roles", "adapter_on"]


class Roles:
    """A language model with an adapter for each trained or scoring role. The role added first plays
    unless another is asked for; `lm.model` becomes the peft model."""

    def __init__(self, lm: LanguageModel) -> None:
        self.lm = lm
        self.module: Any = None
        self.now = ""
        self._trained: dict[str, bool] = {}  # role -> whether it has gradients
        self._own: dict[str, dict[str, nn.Parameter]] = {}
        self.adapters: dict[str, str] = {}  # role -> its adapter's name in peft
        self._modules = {part for n, _ in lm.model.named_modules() for part in n.split(".")}

    def add(self, role: str, lora: Lora, seed: int) -> None:
        """A fresh adapter that trains; B starts at 0, so the role begins as the base."""
        name, before = self._begin(role)
        with torch.random.fork_rng(devices=[]), refused_targets(self.lm.model):
            torch.manual_seed(seed)
            if self.module is None:
                self.module = get_peft_model(self.lm.model, lora_config(self.lm.model, lora), name)
            else:
                config = lora_config(self.module.get_base_model(), lora)
                self.module.add_adapter(name, config)
        self._added(role, before, trained=True)

    def take(self, role: str, adapter: Path, *, trained: bool) -> None:
        """An adapter saved by an earlier stage; it must stand on these very weights (`adapter_on`)."""
        name, before = self._begin(role)
        with peft_refusals(str(adapter), "train the stage it is of again"):
            if self.module is None:
                self.module = PeftModel.from_pretrained(self.lm.model, str(adapter), name)
            else:
                self.module.load_adapter(str(adapter), name)
        self._added(role, before, trained=trained)

    def _begin(self, role: str) -> tuple[str, set[int]]:
        """A name for the role's adapter that no module of the model has (BERT's layers are called
        `value`), for peft finds an adapter's weights by it; and the parameters there are without it."""
        name = role
        while name in self._modules:
            name += "_"
        self.adapters[role] = name
        return name, {id(p) for p in (self.module or self.lm.model).parameters()}

    def _added(self, role: str, before: set[int], *, trained: bool) -> None:
        named = sorted(self.module.named_parameters())
        self._own[role] = {name: p for name, p in named if id(p) not in before}
        self.lm.model = self.module
        fuse_lora(self.module)
        self.module.to(self.lm.device)
        self.module.eval()  # dropout stays off: with it no two passes agree, and no ratio is 1
        self._trained[role] = trained
        self.now = self.now or role
        self._play(self.now)

    @property
    def names(self) -> list[str]:
        return list(self._trained)

    def parameters(self, role: str) -> dict[str, nn.Parameter]:
        """The role's own parameters by name, in a fixed order."""
        return self._own[role]

    @contextlib.contextmanager
    def playing(self, role: str | None) -> Iterator[None]:
        """The model plays `role` inside; None is the reference, all adapters off."""
        if role is None:
            with adapter_off(self.module):
                yield
            return
        before = self.now
        self._play(role)
        try:
            yield
        finally:
            self._play(before)

    def _play(self, role: str) -> None:
        self.module.set_adapter(self.adapters[role])
        self.now = role
        for name, trained in self._trained.items():
            for parameter in self._own[name].values():
                parameter.requires_grad_(trained)


def adapter_on(folder: Path, weights: str) -> Path | None:
    """The one adapter of a trained stage, if it stands on exactly these weights; None otherwise."""
    if not (folder / MODEL_FILE).is_file():
        return None
    _, base_weights, adapters = read_model_json(folder / MODEL_FILE)
    return adapters[0] if base_weights == weights and len(adapters) == 1 else None
