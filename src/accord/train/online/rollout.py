"""What a policy answered: prompts, texts, and the very tokens it sampled, as trees.

Legend: G prompts, K answers to each, C = G·K continuations in order, S their tokens, contiguous.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from accord.core.errors import RunError
from accord.core.types import Exchange, Prompt, Response
from accord.lm.chat import Rendered, render_exchange, stop_ids
from accord.lm.model.load import LanguageModel
from accord.lm.remote import SampledTokens, ServerSampler
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampler, Sampling
from accord.lm.trees.tree import Tree
from accord.train.settings import OnPolicy

__all__ = ["Rollout", "roll_out", "roll_out_through", "sampling"]


def sampling(cfg: OnPolicy, seed: int, n: int | None = None) -> Sampling:
    """How answers are drawn."""
    return Sampling(
        max_new_tokens=cfg.max_new_tokens, temperature=cfg.temperature, n=n or cfg.n, stop=cfg.stop, seed=seed
    )  # fmt: skip


@dataclass(frozen=True)
class Rollout:
    """`trees` hold the tokens sampled, stop token included where there was one; a cut-off answer has
    none, and none is invented. `sampled_S` are the sampler's own log-probs, NaN where it tells none, and
    `tempered` whether they are those at the sampling temperature. `untold`, `unmatched`: answers of which a
    server told none, or of other tokens than these; `left_out`: those that can't be trained on."""

    prompts: tuple[Prompt, ...]
    responses: tuple[tuple[Response, ...], ...]
    trees: tuple[Tree, ...]
    sampled_S: Tensor | None = None
    tempered: bool = True
    untold: int = 0
    unmatched: int = 0
    left_out: int = 0

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
        """Which answers ended by themselves (their turn, or with a stop string), and were not cut off."""
        return torch.tensor([r.finish != "length" for rs in self.responses for r in rs])


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
    sampler: Sampler,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    positions: float = math.inf,
) -> Rollout:
    """Answers from anywhere (a server): their texts rendered to the policy's tokens again. Only one that
    ended its turn gets an end-of-turn token; one that a stop string ended gets that string. Left out are
    answers of no token, of more than the model's `positions`, and those of which it isn't known what ended
    them (a filter, an abort): the policy did not."""
    kept: list[tuple[Prompt, tuple[Response, ...], Tree]] = []
    sampled: list[float] = []
    untold = unmatched = left_out = 0
    for prompt, answers in zip(prompts, _answers(sampler, prompts, sampling), strict=True):
        known = [(r, tokens) for r, tokens in answers if r.finish]
        done = [(r, _tokens(tokenizer, prompt, r, sampling), tokens) for r, tokens in known]
        done = [x for x in done if 0 < len(x[1].completion) <= positions - len(x[1].prompt)]
        left_out += len(answers) - len(done)
        if not done:
            continue
        tree = Tree(done[0][1].prompt, tuple(d.completion for _, d, _ in done))
        kept.append((prompt, tuple(r for r, _, _ in done), tree))
        for r, rendered, tokens in done:
            logps = None if tokens is None else _matched(tokenizer, rendered, tokens, r.finish)
            untold += tokens is None
            unmatched += tokens is not None and logps is None
            sampled += logps or [math.nan] * len(rendered.completion)
    if not kept:
        raise RunError(
            f"of {left_out} answers none can be trained on: they are empty, too long, or nothing says what "
            "ended them",
            where="sampler",
            mend="look at what the server answers",
        )
    asked, responses, trees = zip(*kept, strict=True)
    logps_S = torch.tensor(sampled)
    return Rollout(asked, responses, trees, logps_S, False, untold, unmatched, left_out)


def _tokens(tokenizer: Any, prompt: Prompt, response: Response, sampling: Sampling) -> Rendered:
    """The tokens of an answer, and of the stop string that ended it, which the policy wrote as well. A stop
    string that is the name of a token that ends turns is that token: the turn ended."""
    only = sampling.stop[0] if len(sampling.stop) == 1 else ""
    by = (response.sampling or {}).get("ended_by", only) if response.finish == "string" else ""
    ends = by.strip() and tokenizer.convert_tokens_to_ids(by.strip()) in stop_ids(tokenizer)
    update: dict[str, Any] = {"finish": "stop"} if ends else {"text": response.text + by}
    whole = response.model_copy(update=update)
    return render_exchange(tokenizer, prompt, whole, sampled=True)


def _answers(
    sampler: Sampler, prompts: Sequence[Prompt], sampling: Sampling
) -> list[list[tuple[Response, SampledTokens | None]]]:
    if isinstance(sampler, ServerSampler):
        return sampler.with_tokens(prompts, sampling)
    how = sampling.model_dump(exclude={"n"})
    return [
        [(r if r.sampling else r.model_copy(update={"sampling": how}), None) for r in some]
        for some in sampler(prompts, sampling)
    ]


def _matched(
    tokenizer: Any, rendered: Rendered, tokens: SampledTokens, finish: str | None = None
) -> list[float] | None:
    """The sampler's log-prob of each token of the completion; None where it sampled others. Of the token
    that ends the turn many servers tell nothing: NaN. Leading blanks don't count, for some show a token
    without its own. Of a stop string a server may tell more tokens than are here, or fewer."""

    def same(token: int, text: str) -> bool:
        ours = tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return bool(ours.lstrip(" ") == text.lstrip(" "))

    ids = rendered.completion
    body = ids if rendered.truncated else ids[:-1]
    rest = tokens[len(body) :]
    alike = all(same(token, text) for token, (text, _) in zip(body, tokens, strict=False))
    if len(tokens) < len(body) or not alike or (rest and rendered.truncated and finish != "string"):
        return None
    logps = [logp for _, logp in tokens[: len(body)]]
    if rendered.truncated:
        return logps
    ends = len(rest) == 1 and (not rest[0][0] or same(ids[-1], rest[0][0]))
    return [*logps, rest[0][1] if ends else math.nan]
