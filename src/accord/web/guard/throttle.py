"""Wrong passwords: counted by name, and by address where that is one browser's and not a proxy's.

A try is counted before the password is looked at and taken back when it was right: tries at the same time
count each other.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Mapping

import sqlalchemy as sa

from accord.web import tables
from accord.web.guard.names import folded
from accord.web.site import Site, new_id

__all__ = ["FREE_BY_ADDRESS", "FREE_BY_NAME", "Throttled", "counted", "key", "locked", "network"]

WINDOW = 900  # seconds a try is counted
FREE_BY_NAME, FREE_BY_ADDRESS = 5, 30  # tries before waiting begins


class Throttled(Exception):
    """Too many failures; try again after `seconds`."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        super().__init__(f"wait {seconds} s")


def key(kind: str, text: str) -> str:
    """What tries of a name or an address are counted under."""
    return hashlib.sha256(f"{kind}:{folded(text)}".encode()).hexdigest()


def network(address: str) -> str:
    """What one person can come from: an IPv4 address, or the /64 an IPv6 one is in."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))


def counted(site: Site, keys: Mapping[str, int]) -> list[str]:
    """Count a try under keys with so many free ones; its rows' ids. Throttled while a key has more tries than
    are free: 2, 4, 8 … seconds after the last."""
    attempts, now = tables.attempts, site.now()
    rows = [{"id": new_id(), "key": key, "at": now} for key in keys]
    with site.db.writing() as connection:
        connection.execute(sa.delete(attempts).where(attempts.c.at < now - WINDOW))
        for key, free in keys.items():
            n, last = connection.execute(
                sa.select(sa.func.count(), sa.func.max(attempts.c.at)).where(attempts.c.key == key)
            ).one()
            if n >= free:
                left = min(last, now) + min(2.0 ** (n - free + 1), WINDOW) - now
                if left > 0:
                    raise Throttled(int(left) + 1)
        connection.execute(sa.insert(attempts), rows)
    return [str(row["id"]) for row in rows]


def locked(site: Site, names: Collection[str]) -> set[str]:
    """Those of these names that have to wait before they are let in."""
    attempts = tables.attempts
    keys = {key("name", name): name for name in names}
    rows = site.all(
        sa.select(attempts.c.key)
        .where(attempts.c.key.in_(keys), attempts.c.at >= site.now() - WINDOW)
        .group_by(attempts.c.key)
        .having(sa.func.count() >= FREE_BY_NAME)
    )
    return {keys[row.key] for row in rows}
