"""Modules are found under the names they had in 0.2."""

from __future__ import annotations

from importlib import import_module

import pytest

from accord.core.moved import MOVED
from accord.train import settings
from accord.train.online.methods.rloo import Rloo


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_is_the_module_that_is_there_now(old: str) -> None:
    new = import_module(MOVED[old])
    spec = new.__spec__
    with pytest.warns(DeprecationWarning, match=f"{old} is {MOVED[old]} now"):
        assert import_module(old) is new
    assert new.__spec__ is spec
    assert new.__name__ == MOVED[old]


def test_what_never_was_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"accord\.lm\.nothing"):
        import_module("accord.lm.nothing")


def test_keys_of_methods_are_found_where_they_stood() -> None:
    assert settings.Rloo is Rloo
    with pytest.raises(AttributeError, match="has no 'Nothing'"):
        _ = settings.Nothing
