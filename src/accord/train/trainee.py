"""A model made ready to train: LoRA over frozen weights, or all weights; saved as a chain.

What a stage leaves is small: its adapter and the name of what it stands on. Loading merges the
adapter into its base, so every later stage starts from plain weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from accord.core.errors import ModelError
from accord.core.hashing import content_hash
from accord.core.rundir import read_jsonl, whole_folder
from accord.core.types import Group, LabelledResponse, LabelledSteps, Metric
from accord.lm.model.adapters import add_lora, save_adapter, trainable
from accord.lm.model.card import sign
from accord.lm.model.load import MODEL_FILE, LanguageModel, load, write_model_json
from accord.lm.model.lora import Lora
from accord.lm.model.packaged import quiet_transformers
from accord.lm.trees.engine import Engine, Precision
from accord.lm.trees.tree import Tree, hash_trees
from accord.train.data import Trees
from accord.train.memory import Budget, budget
from accord.train.optimise import Optimise

__all__ = [
    "Saved", "Trained", "Trainee", "Tune", "check_trainable", "fingerprint", "prepare", "save_model",
]  # fmt: skip

Tune = Lora | Literal["full"]
FP32 = 4  # bytes


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

    def sized(
        self,
        cfg: Optimise,
        data: Trees,
        folder: Path,
        tell: Callable[[str], None] | None,
        values: Callable[[Sequence[Tree]], Tensor] | None = None,
    ) -> tuple[Optimise, Budget]:
        """The settings with a number for `tokens`, and the memory plan, told through `tell`."""
        forward = values or (lambda trees: self.engine.logps(trees).tokens_S)
        device = self.engine.device
        made = budget(
            self.module, forward, data.trees, cfg.tokens, cfg.batch_size, device, folder, tell
        )
        return cfg.model_copy(update={"tokens": made.plan.tokens}), made

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


def save_model(
    lm: LanguageModel,
    module: Any,
    folder: Path,
    *more: Callable[[Path], None],
    adapter: str | None,
) -> None:
    """A model that `load` gives back: its adapter and the name of what that stands on, or (None) all its
    weights; with what `more` writes beside it, whole or not at all."""
    with whole_folder(folder) as beside:
        if adapter is None:
            with quiet_transformers():
                module.save_pretrained(beside)
            lm.tokenizer.save_pretrained(beside)
        else:
            saved = save_adapter(module, beside / "adapter", adapter)
            of_a_run = Path(lm.name).is_dir() and (
                lm.path.parent.parent == folder.resolve().parent.parent
            )
            stage = of_a_run or (lm.path / MODEL_FILE).is_file()
            write_model_json(
                beside,
                base=os.path.relpath(lm.path) if stage else lm.name,  # so that runs can be moved
                base_weights=lm.weights,
                adapters=[saved],
                template=lm.tokenizer.chat_template,
            )
            sign(saved, lm, relative=stage)
        for write in more:
            write(beside)


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
    return Trainee(lm, module, engine, lora is not None)


def fingerprint(
    lm: LanguageModel, tune: Tune, cfg: Optimise, seed: int, data: Trees, more: Any = None
) -> str:
    """What decides a run's weights: model, data and settings. A checkpoint of another is refused."""
    settings = cfg.model_dump(exclude={"tokens", "save_every", "eval_every"})
    items = [_label(x) for x in data.items]
    return content_hash([lm.weights, tune, settings, seed, hash_trees(data.trees), items, more])


def _label(item: Any) -> Any:
    """What was said of an item, apart from its tokens."""
    if isinstance(item, Group):
        return item.edges
    if isinstance(item, LabelledSteps):
        return [item.labels, item.weight]
    return [item.desirable, item.weight] if isinstance(item, LabelledResponse) else item.weight


@dataclass(frozen=True)
class Saved:
    """A folder that training left a model in."""

    folder: Path

    @property
    def model(self) -> Path:
        """The saved model: what `accord.load` takes."""
        return self.folder / "model"

    @property
    def log(self) -> list[dict[str, float]]:
        """What every logged step said, in order (metrics.jsonl)."""
        return list(read_jsonl(self.folder / "metrics.jsonl"))

    @cached_property
    def policy(self) -> LanguageModel:
        """The trained language model, loaded when first asked for. Of a reward model it is what the head
        stands on; `accord.load_reward_model(result.model)` has both."""
        return load(self.model)


@dataclass(frozen=True)
class Trained(Saved):
    """What training left: its folder, held-out metrics, what to tell, and what it trained on."""

    metrics: dict[str, Metric]
    notes: tuple[str, ...]
    data: Trees
    held: Trees
    held_out: tuple[Any, ...] = ()  # reward models: groups with their scores (HeldOut)
    reported: dict[str, Metric] = field(default_factory=dict)  # on what nothing was chosen by

    @property
    def left_out(self) -> dict[str, int]:
        """Items not trained on, or not measured on, by reason."""
        held = {f"held out: {reason}": n for reason, n in self.held.left_out.items()}
        return {**self.data.left_out, **held}
