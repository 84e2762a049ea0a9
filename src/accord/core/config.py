"""Strict configuration: plain YAML, every key checked, every error with its file and line.

YAML here is YAML 1.2 where people expect it: `1e-3` is a number, a repeated key is an error.
`--set a.b=c` reads c as YAML. There is no interpolation language.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from accord.core.errors import AccordError, ConfigError, gather, raise_all
from accord.core.registry import explain

__all__ = ["Lines", "Strict", "apply_sets", "parse_node", "read_values", "read_yaml", "validate"]

Lines = dict[tuple[str, ...], int]
M = TypeVar("M", bound=BaseModel)


class Strict(BaseModel):
    """Base of all configuration: unknown keys, wrong types, NaN and infinities are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    renamed: ClassVar[dict[str, str]] = {}  # what keys were called -> what they are called now


NOT_AS_1_1 = {"bool", "int", "timestamp"}
MOST_BY_ALIAS = 10_000  # values that all aliases of a text together may stand for


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's words: only true and false are booleans (`on: chosen` is a key), a date
    is text, and floats need no dot before the exponent."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML declares it so
        letter: [
            (tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in NOT_AS_1_1
        ]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """As it is, but ten lines of aliases of aliases may not stand for a billion values."""
        alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark
        node = super().compose_node(parent, index)
        if alias and node is not None:
            self.aliased = getattr(self, "aliased", 0) + _size(node, {})
            if self.aliased > MOST_BY_ALIAS:
                what = f"its aliases stand for more than {MOST_BY_ALIAS} values"
                raise yaml.composer.ComposerError(None, None, what, mark)
        return node

    def integer(self, node: yaml.ScalarNode) -> int:
        """YAML 1.2: 010 is ten, 0o10 is eight, 1:30 is no number."""
        text = str(node.value)
        return int(text, 0 if text.lstrip("+-")[:2] in ("0o", "0x") else 10)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?[0-9]+$|^0o[0-7]+$|^0x[0-9a-fA-F]+$"),
    list("-+0123456789"),
)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)

_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)$|^[-+]?(\d+\.\d*|\.\d+)$|^[-+]?\.inf$|^\.nan$"
    ),
    list("-+0123456789."),
)


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Values in a node, those of aliases counted each time."""
    if id(node) not in known:
        known[id(node)] = 1  # also what a node that holds itself counts for
        inside = [n for pair in node.value for n in pair] if isinstance(node, yaml.MappingNode) else (
            node.value if isinstance(node, yaml.SequenceNode) else []
        )  # fmt: skip
        known[id(node)] += sum(_size(n, known) for n in inside)
    return known[id(node)]


def _walk(node: yaml.Node, path: tuple[str, ...], lines: Lines, source: str) -> None:
    """Record the line of every key and refuse repeated ones."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in seen:
                raise ConfigError(f"key {name!r} stands twice", where=f"{source}:{line}")
            seen.add(name)
            _walk(value, (*path, name), lines, source)
            lines[(*path, name)] = line
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, str(index)), lines, source)


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """The mapping in a YAML file, and the line of every key path in it.

    Raises ConfigError for a missing, unreadable, non-UTF-8, malformed or non-mapping file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such file", where=str(path), mend="check the path") from None
    except UnicodeDecodeError as error:
        place = f"{path} byte {error.start}"
        raise ConfigError("not valid UTF-8", where=place, mend="save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"can't be read ({error.strerror})", where=str(path)) from None
    return parse_yaml(text, str(path))


def parse_node(text: str) -> yaml.Node:
    """The tree of a YAML text that has been read once, with where everything stands."""
    node = _Loader(text).get_single_node()
    assert node is not None
    return node


def parse_yaml(text: str, source: str) -> tuple[dict[str, Any], Lines]:
    """Like `read_yaml`, from text; `source` names it in errors."""
    lines: Lines = {}
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is not None:
            _walk(node, (), lines, source)
        data = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark else source
        what = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"not valid YAML: {what}", where=place) from None
    except RecursionError:
        raise ConfigError("not valid YAML: nested too deeply", where=source) from None
    except ValueError as error:
        raise ConfigError(f"not valid YAML: {error}", where=source) from None
    if not isinstance(data, dict):
        content = "an empty file" if data is None else f"a {type(data).__name__}"
        raise ConfigError(f"expected a mapping of keys, found {content}", where=source)
    return data, lines


def apply_sets(data: dict[str, Any], sets: Sequence[str], roots: Sequence[str] = ()) -> None:
    """Apply `a.b=c` assignments in place; c is YAML. `roots` are extra places a path may start at.

    With roots=("stages",), `dpo.loss.beta=0.3` sets data["stages"]["dpo"]["loss"]["beta"].
    """
    faults: list[AccordError] = []
    for given in sets:
        with gather(faults):
            _apply_set(data, given, roots)
    raise_all(faults)


def _apply_set(data: dict[str, Any], given: str, roots: Sequence[str]) -> None:
    item = given if len(given) <= 100 else f"{given[:99]}…"  # as errors show it
    path, equals, text = given.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"can't read {item!r}", where="--set", allowed="key.path=value")
    target: Any = data
    if keys[0] not in data:
        maps = [data[r] for r in roots if isinstance(data.get(r), dict)]
        target = next((m for m in maps if keys[0] in m), data)
    for depth, key in enumerate(keys[:-1]):
        if isinstance(target, list) and key.isdigit() and int(key) < len(target):
            target = target[int(key)]
            continue
        if not isinstance(target, dict):
            place = ".".join(keys[:depth])
            raise ConfigError(f"{place} holds a plain value, no keys", where=f"--set {item}")
        target = target.setdefault(key, {})
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("the value is not valid YAML", where=f"--set {item}") from None
    _assign(target, keys[-1], value, item)


def read_values(text: str, where: str) -> list[Any]:
    """`1e-4,3e-4` as a list of YAML values; ConfigError when it is none."""
    try:
        values = yaml.load(f"[{text}]", Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("is not a list of YAML values", where=where, allowed="a,b,c") from None
    return list(values)


def _assign(target: Any, key: str, value: Any, item: str) -> None:
    if isinstance(target, list) and key.isdigit() and int(key) < len(target):
        target[int(key)] = value
    elif isinstance(target, dict):
        target[key] = value
    else:
        raise ConfigError(f"there is no place {key!r} to set", where=f"--set {item}")


def validate(
    schema: type[M], data: Any, *, where: str = "", source: str = "", lines: Lines | None = None
) -> M:
    """`data` as `schema`; ConfigError names file, line, key path and the allowed values."""
    try:
        return schema.model_validate(data)
    except ValidationError as error:
        faults = explain(error, schema, where, data).each
    placed = []
    for fault in faults:
        place = locate(source, fault.where, lines or {}) if source else fault.where
        placed.append(ConfigError(fault.what, where=place, allowed=fault.allowed, mend=fault.mend))
    raise_all(placed)
    raise AssertionError("a ValidationError tells of a fault")


def locate(source: str, place: str, lines: Lines) -> str:
    """`file:line key.path`, with the line of the longest known prefix of the path."""
    keys = tuple(place.split(".")) if place else ()
    for end in range(len(keys), -1, -1):
        if keys[:end] in lines:
            return f"{source}:{lines[keys[:end]]} {place}".strip()
    return f"{source} {place}".strip()
