"""Answers measured, from Python: what rewards say of them, and how a policy answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack

from accord.core.errors import door
from accord.core.keys import SamplingKeys
from accord.core.messages import as_prompts
from accord.core.types import Exchange, Metric, Prompt
from accord.lm.model.load import LanguageModel
from accord.rewards.axes import load_axes_model
from accord.rewards.base import Context
from accord.rewards.compose import ScoredExchanges, build_rewards
from accord.rewards.learned import load_reward_model
from accord.rewards.process_model import load_process_model
from accord.stats.intervals import cluster_mean
from accord.train.online.scorers import sampler_of, token_counter

__all__ = ["Evaluation", "evaluate", "score"]


@door
def score(
    exchanges: Sequence[Exchange],
    rewards: Sequence[Mapping[str, Any]],
    *,
    policy: LanguageModel | None = None,
) -> ScoredExchanges:
    """What rewards say of answers, composed as in training.

    Args:
        exchanges: prompts with one answer each (`Exchange(prompt=…, response=…)`).
        rewards: as in a recipe, each {"name": …, its keys}; models named by folder.
        policy: whose tokens lengths are counted in, and whose device models go to; words and the default
            device without it.

    Returns:
        `total` (one for each exchange, NaN where a reward that may drop has no score), `parts` (raw scores
        by label), `dropped`, and `cut`: the share of answers a model did not read to their end.

    Raises:
        ConfigError: an unknown reward, key or value.
        ModelError: no such model.
        RunError: an answer without a score.
    """
    device = str(policy.device) if policy else None
    kept: dict[tuple[str, str], Any] = {}

    def loaded(kind: str, load: Callable[..., Any]) -> Callable[[str], Any]:
        def find(name: str) -> Any:
            if (kind, name) not in kept:
                kept[kind, name] = load(name, device=device)
            return kept[kind, name]

        return find

    context = Context(
        model=loaded("score", load_reward_model), process_model=loaded("steps", load_process_model),
        axes_model=loaded("axes", load_axes_model), sampler=sampler_of,
    )  # fmt: skip
    if policy:
        context = replace(context, count_tokens=token_counter(policy))
    return build_rewards(rewards, context, "rewards")(exchanges)


@dataclass(frozen=True)
class Evaluation:
    """What was answered, and what rewards say of it: `metrics` holds the composed `reward`, every reward by
    its label, `words`, and `cut off`, the share of answers that reached the limit; intervals allow for
    several answers to a prompt."""

    policy: LanguageModel
    exchanges: list[Exchange]
    scored: ScoredExchanges | None
    metrics: dict[str, Metric]


@door
def evaluate(
    policy: LanguageModel,
    prompts: Sequence[Prompt | str],
    rewards: Sequence[Mapping[str, Any]] = (),
    *,
    n: int = 1,
    batch_size: int = 32,
    on_progress: Callable[[int, int], None] | None = None,
    **sampling: Unpack[SamplingKeys],
) -> Evaluation:
    """Let a policy answer prompts and measure its answers.

    Args:
        policy: a model as `load` gives it.
        prompts: texts, each one user message, or `Prompt`s.
        rewards: as in `score`; without any, lengths alone are measured.
        n: answers to each prompt, at least 1.
        batch_size: answers sampled at a time, at least 1.
        on_progress: called with (answers done, answers in all).
        sampling: as of `policy.answer`.

    Raises:
        ConfigError, DataError, ModelError, RunError: as `policy.answer` and `score`.
    """
    asked = as_prompts(prompts)
    answers = policy.answers(asked, n, batch_size=batch_size, on_progress=on_progress, **sampling)
    exchanges = [
        Exchange(prompt=p, response=r) for p, rows in zip(asked, answers, strict=True) for r in rows
    ]
    scored = score(exchanges, rewards, policy=policy) if rewards else None
    columns: dict[str, Sequence[float]] = {
        **(scored.parts if scored else {}),
        **({"reward": scored.total} if scored else {}),
        "words": [float(len(e.response.text.split())) for e in exchanges],
        "cut off": [float(e.response.finish == "length") for e in exchanges],
    }
    return Evaluation(
        policy, exchanges, scored, {k: _mean(x, exchanges) for k, x in columns.items()}
    )


def _mean(values: Sequence[float], exchanges: Sequence[Exchange]) -> Metric:
    """Over the answers that have one, by prompt."""
    known = [(x, e.prompt.id) for x, e in zip(values, exchanges, strict=True) if x == x]
    return cluster_mean([x for x, _ in known], [prompt for _, prompt in known])
