"""Answers of policies to held-out prompts, and what the evaluations say of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from accord.core.artifact import Answers, Data, Policy
from accord.core.errors import ConfigError
from accord.evals.base import DEFAULT, ChosenEvaluation, configured, known_measures
from accord.pipeline.stage import Count, StageConfig, stage


@stage(
    "eval", version=5, reads={"policies": Policy, "data": Data}, gives=Answers, each="policies",
    run=f"{__name__}.run:run", work=f"{__name__}.work:work", measures=known_measures,
)  # fmt: skip
class EvalStage(StageConfig):
    """Answers of policies to held-out prompts, and what the evaluations say of them."""

    later: ClassVar[tuple[str, ...]] = ("max_prompt", "evals")
    policies: list[str] = Field(min_length=1)
    data: str
    prompts: Count = 64  # held-out prompts to answer
    max_new_tokens: Count = 64
    max_prompt: Count | None = (
        None  # longer ones (tokens) are left out; always those without room to answer
    )
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    batch_size: Count = 32
    evals: list[str | dict[str, Any]] | None = (
        None  # by default the truth where it is known, and length
    )

    def evaluations(self, where: str = "evals") -> list[ChosenEvaluation]:
        return configured(DEFAULT if self.evals is None else self.evals, where)

    def check_names(self, place: Callable[[str], str]) -> None:
        names = [e.name for e in self.evaluations(place("evals"))]
        if not names or len(set(names)) < len(names):
            what = "names one twice" if names else "names none"
            raise ConfigError(what, where=place("evals"), mend="name each once")

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """Versions of its evaluations, where they are not the first."""
        return {f"evaluation {e.name}": str(e.version) for e in self.evaluations() if e.version > 1}
