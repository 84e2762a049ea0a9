"""`accord run RECIPE --mitigate FINDING`: what is changed, and that it is never written over anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.core.rundir import mark_done, write_json, write_jsonl, write_text
from accord.pipeline import mitigation
from accord.pipeline.context import StageResult
from accord.pipeline.doctor.base import Finding
from accord.pipeline.folder import plan
from accord.pipeline.manifest import manifest
from accord.pipeline.mitigation import Change, alarm_changes, changed_text, per_token
from accord.pipeline.recipe import Recipe, read_recipe
from tests.pipeline.test_doctor import log
from tests.pipeline.test_trial import ONLINE
from tests.pipeline.tiny_recipe import write_recipe
from tests.test_cli import accord, assert_one_line


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recipe, Path]:
    """A recipe whose dpo has ended with a loss that went up tenfold; nothing was trained."""
    folder = tmp_path_factory.mktemp("mitigated")
    path = write_recipe(folder, folder / "model")
    path.write_text(path.read_text() + ONLINE)
    recipe = read_recipe(path)
    run = plan(recipe, folder / "runs")
    place = run.stages["dpo"]
    place.mkdir(parents=True)
    run.path.mkdir()
    write_text(run.path / "recipe.json", json.dumps(recipe.resolved))
    write_json(run.path / "manifest.json", manifest(recipe, run))
    rows = log(
        loss=(0.7, 7.0), grad_norm=(1.0, 1.0), margin=(0, 9), chosen_tokens=(20, 20), kl=(0, 3)
    )
    write_jsonl(place / "metrics.jsonl", rows)
    StageResult().write(place)
    config = next(n.config for n in recipe.nodes if n.name == "dpo")
    write_json(place / "config.json", {"name": "dpo", **config.model_dump(mode="json")})
    mark_done(place, {"stage": "dpo"})
    return path, recipe, run.path


def test_the_changed_recipe_is_written_beside_the_old_one_and_never_over_another(
    ended: tuple[Path, Recipe, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, recipe, run = ended
    old, runs = path.read_text(), str(run.parent)
    code, out, _ = accord(
        capsys, "run", str(path), "--runs", runs, "--mitigate", "learning_rate_high"
    )
    assert code == 0
    assert "+    lr: " in out
    first = path.with_name("tiny-learning_rate_high.yaml")
    was = next(n.config for n in recipe.nodes if n.name == "dpo").lr
    now = next(n.config for n in read_recipe(first).nodes if n.name == "dpo").lr
    assert now == pytest.approx(was / 10)
    assert path.read_text() == old
    second = mitigation.mitigate(path, recipe, run, "learning_rate_high:dpo").path
    third = mitigation.mitigate(path, recipe, run, "learning_rate_high:dpo").path
    assert second.name == "tiny-learning_rate_high-dpo.yaml"
    assert third.name == "tiny-learning_rate_high-dpo-2.yaml"
    code, _, error = accord(capsys, "run", str(path), "--runs", runs, "--mitigate", "beta_low")
    assert_one_line(code, error, "no finding 'beta_low'")
    assert "learning_rate_high:dpo" in error
    code, _, error = accord(capsys, "run", str(path), "--runs", runs + "x", "--mitigate", "1")
    assert_one_line(code, error, "has not been run")


def of(recipe: Recipe, name: str) -> dict[str, object]:
    return next(n.config.model_dump(mode="json") for n in recipe.nodes if n.name == name)


def applied(ended: tuple[Path, Recipe, Path], changes: list[Change]) -> Recipe:
    path = ended[0].with_name("applied.yaml")
    path.write_text(changed_text(ended[0].read_text(), changes, "x"))
    return read_recipe(path)


def test_alarms_change_what_they_are_about(ended: tuple[Path, Recipe, Path]) -> None:
    recipe = ended[1]

    def after(detector: str, policy: str, paid: float | None = None) -> Recipe:
        return applied(ended, alarm_changes(detector, policy, of(recipe, policy), recipe, paid))

    priced = {"name": "length_penalty", "per_token": 0.023}
    assert of(after("length", "ppo", 0.0234), "ppo")["rewards"][-1] == priced  # type: ignore[index]
    assert of(after("flattery", "ppo"), "ppo")["kl"]["beta"] == 0.1  # type: ignore[index]
    assert of(after("flattery", "dpo"), "dpo")["loss"] == {"name": "dpo", "beta": 0.3}
    assert after("far", "ppo") == after("divergence", "ppo")
    both = after("divergence", "ppo")
    assert of(both, "ppo")["rewards"] == [{"name": "ensemble", "models": ["rm", "rm_2"]}]
    assert of(both, "rm_2") == {**of(recipe, "rm"), "seed": 2}
    with pytest.raises(ConfigError, match="no key of stage sft"):
        after("flattery", "sft")


def test_a_finding_about_data_changes_what_trains_on_it(ended: tuple[Path, Recipe, Path]) -> None:
    def changed(line: str) -> set[str]:
        finding = Finding(
            stage="study", cause="", confidence=0.9, number="", change="mend", line=line
        )
        return {c.path[0] for c in mitigation._of_finding(ended[1], finding)}

    assert changed("{labels: soft, min_confidence: 0.7}") == {"rm", "dpo"}
    assert changed("loss: {name: simpo}") == {"dpo"}
    with pytest.raises(ConfigError, match="no key of the recipe mends"):
        changed("")


def test_what_length_is_paid_is_its_slope() -> None:
    texts = ["word " * (3 * k) for k in range(1, 21)]  # 4 tokens a k
    assert per_token(texts, [0.5 + 0.02 * 4 * k for k in range(1, 21)]) == pytest.approx(0.02)
    assert per_token(texts, [-0.1 * k for k in range(1, 21)]) is None
    assert per_token(texts[:5], [1.0] * 5) is None
