"""What every page needs: the store, a clock, the policies that answer live, who may come from where."""

from __future__ import annotations

import functools
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, TypeAlias

import sqlalchemy as sa

from accord.core.types import Exchange, Prompt, Rater, Response
from accord.feedback.study.definition import Study
from accord.store import Store
from accord.store.db import rows, schema
from accord.store.db.database import Database
from accord.web import tables

__all__ = ["Answerer", "PairScorer", "Site", "new_id", "parse_study", "rater_of", "steady"]

Row: TypeAlias = "sa.Row[*tuple[Any, ...]]"  # a string: SQLAlchemy 2.0 takes one parameter
Network = IPv4Network | IPv6Network
Answerer = Callable[[Sequence[Prompt]], list[Response]]
"""Prompts in, one response to each out, in order."""
PairScorer = Callable[[Sequence[Exchange]], Sequence[float]]
"""A reward model: a score for each exchange, in order."""


@dataclass
class Site:
    """`origin` is how browsers name this server (https://…, or http://localhost:PORT)."""

    store: Store
    origin: str = "http://localhost:8000"
    policies: Mapping[str, Answerer] = field(default_factory=dict)
    now: Callable[[], float] = field(default_factory=lambda: steady())
    hooks_allowed: Sequence[str] = ()
    proxied: bool = False
    """Whether browsers come through a proxy; what those in `proxies` say of an address is believed."""
    proxies: Sequence[Network] = ()
    scorers: Mapping[str, PairScorer] = field(default_factory=dict)
    fruitless: set[tuple[str, int, str]] = field(default_factory=set)
    """(study, block, prompt) whose answers compare nothing: not sampled again until a restart."""
    left: dict[tuple[str, str], tuple[float, int, int]] = field(default_factory=dict)
    delivering: dict[str, threading.Thread] = field(default_factory=dict)
    """Who delivers to a webhook, by webhook."""
    faults: dict[str, str] = field(default_factory=dict)
    """Why work beside the server goes wrong now, by job."""

    def trusts(self, address: str) -> bool:
        """Whether this is the address of a proxy that is believed."""
        return is_address(address) and any(ip_address(address) in net for net in self.proxies)

    @property
    def db(self) -> Database:
        return self.store.database

    @property
    def https(self) -> bool:
        return self.origin.startswith("https://")

    @functools.cached_property
    def origins(self) -> frozenset[str]:
        """What a browser may call this server; on this machine localhost and 127.0.0.1 are one."""
        if self.https:
            return frozenset({self.origin})
        return frozenset(
            {self.origin, self.origin.replace("//localhost", "//127.0.0.1"),
             self.origin.replace("//127.0.0.1", "//localhost")}
        )  # fmt: skip

    @functools.cached_property
    def secret(self) -> str:
        """This store's own secret, for tokens that need no row."""
        row = {"name": "secret", "value": secrets.token_hex(32)}
        self.db.insert(tables.settings, [row])
        value = self.one(
            sa.select(tables.settings.c.value).where(tables.settings.c.name == "secret")
        )
        assert value is not None
        return str(value.value)

    def opaque(self, id: str) -> str:
        """A name for a hash that could be guessed: the same whenever it is asked, and no help in guessing."""
        return hmac.new(self.secret.encode(), id.encode(), "sha256").hexdigest()[:24]

    def one(self, query: sa.Select[Any]) -> Row | None:
        """The first row, or None."""
        with self.db.reading() as connection:
            return connection.execute(query).first()

    def all(self, query: sa.Select[Any]) -> list[Any]:
        """All rows."""
        with self.db.reading() as connection:
            return list(connection.execute(query))

    def run(self, *statements: Any) -> None:
        """Statements in one transaction (the one under way, when there is one)."""
        with self.db.writing() as connection:
            for statement in statements:
                connection.execute(statement)

    def asked(self, prompt: str, responses: Sequence[str]) -> tuple[Prompt, tuple[Response, ...]]:
        """A prompt and responses to it by their ids, in that order."""
        stored = self.all(sa.select(schema.responses).where(schema.responses.c.id.in_(responses)))
        by_id = {row.id: rows.to_response(row) for row in stored}
        row = self.one(sa.select(schema.prompts).where(schema.prompts.c.id == prompt))
        return rows.to_prompt(row), tuple(by_id[i] for i in responses)

    def study(self, name: str) -> Study | None:
        """The study as it is now."""
        row = self.one(sa.select(tables.studies).where(tables.studies.c.name == name))
        return None if row is None else parse_study(row.config)

    def guideline(self, study: str, number: int | None = None) -> Row | None:
        """A guideline version (the newest by default): number, document, author, at."""
        query = sa.select(tables.guidelines).where(tables.guidelines.c.study == study)
        if number is not None:
            query = query.where(tables.guidelines.c.number == number)
        return self.one(query.order_by(tables.guidelines.c.number.desc()).limit(1))


def is_address(text: str) -> bool:
    """Whether it is an IP address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


@functools.lru_cache(maxsize=64)
def parse_study(config: str) -> Study:
    """A study from its canonical JSON."""
    return Study.model_validate_json(config)


@functools.lru_cache(maxsize=1024)
def document(text: str) -> dict[str, Any]:
    """A guideline version's document."""
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def steady(
    wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
) -> Callable[[], float]:
    """The wall's clock that never goes back: set back, it goes on from where it was, at its own pace, until
    the wall has caught up. What lasts from one reading to a later one is never negative."""
    turn, last = threading.Lock(), (wall(), monotonic())

    def now() -> float:
        nonlocal last
        with turn:
            at = monotonic()
            last = (max(wall(), last[0] + at - last[1]), at)
            return last[0]

    return now


def new_id() -> str:
    """96 random bits, as hex: says nothing about what it names."""
    return secrets.token_hex(12)


def rater_of(name: str, *, adjudicator: bool = False) -> Rater:
    """A person as the store knows them; who adjudicates is another rater than who annotates."""
    if adjudicator:
        return Rater(name=f"{name} (adjudicator)", kind="human", facts={"adjudicator": True})
    return Rater(name=name, kind="human")
