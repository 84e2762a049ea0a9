"""The stage kinds and their keys: what a recipe may say. Light: no torch here."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from accord.core.config import validate
from accord.core.errors import ConfigError
from accord.core.refs import StoreRef, hidden, is_url
from accord.feedback.simulated import SimulatedRater
from accord.lm.lora import Lora
from accord.pipeline.rlhf_kinds import (
    BestOfNStage,
    GrpoStage,
    OnlineDpoStage,
    PpoStage,
    RlhfStage,
    RlooStage,
)
from accord.pipeline.stage_config import DATA, POLICY, Count, Share, StageConfig

__all__ = ["DATA", "KINDS", "POLICY", "RlhfStage", "StageConfig"]

Average = Literal["pair", "prompt"]


def _without_password(answers: str | None) -> str | None:
    return answers and str(StoreRef.parse(answers))


class Simulate(StageConfig):
    """A study in a world whose truth is known: prompts, candidate responses, simulated raters."""

    kind: Literal["simulate"]
    world: str = "support/world.yaml"
    raters: list[SimulatedRater] = Field(min_length=1)
    overlap: Count = 2  # raters per comparison
    ranked: Share = 0.25  # share of prompts that are ranked instead of compared
    demonstrations: Count = 6  # per fact
    padded: Share = 0.34  # share of demonstrations written at length
    test: Share = 0.2  # share of prompts held out


class Import(StageConfig):
    """Judgments from a file."""

    kind: Literal["import"]
    file: str
    format: str = "auto"
    limit: Count | None = None
    skip_bad: bool = False
    max_prompt_chars: Count | None = None
    max_response_chars: Count | None = None
    test: Share = 0.1


class Open(StageConfig):
    """A snapshot of a store that exists already (`data: study.db@v3` is short for it)."""

    kind: Literal["open"]
    store: Annotated[str, AfterValidator(hidden)]  # a file or URL
    snapshot: str
    test: Share = 0.1

    def hashed(self) -> dict[str, Any]:
        """A database is known by its snapshot's hash, wherever it is served."""
        return super().hashed() | ({"store": "database"} if is_url(self.store) else {})


class Ask(StageConfig):
    """Fresh answers of a policy to the prompts of `data`, judged, on top of the judgments there: the next
    round of RLHF. Simulated raters answer at once. Without raters the questions wait for people: the stage
    stops and says where they are, and goes on when `answers` names the snapshot that holds the judgments."""

    refs: ClassVar = {"policy": POLICY, "data": DATA}
    later: ClassVar = ("max_prompt",)
    kind: Literal["ask"]
    policy: str
    data: str
    prompts: Count = 64  # of the training side
    held_out: Count = 32  # of the other: what `rm_check` measures on
    n: Annotated[int, Field(ge=2, le=9)] = 3  # answers to each
    raters: list[SimulatedRater] = Field(default=[])
    answers: Annotated[str | None, AfterValidator(_without_password)] = (
        None  # STORE@SNAPSHOT with people's judgments of these questions
    )
    overlap: Count = 2
    max_new_tokens: Count = 64
    max_prompt: Count | None = (
        None  # longer ones (tokens) are left out; always those without room to answer
    )
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    batch_size: Count = 32

    def check_names(self, place: Callable[[str], str]) -> None:
        if self.raters and self.answers:
            raise ConfigError("has raters too", where=place("answers"), mend="give one of them")
        if self.answers and not StoreRef.parse(self.answers).snapshot:
            raise ConfigError("is no STORE@SNAPSHOT", where=place("answers"))


class RmCheck(StageConfig):
    """Reward models on the fresh answers of a round: how far each orders them as the raters do."""

    refs: ClassVar = {"models": ("reward",), "data": ("ask",)}
    kind: Literal["rm_check"]
    models: list[str] = Field(min_length=1)
    data: str


class Training(StageConfig):
    """Keys every training stage has; `train` is checked against accord.train.optimise.Optimise."""

    refs: ClassVar = {"init": POLICY, "data": DATA}
    later: ClassVar = ("skip_bad",)
    init: str = "base"
    data: str
    tune: Lora | Literal["full"] = Lora()
    lr: Annotated[float, Field(gt=0.0)] = 1e-4
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup: Share = 0.05
    epochs: Annotated[float, Field(gt=0.0)] = 1.0
    max_steps: Count | None = None
    batch_size: Count = 8
    tokens: Annotated[int, Field(ge=16)] | Literal["auto"] = 1024
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    clip: Annotated[float, Field(gt=0.0)] = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    save_every: Count = 20
    eval_every: Count | None = None
    max_prompt: Count = 512
    max_completion: Count = 256
    limit: Count | None = None  # prompts to train on
    eval_limit: Count | None = None  # held-out prompts to evaluate on
    skip_bad: bool | None = None  # leave out and count rows that the chat template refuses

    def optimise_keys(self) -> dict[str, Any]:
        """The keys that go to the optimise loop."""
        keys = ("lr", "schedule", "warmup", "epochs", "max_steps", "batch_size", "tokens")
        more = ("weight_decay", "clip", "precision", "save_every", "eval_every")
        return {k: getattr(self, k) for k in (*keys, *more)}


class Sft(Training):
    """Supervised fine-tuning on the snapshot's demonstrations (or its chosen responses)."""

    kind: Literal["sft"]
    on: Literal["demonstrations", "chosen"] = "demonstrations"
    all_turns: bool = True


class _Comparing(Training):
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


FOLD = re.compile(r"([1-9][0-9]*)/([1-9][0-9]*)")


