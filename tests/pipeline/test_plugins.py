"""Things of one's own, each in one file: the examples of docs/extending.md, run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from accord.core.errors import ConfigError
from accord.core.rundir import read_json, read_jsonl
from accord.pipeline.auditing import audit, of_run
from accord.pipeline.folder import plan
from accord.pipeline.recipe import Recipe, read_recipe
from accord.pipeline.runner import rewrite_report, run
from accord.pipeline.stages.on_policy import OnPolicyStage
from accord.plan import probe
from accord.plan.stages import plan_stages
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import ROOT, save_tiny_model, write_recipe
from tests.test_cli import accord

CODE = re.compile(r"```python\n# (\w+\.py)\n(.*?)```", re.S)
EXAMPLES = dict(CODE.findall((ROOT / "docs/extending.md").read_text()))
LONG = "  long: {kind: long_prompts, data: study, most: 12}\n"


def recipe(folder: Path, *files: str, more: str = "", loss: str = "dpo") -> Path:
    """The tiny recipe beside examples that it names as plug-ins."""
    for name in files:
        (folder / name).write_text(EXAMPLES[name])
    path = write_recipe(folder, save_tiny_model(folder / "model"))
    text = path.read_text().replace("name: dpo", f"name: {loss}") + more
    path.write_text(f"plugins: [{', '.join(files)}]\n{text}" if files else text)
    return path


def test_an_example_is_short() -> None:
    kinds = (
        "stage",
        "loss",
        "reward",
        "method",
        "eval",
        "attack",
        "detector",
        "exporter",
        "format",
    )
    assert set(EXAMPLES) == {f"my_{kind}.py" for kind in kinds}
    for code in EXAMPLES.values():
        assert sum(bool(line.strip()) for line in code.splitlines()) <= 20


def test_a_kind_of_stage_in_one_file_runs_and_is_reported(tmp_path: Path) -> None:
    path = recipe(tmp_path, "my_stage.py", more=LONG)
    done = run(read_recipe(path), tmp_path / "runs", Heard(), only=["study", "long"])
    found = read_json(done.stages["long"] / "result.json")
    assert found["facts"]["long"] > 0
    page = done.report.read_text()
    assert re.search(r"<h2[^>]*>Long prompts</h2>\s*<p>\d+ prompts are long</p>", page)
    done.report.unlink()
    assert "prompts are long" in rewrite_report(done.path).read_text()


def test_it_is_checked_like_any_other(tmp_path: Path) -> None:
    for more, match in (
        (LONG.replace("study", "sft"), "tiny.yaml:.*stages.long.data: 'sft' is no data"),
        (LONG.replace("most", "least"), "unknown key 'least'.*most"),
        (LONG.replace("12", "0"), "stages.long.most"),
    ):
        with pytest.raises(ConfigError, match=match):
            read_recipe(recipe(tmp_path, "my_stage.py", more=more))


def test_the_command_line_names_it_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = recipe(tmp_path, more=LONG.replace("long_prompts", "longer"))
    code, _, error = accord(capsys, "run", str(path), "--check")
    assert code == 2
    assert "unknown kind 'longer'" in error
    assert "--plugin FILE.py" in error
    file = tmp_path / "other.py"
    file.write_text(EXAMPLES["my_stage.py"].replace("long_prompts", "longer"))
    code, out, error = accord(capsys, "run", str(path), "--check", "--plugin", str(file))
    assert (code, error) == (0, "")
    assert "to do  long (longer)" in out


def keys(recipe: Recipe, runs: Path) -> dict[str, str]:
    return {name: place.name for name, place in plan(recipe, runs).stages.items()}


def test_losses_and_rewards_of_a_file_are_part_of_the_keys_that_use_them(tmp_path: Path) -> None:
    ppo = "  ppo: {kind: ppo, init: sft, data: study, rewards: [{name: few_words}], steps: 1}\n"
    path = recipe(tmp_path, "my_loss.py", "my_reward.py", more=ppo, loss="bounded")
    before = keys(read_recipe(path), tmp_path)
    file = tmp_path / "my_reward.py"
    file.write_text(file.read_text() + "\n# edited\n")
    after = keys(read_recipe(path), tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"ppo"}
    file = tmp_path / "my_loss.py"
    file.write_text(file.read_text().replace("1 - torch", "2 - torch"))
    once_more = keys(read_recipe(path), tmp_path)
    assert {n for n in after if after[n] != once_more[n]} == {"dpo", "eval/dpo", "compare"}


def test_losses_and_rewards_of_a_file_are_trained_with(tmp_path: Path) -> None:
    keys = "steps: 1, batch_size: 2, max_new_tokens: 4, limit: 4, eval_limit: 2"
    more = f"  rloo: {{kind: rloo, data: study, rewards: [{{name: few_words}}], {keys}}}\n"
    path = recipe(tmp_path, "my_loss.py", "my_reward.py", more=more, loss="bounded")
    wanted = ["study", "sft", "dpo", "rloo"]
    done = run(read_recipe(path), tmp_path / "runs", Heard(), only=wanted)
    assert (done.stages["dpo"] / "DONE").exists()
    assert -1 < read_json(done.stages["rloo"] / "result.json")["metrics"]["reward"]["value"] <= 0


OWN = "  own: {kind: reinforce, data: study, init: sft, rewards: [{name: few_words}], n: 2, spread: true, "
FEW = "steps: 2, batch_size: 2, max_new_tokens: 4, limit: 4, eval_limit: 2}\n"


def test_a_method_of_a_file_is_a_stage_with_its_own_keys(tmp_path: Path) -> None:
    path = recipe(tmp_path, "my_method.py", "my_reward.py", more=OWN + FEW)
    made = read_recipe(path)
    (config,) = (node.config for node in made.nodes if node.name == "own")
    assert isinstance(config, OnPolicyStage)
    how = config.settings()
    assert (type(how).__name__, how.spread, how.n) == ("Reinforce", True, 2)  # type: ignore[attr-defined]
    before = keys(made, tmp_path)
    done = run(made, tmp_path / "runs", Heard(), only=["study", "sft", "own"])
    rows = read_jsonl(done.stages["own"] / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert "REINFORCE with a baseline of the batch" in done.report.read_text()
    file = tmp_path / "my_method.py"
    file.write_text(file.read_text() + "\n# edited\n")
    after = keys(read_recipe(path), tmp_path)
    assert {name for name in after if after[name] != before[name]} == {"own"}


def test_a_wrong_key_of_a_method_of_a_file_is_told(tmp_path: Path) -> None:
    for more, match in (
        (
            OWN.replace("spread", "spreat"),
            r"stages.own.spreat: unknown key 'spreat'.*did you mean spread",
        ),
        (OWN.replace("n: 2", "missing_eos: {treatment: bootstrap}"), "which only ppo has"),
    ):
        with pytest.raises(ConfigError, match=match):
            read_recipe(recipe(tmp_path, "my_method.py", "my_reward.py", more=more + FEW))


def test_an_evaluation_and_a_detector_of_a_file_are_reported(tmp_path: Path) -> None:
    path = recipe(tmp_path, "my_eval.py", "my_detector.py")
    text = path.read_text().replace("prompts: 6,", "prompts: 6, evals: [length, {name: asks}],")
    text = text.replace("policies: [base, sft, dpo]", "policies: [base, sft]")
    text = text.replace(
        "baseline: sft}", "baseline: sft, detectors: [{name: stock_phrase, phrase: e}]}"
    )
    path.write_text(text)
    wanted = ["study", "sft", "rm", "eval", "compare"]
    done = run(read_recipe(path), tmp_path / "runs", Heard(), only=wanted)
    page = done.report.read_text()
    assert re.search(r"<td>asks back<small[^>]*>answers that end in a question</small>", page)
    assert re.search(
        r"<h2[^>]*>Detectors</h2>.*sft against base</td><td>stock_phrase</td>", page, re.S
    )
    assert "gold" not in read_json(done.stages["eval/sft"] / "result.json")["metrics"]
    known, context = of_run(done.report.parent)
    assert (list(known), context.proxy) == (["base", "sft"], "reward")
    (row,) = audit(known, context, ["length"])
    assert (row["policy"], row["before"]) == ("sft", "base")
    assert "reward by length" in row["verdict"]["metrics"]


def test_names_and_keys_of_evaluations_and_detectors_are_checked(tmp_path: Path) -> None:
    path = recipe(tmp_path, "my_eval.py", "my_detector.py")
    for old, new, match in (
        (
            "prompts: 6,",
            "prompts: 6, evals: [asks, lenght],",
            r"unknown evaluation 'lenght'.*asks.*length",
        ),
        (
            "prompts: 6,",
            "prompts: 6, evals: [{name: asks, marks: x}],",
            "unknown key 'marks'.*mark",
        ),
        ("prompts: 6,", "prompts: 6, evals: [asks, asks],", "names one twice"),
        ("baseline: sft}", "baseline: sft, detectors: [shouting]}", "unknown detector 'shouting'"),
    ):
        wrong = path.parent / "wrong.yaml"
        wrong.write_text(path.read_text().replace(old, new))
        with pytest.raises(ConfigError, match=match):
            read_recipe(wrong)


def test_an_exporter_of_a_file_writes_a_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = save_tiny_model(tmp_path / "model"), tmp_path / "my_exporter.py"
    file.write_text(EXAMPLES["my_exporter.py"])
    words = ["export", str(model), str(tmp_path / "out"), "--format", "numpy"]
    code, _, error = accord(capsys, *words)
    assert code == 2
    assert "unknown exporter 'numpy'" in error
    assert "adapters, merged" in error
    code, _, error = accord(capsys, *words, "--set", "prefix=w.", "--plugin", str(file))
    assert (code, error) == (0, "")
    assert list((tmp_path / "out").glob("w.*.npy"))
    assert "`numpy.load` reads each file." in (tmp_path / "out/README.md").read_text()


def test_a_format_of_a_file_writes_a_snapshot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs, file = tmp_path / "pairs.jsonl", tmp_path / "my_format.py"
    pairs.write_text('{"prompt": "How long?", "chosen": "30 days.", "rejected": "No idea."}\n')
    file.write_text(EXAMPLES["my_format.py"])
    store, out = str(tmp_path / "study.db"), tmp_path / "out.jsonl"
    assert accord(capsys, "import", str(pairs), "--store", store, "--snapshot", "v1")[0] == 0
    words = ["export", f"{store}@v1", str(out), "--format", "sides", "--plugin", str(file)]
    code, _, error = accord(capsys, *words, "--set", "shure=0.8")
    assert (code, out.exists()) == (2, False)
    assert "unknown key 'shure'; allowed: sure; did you mean sure?" in error
    code, _, error = accord(capsys, *words, "--set", "sure=1.5")
    assert (code, error) == (0, "")
    (row,) = read_jsonl(out)
    assert (row["better"], row["worse"], row["sure"]) == ("30 days.", "No idea.", False)


@pytest.mark.parametrize(
    ("code", "match"),
    [
        (None, "plugins: .*mine.py: no such file"),
        ("import os\nos.nothing\n", r"mine.py:2: the plug-in failed \(AttributeError"),
        ("def (:\n", r"mine.py:1: the plug-in failed \(SyntaxError"),
        (
            EXAMPLES["my_stage.py"].replace("long_prompts", "sft"),
            "stage kind sft: is registered twice",
        ),
        (EXAMPLES["my_stage.py"].replace('{"data"', '{"dat"'), "reads 'dat', which is no key"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(
    tmp_path: Path, code: str | None, match: str
) -> None:
    path = recipe(tmp_path)
    path.write_text("plugins: [mine.py]\n" + path.read_text())
    if code is not None:
        (tmp_path / "mine.py").write_text(code)
    with pytest.raises(ConfigError, match=match) as told:
        read_recipe(path)
    assert "\n" not in str(told.value)


def test_an_installed_package_registers_by_its_entry_point(tmp_path: Path) -> None:
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[accord.plugins]\nlong = mine\n")
    (tmp_path / "mine.py").write_text(EXAMPLES["my_stage.py"])
    code = (
        "import sys; from accord.pipeline.stage import kinds; "
        "print('long_prompts' in kinds(), 'sft' in kinds(), 'torch' in sys.modules)"
    )
    env = {"PYTHONPATH": f"{ROOT / 'src'}:{tmp_path}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.stdout.split() == ["True", "True", "False"], done.stderr


ASKS = """
from accord.core.artifact import Data
from accord.pipeline.stage import StageConfig, stage

