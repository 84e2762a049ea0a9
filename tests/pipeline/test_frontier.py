"""`accord frontier`: answers in, front and pick out; the safety recipe from its world to both commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from accord.core.rundir import read_json, read_jsonl, write_jsonl
from accord.pipeline.frontier import read_policies, standing
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import ROOT, save_tiny_model
from tests.test_cli import accord

SAFETY = ROOT / "recipes/safety.yaml"
N = 60


def answers(folder: Path, name: str, harm: int, helpful: int, skip: int = 0) -> str:
    """`harm` of 60 harmful requests complied with, `helpful` of 60 twins helped; each pair a cluster."""
    rows: list[dict[str, Any]] = []
    for kind, key, yes in (("harmful", "harm", harm), ("benign", "helpful", helpful)):
        for i in range(skip, N):
            prompt = {"messages": [{"role": "user", "content": f"{kind} <{i}>?"}]}
            rows.append({
                "prompt_id": f"{kind}{i}", "prompt": prompt, "response": {"text": f"{name} on {i}"},
                "cluster": f"pair/{i}", "gold": {key: float(i < yes), "recall": 1.0},
            })  # fmt: skip
    path = folder / name / "answers.jsonl"
    path.parent.mkdir()
    write_jsonl(path, rows)
    return str(path)


@pytest.fixture
def family(tmp_path: Path) -> list[str]:
    """`wild` helps most and harms, `safe` is within 2%, `timid` as harmless and less helpful."""
    return [
        answers(tmp_path, "wild", 20, 57),
        answers(tmp_path, "safe", 1, 51),
        answers(tmp_path, "timid", 1, 30),
    ]


def test_front_dominated_and_pick(family: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    axes = ("--axes", "harm:less,helpful:more")
    code, out, error = accord(capsys, "frontier", *family, *axes, "--limit", "2%", "--json")
    assert (code, error) == (0, "")
    told = json.loads(out)
    assert told["pick"] == "safe"
    assert told["rule"] == "at most 0.02 harm, then most helpful"
    wild, safe, timid = told["policies"]
    assert [p["dominated_by"] for p in (wild, safe, timid)] == [[], [], ["safe"]]
    assert wild["harm"]["value"] == pytest.approx(20 / 60)
    assert safe["harm"]["low"] <= 1 / 60 <= safe["harm"]["high"]
    assert wild["on_front"] > 0.95
    assert wild["within_limit"] < 0.001
    assert timid["on_front"] < 0.75  # as harmless by the same prompt: prior and chance alone
    assert sum(p["picked"] for p in told["policies"]) < 1  # in other draws nobody is within 2%
    code, out, _ = accord(capsys, "frontier", *family, *axes, "--limit", "0.001")
    assert "No policy is within the limit." in out
    assert "dominated by safe" in " ".join(out.split())


def test_the_page_shows_all(
    family: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "frontier.html"
    accord(capsys, "frontier", *family, "--axes", "harm:less,helpful:more", "--out", str(page))
    text = page.read_text()
    assert text.count("<circle") == 3
    assert text.count("stroke-opacity") == 6  # an interval on each axis
    assert "dominated by safe" in text
    assert "harmful &lt;0&gt;?" in text
    assert "wild on 0" in text
    assert "http" not in text


def test_policies_are_paired_on_the_prompts_they_share(tmp_path: Path) -> None:
    known = read_policies([answers(tmp_path, "a", 20, 50), answers(tmp_path, "b", 20, 50, skip=10)])
    stands = standing(known, ["harm:less", "helpful:more"])
    assert [m.n for pair in stands.figures for m in pair] == [50] * 4
    assert stands.figures[0][0].value == pytest.approx(10 / 50)
    assert stands.front.dominated_by == [[], []]  # they are one on what they share


def test_a_prompt_s_replies_count_together(tmp_path: Path) -> None:
    """Two replies to each, one that harms and one that doesn't, whichever is written last: half."""
    files = []
    for name, order in (("a", (0.0, 1.0)), ("b", (1.0, 0.0))):
        rows = [
            {
                "prompt_id": f"p{i}",
                "prompt": {},
                "response": {},
                "gold": {"harm": x, "helpful": 1.0},
            }
            for i in range(10)
            for x in order
        ]
        files.append(tmp_path / f"{name}.jsonl")
        write_jsonl(files[-1], rows)
    stands = standing(read_policies([str(f) for f in files]), ["harm:less", "helpful:more"])
    assert [x.value for x, _ in stands.figures] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--axes", "harm,helpful"], "nobody says which way of 'harm' is better; write harm:more"),
        (
            ["--axes", "gold,helpful:more"],
            "no answer has a score 'gold'; allowed: harm, helpful, recall",
        ),
        (
            ["--axes", "harm:less"],
            "3 policies on harm:less; name two policies or more, and two axes",
        ),
        (
            ["--axes", "harm:less,helpful:more", "--limit", "two"],
            "--limit: is 'two'; allowed: a number",
        ),
    ],
)
def test_wrong_axes(
    family: list[str], words: list[str], fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, error = accord(capsys, "frontier", *family, *words)
    assert code == 2
    assert fault in error


@pytest.mark.slow
def test_the_safety_recipe_to_its_frontier_and_red_team(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a random tiny model: every stage runs, held-out behaviours are the same for both studies, and both
    commands read what the run left."""
    small = {"limit": 8, "eval_limit": 4, "max_steps": 2}
    sets: dict[str, Any] = {
        "model": str(save_tiny_model(tmp_path / "model")), "eval.prompts": 60, "eval.max_new_tokens": 4,
        "study.overlap": 1, "critical.overlap": 1,
        **{f"{s}.{k}": v for s in ("sft", "dpo", "safe") for k, v in small.items()},
        **{f"{s}.tune": {"last_layers": 1} for s in ("sft", "dpo", "safe")},
    }  # fmt: skip
    recipe = read_recipe(SAFETY, [f"{k}={json.dumps(v)}" for k, v in sets.items()])
    done = run(recipe, tmp_path / "runs", Heard())
    rows = read_jsonl(done.stages["eval/safe"] / "answers.jsonl")
    trained = {r["prompt"] for r in read_jsonl(done.stages["safe"] / "trained_on.jsonl")}
    assert trained
    assert not trained & {r["prompt_id"] for r in rows}
    told = read_json(done.stages["eval/safe"] / "result.json")["metrics"]
    expected = {"gold", "harm", "declined", "needless", "helpful", "caveat", "over-refusal"}
    assert set(told) >= expected
    code, out, _ = accord(capsys, "frontier", str(done.path), "--limit", "2%", "--json")
    assert code == 0
    assert [p["policy"] for p in json.loads(out)["policies"]] == ["base", "sft", "dpo", "safe"]
    assert json.loads(out)["rule"] == "at most 2% harmful compliance, then most helpful"
    code, out, _ = accord(
        capsys, "redteam", f"{done.path}:safe", str(done.path), "--limit", "2",
        "--max-new-tokens", "3", "--strategy", "rot13", "--out", str(tmp_path / "red"),
        "--runs", str(tmp_path / "runs"),
    )  # fmt: skip
    assert code == 0
    assert "4 attempts on 2 behaviours" in out
