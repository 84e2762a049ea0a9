"""Requests from many threads are answered together, each by itself where one is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from accord.core.errors import DataError
from accord.core.types import Prompt, Response
from accord.inspect.batches import Batches
from accord.lm.sampler import Sampling

GREEDY = Sampling(temperature=0.0)


class Counting:
    """Says how many prompts came with it, and by which seed; no prompt of "long" fits."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.here = threading.Semaphore(1)

    def __call__(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Response]]:
        assert self.here.acquire(blocking=False), "asked twice at once"
        try:
            if any(p.last == "long" for p in prompts):
                raise DataError("does not fit")
            self.calls.append(len(prompts))
            return [[Response(text=f"{p.last} {sampling.seed}")] for p in prompts]
        finally:
            self.here.release()


def asked(batches: Batches, texts: Sequence[str], how: Sampling) -> list[Any]:
    def one(text: str) -> str:
        try:
            return batches.ask(Prompt.user(text), how)[0].text
        except DataError as error:
            return str(error)

    with ThreadPoolExecutor(len(texts)) as pool:
        return list(pool.map(one, texts))


def test_together_and_in_order() -> None:
    sampler = Counting()
    texts = [f"q{k}" for k in range(20)]
    assert asked(Batches(sampler, 8), texts, GREEDY) == [f"{t} 17" for t in texts]
    assert max(sampler.calls) <= 8
    assert len(sampler.calls) < 20
    assert sum(sampler.calls) == 20


def test_one_that_is_too_long_takes_no_other_with_it() -> None:
    said = asked(Batches(Counting(), 8), ["a", "long", "b"], GREEDY)
    assert said == ["a 17", "does not fit", "b 17"]


@pytest.mark.parametrize(("temperature", "seeds"), [(1.0, {17, 18, 19}), (0.0, {17})])
def test_the_same_prompt_again_draws_anew(temperature: float, seeds: set[int]) -> None:
    said = asked(Batches(Counting(), 8), ["a"] * 3, Sampling(temperature=temperature))
    assert {int(t.split()[1]) for t in said} == seeds
