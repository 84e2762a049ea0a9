"""What a rater has written and not sent: kept with the lease, also when time ran out and others took it."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa

from accord.core.hashing import canonical_json, content_hash
from accord.feedback.study.definition import Study
from accord.web import tables
from accord.web.guard.accounts import Who
from accord.web.site import Site

__all__ = ["Elsewhere", "differ", "fields_in", "mark_of", "save_draft", "uncounted", "written"]

L = tables.leases
MOST = 50  # begun questions that are listed


class Elsewhere(Exception):
    """Another page of the same rater has something else written on the same question."""


def fields_in(form: dict[str, str]) -> dict[str, str]:
    """The fields of a question's form that a draft keeps."""
    return {k: v for k, v in form.items() if k not in ("csrf", "base", "lease", "reason", "over")}


def written(draft: dict[str, str]) -> dict[str, str]:
    """What of a draft a person typed or chose."""
    fields = fields_in(draft)
    return {k: v for k, v in fields.items() if v and k not in ("seconds", "tab", "after")}


def mark_of(draft: dict[str, str]) -> str:
    """What a page says of the draft it was made from."""
    return content_hash(written(draft))[:16]


def differ(old: dict[str, str], new: dict[str, str]) -> bool:
    """Whether another page than the one `new` comes from has written something else, which it never saw."""
    ours = old.get("tab", "") == new.get("tab", "") or mark_of(old) == new.get("after")
    return not ours and written(old) not in ({}, written(new))


def save_draft(site: Site, study: Study, who: Who, id: str, draft: dict[str, str]) -> bool:
    """Keep what is filled in so far and hold the lease as long again; False when it is not held any more
    (where time ran out, it is kept all the same). `tab` names the page it was written on, `after` the draft
    that page was made from: Elsewhere where another page has written something else since."""
    with site.db.writing() as connection:
        mine = (L.c.id == id, L.c.study == study.name, L.c.account == who.id)
        row = connection.execute(sa.select(L.c.state, L.c.draft).where(*mine)).first()
        if row is None or row.state not in ("held", "expired"):
            return False
        other = differ(json.loads(row.draft or "{}"), draft)
        values: dict[str, Any] = {} if other else {"draft": canonical_json(draft)}
        if row.state == "held":
            values["expires_at"] = site.now() + 60 * study.lease_minutes
        if values:
            connection.execute(sa.update(L).where(*mine).values(**values))
    if other:
        raise Elsewhere
    return bool(row.state == "held")


def uncounted(site: Site, study: Study, who: Who) -> list[tuple[Any, dict[str, str]]]:
    """(lease, what was written) of questions this rater had begun that went to others, newest first."""
    mine, later = (L.c.study == study.name, L.c.account == who.id), L.alias()
    again = sa.exists().where(
        later.c.study == study.name,
        later.c.account == who.id,
        later.c.question == L.c.question,
        later.c.at > L.c.at,
        later.c.state != "expired",
    )
    late = sa.select(L).where(*mine, L.c.state == "expired", L.c.draft.is_not(None), ~again)
    rows = site.all(late.order_by(L.c.at.desc()).limit(MOST))
    return [(row, fields) for row in rows if (fields := written(json.loads(row.draft)))]
