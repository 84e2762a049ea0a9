"""Judges from the outside: what `accord judge` and Python's `accord.judge` and `accord.check_judge` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from accord.core.config import validate
from accord.core.errors import door
from accord.feedback.trust.gold_questions import read_gold_questions
from accord.judges.ask import Judge, JudgeBudget, Spent
from accord.judges.backends import Backend, backend_of
from accord.judges.cache import Cache
from accord.judges.check import CheckReport
from accord.judges.decided import measured
from accord.judges.files import opened, read_examples, read_references
from accord.judges.gate import gate_of
from accord.judges.run import JudgeRun, run_judge
from accord.judges.thresholds import Thresholds

__all__ = ["CACHE", "check_judge", "judge"]

CACHE = "judged.cache"
Progress = Callable[[int, int], None]


@door
def judge(
    data: str,
    judge: str | Backend,
    *,
    how: Mapping[str, Any] | None = None,
    name: str | None = None,
    gate: str | Path | None = None,
    axes: Sequence[str] = (),
    examples: str | Path | None = None,
    references: str | Path | None = None,
    cache: str | Path = CACHE,
    tokens: int | None = None,
    cost: float | None = None,
    prices: tuple[float, float] = (0.0, 0.0),
    at_once: int = 16,
    per_second: float = 0.0,
    on_progress: Progress | None = None,
) -> JudgeRun:
    """Have a judge answer a snapshot's questions; its judgments land in the store beside people's.

        accord.judge("study.db@v3", "http://localhost:8000/v1#qwen", how={"rationale": True}, name="v4")

    Args:
        data: STORE@SNAPSHOT.
        judge: a model's folder or hub name, a server ("http://host:8000/v1#model"), "stand-in:longest".
        how: keys of a judge (`Judge`, below).
        name: freeze a snapshot of all there is afterwards.
        gate: what `check_judge` wrote: label only what that allows; the rest waits for people.
        axes: of a rating, or the criteria of a rubric.
        examples: a JSONL file of judged examples it is shown: prompt, responses, verdict.
        references: a JSONL file of reference answers: prompt, reference.
        cache: replies are kept in this file, so that nothing is asked twice; ":memory:" keeps none.
        tokens: stop after so many; called again it goes on.
        cost: stop after so much, by the `prices` of a million tokens read and written.
        prices: these two.
        at_once: requests to a server under way together.
        per_second: most requests that begin in a second; 0 is no limit.
        on_progress: called with (done, all).

    Returns:
        `written`, `missing` (by reason), `to_people`, `verdicts` by question id, `spent`.

    Raises:
        ConfigError: a wrong key, no question for the template, a gate of another judge.
        ModelError: no such model, a judge that can't be addressed.
    """
    settings = settings_of(how)
    with opened(data) as (store, snapshot), Cache(cache) as kept:
        backend = _backend(judge, at_once, per_second)
        rates, known = settings.axes_of(axes), read_references(references)
        shown = read_examples(examples, settings.template, rates)
        allowed = None
        if gate:
            name_of = settings.rater(backend.name, "", shown, known).name
            allowed = gate_of(Path(gate), name_of, rates, alone=settings.compares)
        done = run_judge(
            store, snapshot, settings, backend, kept, axes=axes, allowed=allowed,
            budget=JudgeBudget(tokens=tokens, cost=cost, prices=prices),
            examples=shown,
            references=known,
            on_progress=on_progress,
        )  # fmt: skip
        if name:
            store.freeze(name)
    return done


@door
def check_judge(
    data: str,
    judge: str | Backend,
    *,
    how: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, Any] | None = None,
    gold: str | Path | None = None,
    own: Sequence[str] = (),
    retest: int = 0,
    axes: Sequence[str] = (),
    examples: str | Path | None = None,
    references: str | Path | None = None,
    out: str | Path | None = None,
    cache: str | Path = CACHE,
    tokens: int | None = None,
    at_once: int = 16,
    per_second: float = 0.0,
) -> tuple[CheckReport, Spent]:
    """Measure a judge on the pairs that people (or gold questions) decided, by comparing, rating or ranking
    them as its template does. Nothing is written to the store.

    Args:
        data: STORE@SNAPSHOT.
        judge: as `judge` takes it.
        how: as `judge` takes it.
        thresholds: accuracy, kappa (lower ends of their intervals), pairs, risk.
        gold: a YAML file of gold answers.
        own: sources of responses that are the judge itself.
        retest: so many pairs are asked again, by another seed.
        axes, examples, references: as `judge` takes them.
        out: write the report there, for `gate`.
        cache, tokens, at_once, per_second: as `judge` takes them.

    Returns:
        The report, and what was spent.

    Raises:
        ConfigError: a wrong key or threshold.
        DataError: no pair is decided by people or gold.
        ModelError: no such model, a judge that can't be addressed.
    """
    settings, least = settings_of(how), validate(Thresholds, dict(thresholds or {}))
    known = read_gold_questions(Path(gold)) if gold else None
    with opened(data) as (_, snapshot), Cache(cache) as kept:
        backend = _backend(judge, at_once, per_second)
        report, spent, _ = measured(
            snapshot, settings, backend, kept, least, gold=known, own=own, retest=retest,
            budget=JudgeBudget(tokens=tokens), axes=axes,
            examples=read_examples(examples, settings.template, settings.axes_of(axes)),
            references=read_references(references),
        )  # fmt: skip
    if out:
        Path(out).write_text(report.model_dump_json(indent=2), encoding="utf-8")
    return report, spent


def settings_of(how: Mapping[str, Any] | None) -> Judge:
    """Keys of a judge, checked."""
    settings = validate(Judge, dict(how or {}))
    settings.check()
    return settings


def _backend(judge: str | Backend, at_once: int, per_second: float) -> Backend:
    return (
        backend_of(judge, at_once=at_once, per_second=per_second)
        if isinstance(judge, str)
        else judge
    )
