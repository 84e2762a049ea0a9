"""`accord collect user`, `token`: who may come in."""

from __future__ import annotations

from typing import Annotated

import typer

from accord.cli.collect.shared import STORE, StoreAt, its_packages, site_of
from accord.core.errors import ConfigError

__all__ = ["token", "user"]


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
    with its_packages():
        from accord.web.guard import accounts
    site = site_of(store)
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


def token(
    study: Annotated[str, typer.Argument(help="The study's name.")],
    name: Annotated[str, typer.Argument(help="What the token is for.")],
    scope: Annotated[list[str], typer.Option("--scope", help="A scope (repeatable).")],
    store: StoreAt = STORE,
    days: Annotated[float | None, typer.Option(min=0.0, help="Days it is good for.")] = None,
) -> None:
    """Make an API token for a study (shown once)."""
    site = site_of(store)
    with site.store:
        if site.study(study) is None:
            raise ConfigError(f"no study {study!r}", where=site.store.name, mend="check the name")
        with its_packages():
            from accord.web.guard import tokens
        print(tokens.add(site, study, name, scope, "cli", days))
