"""A model between others: one, and so much of what trainings that went on from it have changed.

W = W_init + Σ w_i (W_i - W_init): with one training the line from its start to its end (Wortsman et al. 2022,
https://arxiv.org/abs/2109.01903), with several task vectors (Ilharco et al. 2023,
https://arxiv.org/abs/2212.04089), of policies for several rewards their soup (Ramé et al. 2023,
https://arxiv.org/abs/2306.04488). A LoRA's change is linear in its alpha, so that a blend is copies of
adapters with their alphas multiplied, and exact.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accord.core.errors import ModelError
from accord.core.rundir import whole_folder, write_json
from accord.lm.model.chain import adapter_of, layers, weights_of, write_model_json
from accord.lm.model.find import ADAPTER_FILE, MODEL_FILE, resolve
from accord.lm.template import read_templates

__all__ = ["blend"]

# of an adapter's configuration, and what it is where its change is alpha times a product and nothing else
PLAIN: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "use_dora": (False, None),
    "modules_to_save": (None, []),
    "bias": ("none", None),
    "lora_bias": (False, None),
    "trainable_token_indices": (None, []),
    "init_lora_weights": (True, False, None),
}


def blend(init: str, parts: Mapping[str, float], folder: Path) -> int:
    """Write to `folder` what `load` gives as `init` with `parts` (models trained on from it: share) added,
    whole or not at all. Returns how many adapters it has. A share of 1 of one model is that model, of 0 is
    `init`. ModelError for a model that does not go on from `init`, or changed more than LoRA does."""
    bottom, below = layers(init)
    start = [adapter.resolve() for adapter in below]
    stage = (Path(init) / MODEL_FILE).is_file()
    with whole_folder(folder) as beside:
        adapters: list[Path] = []
        for model, share in parts.items():
            base, above = layers(model)
            own = [adapter.resolve() for adapter in above]
            if own[: len(start)] != start or weights_of(base) != weights_of(bottom):
                raise ModelError(
                    f"was not trained on from {init}",
                    where=model,
                    mend="parts of a blend start at its init, with a LoRA: tune: full keeps no change apart",
                )
            for adapter in own[len(start) :]:
                out = beside / f"adapter-{len(adapters) + 1}"
                stands = os.path.relpath(Path(init).resolve(), out.resolve()) if stage else init
                adapters.append(_scaled(adapter, share, out, stands))
        if not adapters:
            raise ModelError("no part of the blend has changed anything", where=init)
        write_model_json(
            beside,
            base=os.path.relpath(init) if stage else init,  # so that runs can be moved
            base_weights=weights_of(init),
            adapters=adapters,
            template=read_templates(resolve(next(iter(parts)))[0]),
        )
    return len(adapters)


def _scaled(adapter: Path, share: float, out: Path, stands: str) -> Path:
    """A copy of an adapter, with so much of its change; `stands`: on what, for who loads it alone."""
    config = adapter_of(adapter) or {}
    for key, plain in PLAIN.items():
        if config.get(key) not in plain:
            raise ModelError(
                f"its {key} is {config.get(key)!r}: what it changes is not linear in alpha",
                where=str(adapter),
                allowed="plain LoRA",
            )
    shutil.copytree(adapter, out, ignore=shutil.ignore_patterns("README.md"))
    config["lora_alpha"] *= share
    config["alpha_pattern"] = {k: v * share for k, v in (config.get("alpha_pattern") or {}).items()}
    write_json(out / ADAPTER_FILE, config | {"base_model_name_or_path": stands})
    return out
