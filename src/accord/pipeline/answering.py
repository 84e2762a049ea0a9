"""Who is asked: a policy by the name that a user gives it, a local one or a server's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from accord.core.types import Prompt, Response
from accord.evals.asking import Asker
from accord.judges.backends import SamplerBackend, ServerBackend
from accord.lm.remote import ServerSampler, server_sampler
from accord.lm.sampler import Sampling
from accord.pipeline.policies import base_of_run, policy_path

__all__ = ["asker_of"]


@dataclass
class _Local:
    """A model in this process, loaded when it is first asked something that is not kept."""

    name: str
    base: str | None
    label: str
    batch_size: int

    @cached_property
    def sampler(self) -> Any:
        from accord.lm.model.load import load
        from accord.lm.options import ScoringSampler

        lm = load(self.name, base=self.base)
        return ScoringSampler(lm, batch_size=self.batch_size, source=f"model:{self.label}")

    def __call__(
        self, prompts: Sequence[Prompt], sampling: Sampling, on_progress: Any = None
    ) -> list[list[Response]]:
        answers: list[list[Response]] = self.sampler(prompts, sampling, on_progress)
        return answers

    def option_logps(
        self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]
    ) -> list[tuple[tuple[float, ...], int]]:
        logps: list[tuple[tuple[float, ...], int]] = self.sampler.option_logps(prompts, options)
        return logps


def asker_of(
    name: str,
    sampling: Sampling,
    *,
    cache: Path | None,
    batch_size: int = 32,
    at_once: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Asker, str]:
    """The policy of a model's folder, a hub id, RUN[:stage] or http://host:8000/v1#model, ready to be asked,
    and the system message it had in its run."""
    if name.startswith(("http://", "https://")):
        known = server_sampler(name)
        server = ServerSampler(known.url.rstrip("/"), known.model, at_once)
        policy = f"{server.url}#{server.model}"
        return Asker(
            policy, server, sampling, cache, batch=1, at_once=at_once,
            backend=ServerBackend(server), on_progress=on_progress,
        ), ""  # fmt: skip
    from accord.lm.model.chain import identity
    from accord.lm.model.find import bases_at

    label, where, system = policy_path(name)
    base = base_of_run(name)
    with bases_at(*([base] if base else [])):
        policy = identity(where)
    local = _Local(where, base, label, batch_size)
    return Asker(
        policy, local, sampling, cache, batch=max(1, batch_size // sampling.n),
        backend=SamplerBackend(local, policy), on_progress=on_progress,
    ), system or ""  # fmt: skip
