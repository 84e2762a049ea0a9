"""A study in the store: its questions, its guideline versions, its settings. Loading one again adds what is
new and leaves what is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from accord.core.hashing import canonical_json, content_hash
from accord.core.seeds import derive_seed
from accord.core.types import Answer, Prompt, Response
from accord.feedback.assignment import disagreement
from accord.feedback.study import Ask, Item, Study, check_item, read_items
from accord.web import audit, tables
from accord.web.site import Site

__all__ = ["add_guideline", "add_items", "load_study", "save_study"]

EVERYBODY = 1_000_000  # raters a gold question is for
Checked = tuple[Prompt, list[Response], Answer | None]


def load_study(site: Site, study: Study, by: str = "cli") -> int:
    """Save the study, its guidelines when they are new, and its questions. Returns how many are new."""
    folder = Path(study.folder or ".")
    blocks = [read_items(ask, folder) for ask in study.questions]
    save_study(site, study, by)
    if site.guideline(study.name) is None or study.guidelines:
        add_guideline(site, study.name, study.guideline_document(), by)
    return sum(add_items(site, study, number, items, by) for number, items in enumerate(blocks))


def save_study(site: Site, study: Study, by: str) -> None:
    """Keep the study's settings; its items are kept as questions."""
    bare = [ask.model_copy(update={"items": []}) for ask in study.questions]
    config = canonical_json(study.model_copy(update={"questions": bare}))
    sha256, table = content_hash(config), tables.studies
    with site.db.writing() as connection:
        old = connection.execute(
            sa.select(table.c.sha256).where(table.c.name == study.name)
        ).scalar()
        if old == sha256:
            return
        if old is None:
            row = {"name": study.name, "config": config, "sha256": sha256, "at": site.now()}
            connection.execute(sa.insert(table), [row])
        else:
            values = {"config": config, "sha256": sha256}
            connection.execute(sa.update(table).where(table.c.name == study.name).values(**values))
        audit.record(site, by, "study saved", study.name, sha256=sha256)


def add_guideline(site: Site, study: str, document: dict[str, Any], by: str) -> int:
    """A new guideline version unless it is the newest already; returns the newest's number."""
    text = canonical_json(document)
    with site.db.writing() as connection:
        last = site.guideline(study)
        if last is not None and last.document == text:
            return int(last.number)
        number = last.number + 1 if last else 1
        row = {
            "study": study, "number": number, "document": text, "author": by, "at": site.now(),
        }  # fmt: skip
        connection.execute(sa.insert(tables.guidelines), [row])
        audit.record(site, by, "guidelines added", study, number=number)
    return int(number)


def add_items(
    site: Site, study: Study, block: int, items: Sequence[tuple[str, Item]], by: str
) -> int:
    """Questions of the study's `block`-th kind; DataError for one that can't be asked, and then none is
    added. Returns how many are new."""
    ask = study.questions[block]
    checked = [(item, check_item(ask, item, place)) for place, item in items]
    if not checked:
        return 0
    rows = [_row(site, study, block, ask, item, *known) for item, known in checked]
    with site.db.writing() as connection:
        count = sa.select(sa.func.count()).select_from(tables.study_questions)
        before = connection.execute(count).scalar_one()
        site.store.add_prompts([prompt for _, (prompt, _, _) in checked])
        site.store.add_all_responses((p, r) for _, (p, shown, _) in checked for r in shown)
        site.db.insert(tables.study_questions, rows)
        new = int(connection.execute(count).scalar_one() - before)
        if new:
            audit.record(site, by, "questions added", study.name, block=block, new=new)
    return new


def _row(
    site: Site, study: Study, block: int, ask: Ask, item: Item, prompt: Prompt,
    responses: list[Response], gold: Answer | None,
) -> dict[str, Any]:  # fmt: skip
    ids = [r.id_for(prompt) for r in responses]
    id = content_hash([study.name, block, prompt.id, ids])[:24]
    return {
        "id": id, "study": study.name, "prompt": prompt.id, "kind": ask.kind, "block": block,
        "responses": canonical_json(ids),
        "category": item.category or prompt.tags.get("category", ""),
        "gold": None if gold is None else canonical_json(gold),
        "priority": 0.0 if item.scores is None else disagreement(item.scores),
        "shuffle": derive_seed(study.seed, id) % (1 << 31), "state": "open", "taken": 0,
        "wanted": EVERYBODY if gold is not None else study.overlap.min,
        "answered": 0, "tally": "{}", "verdict": None, "at": site.now(),
    }  # fmt: skip
