"""The store of prompts, responses, questions, raters and judgments. Append-only.

    with Store("study.db") as store:
        store.add_prompts([prompt]); store.add_responses(prompt, [a, b])
        store.add_questions([question]); store.add_raters([rater])
        store.add_judgments([judgment])
        pairs = store.freeze("v1").pairs(min_agreement=0.6)

Adding what is there already does nothing. Each judgment's hash covers it and the hash before it;
`verify` recomputes the chain and every content id, so a changed judgment, or a changed text it is
about, is found (tags, facts and sampling settings describe; no id covers them).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from accord.core.errors import DataError, StoreError, door
from accord.core.hashing import canonical_json, text_hash
from accord.core.types import (
    ID_LENGTH,
    Frozen,
    Judgment,
    Prompt,
    Question,
    Rater,
    Response,
)
from accord.store.db import rows, schema
from accord.store.db.database import Database
from accord.store.db.fitting import unfit
from accord.store.db.proof import GENESIS, link, tampered, verify_rows
from accord.store.snapshot.frozen import Selection, Snapshot

__all__ = ["Lineage", "Store"]


class Lineage(Frozen):
    """A judgment with all it is about. `responses` in the order shown; `hash` as in the chain."""

    seq: int
    hash: str
    judgment: Judgment
    question: Question
    rater: Rater
    prompt: Prompt
    responses: tuple[Response, ...]


class Store:
    """A file, or a database URL. With create=False it must exist; StoreError tells otherwise. Errors
    show `name`, by default where it is."""

    @door
    def __init__(self, where: str | Path, *, create: bool = True, name: str | None = None) -> None:
        self._db = Database(where, create, name)
        self.name = self._db.name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._db.engine.dispose()

    @property
    def database(self) -> Database:
        """Connections and transactions, for rooms that keep tables of their own beside these."""
        return self._db

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything added inside is kept together, or, after an exception, not at all."""
        with self._db.writing():
            yield

    # -- adding -----------------------------------------------------------------------------------

    def add_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Add prompts; the tags of the first addition stay."""
        self._db.insert(schema.prompts, [rows.from_prompt(p) for p in prompts])

    def add_responses(self, prompt: Prompt, responses: Iterable[Response]) -> None:
        """Add responses to a prompt that is in the store."""
        self.add_all_responses((prompt, r) for r in responses)

    def add_all_responses(self, responses: Iterable[tuple[Prompt, Response]]) -> None:
        """Add responses to any prompts of the store."""
        self._db.insert(schema.responses, [rows.from_response(p, r) for p, r in responses])

    def add_questions(self, questions: Iterable[Question]) -> None:
        """Add questions; StoreError when a response shown is not one to the question's prompt."""
        by_id = {q.id: q for q in questions}
        with self._db.writing():
            shown = {r for q in by_id.values() for r in q.responses}
            prompt_of = dict(self._db.columns(schema.responses, "id", shown, "id", "prompt"))
            for q in by_id.values():
                for r in q.responses:
                    if prompt_of.get(r) != q.prompt:
                        raise StoreError(
                            f"response {r} is not in the store as a response to prompt {q.prompt}",
                            where=f"question {q.id}",
                            mend="add prompts and responses before their questions",
                        )
            self._db.insert(schema.questions, [rows.from_question(q) for q in by_id.values()])

    def add_raters(self, raters: Iterable[Rater]) -> None:
        """Add raters; the facts of the first addition stay."""
        self._db.insert(schema.raters, [rows.from_rater(r) for r in raters])

    def add_judgments(self, judgments: Iterable[Judgment]) -> int:
        """Append judgments to the chain; those there already are skipped. Returns how many are new.

        DataError when an answer doesn't fit its question; nothing is written then.
        """
        fresh: dict[str, tuple[Judgment, str]] = {}
        for j in judgments:
            body = canonical_json(j)
            fresh[text_hash(body)[:ID_LENGTH]] = (j, body)  # j.id, its JSON made once
        with self._db.writing() as connection:
            for (known,) in self._db.columns(schema.judgments, "id", fresh, "id"):
                del fresh[known]
            self._check({id: j for id, (j, _) in fresh.items()})
            last = connection.execute(
                sa.select(schema.judgments.c.seq, schema.judgments.c.hash)
                .order_by(schema.judgments.c.seq.desc())
                .limit(1)
            ).first()
            self._db.insert(schema.judgments, _chained(fresh, *(last or (0, GENESIS))))
        return len(fresh)

    def _check(self, fresh: Mapping[str, Judgment]) -> None:
        """DataError for an answer that doesn't fit its question, or a wrong correction."""
        for id, fault in unfit(self._db, fresh.values()).items():
            raise DataError(fault, where=f"judgment {id}")

    # -- reading ----------------------------------------------------------------------------------

    def prompts(self) -> list[Prompt]:
        """All prompts, by id."""
        with self._db.reading() as connection:
            selected = connection.execute(sa.select(schema.prompts).order_by(schema.prompts.c.id))
            return [rows.to_prompt(row) for row in selected]

    def tags(self, ids: Collection[str]) -> dict[str, dict[str, str]]:
        """Tags of these prompts, by id."""
        texts = self._db.columns(schema.prompts, "id", ids, "id", "tags")
        return {id: json.loads(text) for id, text in texts}

    def responses(self) -> list[tuple[str, Response]]:
        """All responses with their prompt's id, by response id."""
        table = schema.responses
        with self._db.reading() as connection:
            selected = connection.execute(sa.select(table).order_by(table.c.id))
            return [(row.prompt, rows.to_response(row)) for row in selected]

    def questions(self) -> list[Question]:
        """All questions, by id."""
        with self._db.reading() as connection:
            selected = connection.execute(
                sa.select(schema.questions).order_by(schema.questions.c.id)
            )
            return [rows.to_question(row) for row in selected]

    def raters(self) -> list[Rater]:
        """All raters, by name."""
        with self._db.reading() as connection:
            selected = connection.execute(sa.select(schema.raters).order_by(schema.raters.c.name))
            return [rows.to_rater(row) for row in selected]

    def judgments(self, up_to: int | None = None) -> list[Judgment]:
        """All judgments in the order they came, to the `up_to`-th."""
        table = schema.judgments
        query = sa.select(table.c.id, table.c.body).order_by(table.c.seq)
        if up_to is not None:
            query = query.where(table.c.seq <= up_to)
        with self._db.reading() as connection:
            return [rows.to_judgment(row) for row in connection.execute(query)]

    def judgments_on(self, questions: Iterable[str]) -> list[Judgment]:
        """Judgments on questions of these ids, in no particular order."""
        bodies = self._db.columns(schema.judgments, "question", set(questions), "id", "body")
        return [rows.to_judgment(row) for row in bodies]

    def counts(self) -> dict[str, int]:
        """Rows by table."""
        with self._db.reading() as connection:
            return {
                name: connection.execute(
                    sa.select(sa.func.count()).select_from(schema.metadata.tables[name])
                ).scalar_one()
                for name in schema.TABLES
            }

    def judgment(self, id: str) -> Lineage:
        """One judgment and what it is about; StoreError when there is none."""
        return self.lineage([id])[id]

    def lineage(self, ids: Collection[str]) -> dict[str, Lineage]:
        """Judgments and what they are about, by id; StoreError when one is not there."""
        with self._db.reading():
            by_id = {r.id: r for r in self._db.columns(schema.judgments, "id", ids)}
            missing = sorted(set(ids) - set(by_id))
            if missing:
                raise StoreError(f"no judgment {missing[0]}", where=self.name, mend="check the id")
            questions = {
                r.id: rows.to_question(r)
                for r in self._db.columns(
                    schema.questions, "id", {j.question for j in by_id.values()}
                )
            }
            raters = {
                r.id: rows.to_rater(r)
                for r in self._db.columns(schema.raters, "id", {j.rater for j in by_id.values()})
            }
            prompts = {
                r.id: rows.to_prompt(r)
                for r in self._db.columns(
                    schema.prompts, "id", {q.prompt for q in questions.values()}
                )
            }
            shown = {i for q in questions.values() for i in q.responses}
            responses = {
                r.id: rows.to_response(r) for r in self._db.columns(schema.responses, "id", shown)
            }
        return {
            i: Lineage(
                seq=row.seq,
                hash=row.hash,
                judgment=rows.to_judgment(row),
                question=questions[row.question],
                rater=raters[row.rater],
                prompt=prompts[questions[row.question].prompt],
                responses=tuple(responses[r] for r in questions[row.question].responses),
            )
            for i, row in by_id.items()
        }

    # -- snapshots --------------------------------------------------------------------------------

    @door
    def freeze(
        self,
        name: str,
        *,
        kinds: Collection[str] | None = None,
        raters: Collection[str] | None = None,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
        weights: Mapping[str, float] | None = None,
        because: str = "",
        of: str | None = None,
    ) -> Snapshot:
        """Name the current judgments, or some of them. Freezing the same selection again is fine.

        Args:
            name: by which `snapshot` finds it.
            kinds: of these answer kinds alone. raters: by these names alone. only: of these ids alone.
            without: not those of these raters, in quarantine.
            weights: how much a rater's votes count, above 0; 1 where nothing is said.
            because: why, kept with it.
            of: out of this snapshot, not of all there is now.

        Raises:
            StoreError: the name stands for another selection.
        """
        selection = Selection(
            kinds=None if kinds is None else tuple(sorted(kinds)),
            raters=None if raters is None else tuple(sorted(raters)),
            only=None if only is None else tuple(sorted(only)),
            without=tuple(sorted(without)),
            weights=dict(weights or {}),
            because=because,
        )
        with self._db.writing() as connection:
            if of is None:
                up_to = (
                    connection.execute(sa.select(sa.func.max(schema.judgments.c.seq))).scalar() or 0
                )
            else:
                base, up_to = self.snapshot(of), self._snapshot_row(of).up_to
                selection = base.selection.narrowed(selection)
            snapshot = Snapshot.of(self, name, up_to, selection)
            table = schema.snapshots
            old = connection.execute(sa.select(table).where(table.c.name == name)).first()
            if old is None:
                row = {
                    "name": name, "up_to": up_to, "selection": canonical_json(selection),
                    "judgments": len(snapshot.judgments), "sha256": snapshot.sha256,
                }  # fmt: skip
                self._db.insert(table, [row])
            elif old.sha256 != snapshot.sha256:
                what = f"({old.judgments}, not {len(snapshot.judgments)})"
                if old.judgments == len(snapshot.judgments):
                    what = "or weighs them otherwise"
                raise StoreError(
                    f"snapshot {name} holds other judgments {what}; snapshots never change",
                    where=self.name,
                    mend="choose another name",
                )
        return snapshot

    @door
    def snapshot(self, name: str) -> Snapshot:
        """The frozen selection; StoreError when it is not there or its judgments have changed."""
        with self._db.reading():
            row = self._snapshot_row(name)
            try:
                selection = Selection.model_validate_json(row.selection)
            except ValueError:
                raise tampered(self.name, f"the selection of snapshot {name}") from None
            snapshot = Snapshot.of(self, name, row.up_to, selection)
        if snapshot.sha256 != row.sha256:
            raise StoreError(
                f"the judgments of snapshot {name} have changed since it was frozen",
                where=self.name,
                mend="restore the store from a copy",
            )
        return snapshot

    def _snapshot_row(self, name: str) -> Any:
        table = schema.snapshots
        with self._db.reading() as connection:
            row = connection.execute(sa.select(table).where(table.c.name == name)).first()
        if row is None:
            raise StoreError(
                f"no snapshot {name!r}",
                where=self.name,
                allowed=", ".join(self.snapshot_names()) or "none is frozen yet",
                mend="freeze one with accord import FILE --store STORE --snapshot NAME",
            )
        return row

    def snapshot_names(self) -> list[str]:
        with self._db.reading() as connection:
            return list(
                connection.execute(
                    sa.select(schema.snapshots.c.name).order_by(schema.snapshots.c.name)
                ).scalars()
            )

    # -- proof ------------------------------------------------------------------------------------

    def verify(self) -> int:
        """Recompute every content id, the hash chain and the snapshots; returns the number of
        judgments. StoreError names the first row that is not what it was."""
        with self._db.reading() as connection:
            verify_rows(connection, self.name)
            for name in self.snapshot_names():
                self.snapshot(name)
            return self.counts()["judgments"]


def _chained(
    fresh: Mapping[str, tuple[Judgment, str]], seq: int, before: str
) -> Iterator[dict[str, Any]]:
    """Rows of judgments that follow the one with this number and hash."""
    for id, (j, body) in fresh.items():
        seq, before = seq + 1, link(before, body)
        yield {
            "seq": seq, "id": id, "question": j.question, "rater": j.rater, "kind": j.answer.kind,
            "body": body, "hash": before,
        }  # fmt: skip
