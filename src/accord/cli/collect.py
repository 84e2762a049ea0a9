"""`accord collect`: the web app for judgments, and what keeps it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from accord.core.errors import DISTRIBUTION, ConfigError
from accord.core.refs import shown
from accord.core.rundir import private

__all__ = ["app"]

app = typer.Typer(help="Collect judgments from people in a browser.", no_args_is_help=True)
STORE = "study.db"
StoreAt = Annotated[str, typer.Option("--store", help="A file or URL of the judgment store.")]
Where = Annotated[str, typer.Argument(help="A file or URL of the judgment store.")]


@app.command()
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
    serving = _web("serving")
    policies = _policies(policy or [])
    serving.serve_study(
        _shipped(study), store, host, port, origin, sets or [], policies, tuple(hook_host or []),
        tuple(trusted_proxy or []),
    )  # fmt: skip


def _shipped(study: Path) -> Path:
    """A study by path, or one that comes with accord by name."""
    from accord.pipeline.recipe import recipes_dir

    found = recipes_dir() / study / "study.yaml"
    return found if not study.exists() and not study.suffix and found.exists() else study


def _web(room: str) -> Any:
    """A module of accord.web; ConfigError when its packages are not installed."""
    from importlib import import_module

    try:
        return import_module(f"accord.web.{room}")
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"needs the package {error.name}", where="accord collect",
            mend=f"pip install '{DISTRIBUTION}[web]'",
        ) from None  # fmt: skip


def _policies(given: list[str]) -> dict[str, Callable[..., Any]]:
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
                return [found[0] for found in sampler(prompts, fresh)]

        return answer

    found = {}
    for item in given:
        name, equals, model = item.partition("=")
        if not equals or not name or not model:
            raise ConfigError(f"can't read {item!r}", where="--policy", allowed="NAME=MODEL")
        found[name] = policy(name, model)
    return found


def _local(name: str, model: str) -> Any:
    """A sampler in this process, of a run's policy or a model's folder."""
    from accord.lm.model.load import load
    from accord.lm.sample import LocalSampler
    from accord.pipeline.policies import base_of_run, policy_path

    _, where, _ = policy_path(model)
    return LocalSampler(load(where, base=base_of_run(model)), source=f"model:{name}")


@app.command()
def user(
    name: Annotated[str, typer.Argument(help="The account's name.")],
    store: StoreAt = STORE,
    study: Annotated[str | None, typer.Option(help="The study the role is in.")] = None,
    role: Annotated[
        str | None, typer.Option(help="owner, manager, adjudicator, annotator or reader.")
    ] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May do everything.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="A new password.")] = False,
    disable: Annotated[
        bool | None, typer.Option("--disable/--enable", help="Shut out, or let in again.")
    ] = None,
    unlock: Annotated[
        bool, typer.Option("--unlock", help="Forget wrong passwords that were tried.")
    ] = False,
) -> None:
    """Add an account, give it a role in a study, a new password (shown once), or shut it out."""
    accounts, site = _web("accounts"), _site(store)
    if unlock:
        with site.store:
            accounts.unlock(site, name)
        print(f"{name} may try again")
        return
    if disable is not None:
        with site.store:
            accounts.disable(site, name, disable)
        print(f"{name} is {'shut out' if disable else 'let in'}")
        return
    if bool(study) != bool(role):
        raise ConfigError("--study and --role go together", where="accord collect user")
    with site.store:
        if study and site.study(study) is None:
            raise ConfigError(f"no study {study!r}", where=site.store.name, mend="serve it once")
        with site.store.transaction():
            password = accounts.ensure(site, name, admin=admin, reset=reset)
            if study:
                accounts.set_role(site, study, name, role, "cli")
    if password:
        print(f"{name}: password {password} (shown once)")
    if study:
        print(f"{name} is {role} in {study}")


def _site(store: str) -> Any:
    from accord.store import Store

    return _web("site").Site(Store(store, create=False))


@app.command()
def verify(store: Where) -> None:
    """Recompute both hash chains: the judgments' and the audit log's."""
    site = _site(store)
    with site.store:
        judgments = site.store.verify()
        events = _web("audit").verify_events(site)
    print(f"{judgments} judgments and {events} audit events are what was written")


@app.command()
def backup(
    store: Where, out: Annotated[Path, typer.Argument(help="The file to write: NAME.jsonl.gz")]
) -> None:
    """Write everything to one file, while the server runs or not."""
    print(f"{_web('backup').backup(store, out)} rows written to {out}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What backup wrote.")],
    store: Annotated[str, typer.Argument(help="A new store: a file or an empty database.")],
) -> None:
    """Fill a new store from a backup and verify it."""
    judgments, events = _web("backup").restore(file, store)
    print(
        f"{judgments} judgments and {events} audit events restored to {shown(store)} and verified"
    )


@app.command()
def export(
    store: Where,
    study: Annotated[str, typer.Argument(help="The study's name.")],
    out: Annotated[Path, typer.Argument(help="A .jsonl, .json, .csv or .parquet file.")],
    format: Annotated[str, typer.Option(help="Name of an export format, or judgments.")] = "accord",
) -> None:
    """Write a study's judgments: corrections applied, adjudicated, gold questions left out."""
    from accord.store import export as write

    exporting, site = _web("export"), _site(store)
    with site.store:
        if site.study(study) is None:
            raise ConfigError(f"no study {study!r}", where=site.store.name, mend="check the name")
        if format == "judgments":
            private(out)
            out.write_bytes(exporting.table(site, study))
            print(f"written to {out}")
            return
        done = write(exporting.study_snapshot(site, study), out, format=format)
    print(f"{done.rows} rows written to {out}")


@app.command()
def token(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    scope: Annotated[list[str], typer.Option("--scope", help="A scope (repeatable).")],
    store: StoreAt = STORE,
    days: Annotated[float | None, typer.Option(min=0.0, help="Days it is good for.")] = None,
) -> None:
    """Make an API token for a study (shown once)."""
    site = _site(store)
    with site.store:
        if site.study(study) is None:
            raise ConfigError(f"no study {study!r}", where=site.store.name, mend="check the name")
        print(_web("tokens").add(site, study, name, scope, "cli", days))
