"""`guard:` of a stage that trains on its own answers: its keys, which are read without numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from accord.core.config import Strict
from accord.core.errors import ConfigError
from accord.pipeline.stage import Count

__all__ = ["CHEAP", "GuardConfig", "looks"]

CHEAP = (
    "length", "repetition", "formatting", "hedging", "disclaimers", "flattery", "refusal", "vagueness",
    "judge_directed", "gibberish", "truncation", "constant_answer",
)  # fmt: skip
TESTS = 240  # beyond which 4,999 exchanges can't tell: the least p is 1/5,000
LOOKS = 20


class GuardConfig(Strict):
    """Look every few steps whether the policy's answers show a hack beside those of its first steps.

    `warn`: say so and go on. `raise_beta`: multiply β by `factor`. `rollback`: end, with the weights of the
    last look without an alarm. `ask`: write the answers to be judged by people, and go on."""

    action: Literal["warn", "raise_beta", "rollback", "ask"] = "warn"
    every: Count | None = None
    """Steps between looks; by default so many that there are at most 20. The answers since the last look are
    held against those of the first so many steps."""
    detectors: list[str | dict[str, Any]] | Literal["all"] = Field(default=list(CHEAP))
    at: Literal["warn", "fail"] = "warn"
    """From which verdict on it acts."""
    kl: Annotated[float, Field(gt=0.0)] | None = None
    """Nats an answer: an alarm too where the answers since the last look lie farther from the reference. What
    drifts is seen there before any detector can be sure."""
    rm_check: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """A stage of that kind: an alarm before the first step where a reward model is not shown to order the
    policy's own answers better than a coin does (its 95% interval begins at 0.5 or below)."""
    factor: Annotated[float, Field(gt=1.0)] = 2.0
    items: Count = 40
    """Of `ask`: at most so many answers."""

    def check(self, steps: int, place: Callable[[str], str]) -> None:
        """ConfigError where it could never tell, or names what there is not."""
        from accord.detect.base import configured, needs

        makes = configured(self.names(), place("guard.detectors"))
        for name, *_ in makes:
            if lacks := needs(name):
                what = f"{name} needs {lacks}, which a run on own answers does not know"
                raise ConfigError(
                    what,
                    where=place("guard.detectors"),
                    mend=f"accord audit --detector {name}, after it",
                )
        every, n = looks(self, steps)
        if n < 1:
            raise ConfigError(
                f"never looks: {steps} steps, and the first {every} are what is compared with",
                where=place("guard.every"),
                allowed=f"at most {max(1, steps // 2)}",
            )
        if n * len(makes) > TESTS:
            raise ConfigError(
                f"{n} looks at {len(makes)} detectors are too many for any to be clear",
                where=place("guard.every"),
                allowed=f"at least {-(-steps // (1 + TESTS // len(makes)))}, or fewer detectors",
            )

    def names(self) -> Sequence[str | Mapping[str, Any]]:
        """Of all those that answers and their rewards are enough for."""
        from accord.detect.base import configured, needs

        if self.detectors != "all":
            return self.detectors
        return [name for name, *_ in configured("all") if not needs(name)]


def looks(config: GuardConfig, steps: int) -> tuple[int, int]:
    """Steps between looks, and how many there are: the first so many are the start."""
    every = config.every or max(1, -(-steps // (LOOKS + 1)))
    return every, max(0, steps // every - 1)
