"""A key of a YAML text changed where it stands: comments, order and style of the rest stay as they are.

What the new text says is held against what it should say: of an alias, an anchor or a merged key more would
change than that key, and then what is around it is written out instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from accord.core.config import parse_node, parse_yaml
from accord.core.errors import ConfigError

__all__ = ["APPENDED", "merged", "rewritten"]

APPENDED = "+"  # as the last key: one more item of a list


def rewritten(text: str, keys: Sequence[str], value: Any) -> str:
    """The text with the value at a path of keys set, or added where there is none, and no other changed;
    ConfigError where the text can't be changed so."""
    wanted = _unshared(parse_yaml(text, "recipe")[0])
    _set(wanted, keys, value)
    for depth in range(len(keys), min(1, len(keys) - 1), -1):
        own = value if depth == len(keys) else _at(wanted, keys[:depth])
        try:
            new = _written(text, keys[:depth], own)
            if parse_yaml(new, "recipe")[0] == wanted:
                return new
        except (ConfigError, ValueError):
            continue
    path = ".".join(keys)
    raise ConfigError(
        "can't be changed alone: others read it through an anchor", where=path,
        mend="write its value out where it is used",
    )  # fmt: skip


def _written(text: str, keys: Sequence[str], value: Any) -> str:
    node, before = parse_node(text), 0
    for depth, key in enumerate(keys):
        if key == APPENDED and isinstance(node, yaml.SequenceNode):
            return _inserted(text, node, _plain(value))
        if not isinstance(node, yaml.MappingNode):
            return _replaced(text, node, before, _nested(keys[depth:], value))
        pair = next((p for p in node.value if p[0].value == key), None)
        if pair is None:
            inside = _plain(_nested(keys[depth + 1 :], value))
            return _inserted(text, node, f"{key}: {inside}")
        before, node = pair[0].end_mark.index, pair[1]
    return _replaced(text, node, before, value)


def _unshared(data: Any) -> Any:
    """A copy in which what aliases stand for is of each its own."""
    if isinstance(data, Mapping):
        return {k: _unshared(v) for k, v in data.items()}
    return [_unshared(v) for v in data] if isinstance(data, list) else data


def _set(data: Any, keys: Sequence[str], value: Any) -> None:
    *path, last = keys
    for at, key in enumerate(path):
        if not isinstance(data.get(key), Mapping | list):
            data[key] = _nested(keys[at + 1 :], value)
            return
        data = data[key]
    if last != APPENDED:
        data[last] = value
    elif isinstance(data, list):
        data.append(value)


def _at(data: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        data = data[key]
    return data


def _nested(keys: Sequence[str], value: Any) -> Any:
    for key in reversed(keys):
        value = [value] if key == APPENDED else {key: value}
    return value


def _plain(value: Any) -> str:
    """A value on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("...\n").strip()


def _end(node: yaml.Node) -> int:
    """Where the node's last character is: a block ends only where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _replaced(text: str, node: yaml.Node, before: int, value: Any) -> str:
    """Another value where a key ends at `before`; of an alias, which stands elsewhere, its name."""
    start, end = int(node.start_mark.index), _end(node)
    if start < before:
        alias = re.compile(r"\*[^\s,}\]]+").search(text, before)
        if alias is None:
            raise ConfigError(
                "an alias can't be changed where it stands", where=text[before - 20 : before]
            )
        start, end = alias.span()
    space = "" if text[start - 1 : start] in (" ", "") else " "
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        start, space = text.rindex(":", 0, start) + 1, " "  # a block begins on a line of its own
    return f"{text[:start]}{space}{_plain(value)}{text[end:]}"


def _inserted(text: str, node: yaml.CollectionNode, item: str) -> str:
    """One more entry: of a flow at its end, of a block mapping after its first key, of a list at its end."""
    if node.flow_style or not node.value:
        end = int(node.end_mark.index) - 1
        head = text[:end].rstrip()
        comma = ", " if node.value and not head.endswith(",") else ""
        return f"{head}{comma}{item}{text[end:]}"
    mapping = isinstance(node, yaml.MappingNode)
    after = _end(node.value[0][1] if mapping else node.value[-1])
    line = text.find("\n", after)
    at = len(text) if line < 0 else line
    indent = " " * int(node.start_mark.column)
    return f"{text[:at]}\n{indent}{'' if mapping else '- '}{item}{text[at:]}"


def merged(old: Any, new: Mapping[str, Any]) -> list[tuple[tuple[str, ...], Any]]:
    """Which paths to set so that `old` has the keys of `new`; what has another name is set whole."""
    changes: list[tuple[tuple[str, ...], Any]] = []
    for key, value in new.items():
        was = old.get(key) if isinstance(old, Mapping) else None
        inside = isinstance(was, Mapping) and isinstance(value, Mapping)
        if inside and value.get("name", (was or {}).get("name")) == (was or {}).get("name"):
            changes += [((key, *path), v) for path, v in merged(was, value)]
        else:
            changes.append(((key,), value))
    return changes
