"""A recipe: one YAML file that names a model and its stages; each stage reads earlier ones.

Every stage kind is a strict schema. References to other stages (`init: sft`, `data: study`) make a
graph; a stage over several policies becomes one stage per policy (`eval/base`, `eval/sft`), so each
runs as soon as its policy is there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from accord.core.artifact import Artifact
from accord.core.config import Lines, Strict, apply_sets, locate, read_yaml, validate
from accord.core.errors import AccordError, ConfigError, gather, raise_all
from accord.core.hashing import content_hash
from accord.core.plugins import load_files
from accord.core.refs import StoreRef, hidden, is_url
from accord.core.rundir import read_json, user_path
from accord.pipeline.stage import BASE, StageConfig, gives, kind_of
from accord.pipeline.stage import kinds as all_kinds

__all__ = ["Node", "Recipe", "build_recipe", "find_recipe", "read_recipe", "recipes_dir"]

HINTS = {
    "data": "a data file is written with its path: ./file.jsonl",
    "rewards": "the folder of a finished model is written with its path: ./folder",
}


class _Head(Strict):
    """The keys of a recipe beside its stages."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]+$")
    seed: int = 17
    model: str
    about: str = ""
    trackers: list[str] = Field(default=[])
    plugins: list[str] = Field(default=[])  # files that register kinds, losses, rewards
    stages: dict[str, dict[str, Any]] = Field(min_length=1)


@dataclass(frozen=True)
class Node:
    """One stage to run: its name, checked config, and the stages it reads."""

    name: str
    config: StageConfig
    parents: tuple[str, ...]
    implied: bool = False  # made from `data: FILE` of another stage


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; `nodes` are in an order in which they can run."""

    name: str
    seed: int
    model: str
    about: str
    trackers: tuple[str, ...]
    nodes: tuple[Node, ...]
    folder: Path  # paths in the recipe are relative to its file
    resolved: dict[str, Any]


def recipes_dir() -> Path:
    """Where the shipped recipes are: in the package when installed, else in the repository."""
    inside = Path(__file__).resolve().parents[1] / "recipes"
    return inside if inside.is_dir() else Path(__file__).resolve().parents[3] / "recipes"


def find_recipe(name: str) -> Path:
    """A recipe by path, or a shipped one by name ("support")."""
    path = user_path(name)
    if path.exists() or path.suffix in {".yaml", ".yml"}:
        return path
    shipped = recipes_dir() / f"{name}.yaml"
    if shipped.exists():
        return shipped
    known = ", ".join(sorted(p.stem for p in recipes_dir().glob("*.yaml")))
    raise ConfigError("no such recipe", where=name, allowed=f"a YAML file, or one of: {known}")


def read_recipe(path: Path, sets: Sequence[str] = (), plugins: Sequence[Path] = ()) -> Recipe:
    """Read, override and check a recipe, or that of a run by its directory; ConfigError names file, line and
    key. `plugins` are files that register kinds, losses and rewards, beside those the recipe names."""
    if (path / "recipe.json").is_file():
        return _of_run(path, sets, plugins)
    data, lines = read_yaml(path)
    return build_recipe(data, lines, str(path), path.resolve().parent, sets, plugins)


def build_recipe(
    data: dict[str, Any],
    lines: Lines,
    source: str,
    folder: Path,
    sets: Sequence[str] = (),
    plugins: Sequence[Path] = (),
) -> Recipe:
    """A checked recipe from plain data; `folder` is where its relative paths start."""
    faults: list[AccordError] = []
    nodes: list[Node] = []
    head = None
    with gather(faults):
        apply_sets(data, sets, roots=("stages",))
    with gather(faults):
        head = validate(_Head, data, source=source, lines=lines)
    files = _load_plugins(data.get("plugins"), folder, plugins)
    given = data.get("stages")
    whole = (
        {n: s for n, s in given.items() if isinstance(s, dict)} if isinstance(given, dict) else {}
    )
    implied: Stages = {}
    stages, unread = whole, True
    with gather(faults):
        implied, stages = _with_data_stages(
            whole, folder, lambda n: locate(source, f"stages.{n}.data", lines)
        )
        unread = False
    for name, raw in {**implied, **stages}.items():
        with gather(faults):
            expanded = _expand(name, _stage(name, raw, source, lines, faults))
            nodes += [replace(node, implied=name in implied) for node in expanded]
    kinds = {name: raw.get("kind") for name, raw in {**implied, **stages}.items()}
    # where a `data` is told already, that nothing is called so is no other fault
    faults += [] if unread else _wrong_references(nodes, kinds, source, lines)
    raise_all(faults)
    assert head
    order = _sorted(nodes, source, lines)
    return Recipe(
        name=head.name,
        seed=head.seed,
        model=_model(head.model, folder),
        about=head.about,
        trackers=tuple(head.trackers),
        nodes=tuple(order),
        folder=folder,
        resolved={
            **head.model_dump(exclude={"stages", "plugins"}),
            **({"plugins": [str(file) for file in files]} if files else {}),
            "stages": {n.name: n.config.model_dump(mode="json") for n in order},
        },
    )


def _load_plugins(named: Any, folder: Path, more: Sequence[Path]) -> list[Path]:
    """Run the files that a recipe and its caller name: without them its kinds can't be read."""
    all_kinds()  # the house's own are there first
    texts = [p for p in named if isinstance(p, str)] if isinstance(named, list) else []
    paths: list[str | Path] = [*texts, *map(Path.absolute, more)]
    files = list(dict.fromkeys((folder / user_path(p)).resolve() for p in paths))
    load_files(files)
    return files


