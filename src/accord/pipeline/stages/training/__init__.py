"""The keys that stages which train on a snapshot share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from accord.core.artifact import Data, Policy
from accord.core.errors import ConfigError
from accord.lm.model.lora import Lora
from accord.pipeline.stage import Count, StageConfig
from accord.train.settings import Optimise

__all__ = ["READS", "Average", "Comparing", "Member", "Training"]

Average = Literal["pair", "prompt"]
READS = {"init": Policy, "data": Data}
FOLD = re.compile(r"([1-9][0-9]*)/([1-9][0-9]*)")


class Training(StageConfig, Optimise):
    """Keys every training stage has, those of `Optimise` among them."""

    later: ClassVar[tuple[str, ...]] = ("skip_bad",)
    init: str = "base"
    data: str
    tune: Lora | Literal["full"] = Lora()
    max_prompt: Count = 512
    max_completion: Count = 256
    limit: Count | None = None  # prompts to train on
    eval_limit: Count | None = None  # held-out prompts to evaluate on
    skip_bad: bool | None = None  # leave out and count rows that the chat template refuses

    def optimise_keys(self) -> dict[str, Any]:
        """The keys that go to the optimise loop."""
        return {key: getattr(self, key) for key in Optimise.model_fields}


class Comparing(Training):
    """A stage that reads comparisons: which ones, and whether a label is the share of votes or a posterior
    that knows each rater's skill and bias ("soft")."""

    ties: Literal["half", "drop"] = "half"
    min_agreement: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    labels: Literal["votes", "soft"] = "votes"
    min_confidence: Annotated[float, Field(ge=0.5, le=1.0)] = 0.5  # of soft labels

    @model_validator(mode="after")
    def _confidence_is_of_soft_labels(self) -> Self:
        if self.labels == "votes" and self.min_confidence > 0.5:
            raise ValueError("min_confidence needs labels: soft; votes have min_agreement")
        return self


class Member(Training):
    """A reward model that may be one of several: `seed` and `fold` set it apart from the others of the same
    recipe. `fold: 1/3` trains on all training prompts but the first of three parts."""

    later: ClassVar[tuple[str, ...]] = ("seed", "fold", "skip_bad")
    seed: int | None = None  # another start and order; mixed with the recipe's
    fold: str | None = None

    def check_names(self, place: Callable[[str], str]) -> None:
        match = FOLD.fullmatch(self.fold or "1/2")
        if not match or not 1 < int(match[2]) >= int(match[1]):
            raise ConfigError(
                f"{self.fold!r} is no fold",
                where=place("fold"),
                allowed="PART/PARTS: 2/3 leaves out the second of three parts of the training prompts",
            )
