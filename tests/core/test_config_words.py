"""Plain YAML: the words of YAML 1.2, no surprises of 1.1."""

from __future__ import annotations

import pytest

from accord.core.config import parse_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True), ("False", False), ("on", "on"), ("no", "no"), ("yes", "yes"), ("y", "y"),
        ("1e-3", 0.001), ("1.5e-4", 0.00015), ("3", 3), ("~", None), ("v1", "v1"),
    ],
)  # fmt: skip
def test_words_of_yaml(text: str, value: object) -> None:
    assert parse_yaml(f"key: {text}", "here")[0] == {"key": value}


def test_on_is_a_key() -> None:
    assert parse_yaml("on: chosen", "here")[0] == {"on": "chosen"}