def _model(name: str, folder: Path) -> str:
    """A model's directory as every other path of a recipe: from where the recipe lies, else from here."""
    if name and not user_path(name).is_dir() and (folder / name).is_dir():
        return str(folder / name)
    return name


def recipe_from_resolved(resolved: dict[str, Any], folder: Path) -> Recipe:
    """The recipe a run directory keeps; its stages are expanded and in order already."""
    _load_plugins(resolved.get("plugins"), folder, ())
    nodes = []
    for name, raw in resolved["stages"].items():
        config = kind_of(raw["kind"]).config.model_validate(raw)
        nodes.append(Node(name, config, config.parents()))
    head = {k: resolved[k] for k in ("name", "seed", "model", "about")}
    trackers = tuple(resolved["trackers"])
    return Recipe(**head, trackers=trackers, nodes=tuple(nodes), folder=folder, resolved=resolved)


def _of_run(path: Path, sets: Sequence[str], plugins: Sequence[Path]) -> Recipe:
    """The recipe of a run with some keys changed; its paths start where the recipe lay."""
    resolved, where = read_json(path / "recipe.json"), str(path / "recipe.json")
    apply_sets(resolved, sets, roots=("stages",))
    head = {k: v for k, v in resolved.items() if k != "stages"}
    validate(_Head, {**head, "stages": {"x": {}}}, source=where, lines={})
    folder = Path(read_json(path / "manifest.json").get("folder", path))
    _load_plugins(resolved.get("plugins"), folder, plugins)
    faults: list[AccordError] = []
    for name, raw in resolved["stages"].items():
        schema = kind_of(raw.get("kind"), where).config
        with gather(faults):
            config = validate(schema, raw, where=f"stages.{name}", source=where, lines={})
            config.check_names(partial("{} stages.{}.{}".format, where, name))
            resolved["stages"][name] = config.model_dump(mode="json")
    raise_all(faults)
    recipe = recipe_from_resolved(resolved, folder)
    return replace(recipe, nodes=tuple(_sorted(list(recipe.nodes), where, {})))


Stages = dict[str, dict[str, Any]]


def _with_data_stages(
    stages: Stages, folder: Path, place: Callable[[str], str]
) -> tuple[Stages, Stages]:
    """`data: study.db@v3` and `data: demos.jsonl` become stages of their own, shared by all that
    name the same data: (those made, those there)."""
    implied: Stages = {}
    written: Stages = {}
    labels: dict[str, str] = {}
    from accord.store.opening import is_store, which_snapshot

    for name, raw in stages.items():
        data = raw.get("data") if isinstance(raw, dict) else None
        if isinstance(data, str) and data not in stages and re.search(r"[./@\\]", data):
            if data not in labels:
                ref = StoreRef.parse(data, folder)
                if is_url(data) and not ref.snapshot:
                    mend = f"name one: {ref}@NAME"
                    raise ConfigError("which snapshot?", where=place(name), mend=mend)
                if not ref.snapshot and is_store(Path(ref.location(folder))):
                    raise which_snapshot(ref, folder, place(name))
                label = re.sub(r"[^A-Za-z0-9_-]+", "-", str(ref)).strip("-") or "data"
                if label in stages or label in implied:
                    label += f"-{content_hash(str(ref))[:6]}"
                labels[data] = label
                implied[label] = (
                    {"kind": "import", "file": data}
                    if ref.snapshot is None
                    else {"kind": "open", "store": ref.where, "snapshot": ref.snapshot}
                )
            raw = {**raw, "data": labels[data]}
        written[name] = raw
    return implied, written


