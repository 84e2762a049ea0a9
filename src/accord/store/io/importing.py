"""Import a file into a store: all of it or, when a row is bad, nothing. What is left out is counted.

A bad row stops the import with its file, line and field; with `skip_bad` it goes to the rejects file
with the reason. Rows that say nothing (empty or identical responses, prompts over the limit, exact
duplicates) are left out, counted, and written there too. Contradictory judgments are kept: they are
what people said; they are counted, and a pair split evenly trains nothing.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from accord.core.errors import ConfigError, DataError, door
from accord.core.hashing import canonical_json
from accord.core.rundir import write_jsonl
from accord.core.types import (
    ANSWERS,
    Judgment,
    Preference,
    Prompt,
    Question,
    Ranking,
    Rater,
    Response,
)
from accord.store.db.store import Store
from accord.store.io.conversations import Completion
from accord.store.io.foreign.reading import Foreign, read_foreign
from accord.store.io.formats import FORMATS, Record, check, detect, records, unused
from accord.store.io.import_report import REASONS, ImportReport
from accord.store.io.native import Native, add_native, read_native, refused
from accord.store.io.readers import REJECTS, BadRow, Row, count_rows, read_rows
from accord.store.io.schemas import Unusable

__all__ = ["FORMATS", "ImportReport", "import_file"]

BATCH = 1000
WHOLE = {"accord", "argilla", "label_studio"}  # rows that hold typed objects, added together
KINDS = {answer: question for question, answer in ANSWERS.items()}


@dataclass
class _Job:
    """One import under way."""

    store: Store
    report: ImportReport
    rater: Rater
    is_named: bool  # by the caller: then the file's own raters are not
    at: str
    max_prompt: int | None
    max_response: int | None
    seen: set[tuple[str, str, str]] = field(default_factory=set)  # question, rater, answer
    answers: dict[str, set[str]] = field(default_factory=dict)  # by question
    prompts: set[str] = field(default_factory=set)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # by prompt
    is_found: bool = False  # the format, from the first row

    def leave_out(self, reason: str, place: str, row: Any, field: str = "", why: str = "") -> None:
        self.report.left_out[reason] += 1
        reject = {"place": place, "field": field, "reason": why or REASONS[reason], "row": row}
        self.report.rejects.append(reject)


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
    """Bring a file's judgments, pairs, thumbs or demonstrations into a store; again, it adds nothing.

    Args:
        store: an open `Store`.
        path: JSON lines, JSON, CSV, TSV, Parquet, .gz of these, or a datasets folder.
        format: "auto", or the name of a format (docs/data.md).
        rater: who judged, where the rows don't say; the file's name by default.
        rater_kind: what that is. at: when, ISO 8601; now by default.
        skip_bad: put bad rows into a rejects file and go on.
        rejects_path: that file; NAME.rejects.jsonl in the working directory by default.
        max_prompt_chars, max_response_chars: leave out and count what is longer.
        limit: read so many rows at most.
        on_progress: called with (rows done, rows in all).

    Raises:
        DataError: names file, line and field of a bad row; the store is then unchanged.
        ConfigError: an unknown format.
    """
    path = Path(path)
    if format != "auto" and format not in FORMATS:
        near = ", ".join(["auto", *get_close_matches(format, FORMATS, n=5, cutoff=0.4)])
        raise ConfigError(f"unknown format {format!r}", allowed=near, mend="docs/data.md has all")
    facts = {"order_shown": "unknown"} | ({} if rater else {"many": True})
    job = _Job(
        store=store,
        report=ImportReport(path),
        rater=Rater(name=rater or path.name, kind=rater_kind, facts=facts),
        is_named=rater is not None,
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
        for place, row in _gathered(job, path, skip_bad, limit):
            kept = {} if job.report.format in WHOLE else row
            batch += [(place, kept, r) for r in _understand(job, place, row, path, skip_bad)]
            if len(batch) >= BATCH and job.report.format not in WHOLE:
                _add(job, batch, skip_bad)
                batch = []
                if on_progress:
                    on_progress(job.report.rows, max(total, job.report.rows))
        if not job.report.rows:
            raise DataError("holds no rows", where=str(path), mend="is it the right file?")
        _add(job, batch, skip_bad)
        if job.report.rejects:  # inside: when they can't be written, nothing is
            target = Path(rejects_path or f"{path.name.replace('*', '_')}{REJECTS}")
            write_jsonl(target, (_plain(reject) for reject in job.report.rejects))
            job.report.rejects_path = target
    if on_progress:
        on_progress(job.report.rows, job.report.rows)


def _plain(reject: dict[str, Any]) -> Any:
    """As JSON can hold it: a Parquet row may have dates, bytes and NaN."""
    try:
        canonical_json(reject)
    except (TypeError, ValueError):
        return {**reject, "row": repr(reject["row"])}
    except RecursionError:
        return {**reject, "row": "nested too deep to be shown"}
    return reject


def _gathered(
    job: _Job, path: Path, skip_bad: bool, limit: int | None
) -> Iterator[tuple[str, Row]]:
    """Good rows; of a format that spreads what it says over several, what it makes of them."""
    rows = _good_rows(job, path, skip_bad, limit)
    first = next(rows, None)
    if first is None:
        return
    rows = itertools.chain([first], rows)
    gather = FORMATS[job.report.format].gather
    for place, row in gather(rows) if gather else rows:
        if isinstance(row, BadRow):
            _bad(job, path, place, row, row.raw, skip_bad)
        else:
            yield place, row


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
        try:
            if job.report.format == "auto":
                job.report.format = detect(row)
                job.is_found = True
            elif job.is_found:
                check(row, job.report.format)
        except BadRow as bad:
            _bad(job, path, place, bad, row, skip_bad)
            continue
        if job.report.format not in WHOLE:
            job.report.unused.update(unused(row, job.report.format))
        yield place, row


def _understand(job: _Job, place: str, row: Row, path: Path, skip_bad: bool) -> Sequence[Any]:
    """What a row says: records or, of the formats that are added together, lists of typed objects."""
    try:
        if job.report.format == "accord":
            return [[read_native(row)]]
        if job.report.format in WHOLE:
            return _objects(job, place, row, read_foreign(row, job.report.format, job.at))
        parsed = records(row, job.report.format)
        for record in parsed:
            _tagged(job, record.prompt)
        return parsed
    except Unusable as unusable:
        job.leave_out(unusable.reason, place, row)
    except BadRow as bad:
        _bad(job, path, place, bad, row, skip_bad)
    return []


def _objects(job: _Job, place: str, row: Row, foreign: Foreign) -> list[list[Native]]:
    """What another tool's row says, what of it is not read counted by name."""
    job.report.unused.update(foreign.unused)
    job.report.skipped.update(foreign.skipped)
    texts = tuple(r.shown for kind, _, r in foreign.objects if kind == "response")
    if _says_nothing(job, place, row, Record(foreign.prompt, texts)):
        return []
    questions = {q.id for kind, _, q in foreign.objects if kind == "question"}
    _remember(job, list(questions))
    judged = [x for kind, _, x in foreign.objects if kind == "judgment" and x.id in foreign.untimed]
    again = {j.id for j in judged if _known(job, place, row, j)}
    return [[x for x in foreign.objects if x[0] != "judgment" or x[2].id not in again]]


