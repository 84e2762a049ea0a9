"""The next round: a policy's fresh answers are judged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from accord.core.artifact import Data, Policy, Round
from accord.core.errors import ConfigError
from accord.core.refs import StoreRef
from accord.feedback.simulated import SimulatedRater
from accord.pipeline.stage import Count, StageConfig, stage


class Answering(StageConfig):
    """The keys of a stage that has fresh answers of a policy to the prompts of `data`."""

    later: ClassVar[tuple[str, ...]] = ("max_prompt", "beside", "tagged")
    policy: str | None
    data: str
    prompts: Count = 64  # of the training side
    held_out: Count = 32  # of the other: what `rm_check` measures on
    tagged: dict[str, list[str]] | None = None
    """Of the prompts only those with one of these values of each tag: {kind: [plain, dual]}."""
    n: Annotated[int, Field(ge=2, le=9)] = 3  # answers to each
    beside: Count | None = (
        None  # earlier answers to the prompt (written ones), judged among the fresh
    )
    max_new_tokens: Count = 64
    max_prompt: Count | None = (
        None  # longer ones (tokens) are left out; always those without room to answer
    )
    temperature: Annotated[float, Field(gt=0.0)] = 1.0
    batch_size: Count = 32


def _without_password(answers: str | None) -> str | None:
    return answers and str(StoreRef.parse(answers))


@stage(
    "ask", version=3, reads={"policy": Policy, "data": Data}, gives=Round, run=f"{__name__}.run:run",
    work=f"{__name__}.work:work",
)  # fmt: skip
class AskStage(Answering):
    """Fresh answers of a policy to the prompts of `data`, judged, on top of the judgments there: the next
    round of RLHF. Simulated raters answer at once. Without raters the questions wait for people: the stage
    stops and says where they are, and goes on when `answers` names the snapshot that holds the judgments."""

    policy: str
    raters: list[SimulatedRater] = Field(default=[])
    answers: Annotated[str | None, AfterValidator(_without_password)] = (
        None  # STORE@SNAPSHOT with people's judgments of these questions
    )
    overlap: Count = 2

    def check_names(self, place: Callable[[str], str]) -> None:
        if self.raters and self.answers:
            raise ConfigError("has raters too", where=place("answers"), mend="give one of them")
        if self.answers and not StoreRef.parse(self.answers).snapshot:
            raise ConfigError("is no STORE@SNAPSHOT", where=place("answers"))

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """The judgments that `answers` names, wherever they lie."""
        if not self.answers:
            return {}
        from accord.store import opened_snapshot

        with opened_snapshot(self.answers, folder) as snapshot:
            return {"answers": snapshot.sha256}
