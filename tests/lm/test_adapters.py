"""Adapters go where they are told: all layers, or the last ones only."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.lm.model.adapters import add_lora, save_adapter, trainable
from accord.lm.model.lora import Lora
from tests.lm.tiny import ARCHITECTURES, tiny_model


def adapted(architecture: str, last: int | None) -> dict[int, int]:
    """Trainable parameters by layer number."""
    model = add_lora(tiny_model(architecture), Lora(r=2, alpha=4, last_layers=last), seed=1)
    numbers = [int(re.findall(r"layers\.(\d+)\.", name)[0]) for name in trainable(model)]
    return {n: numbers.count(n) for n in sorted(set(numbers))}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_last_layers(architecture: str) -> None:
    every = adapted(architecture, None)
    assert set(every) == {0, 1}
    assert every[0] == every[1] > 0
    assert adapted(architecture, 2) == every
    assert adapted(architecture, 1) == {1: every[1]}


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ConfigError, match=r"last_layers: 3 is more than the model's 2 layers"):
        adapted("llama", 3)


def test_a_saved_adapter_is_the_same_in_every_process(tmp_path: Path) -> None:
    save_adapter(add_lora(tiny_model("llama"), Lora(r=2, alpha=4), seed=1), tmp_path)
    names = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert len(names) == 14
    assert names == sorted(names)  # peft would write them in hash order
