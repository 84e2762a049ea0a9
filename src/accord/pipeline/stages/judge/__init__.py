"""A judge labels: a policy's fresh answers, or what the data asks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from accord.constitution.principles import DEFAULT, identity, place_of, read_constitution
from accord.core.artifact import CanJudge, Data, Policy
from accord.core.errors import ConfigError
from accord.core.hashing import file_hash
from accord.core.rundir import named_folder, user_path
from accord.judges.ask import Judge
from accord.judges.backends import STAND_INS
from accord.judges.templates import check_template, versioned
from accord.judges.thresholds import Thresholds
from accord.pipeline.stage import Count, stage
from accord.pipeline.stages.ask import Answering

STAGE = re.compile(r"[A-Za-z0-9_-]+")
WORLD = "stand-in:world"
SCRIPT = 3  # version of that one
BY_PRINCIPLE = "principle"  # the template


class Gate(Thresholds):
    """What a judge must reach, and whether it must be sure enough to decide alone."""

    by: list[str] | None = None
    """Tags whose values are categories that it must reach it in, each alone; by default all tags."""
    alone: bool = False
    """Label only from the confidence on from which its errors are shown to be at most `risk`."""


@stage(
    "judge", version=2, gives=Data,
    reads={"policy": Policy, "data": Data, "judge": CanJudge, "against": Data},
    run=f"{__name__}.run:run", work=f"{__name__}.work:work", report=f"{__name__}.report:report",
)  # fmt: skip
class JudgeStage(Answering):
    """A judge labels fresh answers of `policy` to the prompts of `data`, or without one what `data` asks; its
    soft labels land on top of the judgments there. `judge` is a stage that gives a reward model or a policy,
    a model by its folder (./folder) or hub name, a server (http://host:8000/v1#model), or a script that says
    that it is one (stand-in:longest; in a world stand-in:world, which knows the truth)."""

    FREE: ClassVar[tuple[str, ...]] = ("tokens", "at_once", "per_second")  # change no label
    later: ClassVar[tuple[str, ...]] = (*Answering.later, "examples", "references")
    policy: str | None = None
    judge: str
    how: Judge = Judge()
    constitution: str | None = (
        None  # a file, or default: each comparison is asked by a principle of it
    )
    principles: Count = 1  # so many, drawn for each comparison by weight
    without: list[str] = Field(default=[])  # ids of principles to leave out
    axes: list[str] = Field(default=[])  # of a rating, or a rubric's criteria
    checked: Annotated[int, Field(ge=0)] = (
        100  # held-out prompts that people judged: it is asked too
    )
    against: str | None = None  # other data whose held-out judgments it is measured on: surer ones
    gate: Gate | None = None  # what it must reach there before it may label
    gold: str | None = None  # a YAML file of gold answers
    examples: str | None = None  # a JSONL file of judged examples that it is shown first
    references: str | None = None  # a JSONL file of reference answers by prompt
    own: list[str] = Field(
        default=[]
    )  # sources of its own answers; a policy's of this recipe are known
    people: Literal["keep", "drop"] = "keep"  # what people said of the same prompts
    weight: Annotated[float, Field(gt=0.0)] | Literal["measured"] = (
        1.0  # of its vote; measured: 2·accuracy - 1
    )
    on_failure: Literal["stop", "drop"] = "stop"  # where requests were not answered
    tokens: Count | None = None  # stop after so many; run again to go on
    at_once: Count = 16
    per_second: Annotated[float, Field(ge=0.0)] = 0.0

    @property
    def asks(self) -> Judge:
        """How it is asked: by principles in their own words."""
        return (
            self.how.model_copy(update={"template": BY_PRINCIPLE})
            if self.constitution
            else self.how
        )

    @property
    def own_sources(self) -> list[str]:
        """The sources of answers that are the judge's own."""
        return [*self.own, *(f"model:{name}" for name in self.named("judge"))]

    def hashed(self) -> dict[str, Any]:
        return {k: v for k, v in super().hashed().items() if k not in self.FREE}

    def named(self, key: str) -> list[str]:
        """For `judge`, the stage it names, if it names one."""
        names = super().named(key)
        return names if key != "judge" else [n for n in names if STAGE.fullmatch(n)]

    def check_names(self, place: Callable[[str], str]) -> None:
        check_template(self.how.template)
        if self.constitution and self.how.template not in ("pairwise", BY_PRINCIPLE):
            raise ConfigError(
                "principles ask by their own", where=place("how"), mend="leave template out"
            )
        if not self.constitution and (self.without or self.how.template == BY_PRINCIPLE):
            raise ConfigError(
                "needs a constitution", where=place("constitution"), allowed="a file, default"
            )
        if self.constitution == DEFAULT:  # a file is read where the recipe lies
            read_constitution().but(self.without)
        self.how.check(place("how"))
        script = self.judge.partition("stand-in:")[2]
        if script and script not in (*STAND_INS, "world"):
            allowed = ", ".join((*STAND_INS, "world"))
            raise ConfigError(f"no stand-in {script!r}", where=place("judge"), allowed=allowed)
        self.asks.axes_of(self.axes)
        if self.how.template == "reference" and not self.references:
            raise ConfigError(
                "needs reference answers", where=place("references"), allowed="a JSONL file"
            )
        if (self.gate or self.weight == "measured") and not self.checked:
            raise ConfigError(
                "a judge is measured on held-out prompts that people judged", where=place("gate"),
                mend="checked above 0",
            )  # fmt: skip
        if self.gate and self.gate.alone and not self.asks.compares:
            raise ConfigError(
                "how sure it is, is known of pairs", where=place("gate.alone"),
                mend="a template of pairs, or leave it out",
            )  # fmt: skip

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """Its template's version, its files, a judge's folder, a script's version."""
        from accord.lm.model.chain import identity_or_name

        inputs = {"template": versioned(self.asks.template)}
        if self.judge == WORLD:
            inputs["judge"] = str(SCRIPT)
        elif not self.named("judge") and (place := named_folder(self.judge, folder)):
            inputs["judge"] = identity_or_name(str(place))
        files = {"gold": self.gold, "examples": self.examples, "references": self.references}
        for key, name in files.items():
            if name:
                file = folder / user_path(name)
                if not file.is_file():
                    raise ConfigError("no such file", where=f"stage {stage}, {key}: {file}")
                inputs[key] = file_hash(file)
        if self.constitution:
            where = place_of(self.constitution, folder)
            read_constitution(where).but(self.without)
            inputs["constitution"] = identity(where)
        return inputs
