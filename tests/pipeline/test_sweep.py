"""A sweep: its grid, its errors, one base and one cache, resume, the table and the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from accord.core.errors import ConfigError, RunError
from accord.core.rundir import read_json, read_jsonl
from accord.pipeline import runner
from accord.pipeline.context import read_result
from accord.pipeline.folder import RunFolder
from accord.pipeline.recipe import read_recipe
from accord.pipeline.report.training import CURVES
from accord.pipeline.stages.sweep import Sweep
from accord.store import Store, import_file
from accord.train.offline import sweep as module
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe
from tests.test_cli import accord, assert_one_line


def stage(**over: list[Any]) -> Sweep:
    return Sweep.model_validate({"kind": "sweep", "data": "study", "over": over})


def recipe_with_sweep(folder: Path, over: dict[str, list[Any]], **keys: Any) -> Path:
    """The tiny recipe cut to study, sft and a sweep."""
    path = write_recipe(folder, save_tiny_model(folder / "model"), facts=8)
    data = yaml.safe_load(path.read_text())
    sweep = {**data["stages"]["dpo"], "kind": "sweep", "over": over, "max_steps": 3, **keys}
    data["stages"] = {"study": data["stages"]["study"], "sft": data["stages"]["sft"], "dpo": sweep}
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def test_the_grid_in_order() -> None:
    points = stage(**{"lr": [1e-4, 1e-3], "loss.beta": [0.1, 0.3]}).points()
    assert [tuple(p.values()) for p in points] == [
        (1e-4, 0.1),
        (1e-4, 0.3),
        (1e-3, 0.1),
        (1e-3, 0.3),
    ]
    made = stage(**{"loss": [{"name": "simpo", "beta": 2.0}]}).at(
        {"loss": {"name": "simpo", "beta": 2.0}}
    )
    assert made.loss == {"name": "simpo", "beta": 2.0}
    assert made.kind == "preference"


@pytest.mark.parametrize(
    ("over", "told"),
    [
        ({"lr": [-1.0]}, "lr: Input should be greater than 0"),
        ({"lr": []}, "over.lr: has no value"),
        ({"lr": [1.0, 1.0]}, "over.lr: holds a value twice"),
        ({"limit": [5, 6]}, "'limit' can't be swept; allowed: lr, schedule"),
        ({"loss.betta": [0.1]}, "unknown key 'betta'"),
        ({"loss.name": ["dpo", "dpoo"]}, "unknown loss 'dpoo'"),
        ({"lr.high": [1.0]}, "'lr.high' is no key of the stage"),
        ({"lr": [0.1 * k for k in range(1, 100)]}, "99 points; allowed: at most 64"),
    ],
)
def test_a_wrong_point_is_told_before_anything_runs(
    over: dict[str, list[Any]], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as error:
        read_recipe(recipe_with_sweep(tmp_path, over))
    assert told in str(error.value)


def outputs(folder: RunFolder) -> dict[str, bytes]:
    """What must not depend on kills: logs, models, results."""
    place = folder.stages["dpo"]
    names = (
        "metrics.jsonl",
        "point.json",
        "result.json",
        "sweep.json",
        "adapter_model.safetensors",
    )
    return {
        str(f.relative_to(place)): f.read_bytes()
        for f in sorted(place.rglob("*"))
        if f.name in names
    }


def test_a_killed_sweep_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_with_sweep(tmp_path, {"loss.name": ["dpo", "simpo"], "lr": [1e-3]}))
    whole = outputs(runner.run(recipe, tmp_path / "whole", Heard()))
    assert len(whole) == 2 * 3 + 2
    real, trained = module.train_on, []

    def kill_in_the_second(material: Any, **keys: Any) -> Any:
        trained.append(keys["run_dir"].name)
        if len(trained) == 2:
            keys["optimise_with"] = keys["optimise_with"].model_copy(update={"save_every": 1})

            def die(done: int, total: int, row: Any) -> None:
                if done == 2:
                    raise KeyboardInterrupt

            keys["on_step"] = die
        return real(material, **keys)

    monkeypatch.setattr(module, "train_on", kill_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        runner.run(recipe, tmp_path / "cut", Heard())
    again = outputs(runner.run(recipe, tmp_path / "cut", Heard()))
    assert trained == ["00", "01", "01"]  # the first point was not trained again
    assert again == whole


def test_points_share_one_reference_and_the_best_is_what_later_stages_load(tmp_path: Path) -> None:
    path = recipe_with_sweep(tmp_path, {"loss.beta": [0.1, 0.5], "lr": [1e-3, 1e-2]})
    data = yaml.safe_load(path.read_text())
    data["stages"]["eval"] = {
        "kind": "eval", "policies": ["dpo"], "data": "study", "prompts": 2, "max_new_tokens": 2
    }  # fmt: skip
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    folder = runner.run(read_recipe(path), tmp_path / "runs", Heard())
    points = read_json(folder.stages["dpo"] / "sweep.json")
    assert len(points) == 4
    assert sum(p["picked"] for p in points) == 1
    best = max(p["metrics"]["accuracy"]["value"] for p in points)
    assert next(p for p in points if p["picked"])["metrics"]["accuracy"]["value"] == best
    cached = list((tmp_path / "runs").rglob("reference/*.safetensors"))
    assert len(cached) == 2  # training and held-out, once each
    html = (folder.path / "report.html").read_text()
    assert "Sweep: dpo" in html
    assert html.count("loss.beta 0.5, lr 0.001") >= 2
    assert "both below 0 is displacement" in html
    assert 'id="lineage-dpo"' in html
    judged = {
        j for row in read_jsonl(folder.stages["dpo"] / "trained_on.jsonl") for j in row["sources"]
    }
    with Store(folder.stages["study"] / "study.db") as store:
        assert judged
        assert judged <= {j.id for j in store.judgments()}
    assert read_jsonl(folder.stages["eval/dpo"] / "answers.jsonl")


def test_a_point_that_diverges_is_told_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_with_sweep(tmp_path, {"lr": [1e30, 1e-3]}))
    folder = runner.run(recipe, tmp_path / "runs", Heard())
    points = read_json(folder.stages["dpo"] / "sweep.json")
    assert "nan" in points[0]["failed"]
    assert points[1]["picked"]
    assert f"failed: {points[0]['failed']}" in (folder.path / "report.html").read_text()

    def diverge(material: Any, **keys: Any) -> Any:
        keys["run_dir"].mkdir(parents=True)
        raise RunError("loss is inf")

    monkeypatch.setattr(module, "train_on", diverge)
    with pytest.raises(RunError, match="every point failed"):
        runner.run(recipe, tmp_path / "none", Heard())


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")  # the table does not wrap
    path = write_recipe(tmp_path, save_tiny_model(tmp_path / "model"), facts=8)
    grid = ("--over", "loss.beta=0.1,0.3", "--set", "dpo.max_steps=2")
    code, _, error = accord(capsys, "sweep", str(path), *grid, "--check")
    assert code == 0, error
    assert not (tmp_path / "runs").exists()
    code, out, error = accord(capsys, "sweep", str(path), *grid)
    assert code == 0, error
    assert "loss.beta 0.3" in out
    assert "(used)" in out
    for wrong, told in (
        (("--over", "lr"), "--over: can't read 'lr'; allowed: key=value,value"),
        ((), "--over: a sweep needs values"),
        (("--over", "lr=1", "--stage", "rm"), "'rm' is no preference stage; allowed: dpo"),
    ):
        code, _, error = accord(capsys, "sweep", str(path), *wrong)
        assert_one_line(code, error, told)


def test_kto_on_thumbs_from_import_to_report(tmp_path: Path) -> None:
    model = save_tiny_model(tmp_path / "model")
    rows = [
        f'{{"prompt": "Question {i}?", "completion": "Answer {i % 3}.", "label": {str(i % 2 == 0).lower()}}}'
        for i in range(24)
    ]
    (tmp_path / "thumbs.jsonl").write_text("\n".join(rows) + "\n")
    path = tmp_path / "kto.yaml"
    path.write_text(f"""\
