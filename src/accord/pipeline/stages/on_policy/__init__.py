"""The kinds that train a policy on rewards of its own answers: one for each `accord.train.online.method`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from accord.core.artifact import Checked, Data, Policy, Scorer
from accord.core.errors import AccordError, ConfigError, RunError, gather, raise_all
from accord.core.rundir import user_path
from accord.lm.model.lora import Lora
from accord.pipeline.stage import Count, StageConfig, stage
from accord.pipeline.stages.on_policy.guard import GuardConfig
from accord.rewards.base import named_models
from accord.train.online.method import Method, Registration, each_method

__all__ = ["OnPolicyStage"]

PATH = re.compile(r"[./\\~]")  # no stage's name has one of these
SERVER = re.compile(r"https?://[^#\s]+#\S+")


class OnPolicyStage(StageConfig):
    """Keys of every stage that trains a policy on rewards of its own answers, beside those of its `method`.
    It answers the training prompts of `data`. An entry of `rewards` names a stage, or a finished model of any
    architecture by the path of its folder: ./folder.

    `sampler` is an OpenAI-compatible server that answers the training prompts instead of the policy's own
    model. It must serve the weights that are trained: before each step `reload` is told where they lie, as
    vLLM's load_lora_adapter takes it. Without it the server serves what it serves; `sampler_gap` tells."""

    method: ClassVar[type[Method]]
    later: ClassVar[tuple[str, ...]] = ("sampler", "reload", "max_prompt", "guard")
    init: str = "base"
    data: str
    rewards: list[dict[str, Any]] = Field(min_length=1)
    tune: Lora | Literal["full"] = Lora()
    limit: Count | None = None  # prompts to train on
    eval_limit: Count = 32  # held-out prompts to answer
    sampler: str | None = None  # "http://host:8000/v1#name"
    reload: str | None = None  # "http://host:8000/v1/load_lora_adapter"
    guard: GuardConfig | None = None

    def named(self, key: str) -> list[str]:
        """For `rewards`, the stages whose reward models the entries name; for `guard`, its `rm_check`."""
        if key == "guard":
            return [self.guard.rm_check] if self.guard and self.guard.rm_check else []
        if key != "rewards":
            return super().named(key)
        return [name for name in self.models() if not PATH.search(name)]

    def folders(self) -> list[str]:
        """Finished models it reads by the path of their folder."""
        return [name for name in self.models() if PATH.search(name)]

    def judges(self) -> list[str]:
        """Models that judge, by name: no server's."""
        named = [entry.get("judge") for entry in self.rewards]
        return [name for name in named if isinstance(name, str) and "://" not in name]

    def models(self, *, paid: bool = False) -> list[str]:
        """The reward models asked, each once: what one says of a batch is kept for the next reward. `paid`:
        those alone whose word counts."""
        entries = [e for e in self.rewards if not paid or e.get("weight", 1.0) or "at_least" in e]
        return list(dict.fromkeys(n for entry in entries for n in named_models(entry)))

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.rewards.compose import check_reward

        faults: list[AccordError] = []
        for number, entry in enumerate(self.rewards):
            with gather(faults):
                check_reward(entry, place(f"rewards[{number}]"))
        raise_all(faults)
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
        self.settings().check_names(place)
        if self.guard:
            self.guard.check(self.settings().steps, place)
            if self.guard.rm_check and not self.models(paid=True):
                raise ConfigError(
                    "no reward model is paid here, whose order could be asked for",
                    where=place("guard.rm_check"),
                    allowed="with one in rewards",
                )

    def settings(self) -> Method:
        """The method with its keys alone, which are checked already, or told of."""
        keys = {key: getattr(self, key) for key in self.method.model_fields}
        return self.method.model_construct(**keys)

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """Models and judges by the path of their folder, by what decides what they say."""
        from accord.lm.model.chain import identity_or_name

        named = {n: _reward_model(n, stage, folder) for n in self.folders()}
        judges = {n: user_path(n) for n in self.judges() if user_path(n).is_dir()}
        return {n: identity_or_name(str(place)) for n, place in {**named, **judges}.items()}


def _reward_model(name: str, stage: str, folder: Path) -> Path:
    """The folder of a finished model that a reward names; RunError when it holds none."""
    from accord.lm.model.scalar_head import FILE

    path = folder / user_path(name)
    if not (path / FILE).is_file():
        raise RunError(
            f"no reward model is there (no {FILE})" if path.is_dir() else "no such folder",
            where=f"stage {stage}, rewards: {path}",
            allowed="a stage, or the folder of a finished model",
            mend="of a finished stage name its folder model/",
        )
    return path


def report(named: str, done: Any) -> Any:
    from accord.pipeline.stages.on_policy.reported import section

    return section(named, done)


def make_kind(known: Registration) -> None:
    """Register the stage kind of a method; the report calls it by its title."""
    cls = known.method
    facts = {"method": cls, "later": OnPolicyStage.later + cls.later, "__doc__": cls.__doc__,
             "__module__": cls.__module__, "__annotations__": {"method": ClassVar}}  # fmt: skip
    config = type(f"{cls.__name__}Stage", (OnPolicyStage, cls), facts)
    stage(
        known.name, version=4 if cls.valued else 3, gives=Policy,
        reads={"init": Policy, "data": Data, "rewards": Scorer, "guard": Checked},
        run=f"{__name__}.run:run", work=f"{__name__}.work:work", writes=f"{__name__}.work:writes",
        report=partial(report, known.title),
    )(config)  # fmt: skip


each_method(make_kind)
