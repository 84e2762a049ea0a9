"""How far a policy has moved from the reference, on its own answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from accord.core.types import Exchange
from accord.lm.chat import render_exchange
from accord.lm.model.load import LanguageModel
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_kl
from accord.lm.trees.tree import scored_tokens, share_prompts

__all__ = ["TOKENS", "engine_at", "moved"]

TOKENS = 512  # per call, as in comparisons


def engine_at(lm: LanguageModel, temperature: float) -> Engine:
    """Its log-probs are those of sampling at this temperature."""
    engine = Engine(lm.model)
    engine.at_temperature(temperature)
    return engine


def moved(
    lm: LanguageModel,
    policy: Engine,
    reference: Engine,
    answers: Sequence[Exchange],
    on_progress: Callable[[int, int], None] | None = None,
) -> list[tuple[float, float]]:
    """KL and log-ratio of each answer (nats, summed over its tokens); 0 for one without any."""
    rendered = [render_exchange(lm.tokenizer, e.prompt, e.response, sampled=True) for e in answers]
    trees, places = share_prompts([(r.prompt, r.completion) for r in rendered if r.completion])
    by_token = token_kl(policy, reference, trees, TOKENS, on_progress)
    sums = [
        [part.sum(0).tolist() for part in kl_S2.split(scored_tokens(tree))]
        for kl_S2, tree in zip(by_token, trees, strict=True)
    ]
    values = iter([sums[tree][k] for tree, k in places])
    pairs = [next(values) if r.completion else (0.0, 0.0) for r in rendered]
    return [(kl, ratio) for kl, ratio in pairs]
