"""Rewards of a judge that is read by log-probs: a weighted checklist, one criterion at a time, and a rating.

    rubric        (Σ w·P(Yes) - least) / (most - least)     least, most: sums of the weights below, above 0
    judge_rating  (Σ step·P(step) - 1) / 4                  of steps 1 to 5 ("direct" RLAIF, Lee et al. 2023)

A weight below 0 is of a fault. Lines may be of some prompts alone (`where`), so each prompt has its own list;
where no line applies there is no score. An answer of which one criterion has no verdict has no score (NaN):
what is missing is neither met nor failed (Gunjal et al. 2025 leave that open).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from accord.core.config import Strict
from accord.core.errors import ConfigError, ModelError
from accord.core.types import Exchange, Prompt
from accord.judges.ask import Judge, judge_items
from accord.judges.backends import Backend, sampled_by
from accord.judges.cache import Cache
from accord.judges.templates import JudgedItem
from accord.judges.verdict import JudgeVerdict
from accord.rewards.base import Context, Reward, reward

__all__ = ["ChecklistLine", "checklist"]

Asked = Callable[[Sequence[JudgedItem]], list[JudgeVerdict]]
Read = Literal["logprobs", "text"]
STEPS = range(1, 6)


class ChecklistLine(Strict):
    """One line of a checklist."""

    text: Annotated[str, Field(min_length=1)]
    weight: float = 1.0
    """How much it counts; below 0 it is a fault."""
    where: dict[str, list[str]] = Field(default={})
    """Of prompts with one of these values of each tag: {topic: [boots]}, or a tag that names one prompt."""

    def of(self, prompt: Prompt) -> bool:
        """Whether it applies to a prompt."""
        return all(prompt.tags.get(tag) in values for tag, values in self.where.items())


@reward("rubric")
def rubric(
    context: Context,
    *,
    judge: str,
    criteria: Annotated[list[str | ChecklistLine], Field(min_length=1)],
    read: Read = "logprobs",
) -> Reward:
    """A weighted checklist in [0, 1]: `judge` says of each criterion, asked alone, whether it is met."""
    lines = [
        ChecklistLine.model_validate({"text": c} if isinstance(c, str) else c) for c in criteria
    ]
    if not any(c.weight for c in lines):
        raise ConfigError("no criterion counts", where="rewards.criteria", mend="give weights")
    asked = _asked(context, judge, Judge(template="rubric", read=read))

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        lists = [[line for line in lines if line.of(e.prompt)] for e in exchanges]
        items = [
            JudgedItem(e.prompt, (e.response,), line.text)
            for e, mine in zip(exchanges, lists, strict=True)
            for line in mine
        ]
        met = iter([v.probs[1] if v.probs else math.nan for v in asked(items)])
        return [
            checklist([line.weight for line in mine], list(itertools.islice(met, len(mine))))
            for mine in lists
        ]

    return score


@reward("judge_rating")
def judge_rating(
    context: Context, *, judge: str, axis: str = "overall", read: Read = "logprobs"
) -> Reward:
    """What a judge rates an answer on an axis, from 1 to 5 by its log-probs, scaled to [0, 1]."""
    asked = _asked(context, judge, Judge(template="rating", read=read))

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        verdicts = asked([JudgedItem(e.prompt, (e.response,), axis) for e in exchanges])
        return [_rated(v) for v in verdicts]

    return score


def checklist(weights: Sequence[float], met: Sequence[float]) -> float:
    """The weighted sum of what is met, scaled to [0, 1]; NaN where one is, or nothing counts."""
    least, most = sum(min(w, 0.0) for w in weights), sum(max(w, 0.0) for w in weights)
    total = sum(w * p for w, p in zip(weights, met, strict=True))
    return (total - least) / (most - least) if most > least else math.nan


def _rated(verdict: JudgeVerdict) -> float:
    if not verdict.probs:
        return math.nan
    mean = sum(step * p for step, p in zip(STEPS, verdict.probs, strict=True))
    return (mean - STEPS[0]) / (STEPS[-1] - STEPS[0])


def _asked(context: Context, name: str, judge: Judge) -> Asked:
    """The judge, asked the same once in a run. ModelError where it answers nothing at all."""
    if name.startswith("stand-in:"):
        raise ConfigError(
            "a script only compares answers", where="rewards.judge",
            allowed="a model's folder or hub name, a server (http://host:8000/v1#model)",
        )  # fmt: skip
    backend: Backend = sampled_by(context.sampler(name), name)
    cache = Cache(":memory:")

    def asked(items: Sequence[JudgedItem]) -> list[JudgeVerdict]:
        verdicts, spent = judge_items(judge, backend, items, cache)
        if spent.failed and not any(v.probs for v in verdicts):
            raise ModelError(next(iter(spent.failed.values())), where=f"judge {name}")
        return verdicts

    return asked
