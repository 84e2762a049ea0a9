"""What a policy answered: prompts, texts, and the very tokens it sampled, as trees.

Legend: G prompts, K answers to each, C = G·K continuations in order, S their tokens, contiguous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from accord.core.types import Exchange, Prompt, Response
from accord.lm.chat import render_exchange
from accord.lm.load import LanguageModel
from accord.lm.sample import LocalSampler, Sampler, Sampling
from accord.lm.tree import Tree

__all__ = ["Rollout", "roll_out", "roll_out_through"]


@dataclass(frozen=True)
class Rollout:
    """`trees` hold the tokens sampled, stop token included where there was one; a cut-off answer has
    none, and none is invented. `sampled_S` are the sampler's own log-probs, where it tells them."""

    prompts: tuple[Prompt, ...]
    responses: tuple[tuple[Response, ...], ...]
    trees: tuple[Tree, ...]
    sampled_S: Tensor | None = None

    @property
    def exchanges(self) -> list[Exchange]:
        """All C exchanges in order."""
        return [
            Exchange(prompt=p, response=r)
            for p, answers in zip(self.prompts, self.responses, strict=True)
            for r in answers
        ]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each continuation."""
        return tuple(len(c) for tree in self.trees for c in tree.completions)

    @property
    def ended_C(self) -> Tensor:
        """Which answers ended by themselves, and were not cut off."""
        return torch.tensor([r.finish == "stop" for rs in self.responses for r in rs])


def roll_out(
    lm: LanguageModel,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    batch_size: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Rollout:
    """Sample from the model as it stands (adapters as they play)."""
    sampler = LocalSampler(lm, batch_size=batch_size, source="policy")
    samples = sampler.tokens(prompts, sampling, on_progress)
    responses = tuple(
        tuple(sampler.response(row, sampling, k) for k, row in enumerate(rows)) for rows in samples
    )
    trees = tuple(Tree(rows[0].prompt, tuple(tuple(r.ids) for r in rows)) for rows in samples)
    sampled = [x for rows in samples for row in rows for x in row.logps]
    return Rollout(tuple(prompts), responses, trees, torch.tensor(sampled))


def roll_out_through(
    sampler: Sampler, tokenizer: object, prompts: Sequence[Prompt], sampling: Sampling
) -> Rollout:
    """Answers from anywhere (a server): their texts rendered to the policy's tokens again. An answer
    that was cut off gets no end-of-turn token."""
    kept: list[tuple[Prompt, tuple[Response, ...], Tree]] = []
    for prompt, answers in zip(prompts, sampler(prompts, sampling), strict=True):
        done = [render_exchange(tokenizer, prompt, r, sampled=True) for r in answers]  # type: ignore[arg-type]
        pairs = [(r, d) for r, d in zip(answers, done, strict=True) if d.completion]
        if pairs:
            tree = Tree(pairs[0][1].prompt, tuple(d.completion for _, d in pairs))
            kept.append((prompt, tuple(r for r, _ in pairs), tree))
    columns = zip(*kept, strict=True) if kept else ((), (), ())
    found, responses, trees = (tuple(column) for column in columns)
    return Rollout(found, responses, trees)  # type: ignore[arg-type]