def run(ctx):
    raise AssertionError("a plan asked")

@stage("survey", gives=Data, run=run)
class Survey(StageConfig):
    pass

@stage("second_opinion", reads={"data": Data}, gives=Data, run=run)
class SecondOpinion(StageConfig):
    data: str
"""


def test_a_plan_runs_nothing_that_asks_or_spends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "SIZE", 1)
    (tmp_path / "asks.py").write_text(ASKS)
    more = """
  asked: {kind: survey}
  on_it: {kind: sft, data: asked, limit: 4}
  again: {kind: second_opinion, data: study}
  more: {kind: sft, data: again, limit: 4}
"""
    path = recipe(tmp_path, "my_stage.py", more=LONG + more)
    path.write_text(path.read_text().replace("my_stage.py]", "my_stage.py, asks.py]"))
    rows, _ = plan_stages(read_recipe(path), tmp_path / "runs")
    by = {row.name: row for row in rows}
    assert by["long"].estimate is None
    assert by["long"].notes == ["not counted: kind long_prompts does not say what it does"]
    assert by["on_it"].notes == ["not counted before asked is done, which a plan does not run"]
    more_, sft = by["more"].estimate, by["sft"].estimate
    assert more_ is not None  # counted on the data it adds to
    assert sft is not None
    assert more_.flop > 0
