"""The web's own tables (made by store/migrations/versions).

    accounts <- sessions, roles          who may do what in which study
    studies <- guidelines                the study as it is now; guideline versions are only added
    studies <- study_questions           what is asked, with gold answer, tally and state
    study_questions <- leases            one rater's work on one question: the order shown, the judgment;
                                         of arm "repeat" when the rater is asked the same again
    study_questions <- study_judgments   whose a judgment is; of a vote in the arena no question
    events                               the audit log: hash = sha256(previous hash + this event)

Judgments are not here: they are in the store's append-only chain. Times are seconds since 1970.
"""

from __future__ import annotations

import sqlalchemy as sa

COLUMNS = {
    "accounts": "id name password admin disabled at",
    "attempts": "id key at",
    "deliveries": "id webhook body tries due done_at answer",
    "events": "seq body hash",
    "flags": "id study question account reason at closed_at",
    "guidelines": "study number document author at",
    "leases": "id study question account seat state arm shown guideline at expires_at ended_at "
    "judgment right seconds reason draft",
    "qualifications": "id study account passed right asked at",
    "roles": "study account role",
    "sessions": "token account csrf at seen",
    "settings": "name value",
    "studies": "name config sha256 at",
    "study_questions": "id study prompt kind block responses category gold priority gain shuffle "
    "state taken wanted answered tally verdict at",
    "study_judgments": "study judgment question",
    "talks": "id study account policies turns at ended_at",
    "tokens": "hash id name study scopes author at expires_at revoked_at",
    "webhooks": "id study url secret at closed_at",
}
BOOLEANS = {"accounts.admin", "accounts.disabled", "leases.right", "qualifications.passed"}


def _table(name: str) -> sa.TableClause:
    kinds = {c: sa.Boolean() if f"{name}.{c}" in BOOLEANS else None for c in COLUMNS[name].split()}
    return sa.table(name, *(sa.column(c, kind) for c, kind in kinds.items()))


accounts = _table("accounts")
attempts = _table("attempts")
deliveries = _table("deliveries")
events = _table("events")
flags = _table("flags")
guidelines = _table("guidelines")
leases = _table("leases")
qualifications = _table("qualifications")
roles = _table("roles")
sessions = _table("sessions")
settings = _table("settings")
studies = _table("studies")
study_questions = _table("study_questions")
study_judgments = _table("study_judgments")
talks = _table("talks")
tokens = _table("tokens")
webhooks = _table("webhooks")
