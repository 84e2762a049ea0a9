"""Configuration: YAML read strictly, every error with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from accord.core.config import Strict, apply_sets, parse_yaml, read_yaml, validate
from accord.core.errors import ConfigError


class Inner(Strict):
    lr: float = 1e-4
    steps: int = 1


class Outer(Strict):
    name: str
    inner: Inner = Inner()


def test_floats_without_a_dot_are_numbers() -> None:
    data, _ = parse_yaml("a: 1e-3\nb: 5E4\nc: -2e+1\nd: 1\ne: abc", "x")
    assert data == {"a": 0.001, "b": 50000.0, "c": -20.0, "d": 1, "e": "abc"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: [1,\n", "x:3: not valid YAML"),
        ("a: 1\na: 2\n", "x:2: key 'a' stands twice"),
        ("- 1\n", "x: expected a mapping of keys, found a list"),
        ("", "x: expected a mapping of keys, found an empty file"),
        ("just words", "found a str"),
    ],
)
def test_bad_yaml_names_the_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, "x")
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; check the path"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(ConfigError, match="byte 9: not valid UTF-8; save the file as UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="can't be read"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: a\ninner:\n  lrr: 1\n", "x:3 inner.lrr: unknown key 'lrr'; allowed: lr, steps"),
        ("name: a\ninner: {steps: 1.5}\n", "x:2 inner.steps: Input should be a valid integer"),
        ("name: a\ninner: {lr: .nan}\n", "x:2 inner.lr: Input should be a finite number"),
        ("inner: {}\n", "x:1 name: required key is missing; add it"),
        ("name: 3\n", "x:1 name: Input should be a valid string (got 3)"),
    ],
)
def test_wrong_keys_name_file_line_and_allowed(text: str, told: str) -> None:
    data, lines = parse_yaml(text, "x")
    with pytest.raises(ConfigError) as error:
        validate(Outer, data, source="x", lines=lines)
    assert told in str(error.value)


def test_set_assigns_by_path() -> None:
    data: dict[str, Any] = {"seed": 1, "stages": {"dpo": {"loss": {"beta": 0.1}, "on": [1, 2]}}}
    apply_sets(data, ["dpo.loss.beta=3e-1", "seed=4", "dpo.on.1=[x]"], roots=("stages",))
    assert data == {"seed": 4, "stages": {"dpo": {"loss": {"beta": 0.3}, "on": [1, ["x"]]}}}


@pytest.mark.parametrize("item", ["seed", "=3", "a..b=1", "seed.x=1", "seed=[1"])
def test_bad_set_is_a_config_error(item: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        apply_sets({"seed": 1}, [item])


def test_numbers_and_dates_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: 010\nb: 0o10\nc: 1:30\nd: 2024-13-45\ne: -7\nf: 0x1F\n")
    expected = {"a": 10, "b": 8, "c": "1:30", "d": "2024-13-45", "e": -7, "f": 31}
    assert read_yaml(path)[0] == expected


def test_a_recipe_that_holds_itself_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &x [*x]\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: not valid YAML"):
        read_yaml(path)
