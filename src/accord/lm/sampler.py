"""How to sample, and what a sampler is: a local model, a server, a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Protocol

from pydantic import Field

from accord.core.config import Strict, validate
from accord.core.errors import ConfigError
from accord.core.types import Prompt, Response

__all__ = ["OptionScorer", "Sampler", "Sampling", "sampling_of"]


class Sampling(Strict):
    """How to sample."""

    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    """Longer answers are cut and marked `finish="length"`."""
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    """0 is greedy."""
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Keep the smallest set of tokens with this much probability; 1 keeps all."""
    top_k: Annotated[int, Field(ge=0)] = 0
    """Keep this many tokens; 0 keeps all."""
    n: Annotated[int, Field(ge=1)] = 1
    """Samples per prompt."""
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """An answer ends before any of these strings."""
    seed: int = 17


class Sampler(Protocol):
    """Prompts in, `n` responses to each out, in order: a local model, a server or a stand-in."""

    def __call__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Response]]: ...


class OptionScorer(Protocol):
    """What a sampler may also be: for each prompt the log-prob (nats) of each option as the whole beginning
    of its answer, and how many tokens were read for it."""

    def option_logps(
        self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]
    ) -> list[tuple[tuple[float, ...], int]]: ...


def sampling_of(keys: Mapping[str, Any], batch_size: int = 1) -> Sampling:
    """What a user asked for by keys; ConfigError where a key or the batch size is wrong."""
    if batch_size < 1:
        raise ConfigError(f"got {batch_size}", where="batch_size", allowed=">= 1")
    return validate(Sampling, dict(keys))