def _tagged(job: _Job, prompt: Prompt) -> None:
    """A prompt has one answer to be checked: BadRow where rows give several."""
    for name, value in prompt.tags.items():
        known = job.tags.setdefault(prompt.id, {}).setdefault(name, value)
        if known != value:
            raise BadRow(
                name, "differs from that of an earlier row with this prompt", "one of them"
            )
        job.report.tags[name] += 1


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


def _add(job: _Job, batch: list[tuple[str, Row, Any]], skip_bad: bool) -> None:
    """Add a batch of understood rows to the store."""
    if job.report.format in WHOLE:
        faults = refused(job.store, [several for _, _, several in batch])
        for n, bad in sorted(faults.items()):
            place, _, several = batch[n]
            objects = [
                {"type": kind, **thing.model_dump(mode="json")} for kind, _, thing in several
            ]
            _bad(job, job.report.path, place, bad, objects, skip_bad)
        good = [x for n, (_, _, several) in enumerate(batch) if n not in faults for x in several]
        job.report.judgments += add_native(job.store, good, job.report.path)
        job.report.prompts = job.store.counts()["prompts"]
        return
    kept = [(place, row, r) for place, row, r in batch if not _says_nothing(job, place, row, r)]
    responses = [(r.prompt, _responses(job, r)) for _, _, r in kept]
    raters = [job.rater, *(_rater(job, r) for _, _, r in kept if r.rater)]
    job.store.add_raters({r.name: r for r in raters}.values())
    prompts = {r.prompt.id: r.prompt for _, _, r in kept}
    job.store.add_prompts(prompts.values())
    _count_untagged(job, prompts)
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