class _Member(Training):
    """A reward model that may be one of several: `seed` and `fold` set it apart from the others of the same
    recipe. `fold: 1/3` trains on all training prompts but the first of three parts."""

    later: ClassVar = ("seed", "fold", "skip_bad")
    seed: int | None = None  # another start and order; mixed with the recipe's
    fold: str | None = None

    def check_names(self, place: Callable[[str], str]) -> None:
        found = FOLD.fullmatch(self.fold or "1/2")
        if not found or not 1 < int(found[2]) >= int(found[1]):
            raise ConfigError(
                f"{self.fold!r} is no fold",
                where=place("fold"),
                allowed="PART/PARTS: 2/3 leaves out the second of three parts of the training prompts",
            )


class Reward(_Comparing, _Member):
    """A reward model fitted to the snapshot's comparisons."""

    kind: Literal["reward"]
    loss: dict[str, Any] = Field(default={"name": "bradley_terry"})
    average: Average = "prompt"
    margin: Annotated[float, Field(ge=0.0)] = 0.0  # logits per point of strength above 1

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.losses.reward import reward_losses

        super().check_names(place)
        reward_losses.configured(self.loss, place("loss"))


class Process(_Member):
    """A process reward model fitted to the snapshot's labelled steps."""

    kind: Literal["process"]


class RewardAxes(_Member):
    """A reward model with one head for each axis of the snapshot's ratings."""

    kind: Literal["reward_axes"]
    axes: list[str] = Field(default=[])  # all there are
    average: Average = "prompt"


class PreferenceStage(_Comparing):
    """DPO and its family on the snapshot's comparisons."""

    kind: Literal["preference"]
    loss: dict[str, Any] = Field(default={"name": "dpo"})
    pairs: Literal["all", "best"] = "all"  # "best": a prompt's best response against each other
    average: Average = "pair"
    share: Literal["prompt", "pair"] = "prompt"

    def check_names(self, place: Callable[[str], str]) -> None:
        from accord.losses.families import choose_loss

        choose_loss(self.loss, place("loss"))


SWEPT = (
    "lr", "schedule", "warmup", "epochs", "max_steps", "batch_size", "weight_decay", "clip", "precision",
    "tune", "loss",
)  # fmt: skip
MOST_POINTS = 64


class Sweep(PreferenceStage):
    """Preference training at every point of a grid; later stages see the point with the best held-out
    accuracy. What decides which rows are read can't be swept: the points share them."""

    kind: Literal["sweep"]  # type: ignore[assignment]
    over: dict[str, list[Any]] = Field(min_length=1)  # dotted key -> values

    def points(self) -> list[dict[str, Any]]:
        """The grid, the last key changing fastest."""
        return [
            dict(zip(self.over, v, strict=True)) for v in itertools.product(*self.over.values())
        ]

    def at(self, point: dict[str, Any], where: str = "over") -> PreferenceStage:
        """The preference stage of one point; ConfigError names a wrong key or value."""
        plain = self.model_dump(exclude={"over"}) | {"kind": "preference"}
        for path, value in point.items():
            *outer, key = path.split(".")
            target: Any = plain
            for name in outer:
                target = target.get(name) if isinstance(target, dict) else None
            if not isinstance(target, dict):
                raise ConfigError(f"{path!r} is no key of the stage", where=where)
            target[key] = value
        return validate(PreferenceStage, plain, where=where)

    def check_names(self, place: Callable[[str], str]) -> None:
        for key, values in self.over.items():
            where = place(f"over.{key}")
            if key.partition(".")[0] not in SWEPT:
                raise ConfigError(f"{key!r} can't be swept", where=where, allowed=", ".join(SWEPT))
            if not values or any(v in values[:n] for n, v in enumerate(values)):
                what = "holds a value twice" if values else "has no value"
                raise ConfigError(what, where=where, mend="give each value once")
        if len(self.points()) > MOST_POINTS:
            raise ConfigError(
                f"{len(self.points())} points",
                where=place("over"),
                allowed=f"at most {MOST_POINTS}",
            )
        for point in self.points():
            self.at(point, place("over")).check_names(lambda key: place("over"))


class Eval(StageConfig):
    """Answers of policies to held-out prompts, and what the evaluations say of them."""

    refs: ClassVar = {"policies": POLICY, "data": DATA}
    later: ClassVar = ("max_prompt",)
    kind: Literal["eval"]
    policies: list[str] = Field(min_length=1)
    data: str
    prompts: Count = 64  # held-out prompts to answer
    max_new_tokens: Count = 64
    max_prompt: Count | None = (
        None  # longer ones (tokens) are left out; always those without room to answer
    )
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    batch_size: Count = 32


class Compare(StageConfig):
    """All evaluated policies beside each other: reward, KL from the reference, paired differences."""

    refs: ClassVar = {"eval": ("eval",), "reward": ("reward",), "baseline": POLICY}
    kind: Literal["compare"]
    eval: str
    reward: str | None = None
    baseline: str = "base"  # reference of the KL


KINDS: dict[str, type[StageConfig]] = {
    "simulate": Simulate,
    "import": Import,
    "open": Open,
    "sft": Sft,
    "reward": Reward,
    "process": Process,
    "reward_axes": RewardAxes,
    "preference": PreferenceStage,
    "sweep": Sweep,
    "ppo": PpoStage,
    "rloo": RlooStage,
    "grpo": GrpoStage,
    "online_dpo": OnlineDpoStage,
    "best_of_n": BestOfNStage,
    "ask": Ask,
    "rm_check": RmCheck,
    "eval": Eval,
    "compare": Compare,
}
