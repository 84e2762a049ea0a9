"""accord: the whole alignment loop in one tool. Names are loaded on first use; importing is light."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from accord.core import moved as _moved  # old names of modules
from accord.core.version import __version__

_WHERE = {
    "accord.api.evaluating": ("Evaluation", "evaluate", "score"),
    "accord.api.policy": ("train_policy",),
    "accord.api.run": ("Finished", "Run", "run"),
    "accord.api.training": (
        "train_axes", "train_preference", "train_process", "train_reward", "train_sft",
    ),
    "accord.core.errors": (
        "AccordError", "ConfigError", "DataError", "Faults", "ModelError", "RunError", "StoreError",
        "TemplateError",
    ),
    "accord.core.types": (
        "Demonstration", "Exchange", "Group", "LabelledResponse", "LabelledSteps", "Message", "Metric",
        "Pair", "Prompt", "Response",
    ),
    "accord.feedback.trust.card": ("data_card",),
    "accord.judges.door": ("check_judge", "judge"),
    "accord.lm.model.export": ("export_model",),
    "accord.lm.model.load": ("LanguageModel", "load"),
    "accord.lm.model.lora": ("Lora",),
    "accord.losses": (
        "preference_loss", "preference_losses", "ranking_loss", "ranking_losses", "reward_loss",
        "reward_losses", "unpaired_loss", "unpaired_losses",
    ),
    "accord.pipeline.evaluating": ("EvalReport", "run_evals"),
    "accord.rewards.axes": ("load_axes_model",),
    "accord.rewards.base": ("reward",),
    "accord.rewards.compose": ("reward_registry",),
    "accord.rewards.learned": ("RewardModel", "load_reward_model"),
    "accord.rewards.process_model": ("load_process_model",),
    "accord.store": ("Snapshot", "Store", "export", "import_file", "opened_snapshot"),
    "accord.train.online.policy": ("PolicyTrained",),
    "accord.train.loop.saved": ("Trained",),
}  # fmt: skip
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [  # spelled out, and imported below, for type checkers and editors; a test holds all three together
    "AccordError",
    "ConfigError",
    "DataError",
    "Demonstration",
    "EvalReport",
    "Evaluation",
    "Exchange",
    "Faults",
    "Finished",
    "Group",
    "LabelledResponse",
    "LabelledSteps",
    "LanguageModel",
    "Lora",
    "Message",
    "Metric",
    "ModelError",
    "Pair",
    "PolicyTrained",
    "Prompt",
    "Response",
    "RewardModel",
    "Run",
    "RunError",
    "Snapshot",
    "Store",
    "StoreError",
    "TemplateError",
    "Trained",
    "__version__",
    "check_judge",
    "data_card",
    "evaluate",
    "export",
    "export_model",
    "import_file",
    "judge",
    "load",
    "load_axes_model",
    "load_process_model",
    "load_reward_model",
    "opened_snapshot",
    "preference_loss",
    "preference_losses",
    "ranking_loss",
    "ranking_losses",
    "reward",
    "reward_loss",
    "reward_losses",
    "reward_registry",
    "run",
    "run_evals",
    "score",
    "train_axes",
    "train_policy",
    "train_preference",
    "train_process",
    "train_reward",
    "train_sft",
    "unpaired_loss",
    "unpaired_losses",
]  # fmt: skip

if TYPE_CHECKING:
    from accord.api.evaluating import Evaluation, evaluate, score
    from accord.api.policy import train_policy
    from accord.api.run import Finished, Run, run
    from accord.api.training import (
        train_axes,
        train_preference,
        train_process,
        train_reward,
        train_sft,
    )
    from accord.core.errors import (
        AccordError,
        ConfigError,
        DataError,
        Faults,
        ModelError,
        RunError,
        StoreError,
        TemplateError,
    )
    from accord.core.types import (
        Demonstration,
        Exchange,
        Group,
        LabelledResponse,
        LabelledSteps,
        Message,
        Metric,
        Pair,
        Prompt,
        Response,
    )
    from accord.feedback.trust.card import data_card
    from accord.judges.door import check_judge, judge
    from accord.lm.model.export import export_model
    from accord.lm.model.load import LanguageModel, load
    from accord.lm.model.lora import Lora
    from accord.losses import (
        preference_loss,
        preference_losses,
        ranking_loss,
        ranking_losses,
        reward_loss,
        reward_losses,
        unpaired_loss,
        unpaired_losses,
    )
    from accord.pipeline.evaluating import EvalReport, run_evals
    from accord.rewards.axes import load_axes_model
    from accord.rewards.base import reward
    from accord.rewards.compose import reward_registry
    from accord.rewards.learned import RewardModel, load_reward_model
    from accord.rewards.process_model import load_process_model
    from accord.store import Snapshot, Store, export, import_file, opened_snapshot
    from accord.train.loop.saved import Trained
    from accord.train.online.policy import PolicyTrained


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"accord has no {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return __all__
