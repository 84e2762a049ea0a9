"""`labels: soft` in a recipe: training reads posteriors, and their lineage is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.core.rundir import read_jsonl
from accord.feedback.trust.aggregate import soft_groups
from accord.pipeline.recipe import read_recipe
from accord.store import Store
from tests.pipeline.test_runner import go
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soft")
    write_recipe(folder, save_tiny_model(folder / "model"))
    return folder


def test_a_reward_model_learns_from_soft_labels(folder: Path) -> None:
    done, _ = go(folder, "rm.labels=soft", "rm.min_confidence=0.7", only=["study", "sft", "rm"])
    rows = read_jsonl(done.stages["rm"] / "held_out.jsonl")
    judged = [r for r in rows if r["sources"]]
    assert judged
    with Store(done.stages["study"] / "study.db") as store:
        known = {j.id for j in store.judgments()}
        soft = soft_groups(store.snapshot("v1"), min_confidence=0.7)
    expected = {(p.sources, p.chosen.text, p.rejected.text): p.p for g in soft for p in g.pairs()}
    for row in judged:
        assert set(row["sources"]) <= known
        key = (tuple(row["sources"]), row["better"], row["worse"])
        assert row["p"] == pytest.approx(expected[key])
        assert row["p"] >= 0.7


def test_confidence_is_of_soft_labels(folder: Path) -> None:
    with pytest.raises(ConfigError, match="min_confidence needs labels: soft"):
        read_recipe(folder / "tiny.yaml", ["dpo.min_confidence=0.9"])
    with pytest.raises(ConfigError, match="labels"):
        read_recipe(folder / "tiny.yaml", ["dpo.labels=gold"])
