"""A policy to be asked by whoever tries it: RUN[:stage], a model, or a server's address."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from accord.core.types import Prompt, Response
from accord.lm.sampler import Sampling

__all__ = ["target"]

Ask = Callable[[Sequence[Prompt]], Sequence[Response | None]]


def target(
    policy: str, sampling: Sampling, cache: Path, *, batch_size: int = 32, at_once: int = 16
) -> Ask:
    """How a policy is asked: RUN[:stage], a model, or a server's address. A model's replies are kept; to a
    prompt that leaves no room for one it gives None."""
    if "://" in policy:
        from accord.lm.remote import server_sampler

        server = replace(server_sampler(policy), at_once=at_once)
        return lambda prompts: [r[0] for r in server(prompts, sampling)]
    from accord.evals.kept import replies
    from accord.lm.model.chain import identity
    from accord.lm.model.load import load
    from accord.lm.room import fitting
    from accord.lm.sample import LocalSampler
    from accord.pipeline.policies import base_of_run, policy_path

    label, where, _ = policy_path(policy)
    lm = load(where, base=base_of_run(policy))
    sampler = LocalSampler(lm, batch_size=batch_size, source=f"model:{label}")
    key, facts = identity(where), {**sampling.model_dump(), "batch_size": batch_size}

    def ask(prompts: Sequence[Prompt]) -> list[Response | None]:
        fit, _ = fitting(lm, prompts, sampling.max_new_tokens)

        def sample() -> list[Response]:
            return [r[0] for r in sampler(fit, sampling)]

        kept = {e.prompt.id: e.response for e in replies(cache, key, fit, facts, sample)}
        return [kept.get(p.id) for p in prompts]

    return ask