def _count_untagged(job: _Job, prompts: Mapping[str, Prompt]) -> None:
    """Tags of a prompt that was in the store already are not kept: say so."""
    tagged = {id: p.tags for id, p in prompts.items() if p.tags}
    kept = job.store.tags(tagged)
    job.report.untagged += sum(not tags.items() <= kept[id].items() for id, tags in tagged.items())


def _says_nothing(job: _Job, place: str, row: Row, record: Record) -> bool:
    """Leave out a row that holds no information, counted by reason."""
    texts = [r.shown for r in _responses(job, record)]
    if record.answer and record.answer.kind == "writing":
        written = record.answer
        texts.append(Response(text=written.text, tool_calls=written.tool_calls).shown)
    size = sum(len(m.content) for m in record.prompt.messages)
    reason = ""
    if any(not t.strip() for t in texts) or not record.prompt.last.strip():
        reason = "empty"
    elif len(set(texts)) < len(texts):
        reason = "identical"
    elif (job.max_prompt and size > job.max_prompt) or (
        job.max_response and max(map(len, texts), default=0) > job.max_response
    ):
        reason = "over_limit"
    if reason:
        job.leave_out(reason, place, row)
    return bool(reason)


def _responses(job: _Job, record: Record) -> list[Response]:
    """The answers, by who wrote them where the row says so, else from the file."""
    sources = record.sources or [f"import:{job.report.path.name}"] * len(record.texts)
    return [_response(answer, s) for answer, s in zip(record.texts, sources, strict=True)]


def _response(answer: Completion, source: str) -> Response:
    if isinstance(answer, str):
        return Response(text=answer, source=source)
    return Response(text=answer.content, source=source, tool_calls=answer.tool_calls)


def _rater(job: _Job, record: Record) -> Rater:
    """The row's own rater, unless the caller names one for all: one person, where the file may be many."""
    if not record.rater or job.is_named:
        return job.rater
    facts = {k: v for k, v in job.rater.facts.items() if k != "many"}
    return job.rater.model_copy(update={"name": record.rater, "facts": facts})


def _ask(
    job: _Job, record: Record, responses: list[Response]
) -> tuple[Question | None, Judgment | None]:
    """The question a record answers. The order shown is not known: responses go in the order of their ids,
    so that a pair and its reverse are the same question."""
    if record.answer is None:
        return None, None
    ids = [r.id_for(record.prompt) for r in responses]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    answer = record.answer
    if isinstance(answer, Preference) and answer.better is not None:
        answer = answer.model_copy(update={"better": order.index(answer.better)})
    elif isinstance(answer, Ranking):
        answer = Ranking(ranks=tuple(answer.ranks[i] for i in order))
    question = Question(
        prompt=record.prompt.id,
        responses=tuple(ids[i] for i in order),
        kind=KINDS[answer.kind],
    )
    rater = _rater(job, record).id
    return question, Judgment(question=question.id, rater=rater, answer=answer, at=job.at)


def _remember(job: _Job, questions: list[str]) -> None:
    """What the store already holds on these questions."""
    for old in job.store.judgments_on(q for q in questions if q not in job.answers):
        answer = canonical_json(old.answer)
        job.seen.add((old.question, old.rater, answer))
        job.answers.setdefault(old.question, set()).add(answer)


def _known(job: _Job, place: str, row: Row, judgment: Judgment) -> bool:
    """Count a duplicate (left out) or a contradiction (kept)."""
    answer = canonical_json(judgment.answer)
    key = (judgment.question, judgment.rater, answer)
    if key in job.seen:
        job.leave_out("duplicate", place, row)
        return True
    job.seen.add(key)
    others = job.answers.setdefault(judgment.question, set())
    if judgment.answer.kind in {"preference", "thumb"} and others - {answer}:
        job.report.contradictory += 1
    others.add(answer)
    return False
