"""A server that answers in a policy's place: told where its weights lie; what the log says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accord.lm.remote import ServerSampler, server_sampler
from accord.lm.sampler import Sampler
from accord.train.loop import dist
from accord.train.loop.saved import save_model
from accord.train.online.actors import Actors
from accord.train.online.experience import cut_notes, sampler_notes

__all__ = ["Sampler", "notes", "save_policy", "served"]


def save_policy(actors: Actors, folder: Path) -> None:
    """The policy alone, so that `load` gives it back."""
    roles = actors.roles
    module = roles.module if roles else actors.lm.model
    save_model(actors.lm, module, folder, adapter=roles.adapters["policy"] if roles else None)


def served(
    actors: Actors, sampler: Sampler | str | None, reload: str, folder: Path
) -> tuple[Sampler | None, Callable[[], None]]:
    """What answers instead of the policy's own model, and how it is given the weights."""
    server = server_sampler(sampler, reload) if isinstance(sampler, str) else sampler

    def publish() -> None:
        if isinstance(server, ServerSampler) and server.reload and dist.first():
            save_policy(actors, folder / "served")
            roles = actors.roles
            adapter = f"adapter/{roles.adapters['policy']}" if roles else ""
            server.publish(folder / "served" / adapter)
        dist.everyone_s(None)  # nobody asks before the server has the weights

    return server, publish


def notes(log: Sequence[Mapping[str, float]], through: Sampler | None) -> list[str]:
    """What a finished run's log says of what answered and of what read the answers."""
    return [*(sampler_notes(log) if through else []), *cut_notes(log)]
