"""accord: the whole alignment loop in one tool. Names are loaded on first use; importing is light."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_WHERE = {
    "Store": "accord.store",
    "export_model": "accord.lm.export",
    "import_file": "accord.store",
    "opened_snapshot": "accord.store",
    "load": "accord.lm.load",
    "load_reward_model": "accord.rewards.learned",
    "preference_loss": "accord.losses",
    "reward_loss": "accord.losses",
    "train_axes": "accord.api",
    "train_policy": "accord.api",
    "train_preference": "accord.api",
    "train_process": "accord.api",
    "train_reward": "accord.api",
    "train_sft": "accord.api",
    **dict.fromkeys(
        ("Demonstration", "Group", "Message", "Metric", "Pair", "Prompt", "Response"),
        "accord.core.types",
    ),
}

__all__ = ["__version__", *sorted(_WHERE)]

if TYPE_CHECKING:  # for type checkers and editors
    from accord.api import (
        train_axes,
        train_policy,
        train_preference,
        train_process,
        train_reward,
        train_sft,
    )
    from accord.core.types import Demonstration, Group, Message, Metric, Pair, Prompt, Response
    from accord.lm.export import export_model
    from accord.lm.load import load
    from accord.losses import preference_loss, reward_loss
    from accord.rewards.learned import load_reward_model
    from accord.store import Store, import_file, opened_snapshot


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"accord has no {name!r}")
    return getattr(import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