name: kto
model: {model}
stages:
  study: {{kind: import, file: thumbs.jsonl, test: 0.3}}
  kto: {{kind: preference, data: study, loss: {{name: kto}}, max_steps: 2, batch_size: 4}}
""")
    folder = runner.run(read_recipe(path), tmp_path / "runs", Heard())
    rows_read = read_jsonl(folder.stages["kto"] / "trained_on.jsonl")
    assert {row["good"] for row in rows_read} == {True, False}
    html = (folder.path / "report.html").read_text()
    assert "judged good" in html
    assert "the judged answers it was trained on" in html
    assert "reference point" in html


def thumbs_and_comparisons(folder: Path, over: str, **keys: Any) -> Path:
    """A recipe whose data holds both; its sweep is over losses."""
    model = save_tiny_model(folder / "model")
    with Store(folder / "both.db") as store:
        for kind, file in (("thumbs", "t.jsonl"), ("pairs", "p.jsonl")):
            rows = [
                {"prompt": f"Question {i}?", "completion": f"Answer {i % 3}.", "label": i % 2 == 0}
                if kind == "thumbs"
                else {"prompt": f"Question {i}?", "chosen": f"Yes, {i}.", "rejected": f"No, {i}."}
                for i in range(16)
            ]
            (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
            import_file(store, folder / file)
        store.freeze("v1")
    more = "".join(f", {k}: {v}" for k, v in keys.items())
    (folder / "both.yaml").write_text(f"""\
