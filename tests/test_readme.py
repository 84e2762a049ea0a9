"""What the README tells a reader to do works: its commands, its Python and its recipe."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from accord.cli import app
from accord.pipeline.recipe import read_recipe
from accord.store import Store, import_file
from tests.train.small import save_tiny

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every command line of the shell blocks, and the first line of the README's recipe."""
    lines = "".join(blocks("sh")).splitlines() + [b.splitlines()[0] for b in blocks("yaml")]
    return [line.lstrip("#$ ").partition("  #")[0].strip() for line in lines if line.strip()]


@pytest.mark.parametrize("command", commands())
def test_commands_exist(command: str) -> None:
    """`make` targets are in the Makefile; every `accord` command knows the options it is given."""
    program, name, *rest = shlex.split(command)
    if program == "make":
        assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert program == "accord"
    words = [name, rest[0]] if name in ("train", "collect", "plan") else [name]
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    for option in (word for word in rest if word.startswith("--")):
        assert option in shown.output


def test_two_commands_come_first() -> None:
    assert commands()[:2] == ["make demo", "make test"]


def test_pictures_are_there() -> None:
    found = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert found
    assert all((ROOT / path).is_file() for path in found)


def test_links_lead_somewhere() -> None:
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


def test_the_recipe_is_valid(tmp_path: Path) -> None:
    (recipe,) = blocks("yaml")
    (tmp_path / "helpful.yaml").write_text(recipe)
    command = shlex.split(recipe.splitlines()[0].lstrip("# "))
    sets = [value for flag, value in itertools.pairwise(command) if flag == "--set"]
    found = read_recipe(tmp_path / "helpful.yaml", sets)
    assert {"sft", "rm", "dpo", "compare"} <= {node.name for node in found.nodes}


def test_the_python_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a tiny model and sixty judgments, with nothing else changed."""
    monkeypatch.chdir(tmp_path)
    save_tiny(tmp_path / "tiny")
    rows = [
        {"prompt": f"Question {i}?", "chosen": "It arrives on Tuesday.", "rejected": f"No. {i}"}
        for i in range(60)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Store("study.db") as store:
        import_file(store, "pairs.jsonl")
        store.freeze("v1")
    (code,) = blocks("python")
    model = re.search(r'accord\.load\("([^"]+)"\)', code)
    assert model
    exec(compile(code.replace(model[1], "tiny"), "README.md", "exec"), {})
    assert re.search(r"\[[^\]]+\] n=\d+", capsys.readouterr().out)
