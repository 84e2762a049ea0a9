"""A model made ready to train: LoRA over frozen weights, or all weights; saved as a chain.

What a stage leaves is small: its adapter and the name of what it stands on. Loading merges the
adapter into its base, so every later stage starts from plain weights.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from accord.core.errors import ModelError
from accord.core.types import Metric
from accord.lm.adapters import add_lora, save_adapter, trainable
from accord.lm.engine import Engine
from accord.lm.load import MODEL_FILE, LanguageModel, write_model_json
from accord.lm.lora import Lora
from accord.lm.packaged import quiet_transformers
from accord.train.data import Trees

__all__ = ["Trained", "Trainee", "Tune", "prepare"]

Tune = Lora | Literal["full"]


@dataclass
class Trainee:
    """The starting language model, the module that trains, and its engine."""

    lm: LanguageModel
    module: Any
    engine: Engine
    lora: bool

    def parameters(self, *extra: nn.Module) -> dict[str, nn.Parameter]:
        """All parameters with gradients by name, those of `extra` modules (heads) included."""
        named = dict(trainable(self.module))
        for number, module in enumerate(extra):
            named |= {f"extra{number}.{n}": p for n, p in trainable(module).items()}
        return named

    def save(self, folder: Path) -> None:
        """Write the trained model so that `load(folder)` gives it back."""
        folder.mkdir(parents=True, exist_ok=True)
        if not self.lora:
            with quiet_transformers():
                self.module.save_pretrained(folder)
            self.lm.tokenizer.save_pretrained(folder)
            return
        save_adapter(self.module, folder / "adapter")
        stage = (self.lm.path / MODEL_FILE).is_file()  # relative, so that runs can be moved
        base = os.path.relpath(self.lm.path) if stage else self.lm.name
        write_model_json(
            folder, base=base, base_weights=self.lm.weights, adapters=[folder / "adapter"]
        )


def prepare(lm: LanguageModel, tune: Tune, seed: int) -> Trainee:
    """The model with what `tune` asks for trainable. Dropout stays off unless LoRA has some.

    Training changes `lm` in place, so its weights are no longer those it is known by; ModelError
    the second time.
    """
    if getattr(lm.model, "accord_trained", False):
        raise ModelError(
            "this model has been trained since it was loaded",
            where=lm.name,
            mend="load it again, or load the result's model to train that further",
        )
    lm.model.accord_trained = True
    lora = tune if isinstance(tune, Lora) else None
    module = add_lora(lm.model, lora, seed) if lora else lm.model
    if not lora:
        module.requires_grad_(True)
    module.train(bool(lora and lora.dropout))
    return Trainee(lm, module, Engine(module), lora is not None)


@dataclass(frozen=True)
class Trained:
    """What training left: its folder, held-out metrics, what to tell, and what it trained on."""

    folder: Path
    metrics: dict[str, Metric]
    notes: tuple[str, ...]
    data: Trees
    held_out: tuple[Any, ...] = ()  # reward models: groups with their scores (HeldOut)

    @property
    def model(self) -> Path:
        """The saved model: what `accord.load` takes."""
        return self.folder / "model"

    @property
    def left_out(self) -> dict[str, int]:
        """Items not trained on, by reason."""
        return dict(self.data.left_out)
