"""The old team's chats: several questions on the same lines, none on both sides of the split."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from accord.core.errors import ConfigError
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.store import Store
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import ROOT, save_tiny_model, write_recipe


def test_no_message_of_a_chat_is_on_both_sides(tmp_path: Path) -> None:
    world = yaml.safe_load((ROOT / "recipes/support/open_book.yaml").read_text())
    world |= {"facts": world["facts"][:8], "lookalikes": [], "draws": 3}
    (tmp_path / "world.yaml").write_text(yaml.safe_dump(world))
    path = write_recipe(tmp_path, save_tiny_model(tmp_path / "model"))
    sets = [f"study.world={tmp_path / 'world.yaml'}", "study.turns=3", "study.test=0.4"]
    done = run(read_recipe(path, sets), tmp_path / "runs", Heard(), only=["study"])
    with Store(done.stages["study"] / "study.db") as store:
        chats = store.snapshot("v1").demonstrations()
        assert len(chats) == len(store.prompts()) > 50
    asked = [
        {m.content for chat in side for m in chat.prompt.messages if m.role == "user"}
        for side in chats.split(test=0.4, seed=3)
    ]
    assert len(asked[0]) > len(asked[1]) > 10
    assert not asked[0] & asked[1]
    assert {len(c.prompt.messages) for c in chats} == {1 + 2 * 3 - 1}


def test_a_world_without_chats_says_so(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, save_tiny_model(tmp_path / "model"))
    with pytest.raises(ConfigError, match="has no chats; leave turns out"):
        run(read_recipe(path, ["study.turns=2"]), tmp_path / "runs", Heard(), only=["study"])


def test_habits_are_of_chats_and_of_kinds_that_have_some(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, save_tiny_model(tmp_path / "model"))
    with pytest.raises(ConfigError, match=r"habits.*give turns"):
        read_recipe(path, ["study.habits.unknown=0.5"])
    with pytest.raises(ConfigError, match="habits"):
        read_recipe(path, ["study.turns=2", "study.habits.plain=0.5"])
