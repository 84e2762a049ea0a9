"""Answers of policies to held-out prompts, and what the evaluations say of them."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from accord.core.artifact import Answers, Data, Policy
from accord.pipeline.stage import Count, StageConfig, stage


@stage(
    "eval", version=4, reads={"policies": Policy, "data": Data}, gives=Answers, each="policies",
    run=f"{__name__}.run:run", work=f"{__name__}.run:work",
)  # fmt: skip
class Eval(StageConfig):
    """Answers of policies to held-out prompts, and what the evaluations say of them."""

    later: ClassVar = ("max_prompt",)
    policies: list[str] = Field(min_length=1)
    data: str
    prompts: Count = 64  # held-out prompts to answer
    max_new_tokens: Count = 64
    max_prompt: Count | None = (
        None  # longer ones (tokens) are left out; always those without room to answer
    )
    temperature: Annotated[float, Field(ge=0.0)] = 0.0
    batch_size: Count = 32
