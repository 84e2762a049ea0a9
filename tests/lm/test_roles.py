"""Roles on a base whose modules are named as roles are: each trains its own adapter and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from accord.lm.model.adapters import save_adapter
from accord.lm.model.load import LanguageModel
from accord.lm.model.lora import Lora
from accord.lm.model.roles import Roles
from tests.lm.tiny import tiny_model, tiny_tokenizer

LORA = Lora(r=2, alpha=4)


def clashing(**names: str) -> LanguageModel:
    """A Llama whose named projections have other names, as BERT's attention has its `value`."""
    model = tiny_model("llama")
    for layer in model.model.layers:
        attention: Any = layer.self_attn
        for old, new in names.items():
            setattr(attention, new, getattr(attention, old))
            delattr(attention, old)
            own = type(attention)
            attention.__class__ = _renamed(own, old, new)
    return LanguageModel(model, tiny_tokenizer(), "clashing", Path(), "hash")


def _renamed(own: type, old: str, new: str) -> type:
    return type(own.__name__, (own,), {old: property(lambda self: getattr(self, new))})


@pytest.mark.parametrize(
    "names", [{}, {"v_proj": "value"}, {"v_proj": "value", "q_proj": "policy"}]
)
def test_a_roles_parameters_are_its_adapters(names: dict[str, str], tmp_path: Path) -> None:
    lm = clashing(**names)
    base = {id(p) for p in lm.model.parameters()}
    lm.model.requires_grad_(False)
    roles = Roles(lm)
    roles.add("policy", LORA, 1)
    roles.add("value", LORA, 2)
    sets = [roles.parameters(role) for role in ("policy", "value")]
    for own in sets:
        assert len(own) == 28  # two layers, seven projections, A and B
        assert all("lora_" in name for name in own)
        assert not base & {id(p) for p in own.values()}
    assert not set(map(id, sets[0].values())) & set(map(id, sets[1].values()))
    learning = {id(p) for p in roles.module.parameters() if p.requires_grad}
    assert learning == {id(p) for own in sets for p in own.values()}
    if not names:
        assert roles.adapters == {"policy": "policy", "value": "value"}
    with torch.no_grad():
        for own in sets:
            for p in own.values():
                p.normal_()
    folder = save_adapter(roles.module, tmp_path, roles.adapters["policy"])
    saved = load_file(folder / "adapter_model.safetensors")
    assert len(saved) == 28  # peft would leave out those of modules called as the other role is

    with roles.playing("policy"):
        ours = lm.model(torch.tensor([[5, 6, 7]])).logits.detach()
    other = Roles(clashing(**names))
    other.take("value", folder, trained=False)
    with other.playing("value"):
        torch.testing.assert_close(other.module(torch.tensor([[5, 6, 7]])).logits, ours)
