"""Accounts, passwords, sessions and roles.

Passwords: Argon2id with 7 MiB, t=5, p=1 (OWASP Password Storage Cheat Sheet). Sessions: 256 random bits in
the cookie, their sha256 in the store, a new one at every sign-in. Wrong passwords: throttle.py.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from accord.core.errors import ConfigError, DataError
from accord.web import tables
from accord.web.guard import audit
from accord.web.guard.names import alike, folded, is_name, tidy
from accord.web.guard.throttle import FREE_BY_ADDRESS, FREE_BY_NAME, counted, key, network
from accord.web.site import Site, new_id

__all__ = [
    "MAY",
    "ROLES",
    "Who",
    "add_account",
    "below",
    "change_password",
    "disable",
    "ensure",
    "first_account",
    "role_in",
    "session",
    "set_role",
    "sign_in",
    "sign_out",
    "unlock",
]

AccountRole = Literal["owner", "manager", "adjudicator", "annotator", "reader"]
ROLES: tuple[AccountRole, ...] = ("owner", "manager", "adjudicator", "annotator", "reader")
MAY: dict[str, frozenset[str]] = {
    "annotate": frozenset({"owner", "manager", "adjudicator", "annotator"}),
    "look": frozenset({"owner", "manager", "adjudicator", "reader"}),
    "adjudicate": frozenset({"owner", "manager", "adjudicator"}),
    "export": frozenset({"owner", "manager", "reader"}),
    "manage": frozenset({"owner", "manager"}),
    "own": frozenset({"owner"}),
}
IDLE, LONGEST = 12 * 3600, 7 * 24 * 3600  # seconds a session lives unused, and at all
SEEN_EVERY = 300  # seconds between writes of "seen"
SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 256

# One thread hashes: 7 MiB for anybody who asks, and malloc keeps as much again for every thread that ever did
_hashing = ThreadPoolExecutor(1, "hashing")
_hasher = PasswordHasher(time_cost=5, memory_cost=7168, parallelism=1)


@dataclass(frozen=True)
class Who:
    """A signed-in account."""

    id: str
    name: str
    admin: bool
    csrf: str
    token: str  # the session's sha256


# -- accounts -------------------------------------------------------------------------------------


def first_account(site: Site) -> str | None:
    """The password of a new administrator where there is nobody yet."""
    if site.one(sa.select(tables.accounts.c.id).limit(1)) is not None:
        return None
    password = secrets.token_urlsafe(12)
    add_account(site, "admin", password, admin=True)
    return password


def add_account(
    site: Site, name: str, password: str, *, admin: bool = False, by: str = "cli"
) -> str:
    """A new account's id; ConfigError for a name in use, or that looks like one, or a poor password."""
    name = tidy(name)
    if not is_name(name):
        raise ConfigError(
            "is no name for a person", where=ascii(name[:64]),
            allowed="1 to 64 characters that show, and none that the server itself goes by",
        )  # fmt: skip
    check_password(password, name)
    accounts = tables.accounts
    row = {
        "id": new_id(), "name": name, "password": _hashed(password), "admin": admin,
        "disabled": False, "at": site.now(),
    }  # fmt: skip
    with site.db.writing() as connection:
        for there in connection.execute(sa.select(accounts.c.name)).scalars():
            if alike(there, name):
                what = (
                    "is taken" if there == name else f"looks like {there!r}, who is there already"
                )
                raise ConfigError(what, where=f"the name {name!r}", mend="choose another")
        connection.execute(sa.insert(accounts), [row])
        audit.record(site, by, "account added", name=name, admin=admin)
    return str(row["id"])


def _named(site: Site, name: str) -> Any:
    """The account a person means: of this very name, else the one that differs by case alone; or None."""
    accounts = tables.accounts
    exact = site.one(sa.select(accounts).where(accounts.c.name == name))
    if exact is not None:
        return exact
    names = site.all(sa.select(accounts.c.id, accounts.c.name))
    same = [row.id for row in names if folded(row.name) == folded(name)]
    return site.one(sa.select(accounts).where(accounts.c.id == same[0])) if len(same) == 1 else None


