"""`accord doctor RUN --test N`, and that what checks print as commands can be run."""

from __future__ import annotations

import json
import random
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from accord.cli import app
from accord.core.config import parse_yaml
from accord.core.rundir import write_json, write_text
from accord.pipeline.doctor import trial
from accord.pipeline.doctor.base import Examination, Finding, StageRecord, checks, examined, filled
from accord.pipeline.folder import plan
from accord.pipeline.manifest import manifest
from accord.pipeline.recipe import read_recipe
from tests.pipeline.test_doctor import compared, dpo, log
from tests.pipeline.tiny_recipe import save_tiny_model, small_world, write_recipe
from tests.test_cli import accord, assert_one_line

ONLINE = """\
  ppo: {kind: ppo, init: sft, data: study, rewards: [{name: learned, model: rm}], steps: 4, kl: {beta: 0.02}}
"""


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's directory with a recipe and nothing done."""
    folder = tmp_path_factory.mktemp("stored")
    path = write_recipe(folder, folder / "model")
    path.write_text(path.read_text() + ONLINE)
    recipe = read_recipe(path)
    run = plan(recipe, folder / "runs")
    run.path.mkdir(parents=True)
    write_text(run.path / "recipe.json", json.dumps(recipe.resolved))
    write_json(run.path / "manifest.json", manifest(recipe, run))
    return run.path


def test_a_runs_recipe_can_be_run_again_with_a_key_changed(stored: Path) -> None:
    again, other = read_recipe(stored), read_recipe(stored, ["dpo.loss.beta=0.5"])
    assert plan(again, stored.parent).path == stored  # the same stages: all that is done stays so
    before, after = plan(again, stored.parent).stages, plan(other, stored.parent).stages
    assert {n for n in before if before[n] != after[n]} == {"dpo", "eval/dpo", "compare"}


@pytest.fixture(autouse=True)
def _registered() -> None:
    """The house's checks, whichever test is first."""
    examined([])


def everything() -> list[StageRecord]:
    """Records of which every check of a training names something."""
    config: dict[str, Any] = {"loss": {"name": "dpo", "beta": 0.1}, "lr": 1e-4}
    flat, own = {"loss": (5.0, 5.0), "grad_norm": (1.0, 1.0)}, {"missing_eos": {}}
    far = {"margin": (0.0, 4.0), "chosen_shift": (0.0, 1.0), "kl": (0.0, 2.5)}
    cut = {"completions cut off": 9, "items": 10}
    many = [{"response": {"finish": "length"}}] * 30
    paid = {"silent_groups": (1, 1), "score": (0, 1000), "truncation_rate": (0, 0.9)}
    lost = {"entropy": (2, 0.02), "explained_variance": (0, -3), "clip_fraction": (0.9, 0.9)}
    return [
        dpo(margin=(0, 0.01), chosen_shift=(0, 0.001), rejected_shift=(0, -0.001)),
        dpo(**far, accuracy=(0.5, 0.6), loss=(0.69, 1.4)),
        dpo(0.001, **far, loss=(0.69, 0.69)),
        dpo(10.0, margin=(0, 0.5), chosen_shift=(0, 0.2), rejected_shift=(0, -0.3)),
        dpo(margin=(2.0, 20), chosen_shift=(1, -40), rejected_shift=(-1, -60)),
        StageRecord("dpo", "preference", config, log(grad_norm=(0.0, 0.0), loss=(0.69, 0.69))),
        StageRecord("dpo", "preference", {**config, "max_completion": 64}, facts=cut),
        StageRecord("sft", "sft", {"lr": 1e-4}, log(**flat, **{"eval/nll": (2.0, 3.0)})),
        StageRecord("sft", "sft", {"lr": 1e-4}, log(**flat), {"not finite": "loss is nan"}),
        StageRecord("rm", "reward", {"lr": 1e-4}, log(margin=(0.0, 40.0))),
        StageRecord("sft", "answers", {"stage": "eval/sft", "max_new_tokens": 4}, answers=many),
        StageRecord("ppo", "online", own, log(length=(9, 9), kl_k3=(0, 40), beta=(0.02, 0.02))),
        StageRecord("ppo", "online", own, log(length=(9, 9), kl=(5, 0), **paid, **lost)),
        StageRecord("ppo", "online", own, log(sampler_gap_mean=(0.4, 0.4))),
        StageRecord("ppo", "online", own, log(score=(1, 1.2), kl_k3=(0, 1), beta=(9.0, 9.0))),
        StageRecord("ppo", "online", {**own, "init": "sft"}, facts={"read": {"rm": [0, 9]}}),
        compared(random.Random(1), 0.9, 0.1),
    ]


def shown(places: Mapping[str, str]) -> list[Finding]:
    placed = [replace(record, places=places) for record in everything()]
    return [f for record in placed for f in examined([record]).findings]


