"""How long a prompt may be: what a run allows, and the positions its model has."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from accord.core.errors import DataError
from accord.core.types import Prompt
from accord.lm.chat import render_prompt
from accord.lm.model.check import room
from accord.lm.model.load import LanguageModel

__all__ = ["check_some", "fitting", "left_out_notes", "positions"]


def positions(model: Any) -> float:
    """The most tokens a model reads as it was taught to; infinite where its config names no limit."""
    limit, _ = room(model.config)
    return math.inf if limit is None else limit


def fitting(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    max_new_tokens: int,
    max_prompt: int | None = None,
    *,
    most: float = math.inf,
    read_by: Callable[[Prompt], bool] = lambda prompt: True,
) -> tuple[list[Prompt], Counter[str]]:
    """The prompts that can be answered in `max_new_tokens` (`most`: positions of others that read as much),
    and how many can't, by reason. Asked before a run, so that none ends at the step that draws a long one.
    `read_by`: whether the reward models, which count in tokens of their own, can read it."""
    left = min(positions(lm.model), most) - max_new_tokens
    kept, left_out = [], Counter[str]()
    for prompt in prompts:
        tokens = len(render_prompt(lm.tokenizer, prompt))
        if max_prompt is not None and tokens > max_prompt:
            left_out[f"prompt over {max_prompt} tokens"] += 1
        elif tokens > left:
            why = f"which leaves no room for max_new_tokens {max_new_tokens}"
            left_out[f"prompt over {left:g} tokens, {why}"] += 1
        elif not read_by(prompt):
            left_out["prompt longer than a reward model reads"] += 1
        else:
            kept.append(prompt)
    return kept, left_out


def check_some(kept: Sequence[Prompt], left_out: Mapping[str, int], where: str) -> None:
    """DataError where no prompt is left to answer."""
    if left_out and not kept:
        raise DataError(
            f"no prompt is left to answer: {'; '.join(left_out_notes(left_out))}",
            where=where,
            mend="raise max_prompt, lower max_new_tokens, or shorten the prompts",
        )


def left_out_notes(left_out: Mapping[str, int], what: str = "prompts") -> list[str]:
    """What was left out, a line a reason."""
    return [f"{what} left out: {n} ({reason})" for reason, n in sorted(left_out.items())]