def disable(site: Site, name: str, off: bool) -> None:
    """Shut an account out at once, or let it in again; DataError when there is none."""
    accounts = tables.accounts
    with site.db.writing() as connection:
        id = connection.execute(sa.select(accounts.c.id).where(accounts.c.name == name)).scalar()
        if id is None:
            raise DataError(f"nobody is called {name[:64]!r}", where="name")
        connection.execute(sa.update(accounts).where(accounts.c.id == id).values(disabled=off))
        if off:
            connection.execute(sa.delete(tables.sessions).where(tables.sessions.c.account == id))
        audit.record(site, "cli", "account disabled" if off else "account enabled", name=name)


def ensure(site: Site, name: str, *, admin: bool = False, reset: bool = False) -> str | None:
    """An account of this name; the password of a new one, or of one that is reset, else None."""
    accounts = tables.accounts
    row = site.one(sa.select(accounts).where(accounts.c.name == name))
    password = secrets.token_urlsafe(12)
    if row is None:
        add_account(site, name, password, admin=admin)
        return password
    if admin and not row.admin:
        site.run(sa.update(accounts).where(accounts.c.id == row.id).values(admin=True))
        audit.record(site, "cli", "made administrator", name=name)
    if reset:
        change_password(site, row.id, name, password)
    return password if reset else None


def below(site: Site, study: str, name: str, most: Collection[str]) -> str | None:
    """The id of an account whose only roles are in this study and among `most`; None for others, and for
    administrators: a new password for them would open other doors."""
    a, r = tables.accounts, tables.roles
    row = site.one(sa.select(a.c.id, a.c.admin).where(a.c.name == name))
    if row is None or row.admin:
        return None
    roles = site.all(sa.select(r.c.study, r.c.role).where(r.c.account == row.id))
    fine = roles and all(part.study == study and part.role in most for part in roles)
    return str(row.id) if fine else None


def check_password(password: str, name: str) -> None:
    """ConfigError unless it is 10 to 256 characters long and not the name itself."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD or password == name:
        raise ConfigError(
            "too easy to guess", where="password",
            allowed=f"{SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters, not the name",
        )  # fmt: skip


def change_password(
    site: Site, account: str, name: str, password: str, *, by: str = "", study: str = ""
) -> None:
    """Set a password; every session of the account ends and its lock opens. `by` is who did it for its owner,
    in which study."""
    check_password(password, name)
    site.run(
        sa.update(tables.accounts)
        .where(tables.accounts.c.id == account)
        .values(password=_hashed(password)),
        sa.delete(tables.sessions).where(tables.sessions.c.account == account),
        sa.delete(tables.attempts).where(tables.attempts.c.key == key("name", name)),
    )
    audit.record(site, by or name, "password changed", study, name=name)


def right_password(site: Site, account: str, password: str) -> bool:
    """Whether it is this account's password."""
    row = site.one(sa.select(tables.accounts.c.password).where(tables.accounts.c.id == account))
    return row is not None and _verify(row.password, password)


@functools.cache
def _nobody() -> str:
    """A hash to check against when there is no such account, so that both take as long."""
    return _hashed(secrets.token_hex(16))


def _hashed(password: str) -> str:
    return _hashing.submit(_hasher.hash, password).result()


def _verify(stored: str, password: str) -> bool:
    try:
        return _hashing.submit(_hasher.verify, stored, password[: LONGEST_PASSWORD + 1]).result()
    except (VerifyMismatchError, InvalidHashError):
        return False


# -- sessions -------------------------------------------------------------------------------------


def sign_in(
    site: Site, name: str, password: str, address: str | None, old: str | None
) -> str | None:
    """The cookie of a new session, None for a wrong name or password; Throttled after too many of
    them. `address` is None where it is not known to be one browser's: nobody is made to wait for what others
    behind the same proxy do. `old` is the cookie the browser came with: that session ends."""
    row = _named(site, name)
    keys = {key("name", row.name if row else name): FREE_BY_NAME}
    if address:
        keys[key("address", network(address))] = FREE_BY_ADDRESS
    tries = counted(site, keys)
    good = _verify(row.password if row else _nobody(), password)
    if not good or row is None or row.disabled:
        audit.record(site, name[:64], "sign-in failed", address=address or "")
        return None
    site.run(sa.delete(tables.attempts).where(tables.attempts.c.id.in_(tries)))
    return new_session(site, row.id, row.name, address or "", old)


