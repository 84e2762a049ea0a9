"""A study in the store: its questions, its guideline versions, its settings. Loading one again adds what is
new and leaves what is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from accord.core.errors import ConfigError
from accord.core.hashing import canonical_json, content_hash
from accord.core.seeds import derive_seed
from accord.core.types import Answer, Prompt, Response
from accord.feedback.study.assignment import UNTOLD, disagreement
from accord.feedback.study.definition import Ask, Item, Study, check_item, read_items
from accord.web import tables
from accord.web.guard import audit
from accord.web.pages.texts import changes
from accord.web.site import Site, document, parse_study
from accord.web.work.scoring import check_arm, score

__all__ = ["add_guideline", "add_items", "load_study", "save_study", "what_changed"]

AROUND = 2  # lines shown around a change
EVERYBODY = 1_000_000  # raters a gold question is for
Checked = tuple[Prompt, list[Response], Answer | None]


def load_study(site: Site, study: Study, by: str = "cli") -> int:
    """Save the study, its guidelines and its questions; returns how many questions are new. What was changed
    in the browser since stays, unless the file says something new."""
    folder = Path(study.folder or ".")
    blocks = [read_items(ask, folder) for ask in study.questions]
    site.opaque("")  # the secret is made before the transaction, and stays if that fails
    with site.db.writing():
        if _says_something_new(site, study):
            save_study(site, study, by)
        _first_guideline(site, study, by)
        new = sum(add_items(site, study, n, items, by) for n, items in enumerate(blocks))
        check_arm(site, study)
    return new


def _says_something_new(site: Site, study: Study) -> bool:
    """Whether the file's settings are others than when it was last loaded; remembers them."""
    bare = [ask.model_copy(update={"items": []}) for ask in study.questions]
    sha256, name = content_hash(study.model_copy(update={"questions": bare})), f"file:{study.name}"
    table = tables.settings
    old = site.one(sa.select(table.c.value).where(table.c.name == name))
    if old is not None and old.value == sha256:
        return False
    site.run(
        sa.delete(table).where(table.c.name == name),
        sa.insert(table).values(name=name, value=sha256),
    )
    return True


def _first_guideline(site: Site, study: Study, by: str) -> None:
    """The file's guidelines become a version, unless they are one already."""
    document, g = study.guideline_document(), tables.guidelines
    known = {r.document for r in site.all(sa.select(g.c.document).where(g.c.study == study.name))}
    if canonical_json(document) not in known:
        add_guideline(site, study.name, document, by)


def save_study(site: Site, study: Study, by: str) -> None:
    """Keep the study's settings; its items are kept as questions. ConfigError when a block of questions
    that is there already becomes another kind, or one that is answered already another scale."""
    bare = [ask.model_copy(update={"items": []}) for ask in study.questions]
    config = canonical_json(study.model_copy(update={"questions": bare}))
    sha256, table = content_hash(config), tables.studies
    with site.db.writing() as connection:
        old = connection.execute(sa.select(table).where(table.c.name == study.name)).first()
        if old is None:
            row = {"name": study.name, "config": config, "sha256": sha256, "at": site.now()}
            connection.execute(sa.insert(table), [row])
        elif old.sha256 == sha256:
            return
        else:
            _check_blocks(site, parse_study(old.config), study)
            values = {"config": config, "sha256": sha256}
            connection.execute(sa.update(table).where(table.c.name == study.name).values(**values))
        audit.record(site, by, "study saved", study.name, sha256=sha256)


SCALES = ("points", "axes", "tie", "both_bad", "ties")  # what an answer is given on


def _scale(ask: Ask) -> dict[str, Any]:
    scale = ask.model_dump(include=set(SCALES))
    for axis in scale.get("axes", []):
        axis.pop("text")  # how an axis is explained may become clearer
    return scale


def _check_blocks(site: Site, old: Study, new: Study) -> None:
    before, after = ([ask.kind for ask in study.questions] for study in (old, new))
    if after[: len(before)] != before:
        raise ConfigError(
            "the kinds of questions asked so far can't change", where=f"study {new.name}",
            allowed=f"{', '.join(before)}, then more", mend="or give the study another name",
        )  # fmt: skip
    q, table = tables.study_questions, tables.leases
    given = sa.select(q.c.block).join_from(q, table, table.c.question == q.c.id)
    answered = {row.block for row in site.all(given.where(q.c.study == new.name).distinct())}
    for block in sorted(answered):
        had, wants = _scale(old.questions[block]), _scale(new.questions[block])
        changed = next((key for key in had if had[key] != wants[key]), None)
        if changed:
            raise ConfigError(
                "can't change while people answer on it: their answers would not compare",
                where=f"study {new.name} questions.{block}.{changed}", allowed=_shown(had[changed]),
                mend="put it back and add the new one as a further block, or give the study another name",
            )  # fmt: skip


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(f"{axis['name']} ({axis['low']} to {axis['high']})" for axis in value)
    return str(value)


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
    there = _name(site, rows)
    bare = [
        (row, prompt, shown)
        for row, (item, (prompt, shown, _)) in zip(rows, checked, strict=True)
        if item.scores is None and row["id"] not in there
    ]
    score(site, study, bare)
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
        "gain": UNTOLD if ask.kind == "compare" else 0.0,
        "shuffle": derive_seed(study.seed, id) % (1 << 31), "state": "open", "taken": 0,
        "wanted": EVERYBODY if gold is not None else study.overlap.min,
        "answered": 0, "tally": "{}", "verdict": None, "at": site.now(),
    }  # fmt: skip


def _name(site: Site, rows: Sequence[dict[str, Any]]) -> set[str]:
    """Give questions ids that tell nothing: a hash of texts and sources could be guessed. One that an older
    store has under its hash keeps that. Returns which are there already."""
    opaque = {row["id"]: site.opaque(row["id"]) for row in rows}
    q = tables.study_questions
    there = {r.id for r in site.db.columns(q, "id", {*opaque, *opaque.values()}, "id")}
    for row in rows:
        row["id"] = row["id"] if row["id"] in there else opaque[row["id"]]
    return there


def _as_text(text: str) -> list[str]:
    """A version as lines: its text, its criteria, its examples."""
    version = document(text)
    criteria = [f"{i}. {c['name']}: {c['text']}" for i, c in enumerate(version["criteria"], 1)]
    examples = [f"example: {e['prompt']} -> {e['verdict']}" for e in version["examples"]]
    return [*version["text"].splitlines(), *criteria, *examples]


def what_changed(a: str, b: str) -> list[tuple[str, str]]:
    """(del, ins or same; line) from one guideline version's document to another's: what changed, with a
    little of what stands around it."""
    one, two = _as_text(a), _as_text(b)
    lines: list[tuple[str, str]] = []
    for i, j, k, m, differs in changes(one, two):
        gone = [("del" if differs else "same", line) for line in one[i:j]]
        lines += gone + [("ins", line) for line in two[k:m] if differs]
    changed = [i for i, (what, _) in enumerate(lines) if what != "same"]
    near = {i + d for i in changed for d in range(-AROUND, AROUND + 1)}
    kept: list[tuple[str, str]] = []
    for i, line in enumerate(lines):
        if i in near:
            kept.append(line)
        elif not kept or kept[-1] != ("same", "…"):
            kept.append(("same", "…"))
    return kept
