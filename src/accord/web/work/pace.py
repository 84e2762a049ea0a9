"""How far a rater is: questions done and left, and the seconds one takes."""

from __future__ import annotations

from statistics import median
from typing import Any

import sqlalchemy as sa

from accord.web import tables
from accord.web.site import Site
from accord.web.work.queue import left_for

__all__ = ["pace_of"]

L = tables.leases
COUNT_EVERY = 30.0  # seconds


def pace_of(site: Site, study: str, account: str) -> dict[str, Any]:
    """How many are done, how many are left, the median of the last 20 in seconds, and the guideline version
    of the last."""
    mine = (L.c.study == study, L.c.account == account, L.c.state == "submitted")
    with site.db.reading() as connection:
        done = connection.execute(
            sa.select(sa.func.count()).select_from(L).where(*mine)
        ).scalar_one()
        last = connection.execute(
            sa.select(L.c.seconds, L.c.guideline)
            .where(*mine)
            .order_by(L.c.ended_at.desc())
            .limit(20)
        ).all()
        seconds = [row.seconds for row in last if row.seconds is not None]
        left = _left(site, connection, study, account, done)
    held = 1  # the question on the page wants this rater no more, but is not done
    middle = round(median(seconds)) if seconds else None
    version = int(last[0].guideline.removeprefix("v")) if last else None
    return {"done": done, "left": left + held, "seconds": middle, "version": version}


def _left(site: Site, connection: sa.Connection, study: str, account: str, done: int) -> int:
    """How many questions are left: counted twice a minute, in between by what was done since."""
    key = (study, account)
    at, left, then = site.left.get(key, (0.0, 0, 0))
    if not 0 <= site.now() - at <= COUNT_EVERY:
        at, left, then = site.now(), left_for(connection, study, account), done
        site.left[key] = (at, left, then)
    return max(0, left - (done - then))
