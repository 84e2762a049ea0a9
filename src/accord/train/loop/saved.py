"""What a training leaves: a chain of small folders, and what it says of itself.

An adapter and the name of what it stands on, or all weights. Loading merges the adapter into its base, so
every later stage starts from plain weights.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from accord.core.rundir import read_jsonl, whole_folder
from accord.core.types import Metric
from accord.lm.model.adapters import save_adapter
from accord.lm.model.card import sign
from accord.lm.model.load import MODEL_FILE, LanguageModel, load, write_model_json
from accord.lm.model.packaged import quiet_transformers
from accord.stats.intervals import mean
from accord.train.loop import dist
from accord.train.loop.data import Trees

__all__ = ["PolicyTrained", "Saved", "Trained", "save_model"]


def save_model(
    lm: LanguageModel,
    module: Any,
    folder: Path,
    *more: Callable[[Path], None],
    adapter: str | None,
) -> None:
    """A model that `load` gives back: its adapter and the name of what that stands on, or (None) all its
    weights; with what `more` writes beside it, whole or not at all. The first process writes."""
    if not dist.first():
        return
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


@dataclass(frozen=True)
class PolicyTrained(Saved):
    """What training left: its folder, notes, why it ended early, or "", and the prompts that were left out,
    by reason."""

    notes: tuple[str, ...]
    ended: str
    left_out: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """Of the last evaluation's held-out answers: each reward's mean by its label, and `reward`, their
        composed one. Answers without a score count nowhere."""
        samples = sorted((self.folder / "samples").glob("*.jsonl"))
        rows = read_jsonl(samples[-1]) if samples else []
        columns = {k: [r["parts"][k] for r in rows] for k in (rows[0]["parts"] if rows else ())}
        columns["reward"] = [r["reward"] for r in rows]
        return {k: mean([x for x in some if x is not None]) for k, some in columns.items()}
