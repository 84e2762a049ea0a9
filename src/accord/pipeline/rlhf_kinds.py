"""The stage kinds that train a policy on rewards of its own answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, ClassVar, Literal

from pydantic import Field

from accord.core.errors import AccordError, ConfigError, gather, raise_all
from accord.lm.lora import Lora
from accord.pipeline.stage_config import DATA, POLICY, Count, StageConfig
from accord.rewards.base import named_models
from accord.train.settings import BestOfN, Grpo, OnlineDpo, OnPolicy, Ppo, Rloo

__all__ = ["BestOfNStage", "GrpoStage", "OnlineDpoStage", "PpoStage", "RlhfStage", "RlooStage"]


PATH = re.compile(r"[./\\~]")  # no stage's name has one of these
SERVER = re.compile(r"https?://[^#\s]+#\S+")


class RlhfStage(StageConfig):
    """Keys of every stage that trains a policy on rewards of its own answers, beside those of its method
    (accord.train.settings). It answers the training prompts of `data`. An entry of `rewards` names a stage,
    or a finished model of any architecture by the path of its folder: ./folder.

    `sampler` is an OpenAI-compatible server that answers the training prompts instead of the policy's own
    model. It must serve the weights that are trained: before each step `reload` is told where they lie, as
    vLLM's load_lora_adapter takes it. Without it the server serves what it serves; `sampler_gap` tells."""

    refs: ClassVar = {"init": POLICY, "data": DATA, "rewards": ("reward", "process", "reward_axes")}
    later: ClassVar = ("sampler", "reload", "max_prompt")
    init: str = "base"
    data: str
    rewards: list[dict[str, Any]] = Field(min_length=1)
    tune: Lora | Literal["full"] = Lora()
    limit: Count | None = None  # prompts to train on
    eval_limit: Count = 32  # held-out prompts to answer
    sampler: str | None = None  # "http://host:8000/v1#name"
    reload: str | None = None  # "http://host:8000/v1/load_lora_adapter"

    def named(self, key: str) -> list[str]:
        """For `rewards`, the stages whose reward models the entries name."""
        if key != "rewards":
            return super().named(key)
        return [name for name in self._models() if not PATH.search(name)]

    def folders(self) -> list[str]:
        return [name for name in self._models() if PATH.search(name)]

    def judges(self) -> list[str]:
        """Models that judge, by name: no server's."""
        named = [entry.get("judge") for entry in self.rewards]
        return [name for name in named if isinstance(name, str) and "://" not in name]

    def _models(self) -> list[str]:
        return [name for entry in self.rewards for name in named_models(entry)]

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.rewards.compose import check_reward

        found: list[AccordError] = []
        for number, entry in enumerate(self.rewards):
            with gather(found):
                check_reward(entry, place(f"rewards[{number}]"))
        raise_all(found)
        if self.sampler is not None and not SERVER.fullmatch(self.sampler):
            raise ConfigError(
                f"{self.sampler!r} is no address of a server",
                where=place("sampler"),
                allowed="http://host:port/v1#model-name",
            )
        if self.reload is not None and not (self.sampler and "://" in self.reload):
            raise ConfigError(
                "is no address of a server" if self.sampler else "there is no sampler to reload",
                where=place("reload"),
                allowed="with sampler, http://host:port/v1/load_lora_adapter",
            )

    def settings(self) -> OnPolicy:
        """The keys of the method alone: those of the settings class the stage is made of."""
        made = next(c for c in type(self).__mro__ if c.__module__ == OnPolicy.__module__)
        return made(**{key: getattr(self, key) for key in made.model_fields})  # type: ignore[attr-defined]


class PpoStage(RlhfStage, Ppo):
    """PPO; the value model starts from the first reward model."""

    kind: Literal["ppo"]


class RlooStage(RlhfStage, Rloo):
    """RLOO: the baseline is an answer's siblings."""

    kind: Literal["rloo"]


class GrpoStage(RlhfStage, Grpo):
    """GRPO: scores centred and scaled within their group."""

    kind: Literal["grpo"]


class OnlineDpoStage(RlhfStage, OnlineDpo):
    """A preference loss on the policy's own best and worst answers."""

    kind: Literal["online_dpo"]

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.losses.families import choose_loss

        super().check_names(place)
        if choose_loss(self.loss, place("loss")).family != "pairs":
            raise ConfigError("is no loss over pairs", where=place("loss.name"))


class BestOfNStage(RlhfStage, BestOfN):
    """Rejection sampling: imitation of the best of n."""

    kind: Literal["best_of_n"]
