"""Policies between policies: exact at both ends and between, and refused where no change stands apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from accord.core.errors import ConfigError, ModelError
from accord.lm.model.blend import blend
from accord.lm.model.load import load
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe

BLENDS = """
  none: {kind: blend, init: sft, of: {dpo: 0}}
  whole: {kind: blend, init: sft, of: {dpo: 1}}
  half: {kind: blend, init: sft, of: {dpo: 0.5}}
  both: {kind: blend, of: {dpo: 0.5, sft: -1}}
"""


def weights(folder: Path | str) -> dict[str, torch.Tensor]:
    return {k: v.detach().clone() for k, v in load(str(folder)).model.state_dict().items()}


def recipe(folder: Path, more: str) -> Path:
    path = write_recipe(folder, save_tiny_model(folder / "model"), facts=3)
    text = path.read_text().replace("policies: [base, sft, dpo]", "policies: [sft, dpo, half]")
    path.write_text(text + more)
    return path


def test_a_blend_is_exact_at_both_ends_and_between(tmp_path: Path) -> None:
    done = run(read_recipe(recipe(tmp_path, BLENDS)), tmp_path / "runs", Heard())
    base = weights(tmp_path / "model")
    was = {name: weights(done.stages[name] / "model") for name in done.stages if name in (
        "sft", "dpo", "none", "whole", "half", "both")}  # fmt: skip
    moved = 0.0
    for k, start in base.items():
        sft, dpo = was["sft"][k], was["dpo"][k]
        assert torch.equal(was["none"][k], sft)
        assert torch.equal(was["whole"][k], dpo)
        torch.testing.assert_close(was["half"][k], (sft + dpo) / 2, rtol=1e-5, atol=1e-6)
        wanted = start + 0.5 * (dpo - start) - (sft - start)
        torch.testing.assert_close(was["both"][k], wanted, rtol=1e-5, atol=1e-6)
        moved = max(moved, float((dpo - sft).abs().max()))
    assert moved > 1e-4
    alone = weights(done.stages["half"] / "model/adapter-1")  # as an adapter of its init
    assert all(torch.equal(alone[k], was["half"][k]) for k in alone)
    page = (done.path / "report.html").read_text()
    assert "Blends" in page
    compared = json.loads((done.stages["compare"] / "compare.json").read_text())
    assert "half - sft" in compared["differences"]  # held against what it started from
    again = run(read_recipe(tmp_path / "tiny.yaml"), tmp_path / "runs", Heard())
    assert again.stages["half"] == done.stages["half"]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{kind: blend, init: sft, of: {rm: 1}}", "rm"),
        ("{kind: blend, init: sft, of: {}}", "of"),
        ("{kind: blend, init: sft, of: {dpo: .nan}}", "of"),
    ],
)
def test_what_is_no_policy_or_share_is_found_before_anything_runs(
    tmp_path: Path, line: str, match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        read_recipe(recipe(tmp_path, f"\n  half: {line}\n"))


def test_a_part_that_does_not_go_on_from_its_init_is_refused(tmp_path: Path) -> None:
    path = recipe(tmp_path, "\n  half: {kind: blend, init: dpo, of: {sft: 0.5}}\n")
    with pytest.raises(ModelError, match="was not trained on from"):
        run(read_recipe(path), tmp_path / "runs", Heard(), only=["study", "sft", "dpo", "half"])


def test_an_adapter_that_is_more_than_alpha_times_a_product_is_refused(tmp_path: Path) -> None:
    path = recipe(tmp_path, BLENDS)
    done = run(read_recipe(path), tmp_path / "runs", Heard(), only=["study", "sft"])
    model = done.stages["sft"] / "model"
    config = next(model.glob("adapter/adapter_config.json"))
    config.write_text(json.dumps(json.loads(config.read_text()) | {"use_dora": True}))
    with pytest.raises(ModelError, match="use_dora"):
        blend(str(tmp_path / "model"), {str(model): 0.5}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