def _stage(
    name: str, raw: dict[str, Any], source: str, lines: Lines, faults: list[AccordError]
) -> StageConfig:
    """The keys of a stage; of one with faults what is right of it, so that the rest is checked in the same
    answer. Without a required key nothing else can be said of it."""
    place = f"stages.{name}"
    if name == BASE or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ConfigError(
            f"a stage can't be called {name!r}", where=locate(source, place, lines),
            allowed="letters, digits, - and _, but not 'base', which is the recipe's model",
        )  # fmt: skip
    kind = raw.get("kind")
    schema = kind_of(kind, locate(source, f"{place}.kind" if kind else place, lines)).config
    own_faults: list[AccordError] = []
    config = None
    with gather(own_faults):
        config = validate(schema, raw, where=place, source=source, lines=lines)
    if config is None:
        wrong = {re.split(r"[.\[]", e.where.partition(f"{place}.")[2])[0] for e in own_faults}
        right = {k: v for k, v in raw.items() if k in schema.model_fields and k not in wrong}
        config = schema.model_construct(**right)
    if any(
        f.is_required() and k not in config.model_fields_set for k, f in schema.model_fields.items()
    ):
        raise_all(own_faults)
    with gather(own_faults):
        config.check_names(lambda key: locate(source, f"{place}.{key}", lines))
    faults += own_faults
    return config


def _expand(name: str, config: StageConfig) -> list[Node]:
    """A stage over several policies becomes one per policy."""
    each = kind_of(config).each
    if each is None:
        return [Node(name, config, config.parents())]
    parts = {p: config.model_copy(update={each: [p]}) for p in config.named(each)}
    return [Node(f"{name}/{p}", c, c.parents()) for p, c in parts.items()]


def _wrong_references(
    nodes: list[Node], kinds: dict[str, Any], source: str, lines: Lines
) -> list[ConfigError]:
    """References that name no stage, or one whose kind (`kinds`, by stage) gives no such thing."""
    given = {BASE: gives(BASE)} | {n: _gives(k) for n, k in kinds.items()}
    faults = []
    for node in nodes:
        stage = node.name.partition("/")[0]
        for key, artifact in node.config.reads.items():
            for name in node.config.named(key):
                if issubclass(given.get(name, Artifact), artifact):
                    continue
                fitting = [n for n, a in given.items() if issubclass(a, artifact) and n != stage]
                shown = repr(hidden(name))
                what = f"{shown} is no {key}" if name in given else f"there is no stage {shown}"
                giving = [k for k, s in all_kinds().items() if issubclass(s.gives, artifact)]
                hint = HINTS.get(key, "")
                faults.append(ConfigError(
                    what, where=locate(source, f"stages.{stage}.{key}", lines),
                    allowed=", ".join(fitting) or f"a stage of kind {', '.join(giving)}", mend=hint,
                ))  # fmt: skip
    return faults


def _gives(kind: Any) -> type[Artifact]:
    known = all_kinds().get(kind) if isinstance(kind, str) else None
    return known.gives if known else Artifact  # a wrong kind is told where it stands


def _sorted(nodes: list[Node], source: str, lines: Lines) -> list[Node]:
    """Topological order, as near to the file's order as the references allow."""
    placed: dict[str, Node] = {}
    waiting = [_with_groups(n, nodes) for n in nodes]
    while waiting:
        ready = next((n for n in waiting if set(n.parents) <= set(placed)), None)
        if ready is None:
            names = ", ".join(n.name for n in waiting)
            raise ConfigError(f"stages wait for each other: {names}", where=f"{source} stages")
        placed[ready.name] = ready
        waiting.remove(ready)
    return list(placed.values())


def _with_groups(node: Node, nodes: list[Node]) -> Node:
    """Replace a reference to an expanded stage by its parts; drop `base`, which is no stage."""
    parents: list[str] = []
    for parent in node.parents:
        parts = [n.name for n in nodes if n.name == parent or n.name.startswith(f"{parent}/")]
        parents += parts or ([] if parent == BASE else [parent])
    return replace(node, parents=tuple(dict.fromkeys(parents)))
