"""`accord collect serve`: a study in a browser, and policies that answer live."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from accord.cli.collect.shared import STORE, StoreAt, its_packages
from accord.core.errors import ConfigError

__all__ = ["policies_of", "serve"]


def serve(
    study: Annotated[
        Path, typer.Argument(help="The study's YAML file, or the name of a shipped one: collect.")
    ],
    store: StoreAt = STORE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    origin: Annotated[
        str | None, typer.Option(help="How browsers name it, when a proxy adds https.")
    ] = None,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy",
            help="NAME=RUN[:stage], NAME=MODEL or NAME=http://HOST/v1#MODEL, to answer live.",
        ),
    ] = None,
    hook_host: Annotated[
        list[str] | None, typer.Option("--hook-host", help="A host webhooks may go to.")
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy",
            help="Address or network of a proxy whose X-Forwarded-For is believed (this machine).",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the study.")
    ] = None,
) -> None:
    """Serve a study: annotators, reviewers and owners in a browser."""
    with its_packages():
        from accord.web import serving
    policies = policies_of(policy or [])
    serving.serve_study(
        _shipped(study), store, host, port, origin, sets or [], policies, tuple(hook_host or []),
        tuple(trusted_proxy or []),
    )  # fmt: skip


def _shipped(study: Path) -> Path:
    """A study by path, or one that comes with accord by name."""
    from accord.pipeline.recipe import recipes_dir

    packaged = recipes_dir() / study / "study.yaml"
    return packaged if not study.exists() and not study.suffix and packaged.exists() else study


def policies_of(given: list[str]) -> dict[str, Callable[..., Any]]:
    """Policies that answer live, by name; those of this process one batch at a time."""
    if not given:
        return {}
    import secrets
    import threading

    from accord.lm.remote import server_sampler
    from accord.lm.sampler import Sampling

    sampling, turn = Sampling(max_new_tokens=256, temperature=0.7), threading.Lock()

    def policy(name: str, model: str) -> Callable[..., Any]:
        remote = model.startswith(("http://", "https://"))
        sampler = server_sampler(model) if remote else _local(name, model)

        def answer(prompts: Any) -> Any:
            fresh = sampling.model_copy(update={"seed": secrets.randbits(31)})
            with contextlib.nullcontext() if remote else turn:
                return [answers[0] for answers in sampler(prompts, fresh)]

        return answer

    policies = {}
    for item in given:
        name, equals, model = item.partition("=")
        if not equals or not name or not model:
            raise ConfigError(f"can't read {item!r}", where="--policy", allowed="NAME=MODEL")
        policies[name] = policy(name, model)
    return policies


def _local(name: str, model: str) -> Any:
    """A sampler in this process, of a run's policy or a model's folder."""
    from accord.lm.model.load import load
    from accord.lm.sample import LocalSampler
    from accord.pipeline.policies import base_of_run, policy_path

    _, where, _ = policy_path(model)
    return LocalSampler(load(where, base=base_of_run(model)), source=f"model:{name}")