def new_session(site: Site, account: str, name: str, address: str, old: str | None) -> str:
    """The cookie of a new session for somebody known to be who they say; their failed tries are forgotten."""
    cookie = secrets.token_urlsafe(32)
    session = {
        "token": _hash(cookie), "account": account, "csrf": new_id(), "at": site.now(),
        "seen": site.now(),
    }  # fmt: skip
    sessions, failed = tables.sessions, tables.attempts
    with site.db.writing() as connection:
        connection.execute(sa.delete(sessions).where(sessions.c.at < site.now() - LONGEST))
        connection.execute(sa.delete(failed).where(failed.c.key == key("name", name)))
        if old:
            connection.execute(sa.delete(sessions).where(sessions.c.token == _hash(old)))
        connection.execute(sa.insert(sessions), [session])
        audit.record(site, name, "signed in", address=address)
    return cookie


def session(site: Site, cookie: str) -> Who | None:
    """Who a cookie stands for, None when it is unknown, too old, or the account is disabled."""
    s, a = tables.sessions, tables.accounts
    row = site.one(
        sa.select(s.c.token, s.c.csrf, s.c.at, s.c.seen, a.c.id, a.c.name, a.c.admin, a.c.disabled)
        .where(s.c.token == _hash(cookie), a.c.id == s.c.account)
        .limit(1)
    )
    now = site.now()
    if row is None or row.disabled or now - row.seen > IDLE or now - row.at > LONGEST:
        return None
    if now - row.seen > SEEN_EVERY:
        site.run(sa.update(s).where(s.c.token == row.token).values(seen=now))
    return Who(row.id, row.name, bool(row.admin), row.csrf, row.token)


def sign_out(site: Site, who: Who) -> None:
    """End the session."""
    site.run(sa.delete(tables.sessions).where(tables.sessions.c.token == who.token))
    audit.record(site, who.name, "signed out")


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def unlock(site: Site, name: str, by: str = "cli", study: str = "") -> None:
    """Forget the failed tries of a name, so that its owner need not wait; DataError when there is no such."""
    row = _named(site, name)
    if row is None:
        raise DataError(f"nobody is called {name[:64]!r}", where="name")
    site.run(sa.delete(tables.attempts).where(tables.attempts.c.key == key("name", row.name)))
    audit.record(site, by, "account unlocked", study, name=row.name)


# -- before there is a session --------------------------------------------------------------------


def form_token(site: Site, cookie: str) -> str:
    """The token a form carries when nobody is signed in: bound to the browser by its cookie."""
    return hmac.new(site.secret.encode(), cookie.encode(), hashlib.sha256).hexdigest()


# -- roles ----------------------------------------------------------------------------------------


def role_in(site: Site, who: Who, study: str) -> str | None:
    """The account's role in a study; an administrator owns every study."""
    if who.admin:
        return "owner"
    roles = tables.roles
    row = site.one(sa.select(roles.c.role).where(roles.c.study == study, roles.c.account == who.id))
    return None if row is None else str(row.role)


def set_role(site: Site, study: str, name: str, role: str | None, by: str) -> None:
    """Give the account of this name a role, or none; DataError when there is no such account or role."""
    if role is not None and role not in ROLES:
        raise DataError(f"{role[:20]!r} is no role", where="role", allowed=", ".join(ROLES))
    accounts, roles = tables.accounts, tables.roles
    with site.db.writing() as connection:
        account = connection.execute(
            sa.select(accounts.c.id).where(accounts.c.name == name)
        ).scalar()
        if account is None:
            raise DataError(f"nobody is called {name[:64]!r}", where="name", mend="add them first")
        mine = (roles.c.study == study, roles.c.account == account)
        owners = connection.execute(
            sa.select(roles.c.account)
            .join_from(roles, accounts, roles.c.account == accounts.c.id)
            .where(roles.c.study == study, roles.c.role == "owner", ~accounts.c.disabled)
        ).scalars()
        if list(owners) == [account] and role != "owner":
            raise DataError(
                f"{name[:64]!r} is the last owner of {study}", where="role",
                mend="make somebody else an owner first",
            )  # fmt: skip
        connection.execute(sa.delete(roles).where(*mine))
        if role:
            row = {"study": study, "account": account, "role": role}
            connection.execute(sa.insert(roles), [row])
        audit.record(site, by, "role set", study, name=name, role=role)
