"""The house rules: who may import whom, how large things may be, and that importing stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from accord.core.errors import DISTRIBUTION

ROOT = Path(__file__).resolve().parents[1]
HOUSE = ROOT / "src" / "accord"
FILES = sorted(HOUSE.rglob("*.py"))

LAYERS = (  # each may import from those before it
    "core", "losses", "stats", "lm", "store", "feedback", "worlds", "constitution", "judges", "rewards",
    "train", "detect", "evals", "pipeline", "plan", "web", "serve",
)  # fmt: skip
NO_TORCH = (
    "core",
    "stats",
    "store",
    "feedback",
    "worlds",
    "constitution",
    "judges",
    "detect",
    "evals",
    "web",
    "cli",
)
SIBLINGS = {"train", "detect", "evals"}  # none imports another
OWN_TORCH = {"torch", "transformers", "peft", "accelerate"}
HEAVY = {
    "fastapi",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "datasets",
    "sqlalchemy",
    "numpy",
    "scipy",
}
FILE_LINES, FUNCTION_LINES = 400, 80


def layer(path: Path) -> str:
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every module a file imports, wherever in the file."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found.append(node.module)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_layers(path: Path) -> None:
    mine = layer(path)
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "accord" and len(parts) > 1 and mine in LAYERS and parts[1] in LAYERS:
            assert LAYERS.index(parts[1]) <= LAYERS.index(mine), f"{mine} imports {module}"
            assert parts[1] == mine or not {mine, parts[1]} <= SIBLINGS, f"{mine} imports {module}"


@pytest.mark.parametrize("room", [*NO_TORCH, "lm/sampler.py", "lm/remote.py"])
def test_rooms_without_torch(room: str) -> None:
    """Every module of the room (or this one) is imported, with all that it imports."""
    one = HOUSE / room
    files = [one] if one.is_file() else [p for p in FILES if layer(p) == room]
    files = [p for p in files if "migrations" not in p.parts]  # alembic runs those
    modules = [".".join(path.relative_to(HOUSE.parent).with_suffix("").parts) for path in files]
    assert _loaded(modules, OWN_TORCH) == []


def test_training_s_rooms_stand_on_each_other() -> None:
    """What every training does knows no objective; trainings on data know no sampling."""
    order = ("loop", "offline", "online")
    for path in (p for p in FILES if layer(p) == "train" and len(p.relative_to(HOUSE).parts) > 2):
        allowed = order[: order.index(path.relative_to(HOUSE).parts[1]) + 1]
        for module in imports(path):
            room = module.removeprefix("accord.train.").split(".")[0]
            assert room in allowed or room not in order, f"{path} imports {module}"


def at_import(node: ast.AST) -> Iterator[ast.AST]:
    """What runs, or is only there for types, when a module is imported: functions wait until called."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from at_import(child)


def graph(nodes: Callable[[ast.AST], Iterator[ast.AST]] = at_import) -> dict[str, set[str]]:
    """Module -> the house's modules it imports, those for types included."""
    names = {
        ".".join(p.relative_to(HOUSE.parent).with_suffix("").parts).removesuffix(".__init__"): p
        for p in FILES
    }
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        found[name] = set()
        for node in nodes(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= inner & names.keys() or {node.module}
        found[name] = (found[name] & names.keys()) - {name}
    return found


def test_no_circles() -> None:
    """Modules can be read in an order in which each needs only those before it."""
    left = graph()
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


LISTS = {"accord", "accord.cli", "accord.pipeline.stages", "accord.web.routes"}  # of what there is


def test_fan_out() -> None:
    """Modules of the house that a module imports, wherever in it: at most twelve."""
    wide = {name: len(needs) for name, needs in graph(ast.walk).items() if len(needs) > 12}
    assert wide.keys() <= LISTS


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(HOUSE)))
def test_sizes(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES, f"{node.name} has {lines} lines"


ARTIFACTS = "core/artifact.py"  # named for what they are the mark of: a Policy, a RewardModel


def test_a_name_is_one_thing_s() -> None:
    """No class shares its name with another class, nor with a type or constant that modules give away."""
    classes: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    for path in FILES:
        given = path.read_text().partition("__all__ = ")[2].partition("]")[0]
        for node in ast.parse(path.read_text()).body:
            at = str(path.relative_to(HOUSE))
            if isinstance(node, ast.ClassDef) and at != ARTIFACTS and node.name[0] != "_":
                classes.setdefault(node.name, []).append(at)
            elif isinstance(node, ast.Assign) and f'"{ast.unparse(node.targets[0])}"' in given:
                others.setdefault(ast.unparse(node.targets[0]), []).append(at)
    for name, at in classes.items():
        assert [*at, *others.get(name, [])] == at[:1], name


def test_results_are_named_for_what_they_are() -> None:
    vague, left = {"found", "made", "told", "said"}, []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = {getattr(node, key, None) for key in ("name", "arg", "attr")}
            if isinstance(node, ast.Name):
                names.add(node.id)
            if {str(name).strip("_") for name in names} & vague:
                left.append(f"{path.relative_to(HOUSE)}:{node.lineno}")  # type: ignore[attr-defined]
    assert not left


@pytest.mark.parametrize("module", ["accord", "accord.cli", "accord.pipeline.recipe"])
def test_imports_stay_light(module: str) -> None:
    assert _loaded([module], HEAVY) == []


def _loaded(modules: Sequence[str], heavy: set[str]) -> list[str]:
    """Which of `heavy` a fresh interpreter has loaded when it has imported the modules."""
    code = f"import sys, {', '.join(modules)}; print(*sorted({heavy!r} & set(sys.modules)))"
    env = {"PYTHONPATH": str(ROOT / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_nobody_is_sent_to_another_project_s_package() -> None:
    """`pip install accord` is not ours: every text names the distribution."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert config["name"] == DISTRIBUTION
    texts = [ROOT / "README.md", ROOT / "pyproject.toml", ROOT / "Makefile", *FILES]
    texts += [*(ROOT / "docs").rglob("*.md"), *(ROOT / "recipes").rglob("*.yaml")]
    theirs = re.compile(r"pip install[^\n]*\baccord\b(?!-align)|\baccord\[\w")
    for path in texts:
        assert not theirs.search(path.read_text()), path


def test_no_script_ends_processes_by_a_pattern_of_names() -> None:
    """Somebody else's server has such a name too."""
    for path in [ROOT / "Makefile", *(ROOT / ".ci").iterdir()]:
        assert not re.search(r"\b(pkill|killall|pgrep)\b", path.read_text()), path


def test_public_names_exist() -> None:
    import accord

    for name in accord.__all__:
        assert getattr(accord, name) is not None
    with pytest.raises(AttributeError):
        _ = accord.nothing


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    from accord.pipeline.recipe import read_recipe

    assert read_recipe(path).nodes
