"""Worlds behind their seam: a user's own in one YAML, checked with a line for each fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.core.rundir import read_json
from accord.core.types import Response
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.worlds.base import faults, open_world, truth
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import ROOT, save_tiny_model, write_recipe
from tests.test_cli import accord

BAKERY = Path(__file__).parent / "bakery.yaml"
SUPPORT = "2596d15ae5b8c9b4fe43e0cbabcad7aa2c17acd81ae4c8c2fc379f3fc2eb9d88"


def test_the_shipped_world_gives_the_bytes_it_gave(tmp_path: Path) -> None:
    """The snapshot that the hacked twin learns from, by its hash before worlds had a seam."""
    recipe = read_recipe(ROOT / "recipes/hacked.yaml")
    done = run(recipe, tmp_path, Heard(), only=["study"])
    assert read_json(done.stages["study"] / "result.json")["facts"]["sha256"] == SUPPORT


def test_nothing_outside_knows_a_world_by_name() -> None:
    for path in (ROOT / "src/accord").rglob("*.py"):
        text = path.read_text()
        if "worlds" not in path.parts and path.parts[-2:] != ("cli", "run.py"):
            assert not re.search(r"harbor|HelpDesk|worlds\.help_desk", text, re.I) or (
                path.name == "gold.py"  # what an earlier accord's results were of
            ), path


def test_the_house_s_worlds_and_the_test_s_are_without_fault() -> None:
    assert faults(ROOT / "recipes/support/world.yaml") == []
    assert faults(BAKERY) == []


def test_its_rules_are_its_own() -> None:
    world = open_world(BAKERY)
    case = world.cases[0]
    right = case.candidates[0].text
    assert truth(world, case, Response(text=right)) == 1.0
    words = right + " so" * (20 - len(right.split()))  # 12 words are brief here, none from 24 on
    assert world.gold(case, Response(text=words))["length"] == pytest.approx(1 / 3)
    assert "12 words, 0 from 24" in world.measures[-1].meaning


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("must: ['\\b6 am\\b']", "must: ['(6 am']", r":\d+ facts.0.must.*no regular expression"),
        ("id: bread", "id: hours", r":\d+ facts.1.id: fact 'hours' stands twice"),
        ("fact: bread", "fact: cake", r":\d+ lookalikes.0.fact: there is no fact 'cake'; .*hours"),
        ("full_words: 12", "full_words: 30", r":\d+ rules.no_words: is not above full_words"),
        ("  - id: hours", "  - id: hours\n    colour: red", "unknown key 'colour'"),
        ("We open at 6 am.", "We open early.", r":\d+ facts.0.plain.*right answer.*resolution"),
        ("We open at 9 am.", "At 6 am.", r"the wrong answer 'At 6 am.' scores as a right one"),
        ("Is Sunday a baking day?", "When do you open?", r"this message stands twice"),
        ("facts:", "form: nowhere\nfacts:", r":\d+ form: unknown form of world.*help_desk"),
    ],
)
def test_a_fault_is_a_line_with_its_place(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "world.yaml"
    text = BAKERY.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    found = [str(f) for f in faults(path)]
    assert any(re.search(told, line) and str(path) in line for line in found), found


def test_the_command_tells_every_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = accord(capsys, "world", "check", str(BAKERY))
    assert (code, error) == (0, "")
    assert "2 policies" in out
    path = tmp_path / "world.yaml"
    broken = BAKERY.read_text().replace("We open at 9 am.", "At 6 am.")
    path.write_text(broken.replace("We open at 6 am.", "We open early."))
    code, out, error = accord(capsys, "world", "check", str(path))
    assert code == 2
    assert len(error.splitlines()) >= 2
    assert all(line.startswith(f"accord: {path}:") for line in error.splitlines())
    code, _, error = accord(capsys, "world", "check", str(tmp_path / "none.yaml"))
    assert code == 2
    assert "no such file" in error


def bakery(folder: Path) -> Path:
    path = write_recipe(folder, save_tiny_model(folder / "model"))
    text = path.read_text().replace(str(ROOT / "recipes/support/world.yaml"), str(BAKERY))
    path.write_text(re.sub(r"    raters: .*\n", "", text))
    return path


def test_a_world_of_one_s_own_runs_through_the_recipe(tmp_path: Path) -> None:
    """Its raters too; the report shows what it measures."""
    done = run(read_recipe(bakery(tmp_path)), tmp_path / "runs", Heard())
    told = read_json(done.stages["eval/sft"] / "result.json")
    assert set(told["metrics"]) >= {"gold", "accuracy", "length", "words"}
    page = done.report.read_text()
    assert "1 up to 12 words, 0 from 24" in page
    assert "Harbor" not in page
    assert "Rosa" in page


def test_nobody_judges(tmp_path: Path) -> None:
    world = tmp_path / "world.yaml"
    world.write_text(re.sub(r"raters:\n(  - .*\n)+", "", BAKERY.read_text()))
    path = bakery(tmp_path)
    path.write_text(path.read_text().replace(str(BAKERY), str(world)))
    with pytest.raises(ConfigError, match="nobody judges"):
        run(read_recipe(path), tmp_path / "runs", Heard(), only=["study"])
