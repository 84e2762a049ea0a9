"""Rewards that are rules: patterns, format, length, an exact answer.

Legend: E exchanges.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import regex as regular
from pydantic import Field

from accord.core.errors import ConfigError
from accord.core.registry import NonNegative, Positive
from accord.core.types import Exchange
from accord.rewards.base import Context, Reward, reward

__all__: list[str] = []

Words = Annotated[list[str], Field(min_length=1)]
Matches = Callable[[str], Iterator[Any]]


def _pattern(pattern: str, where: str, seconds: float | None) -> Matches:
    """What finds the pattern in a text. One that backtracks without end lets other threads run (`re` does
    not) and stops after `seconds` with TimeoutError."""
    try:
        compiled = regular.compile(pattern, regular.IGNORECASE | regular.MULTILINE)
    except regular.error as error:
        raise ConfigError(f"no regular expression ({error}): {pattern!r}", where=where) from None
    return functools.partial(compiled.finditer, concurrent=True, timeout=seconds)


@reward("pattern")
def pattern(context: Context, *, regex: str, hit: float = 1.0, miss: float = 0.0) -> Reward:
    """`hit` where the answer matches the regular expression (case ignored), else `miss`."""
    matches = _pattern(regex, "rewards.regex", context.seconds)

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        return [hit if any(matches(e.response.text)) else miss for e in exchanges]

    return score


@reward("statements")
def statements(
    context: Context, *, required: list[str] = [], forbidden: list[str] = [],  # noqa: B006
) -> Reward:  # fmt: skip
    """Share of the required statements an answer makes minus share of the forbidden ones it makes.
    Each is a regular expression; case is ignored."""
    if not required and not forbidden:
        raise ConfigError("needs required or forbidden statements", where="rewards.statements")
    must = [_pattern(p, "rewards.required", context.seconds) for p in required]
    never = [_pattern(p, "rewards.forbidden", context.seconds) for p in forbidden]

    def share(patterns: list[Matches], text: str) -> float:
        return sum(any(p(text)) for p in patterns) / len(patterns) if patterns else 0.0

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        return [share(must, e.response.text) - share(never, e.response.text) for e in exchanges]

    return score


@reward("length_penalty")
def length_penalty(
    context: Context, *, per_token: Positive = 0.01, budget: NonNegative = 0.0
) -> Reward:
    """-per_token for each token of the answer over `budget` (the policy's tokens)."""

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        lengths = [context.count_tokens(e.response.text) for e in exchanges]
        return [-per_token * max(0.0, n - budget) for n in lengths]

    return score


@reward("exact_answer")
def exact_answer(
    context: Context,
    *,
    after: str = r"####\s*",
    tag: str = "answer",
    compare: Literal["number", "text"] = "number",
) -> Reward:
    """1 where what follows the last match of `after` equals the prompt's tag `tag`, else 0; NaN for a
    prompt without the tag. Numbers are compared as numbers ("1,000" is 1000.0, "7/2" is 3.5): the first line
    must be one number and nothing else but a sign of currency before it, a word of unit and a full stop
    after; then NaN too where the tag is no such number. 0 where the limit cut an answer off within what is
    compared: "12" may be the beginning of 128."""
    marker = _pattern(after, "rewards.after", context.seconds)

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        scores = []
        for e in exchanges:
            truth = e.prompt.tags.get(tag)
            given: str | None = None
            for match in marker(e.response.text):
                given = e.response.text[match.end() :]
            if given is not None and _cut_off(e, given, compare):
                given = None
            scores.append(math.nan if truth is None else _same(given, truth, compare))
        return scores

    return score


_ONE = r"((?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d+)(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+(?:e[-+]?\d+)?)"
NUMBER = re.compile(
    rf"[$€£¥]? ?([-+−]?) ?[$€£¥]? ?{_ONE}(?: ?/ ?{_ONE})? ?(?:[^\W\d]|[%°$€£¥/^])*\.?",
    re.IGNORECASE,
)


def _number(text: str) -> float:
    """The number that the first line of a text is; NaN where it is anything else."""
    line = " ".join(text.strip().partition("\n")[0].strip("* \t").split())
    match = NUMBER.fullmatch(line)
    if not match:
        return math.nan
    sign, *parts = match.groups(default="1")
    above, below = (float(part.replace(",", "")) for part in parts)
    return (-above if sign in ("-", "−") else above) / (below or math.nan)


def _cut_off(exchange: Exchange, given: str, compare: str) -> bool:
    """Whether what is compared, a number's line or all of a text, may have gone on."""
    ended = compare == "number" and "\n" in given.lstrip()
    return exchange.response.finish == "length" and not ended


def _same(given: str | None, truth: str, compare: str) -> float:
    """1 or 0; NaN where the truth should be a number and is none."""
    if compare == "text":
        return float(given is not None and given.strip().casefold() == truth.strip().casefold())
    right = _number(truth)
    same = math.isclose(_number(given or ""), right, rel_tol=1e-9)
    return math.nan if math.isnan(right) else float(same)
