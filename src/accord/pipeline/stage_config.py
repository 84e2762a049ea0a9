"""What all stage kinds have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

from pydantic import Field

from accord.core.config import Strict

__all__ = ["DATA", "POLICY", "Count", "Share", "StageConfig"]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]


DATA = ("simulate", "import", "open", "ask")
RLHF = ("ppo", "rloo", "grpo", "online_dpo", "best_of_n")
POLICY = ("base", "sft", "preference", "sweep", *RLHF)


class StageConfig(Strict):
    """Common to all kinds: which keys name other stages, and of which kinds. `later` are keys that came
    after stages had been run: while unset they are not part of a stage's key, so that those stay done."""

    refs: ClassVar[dict[str, tuple[str, ...]]] = {}
    later: ClassVar[tuple[str, ...]] = ()
    kind: str

    def named(self, key: str) -> list[str]:
        """The stages that one of `refs` names."""
        value = getattr(self, key)
        return list(value) if isinstance(value, list) else [value] if value else []

    def parents(self) -> tuple[str, ...]:
        """Names of the stages this one reads."""
        return tuple(name for key in self.refs for name in self.named(key))

    def folders(self) -> list[str]:
        """Finished models it reads by the path of their folder."""
        return []

    def hashed(self) -> dict[str, Any]:
        """What of it decides the stage's key."""
        plain = self.model_dump(mode="json")
        return {k: v for k, v in plain.items() if k not in self.later or v is not None}

    def check_names(self, place: Callable[[str], str]) -> None:
        """Raise ConfigError for a registered name or hyperparameter that is wrong."""
