"""PPO and its kin as stages of a recipe: run, killed, told in the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import ConfigError, RunError
from accord.core.rundir import read_json, read_jsonl
from accord.pipeline.folder import plan
from accord.pipeline.recipe import read_recipe
from accord.pipeline.report import rlhf
from accord.pipeline.runner import run
from accord.pipeline.stages.compare import VERDICTS
from accord.pipeline.stages.compare.run import alike
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe
from tests.test_cli import accord, assert_one_line
from tests.train.served import answering
from tests.train.small import reward_model

RLHF = """
  ppo:
    kind: ppo
    init: sft
    data: study
    rewards: [{name: learned, model: rm}, {name: length_penalty, per_token: 0.01, budget: 2}]
    steps: 3
    batch_size: 4
    minibatch: 2
    epochs: 2
    max_new_tokens: 4
    limit: 8
    eval_limit: 4
    save_every: 1
    kl: {control: adaptive, beta: 0.05}
  rloo: {kind: rloo, init: sft, data: study, rewards: [{name: learned, model: rm}], steps: 2, batch_size: 2,
    max_new_tokens: 4, limit: 4, eval_limit: 2}
"""


def recipe(folder: Path, more: str = RLHF) -> Path:
    path = write_recipe(folder, save_tiny_model(folder / "model"))
    text = path.read_text()
    if "  ppo:" in more:
        text = text.replace("policies: [base, sft, dpo]", "policies: [base, sft, dpo, ppo]")
    path.write_text(text + more)
    return path


def test_a_recipe_with_ppo_runs_to_its_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path)
    text = path.read_text().replace("kind: reward\n", "kind: reward\n    probe: true\n")
    path.write_text(text.replace("baseline: sft}", "baseline: sft, detectors: [far, kl_cost]}"))
    done = run(read_recipe(path), tmp_path / "runs", Heard())
    page = (done.path / "report.html").read_text()
    for words in (
        "PPO from sft",
        "KL from the reference",
        "explained variance",
        "length_penalty",
        "RLOO",
        "What the reward model pays for",
    ):
        assert words in page
    result = json.loads((done.stages["ppo"] / "result.json").read_text())
    assert result["facts"]["steps"] == 3
    compared = json.loads((done.stages["compare"] / "compare.json").read_text())
    assert "ppo" in compared["table"]
    looks = {
        row["verdict"]["detector"]: row["verdict"]
        for row in read_jsonl(done.stages["compare"] / VERDICTS)
    }
    assert looks["far"]["outcome"] != "undefined"
    assert looks["kl_cost"]["metrics"]["KL"]["n"] == 6
    rewards = ["--reward", "rm", "--reward", f"{done.path}:rm"]
    code, out, err = accord(capsys, "audit", str(done.path), *rewards, "--json")
    assert code == 0, err
    rows = [r for r in json.loads(out) if r["policy"] == "ppo"]
    audited = {r["verdict"]["detector"]: r["verdict"]["outcome"] for r in rows}
    assert audited["far"] != "undefined" != audited["overpaid"]
    assert audited["disagreement"] == "undefined"  # one model, though named twice
    code, _, error = accord(
        capsys, "audit", str(done.path), "--detector", "far", "--fail-on", "warn"
    )
    assert_one_line(code, error, "no reward model has read the answers")
    mitigate = ("run", str(path), "--runs", str(tmp_path / "runs"), "--mitigate", "far")
    assert_one_line(*accord(capsys, *mitigate)[::2], "far raises no alarm")
    model = str(done.stages["rm"] / "model")
    code, _, error = accord(capsys, "audit", str(done.path), "--reward", model)
    assert_one_line(code, error, "does not tell what it learned from")
    code, _, error = accord(capsys, "audit", str(done.path), "--reward", "dpo")
    assert_one_line(code, error, "no reward model 'dpo' in this run")


def test_a_policy_that_answers_as_the_one_before_is_said_to() -> None:
    def rows(*texts: str) -> list[dict[str, Any]]:
        return [{"prompt_id": str(i), "response": {"text": t}} for i, t in enumerate(texts)]

    answers = {"sft": rows("a", "b"), "ppo": rows("b", "a"), "guarded": rows("a", "b")}
    (note,) = alike(answers, {"ppo": "sft", "guarded": "sft"})
    assert note == "guarded answers every prompt as sft does, word for word"


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ("[{name: learned, model: sft}]", "'sft' is no rewards"),
        ("[{name: learned, model: nobody}]", "no stage 'nobody'.*its path: ./folder"),
        ("[{name: patern, regex: a}]", "unknown reward 'patern'"),
        ("[]", "rewards"),
    ],
)
def test_wrong_rewards_are_found_before_anything_runs(
    tmp_path: Path, entry: str, match: str
) -> None:
    more = f"\n  ppo: {{kind: ppo, init: sft, data: study, rewards: {entry}}}\n"
    with pytest.raises(ConfigError, match=match):
        read_recipe(recipe(tmp_path, more))


def test_every_part_of_a_reward_and_a_constraints_weight_get_a_curve() -> None:
    found = {
        keys: name
        for keys, name, _ in rlhf.curves(
            [
                "score",
                "reward/rm",
                "weight/care",
                "dropped/rm",
                "eval/dropped/rm",
                "eval/dropped/care",
            ]
        )
    }
    assert found[("reward/rm",)] == "rm: reward"
    assert found[("weight/care",)] == "care: weight"
    assert found[("dropped/rm", "eval/dropped/rm")] == "rm: left out"
    assert found[("eval/dropped/care",)] == "care: left out"


def test_what_best_of_n_costs_and_earns_is_drawn_where_it_is_logged() -> None:
    both = {("expected_best", "score"), ("best_of_n_kl", "kl")}
    plain = ["score", "kl", "eval/reward"]
    assert both <= {keys for keys, *_ in rlhf.curves([*plain, "expected_best", "best_of_n_kl"])}
    assert not both & {keys for keys, *_ in rlhf.curves(plain)}


OTHER = """
  rloo: {kind: rloo, data: study, rewards: [{name: learned, model: %s}], steps: 1, batch_size: 2, limit: 4,
    eval_limit: 2, max_new_tokens: 4, tune: {r: 2}}
