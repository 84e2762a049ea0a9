"""A model made ready to train: LoRA over frozen weights, or all weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from accord.core.errors import ModelError
from accord.lm.model.adapters import add_lora, trainable
from accord.lm.model.load import LanguageModel
from accord.lm.model.lora import Lora
from accord.lm.trees.engine import Engine, Precision
from accord.lm.trees.tree import Tree
from accord.train.loop.data import Trees
from accord.train.loop.memory import TokenBudget, budget
from accord.train.loop.optimise import Optimise
from accord.train.loop.saved import save_model

__all__ = ["Trainee", "Tune", "check_trainable", "prepare", "ready"]

Tune = Lora | Literal["full"]
FP32 = 4  # bytes


@dataclass
class Trainee:
    """The starting language model, the module that trains, and its engine."""

    lm: LanguageModel
    module: Any
    engine: Engine
    lora: bool
    seed: int

    def parameters(self, *extra: nn.Module) -> dict[str, nn.Parameter]:
        """All parameters with gradients by name, those of `extra` modules (heads) included."""
        named = dict(trainable(self.module))
        for number, module in enumerate(extra):
            named |= {f"extra{number}.{n}": p for n, p in trainable(module).items()}
        return named

    def sized(
        self,
        cfg: Optimise,
        data: Trees,
        folder: Path,
        tell: Callable[[str], None] | None,
        values: Callable[[Sequence[Tree]], Tensor] | None = None,
    ) -> tuple[Optimise, TokenBudget]:
        """The settings with a number for `tokens`, and the memory plan, told through `tell`."""
        forward = values or (lambda trees: self.engine.logps(trees).tokens_S)
        device = self.engine.device
        memory = budget(
            self.module, forward, data.trees, cfg.tokens, cfg.batch_size, device, folder, tell
        )
        return cfg.model_copy(update={"tokens": memory.plan.tokens}), memory

    def give_back(self, before: Mapping[str, Tensor] | None = None) -> None:
        """Make `lm` what it was when it was loaded, for another training: the adapter is taken off, or
        the weights `before` (full fine-tuning; `lm.model.state_dict()` copied) are put back."""
        if self.lora:
            self.lm.model = self.module.unload()
        elif before is not None:
            self.module.load_state_dict(before)
        self.lm.model.requires_grad_(True)
        self.lm.model.accord_trained = False

    def save(self, folder: Path, *more: Callable[[Path], None]) -> None:
        """Write the trained model so that `load(folder)` gives it back, and what `more` writes beside
        it; whole or not at all, in place of what was there."""
        save_model(self.lm, self.module, folder, *more, adapter="default" if self.lora else None)


def check_trainable(lm: LanguageModel, tune: Tune) -> None:
    """ModelError for a model that was trained since it was loaded (training changes `lm` in place, so its
    weights are no longer those it is known by), and for weights too coarse for what `tune` asks."""
    if getattr(lm.model, "accord_trained", False):
        raise ModelError(
            "this model has been trained since it was loaded",
            where=lm.name,
            mend="load it again, or load the result's model to train that further",
        )
    dtypes = {p.dtype for p in lm.model.parameters() if p.is_floating_point()}
    half = sorted(str(d).removeprefix("torch.") for d in dtypes if d.itemsize < FP32)
    if "float16" in half:
        raise ModelError(
            "gradients of float16 weights vanish without loss scaling, which accord does not do",
            where=lm.name,
            mend='load it with dtype="float32", or with "bfloat16" to train adapters',
        )
    if half and tune == "full":
        raise ModelError(
            f"tune: full would round most updates of {half[0]} weights away",
            where=lm.name,
            mend='load it with dtype="float32", or train adapters (their own weights are float32)',
        )


def prepare(lm: LanguageModel, tune: Tune, seed: int, precision: Precision = "fp32") -> Trainee:
    """The model with what `tune` asks for trainable. Dropout stays off but for LoRA's own."""
    check_trainable(lm, tune)
    lora = tune if isinstance(tune, Lora) else None
    module = add_lora(lm.model, lora, seed) if lora else lm.model
    lm.model.accord_trained = True
    if not lora:
        module.requires_grad_(True)
    module.eval()
    for name, part in module.named_modules():
        part.training = name.endswith("lora_dropout") or ".lora_dropout." in name
    engine = Engine(module, precision=precision)
    if engine.device.type != "cpu":
        engine.check_gradients()
    return Trainee(lm, module, engine, lora is not None, seed)


@contextlib.contextmanager
def ready(
    lm: LanguageModel, tune: Tune, seed: int, precision: Precision, *, borrow: bool = False
) -> Iterator[Trainee]:
    """`prepare`d inside; with `borrow` the language model is afterwards what it was before, ready for the
    next training."""
    before = None
    if borrow and tune == "full":
        before = {name: value.clone() for name, value in lm.model.state_dict().items()}
    trainee = prepare(lm, tune, seed, precision)
    try:
        yield trainee
    finally:
        if borrow:
            trainee.give_back(before)