def test_commands_and_lines_that_checks_print_are_valid(stored: Path) -> None:
    """Of `accord run` recipe, stage and keys are as `--check` reads them; of others words and options."""
    beside = f"{shlex.quote(str(stored))} --runs {shlex.quote(str(stored.parent))}"
    places = {"RECIPE": beside, "RUN": str(stored), "FILE": "x.jsonl", "STORE@SNAPSHOT": "s.db@v1"}
    findings = shown(places)
    own = {name for name, (of, _) in checks.items() if of[0] not in ("data", "deep", "adapter")}
    assert own - {f.check for f in findings} == {"memorised"}  # its command is accord trust
    for finding in findings:
        assert finding.test.startswith("accord "), finding
        _parsed(shlex.split(finding.test)[1:])
        if order := trial.ordered_run(finding.test):
            names = {n.name for n in read_recipe(stored, order[1]).nodes}
            assert order[0]
            assert set(order[0]) <= names
        if finding.line:
            keys, _ = parse_yaml(finding.line, finding.check)
            stage = "eval/sft" if finding.check == "never_ends" else finding.stage
            read_recipe(stored, [f"{stage}.{k}={json.dumps(v)}" for k, v in keys.items()])


def _parsed(words: Sequence[str]) -> None:
    """As the command line reads it, without running it."""
    command: Any = typer.main.get_command(app)
    context = None
    while hasattr(command, "commands"):
        context = command.make_context("accord", [], parent=context, resilient_parsing=True)
        command, words = command.commands[words[0]], words[1:]
    command.make_context("x", list(words), parent=context)


def test_what_the_data_checks_print_parses() -> None:
    _parsed(["trust", "s.db@v1"])
    _parsed(["data", "lint", "x.jsonl"])
    _parsed(["import", "x.jsonl", "--store", "look.db", "--skip-bad"])


def test_a_command_without_a_place_is_left_out() -> None:
    assert filled("accord trust STORE@SNAPSHOT", {"FILE": "x.jsonl"}) == ""
    assert filled("accord chat RUN:rm", {"RUN": "runs/a"}) == "accord chat runs/a:rm"


def test_what_both_arms_show_is_the_verdict() -> None:
    def arm(worst: float) -> StageRecord:
        return StageRecord("sft", "sft", {"lr": 1.0}, log(loss=(2.0, worst), grad_norm=(1.0, 1.0)))

    def of(before: StageRecord, after: StageRecord, changed: bool = True) -> str:
        return trial.verdict("learning_rate_high", before, after, changed).verdict

    assert of(arm(20.0), arm(1.0)) == "supported"
    assert of(arm(20.0), arm(20.0)) == "not supported"
    assert of(arm(20.0), arm(3.5)) == "can't tell"  # less, and still there
    assert of(arm(1.0), arm(1.0)) == "can't tell"  # too few steps to show it at all
    assert of(arm(20.0), StageRecord("sft", "sft")) == "can't tell"  # nothing was logged
    assert of(arm(20.0), arm(20.0), changed=False) == "supported"  # seen again


@pytest.mark.parametrize("share", [0.3, 0.4])
def test_runs_that_differ_by_their_seed_alone_rarely_support_a_cause(share: float) -> None:
    """Answers cut off with the same probability in both arms, near the threshold and above it."""
    draw = random.Random(17)

    def arm(p: float, steps: int) -> StageRecord:
        rates = [sum(draw.random() < p for _ in range(16)) / 16 for _ in range(steps)]
        rows = [{"step": k + 1, "truncation_rate": x} for k, x in enumerate(rates)]
        return StageRecord("ppo", "online", {"missing_eos": {}}, rows)

    def supported(before: float, after: float) -> float:
        runs = [r for r in (arm(before, 40) for _ in range(400)) if trial._of(r, "answers_cut")]
        lengths = [trial.short(r, "answers_cut") or 20 for r in runs]
        arms = [(arm(before, n), arm(after, n)) for n in lengths]
        verdicts = [trial.verdict("answers_cut", a, b, True).verdict for a, b in arms]
        return verdicts.count("supported") / len(runs)

    assert supported(share, share) <= 0.05
    assert supported(0.9, 0.05) >= 0.95


def test_a_change_by_a_factor_is_tried_once_more() -> None:
    config = {"lr": 1e-3, "loss": {"beta": 0.1}}
    again = trial._further(["dpo.lr=0.0001", "dpo.loss.beta=1", "dpo.max_steps=5"], config)
    assert again == ["dpo.lr=1e-05", "dpo.loss.beta=10", "dpo.max_steps=5"]


def test_a_cause_that_is_not_listed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exception, match="there is no cause 3"):
        trial.chosen(Examination([], [], []), 3)


@pytest.mark.slow
def test_the_command_is_run_and_its_verdict_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted: a rate far too high; at a hundredth of it the loss no longer rises."""
    monkeypatch.chdir(tmp_path)
    path = write_recipe(tmp_path, save_tiny_model(tmp_path / "model"))
    text = yaml.safe_load(path.read_text())
    text["stages"]["study"]["world"] = str(small_world(tmp_path / "world.yaml"))
    dpo_keys = {
        **text["stages"]["dpo"],
        "init": "base",
        "limit": 40,
        "lr": 0.5,
        "max_steps": 32,
        "batch_size": 8,
    }
    text["stages"] = {"study": text["stages"]["study"], "dpo": dpo_keys | {"epochs": 4}}
    path.write_text(yaml.safe_dump(text))
    assert accord(capsys, "run", str(path))[0] == 0
    (run,) = (tmp_path / "runs").glob("tiny-*")
    code, out, _ = accord(capsys, "doctor", f"runs/{run.name}", "--test", "1")
    assert (code, "verdict: supported" in out, "before: the loss" in out) == (0, True, True)
    assert len(list((tmp_path / "runs").glob("tiny-test-*"))) >= 1
    code, _, error = accord(capsys, "doctor", f"runs/{run.name}", "--test", "9")
    assert_one_line(code, error, "there is no cause 9")