"""


def test_a_reward_model_of_another_architecture_is_named_by_its_folder(tmp_path: Path) -> None:
    other = tmp_path / "neox"
    tiny_model("gpt_neox", vocab_size=300).save_pretrained(other)
    tiny_tokenizer(vocab_size=300).save_pretrained(other)
    folder = reward_model(other, tmp_path / "judge")
    path, runs = recipe(tmp_path, OTHER % "./judge/model"), tmp_path / "runs"
    done = run(read_recipe(path), runs, Heard(), only=["study", "rloo"])
    log = json.loads((done.stages["rloo"] / "metrics.jsonl").read_text())
    assert log["reward/learned"] == pytest.approx(log["score"])
    absolute = read_recipe(recipe(tmp_path, OTHER % folder.resolve()))
    assert plan(absolute, runs).stages["rm"] == done.stages["rm"]
    keys = [plan(read_recipe(recipe(tmp_path, OTHER % "./judge/model")), runs).stages["rloo"]]
    (folder / "reward_model.json").write_text('{"max_completion": 3}')
    keys.append(plan(read_recipe(path), runs).stages["rloo"])
    assert keys[0] == done.stages["rloo"] != keys[1]  # another model is another run


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("./nowhere", r"stage rloo, rewards: .*nowhere: no such folder; allowed: a stage, or"),
        ("./model", r"model: no reward model is there \(no scalar_head.safetensors\)"),
    ],
)
def test_a_folder_without_a_reward_model_is_found_before_anything_runs(
    tmp_path: Path, name: str, match: str
) -> None:
    heard = Heard()
    with pytest.raises(RunError, match=match):
        run(read_recipe(recipe(tmp_path, OTHER % name)), tmp_path / "runs", heard)
    assert heard.ran == []


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ("sampler: http://host/v1", "sampler: .* is no address of a server; allowed: http://host"),
        ("sampler: runs/model", "sampler: .* is no address of a server"),
        ("reload: http://host/load", "reload: there is no sampler to reload"),
        ("sampler: http://host/v1#m, reload: here", "reload: is no address of a server"),
    ],
)
def test_a_server_is_named_by_its_address(tmp_path: Path, keys: str, match: str) -> None:
    more = f"  ppo: {{kind: ppo, data: study, rewards: [{{name: learned, model: rm}}], {keys}}}\n"
    with pytest.raises(ConfigError, match=match):
        read_recipe(recipe(tmp_path, more))


def test_a_recipe_takes_its_answers_from_a_server(tmp_path: Path) -> None:
    noted: list[str] = []

    def answer(_: str, body: Any) -> tuple[int, bytes]:
        choice = {"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}
        return 200, json.dumps({"choices": [choice]}).encode()

    class Heeding(Heard):
        def note(self, text: str) -> None:
            noted.append(text)

    with answering(answer) as url:
        more = RLHF.replace("kind: ppo", f"kind: ppo\n    sampler: {url}#tiny")
        wanted = ["study", "sft", "rm", "ppo"]
        done = run(read_recipe(recipe(tmp_path, more)), tmp_path / "runs", Heeding(), only=wanted)
    rows = read_jsonl(done.stages["ppo"] / "metrics.jsonl")
    assert all(row["sampler/untold"] == 1.0 for row in rows)
    assert sum("told no log-probs" in text for text in noted) == 1
    assert "told no log-probs" in read_json(done.stages["ppo"] / "result.json")["notes"][-1]
