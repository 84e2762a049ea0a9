"""What the README and the documents tell a reader to do works: commands, Python, recipes, links, names."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

import accord
from accord.cli import app
from accord.core.registry import Registry
from accord.losses import preference_losses, ranking_losses, reward_losses, unpaired_losses
from accord.pipeline.recipe import read_recipe
from accord.rewards.compose import reward_registry
from accord.store import FORMATS, Store, import_file, row_formats
from accord.train.online.method import methods
from docs import api
from tests.train.small import save_tiny

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md",
        *sorted((ROOT / "docs").glob("*.md")), ROOT / "benchmarks" / "README.md",
    )
}  # fmt: skip
README = PAGES["README.md"]
LOSSES = (preference_losses, unpaired_losses, ranking_losses, reward_losses)
RUN = ("README.md", "docs/quickstart.md")
GROUPS = ("train", "collect", "plan", "world")  # commands of commands


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def of_pages(language: str) -> list[tuple[str, str]]:
    return [(page, block) for page, text in PAGES.items() for block in blocks(language, text)]


def commands(text: str) -> list[str]:
    """Every command line of the shell blocks, and the first lines of recipes."""
    shell = "".join(
        [*blocks("sh", text), *re.findall(r"^    (?=accord )(.*\n)", text, re.MULTILINE)]
    )
    lines = shell.splitlines() + [b.splitlines()[0] for b in blocks("yaml", text)]
    told = [line.lstrip("#$ ").partition("  #")[0].strip() for line in lines]
    return [line for line in told if line.split(" ")[0] in ("make", "accord")]


@pytest.mark.parametrize("command", sorted({c for text in PAGES.values() for c in commands(text)}))
def test_commands_exist(command: str) -> None:
    """`make` targets are in the Makefile; every `accord` command knows the options it is given."""
    program, name, *rest = shlex.split(command.partition("   #")[0])
    if program == "make":
        assert re.search(rf"^{name}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    assert program == "accord"
    words = [name, rest[0]] if name in GROUPS else [name]
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200", "TERM": "dumb"})
    assert shown.exit_code == 0, shown.output
    for option in (word for word in rest if word.startswith("--")):
        assert option in shown.output


def test_two_commands_come_first() -> None:
    assert commands(README)[:2] == ["make demo", "make test"]


def test_pictures_are_there() -> None:
    found = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert found
    assert all((ROOT / path).is_file() for path in found)


def test_the_readme_is_one_screen() -> None:
    assert len(README.splitlines()) <= 70
    assert "NOT RUN" not in README


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    for path, anchor in re.findall(r"\]\((?!http)([^)#\s]*)(?:#([^)]*))?\)", PAGES[page]):
        there = (ROOT / page).parent / path if path else ROOT / page
        assert there.exists(), path
        if anchor:
            heads = re.findall(r"^#+ (.*)", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads]


def test_every_document_is_in_the_index() -> None:
    index = PAGES["docs/README.md"]
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in index or path.name in index


@pytest.mark.parametrize(("page", "recipe"), of_pages("yaml"))
def test_recipes_are_valid(page: str, recipe: str, tmp_path: Path) -> None:
    if not re.search("^stages:", recipe, re.MULTILINE):
        pytest.skip("no recipe")
    if "plugins:" in recipe:
        pytest.skip("run whole by tests/pipeline/test_plugins.py")
    file = tmp_path / f"{Path(page).stem}.yaml"
    file.write_text(recipe)
    first = recipe.splitlines()[0]
    command = shlex.split(first.lstrip("# ")) if first.startswith("# accord") else []
    sets = [value for flag, value in itertools.pairwise(command) if flag == "--set"]
    assert read_recipe(file, sets).nodes


def _own(registry: Registry) -> list[str]:
    """The names that accord registers itself, whatever other tests have added."""
    names = registry.names()
    return [n for n in names if registry.entry(n).function.__module__.startswith("accord.")]


NAMED = {
    "losses.md": lambda: [n for r in LOSSES for n in _own(r)],
    "rlhf.md": lambda: [
        *_own(reward_registry),
        *(name for name, kind in methods().items() if kind.__module__.startswith("accord.")),
    ],
    "data.md": lambda: [*FORMATS, *_own(row_formats)],
}


@pytest.mark.parametrize("page", NAMED)
def test_what_there_is_is_told(page: str) -> None:
    """Every loss, reward, method and format of accord's own has its name in its document."""
    text = PAGES[f"docs/{page}"]
    assert [name for name in NAMED[page]() if f"`{name}`" not in text] == []


def test_the_api_page_is_of_today() -> None:
    assert PAGES["docs/api.md"] == api.page(), "make docs"


def test_the_version_is_in_the_changelog() -> None:
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changes, re.MULTILINE)
    assert versions[0] == accord.__version__


@pytest.mark.parametrize(("page", "code"), [x for x in of_pages("python") if x[0] in RUN])
def test_the_python_runs(
    page: str,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
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
    model = re.search(r'accord\.load\("([^"]+)"\)', code)
    assert model
    exec(compile(code.replace(model[1], "tiny"), page, "exec"), {})
    assert re.search(r"\[[^\]]+\] n=\d+", capsys.readouterr().out)
