"""Import a file into a store: all of it or, when a row is bad, nothing. What is left out is counted.

A bad row stops the import with its file, line and field; with `skip_bad` it goes to the rejects file
with the reason. Rows that say nothing (empty or identical responses, prompts over the limit, exact
duplicates) are left out, counted, and written there too. Contradictory judgments are kept: they are
what people said; they are counted, and a pair split evenly trains nothing.
"""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from accord.core.errors import ConfigError, DataError, door
from accord.core.hashing import canonical_json
from accord.core.rundir import write_jsonl
from accord.core.types import ANSWERS, Judgment, Preference, Question, Rater, Response
from accord.store.foreign import read_foreign
from accord.store.formats import FORMATS, Record, convert, detect
from accord.store.native import add_native, read_native
from accord.store.readers import BadRow, Row, count_rows, read_rows
from accord.store.store import Store

__all__ = ["FORMATS", "ImportReport", "import_file"]

BATCH = 1000
WHOLE = {"accord", "argilla", "label_studio"}  # rows that hold typed objects, added together
REASONS = {
    "bad": "bad rows",
    "duplicate": "duplicates of a judgment already there",
    "empty": "with an empty response",
    "identical": "with identical chosen and rejected",
    "over_limit": "over the length limit",
}
KINDS = {answer: question for question, answer in ANSWERS.items()}


@dataclass
class ImportReport:
    """What came in, what did not and why."""

    path: Path
    format: str = ""
    rows: int = 0
    judgments: int = 0
    prompts: int = 0
    contradictory: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    unused: Counter[str] = field(default_factory=Counter)
    rejects: list[dict[str, Any]] = field(default_factory=list)
    rejects_path: Path | None = None

    def counts(self) -> dict[str, Any]:
        """As plain data, zeros included."""
        return {
            "format": self.format,
            "rows": self.rows,
            "judgments": self.judgments,
            "prompts": self.prompts,
            **{reason: self.left_out[reason] for reason in REASONS},
            "contradictory": self.contradictory,
            "columns not used": ", ".join(self.unused),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.path}: {self.rows} rows of format {self.format}, {self.judgments} new judgments, "
            f"{self.prompts} prompts"
        ]
        lines += [f"  left out: {n} {REASONS[r]}" for r, n in self.left_out.items() if n]
        if self.contradictory:
            lines.append(f"  kept: {self.contradictory} judgments that contradict another one")
        if self.unused:
            lines.append(f"  columns not used: {', '.join(self.unused)}")
        if self.rejects_path:
            lines.append(f"  rows left out, with reasons: {self.rejects_path}")
        return "\n".join(lines)


@dataclass
class _Job:
    """One import under way."""

    store: Store
    report: ImportReport
    rater: Rater
    at: str
    max_prompt: int | None
    max_response: int | None
    said: set[tuple[str, str, str]] = field(default_factory=set)  # question, rater, answer
    answers: dict[str, set[str]] = field(default_factory=dict)  # by question
    prompts: set[str] = field(default_factory=set)

    def leave_out(self, reason: str, place: str, row: Any, field: str = "", why: str = "") -> None:
        self.report.left_out[reason] += 1
        told = {"place": place, "field": field, "reason": why or REASONS[reason], "row": row}
        self.report.rejects.append(told)