name: both
model: {model}
stages:
  grid: {{kind: sweep, data: both.db@v1, max_steps: 2, over: {{loss.name: {over}}}{more}}}
""")
    return folder / "both.yaml"


@pytest.mark.parametrize("over", ["[kto, dpo]", "[dpo, kto]"])
def test_losses_of_two_families_each_read_what_is_theirs(over: str, tmp_path: Path) -> None:
    path = thumbs_and_comparisons(tmp_path, over, batch_size=4)
    folder = runner.run(read_recipe(path), tmp_path / "runs", Heard())
    points = read_json(folder.stages["grid"] / "sweep.json")
    held = {p["point"]["loss.name"]: p["metrics"]["accuracy"]["n"] for p in points}
    both = 2 * held["dpo"]  # each comparison as two single answers, and thumbs on the same prompts
    assert held["kto"] > both > 0
    assert "accuracies are not of one kind" in read_result(folder.stages["grid"]).headline


@pytest.mark.parametrize(("prompts", "apart"), [(90, True), (12, False)])
def test_the_report_says_on_what_a_point_was_chosen(
    prompts: int, apart: bool, tmp_path: Path
) -> None:
    """By prompt, half to choose and half to report where there are enough; else that figures flatter."""
    rows = [
        {"prompt": f"Question {i}?", "chosen": f"Yes, {i}.", "rejected": f"{no}, {i}."}
        for i in range(prompts)
        for no in ("No", "Never")
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = save_tiny_model(tmp_path / "model")
    (tmp_path / "p.yaml").write_text(f"""\
name: halves
model: {model}
stages:
  study: {{kind: import, file: p.jsonl, test: 0.5}}
  grid: {{kind: sweep, data: study, max_steps: 1, over: {{lr: [1.0e-4, 1.0e-3]}}}}
""")
    folder = runner.run(read_recipe(tmp_path / "p.yaml"), tmp_path / "runs", Heard())
    points = read_json(folder.stages["grid"] / "sweep.json")
    result, html = read_result(folder.stages["grid"]), (folder.path / "report.html").read_text()
    picked = next(p for p in points if p["picked"])
    assert [p["apart"] for p in points] == [apart, apart]
    told = result.metrics["accuracy"].model_dump(mode="json", exclude={"measure"})
    assert told == picked["metrics"]["accuracy"]
    assert ("figures are of the other part" in html) == apart
    assert ("flattered" in html) != apart
    chose, reported = (picked[of]["accuracy"]["n"] for of in ("chosen_by", "metrics"))
    assert chose % 2 == reported % 2 == 0  # a prompt's two comparisons are on one side
    assert min(chose, reported) >= (20 if apart else 2)
    assert (picked["chosen_by"] == picked["metrics"]) != apart
    highest = max(p["chosen_by"]["accuracy"]["value"] for p in points)
    assert picked["chosen_by"]["accuracy"]["value"] == highest


def test_a_loss_that_cannot_read_the_data_is_told_before_any_trains(tmp_path: Path) -> None:
    recipe = read_recipe(thumbs_and_comparisons(tmp_path, "[dpo, kto]", batch_size=1))
    with pytest.raises(ConfigError, match="batch_size: must be at least 2"):
        runner.run(recipe, tmp_path / "runs", Heard())
    assert not list((tmp_path / "runs").rglob("points"))


def test_points_of_other_sizes_share_the_reference(tmp_path: Path) -> None:
    """What `auto` finds room for differs between them; the reference's key must not."""
    path = recipe_with_sweep(tmp_path, {"batch_size": [1, 8]}, tokens="auto")
    folder = runner.run(read_recipe(path), tmp_path / "runs", Heard())
    assert len(read_json(folder.stages["dpo"] / "sweep.json")) == 2
    assert len(list((tmp_path / "runs").rglob("reference/*.safetensors"))) == 2


def test_every_logged_figure_has_its_sentence(tmp_path: Path) -> None:
    losses = "[kto, bco, dpo, simpo, ipo, orpo, plackett_luce]"
    path = thumbs_and_comparisons(tmp_path, losses, batch_size=4)
    folder = runner.run(read_recipe(path), tmp_path / "runs", Heard())
    explained = {key for keys, _, _ in CURVES for key in keys} | {"step", "epoch", "seconds"}
    html = (folder.path / "report.html").read_text()
    for log in (folder.stages["grid"] / "points").rglob("metrics.jsonl"):
        logged = {key for row in read_jsonl(log) for key in row}
        assert {"loss", "grad_norm", "margin", "accuracy", "chosen_tokens"} <= logged
        assert logged <= explained, logged - explained
    for key in ("grad_norm", "margin", "kl", "rejected_tokens", "baseline"):
        assert f"<b>{key.replace('_', ' ')}</b> by step" in html