@door
def import_file(
    store: Store,
    path: str | Path,
    *,
    format: str = "auto",
    rater: str | None = None,
    rater_kind: Literal["human", "model", "rule"] = "human",
    at: str | None = None,
    skip_bad: bool = False,
    rejects_path: str | Path | None = None,
    max_prompt_chars: int | None = None,
    max_response_chars: int | None = None,
    limit: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ImportReport:
    """Import the first `limit` rows. `rater` names who judged (the file's name when not given), `at`
    when (now). DataError names file, line and field of a bad row; the store is then unchanged.
    Importing a file again adds nothing."""
    path = Path(path)
    if format != "auto" and format not in FORMATS:
        raise ConfigError(
            f"unknown format {format!r}", where="format", allowed=", ".join(["auto", *FORMATS])
        )
    job = _Job(
        store=store,
        report=ImportReport(path),
        rater=Rater(name=rater or path.name, kind=rater_kind, facts={"order_shown": "unknown"}),
        at=at or datetime.now(UTC).isoformat(timespec="seconds"),
        max_prompt=max_prompt_chars,
        max_response=max_response_chars,
    )
    job.report.format = format
    with _uncollected():
        _import(job, path, skip_bad, limit, rejects_path, on_progress)
    return job.report


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the cycle collector: a million rows hold no cycles, and it would visit them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _import(
    job: _Job, path: Path, skip_bad: bool, limit: int | None, rejects_path: str | Path | None,
    on_progress: Callable[[int, int], None] | None,
) -> None:  # fmt: skip
    total = min(limit or 10**12, count_rows(path)) if on_progress and path.exists() else 0
    with job.store.database.roomy():
        batch: list[tuple[str, Row, Record | Any]] = []
        for place, row in _good_rows(job, path, skip_bad, limit):
            understood = _understand(job, place, row, path, skip_bad)
            batch.append((place, {} if job.report.format in WHOLE else row, understood))
            if len(batch) == BATCH and job.report.format not in WHOLE:
                _add(job, batch)
                batch = []
                if on_progress:
                    on_progress(job.report.rows, max(total, job.report.rows))
        if not job.report.rows:
            raise DataError("holds no rows", where=str(path), mend="is it the right file?")
        _add(job, batch)
        if job.report.rejects:  # inside: when they can't be written, nothing is
            target = Path(rejects_path or f"{path.name}.rejects.jsonl")
            write_jsonl(target, (_plain(told) for told in job.report.rejects))
            job.report.rejects_path = target
    if on_progress:
        on_progress(job.report.rows, job.report.rows)


def _plain(told: dict[str, Any]) -> Any:
    """As JSON can hold it: a Parquet row may have dates, bytes and NaN."""
    try:
        canonical_json(told)
    except (TypeError, ValueError):
        return {**told, "row": repr(told["row"])}
    except RecursionError:
        return {**told, "row": "nested too deep to be shown"}
    return told


def _good_rows(
    job: _Job, path: Path, skip_bad: bool, limit: int | None
) -> Iterator[tuple[str, Row]]:
    """Rows that could be read, their format found from the first."""
    for place, row in read_rows(path):
        if limit is not None and job.report.rows >= limit:
            return
        job.report.rows += 1
        if isinstance(row, BadRow):
            _bad(job, path, place, row, row.raw, skip_bad)
            continue
        if job.report.format == "auto":
            try:
                job.report.format = detect(row)
            except BadRow as bad:
                _bad(job, path, place, bad, row, skip_bad)
                continue
        yield place, row


def _understand(job: _Job, place: str, row: Row, path: Path, skip_bad: bool) -> Record | Any:
    try:
        if job.report.format == "accord":
            return [read_native(row)]
        if job.report.format in WHOLE:
            return read_foreign(row, job.report.format, job.at)
        record = convert(row, job.report.format)
    except BadRow as bad:
        _bad(job, path, place, bad, row, skip_bad)
        return None
    used = FORMATS[job.report.format].keys
    job.report.unused.update(str(k) for k in row if k not in used)
    return record


def _bad(job: _Job, path: Path, place: str, bad: BadRow, row: Any, skip_bad: bool) -> None:
    if skip_bad:
        why = f"{bad.reason}; allowed: {bad.allowed}" if bad.allowed else bad.reason
        job.leave_out("bad", place, row, bad.field, why)
        return
    raise DataError(
        bad.reason,
        where=f"{path}:{place} {bad.field}".rstrip(),
        allowed=bad.allowed,
        mend="mend the row, or go on without bad rows with --skip-bad",
    )


def _add(job: _Job, batch: list[tuple[str, Row, Any]]) -> None:
    """Add a batch of understood rows to the store."""
    understood = [(place, row, what) for place, row, what in batch if what is not None]
    if job.report.format in WHOLE:
        found = [thing for _, _, several in understood for thing in several]
        job.report.judgments += add_native(job.store, found, job.report.path)
        job.report.prompts = job.store.counts()["prompts"]
        return
    kept = [
        (place, row, r) for place, row, r in understood if not _says_nothing(job, place, row, r)
    ]
    responses = [(r.prompt, [_response(job, text) for text in r.texts]) for _, _, r in kept]
    job.store.add_raters([job.rater])
    job.store.add_prompts({r.prompt.id: r.prompt for _, _, r in kept}.values())
    job.store.add_all_responses((prompt, r) for prompt, many in responses for r in many)
    job.prompts |= {r.prompt.id for _, _, r in kept}
    job.report.prompts = len(job.prompts)
    asked = [
        _ask(job, record, many) for (_, _, record), (_, many) in zip(kept, responses, strict=True)
    ]
    job.store.add_questions(q for q, _ in asked if q)
    _remember(job, [q.id for q, _ in asked if q])
    fresh = []
    for (place, row, _), (question, judgment) in zip(kept, asked, strict=True):
        if question and judgment and not _known(job, place, row, judgment):
            fresh.append(judgment)
    job.report.judgments += job.store.add_judgments(fresh)


def _says_nothing(job: _Job, place: str, row: Row, record: Record) -> bool:
    """Leave out a row that holds no information, counted by reason."""
    texts = list(record.texts)
    if record.answer and record.answer.kind == "writing":
        texts.append(record.answer.text)
    size = sum(len(m.content) for m in record.prompt.messages)
    reason = ""
    if any(not t.strip() for t in texts) or not record.prompt.last.strip():
        reason = "empty"
    elif len(record.texts) == 2 and texts[0] == texts[1]:
        reason = "identical"
    elif (job.max_prompt and size > job.max_prompt) or (
        job.max_response and max(map(len, texts), default=0) > job.max_response
    ):
        reason = "over_limit"
    if reason:
        job.leave_out(reason, place, row)
    return bool(reason)


def _response(job: _Job, text: str) -> Response:
    return Response(text=text, source=f"import:{job.report.path.name}")


def _ask(
    job: _Job, record: Record, responses: list[Response]
) -> tuple[Question | None, Judgment | None]:
    """The question a record answers. The order shown is not known: pairs go in the order of their
    ids, so that a pair and its reverse are the same question."""
    if record.answer is None:
        return None, None
    ids = [r.id_for(record.prompt) for r in responses]
    answer = record.answer
    if isinstance(answer, Preference):
        better = ids[0]
        ids.sort()
        answer = Preference(better=0 if ids[0] == better else 1)
    question = Question(
        prompt=record.prompt.id,
        responses=tuple(ids),
        kind=KINDS[answer.kind],
    )
    return question, Judgment(question=question.id, rater=job.rater.id, answer=answer, at=job.at)


def _remember(job: _Job, questions: list[str]) -> None:
    """What the store already holds on these questions."""
    for old in job.store.judgments_on(q for q in questions if q not in job.answers):
        said = canonical_json(old.answer)
        job.said.add((old.question, old.rater, said))
        job.answers.setdefault(old.question, set()).add(said)


def _known(job: _Job, place: str, row: Row, judgment: Judgment) -> bool:
    """Count a duplicate (left out) or a contradiction (kept)."""
    said = canonical_json(judgment.answer)
    key = (judgment.question, judgment.rater, said)
    if key in job.said:
        job.leave_out("duplicate", place, row)
        return True
    job.said.add(key)
    others = job.answers.setdefault(judgment.question, set())
    if judgment.answer.kind in {"preference", "thumb"} and others - {said}:
        job.report.contradictory += 1
    others.add(said)
    return False
