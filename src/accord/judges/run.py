"""A judge on a snapshot: its judgments land in the store beside people's, as a rater of kind model.

Every comparison, rating and ranking of the snapshot that the template can answer is judged once; what is
judged already by this judge (same model, template, version, settings) is not judged again. A missing verdict
leaves no judgment. With a gate, only what the judge may label is labelled; the rest waits for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from accord.core.errors import ConfigError, DataError
from accord.core.types import Answer, Judgment, Preference, Question, Ranking, Rating
from accord.judges.ask import Judge, JudgeBudget, Spent, judge_items
from accord.judges.backends import Backend
from accord.judges.cache import Cache
from accord.judges.templates import JudgedExample, JudgedItem, check_template, options_of, versioned
from accord.judges.verdict import JudgeVerdict
from accord.store import Snapshot, Store

__all__ = ["JudgeRun", "answer_of", "items_of", "question_of", "run_judge"]

Allowed = Callable[[JudgedItem, JudgeVerdict], bool]


@dataclass
class JudgeRun:
    """Judgments written, verdicts by question, missing ones by reason, questions left to people, what was
    asked. `raters` are the names it labels by: one a principle, where principles ask. `prompts` is the prompt
    of each question."""

    rater: str
    written: int
    verdicts: dict[str, JudgeVerdict]
    missing: dict[str, int]
    to_people: list[str]
    already: int
    spent: Spent = field(default_factory=Spent)
    raters: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lost = sum(self.missing.values())
        return (
            f"{self.written} judgments by {self.rater}; {lost} missing, {len(self.to_people)} for people, "
            f"{self.already} judged before; {self.spent.asked} asked, {self.spent.cached} from the cache, "
            f"{self.spent.read} tokens read, {self.spent.written} written"
        )


def items_of(
    snapshot: Snapshot,
    template: str,
    axes: Sequence[str] = (),
    references: Mapping[str, str] | None = None,
) -> dict[Question, JudgedItem]:
    """What a template asks of a snapshot: its questions of that kind, each set of responses once; of a rating
    one question an axis, each response once; of a comparison the one axis. `references` by prompt id."""
    kind = check_template(template).facts["kind"]
    tables, known = snapshot.tables, references or {}
    items: dict[Any, tuple[Question, JudgedItem]] = {}
    for j in snapshot.judgments:
        asked = tables.questions[j.question]
        prompt = tables.prompts[asked.prompt]
        reference = known.get(asked.prompt, "")
        if kind == "rate":
            for shown in asked.responses:
                for axis in axes or ("overall",):
                    q = question_of(prompt.id, (shown,), "rate", template, axis)
                    items.setdefault(
                        (shown, axis),
                        (q, JudgedItem(prompt, (tables.responses[shown],), axis, reference)),
                    )
        elif asked.kind == kind:
            axis = axes[0] if axes else ""
            q = question_of(prompt.id, asked.responses, kind, template, axis)
            responses = tuple(tables.responses[i] for i in asked.responses)
            items.setdefault(
                (prompt.id, frozenset(asked.responses)),
                (q, JudgedItem(prompt, responses, axis, reference)),
            )
    return dict(items.values())


def question_of(
    prompt: str, shown: tuple[str, ...], kind: Any, template: str, axis: str
) -> Question:
    """The question of a template, on an axis, as stores know it."""
    guideline = versioned(template) + (f" {axis}" if axis else "")
    return Question(prompt=prompt, responses=shown, kind=kind, guideline=guideline)


def answer_of(judge: Judge, item: JudgedItem, verdict: JudgeVerdict) -> Answer:
    """A verdict as an answer: a preference with its p, ranks by P(best), the mean of a scale."""
    template = judge.template
    probs = verdict.probs
    if probs is None:
        raise DataError(f"a missing verdict is no answer ({verdict.missing})")
    kind = check_template(template).facts["kind"]
    if kind == "compare":
        most = judge.clamp or 1.0
        p = min(most, max(1.0 - most, probs[0]))
        return Preference(better=None if p == 0.5 else 0 if p > 0.5 else 1, p=p)
    if kind == "rank":
        return Ranking(ranks=tuple(1 + sum(other > p for other in probs) for p in probs))
    options = options_of(template, item)
    steps = [float(o) if o.isdigit() else float(k) for k, o in enumerate(options)]
    mean = sum(p * s for p, s in zip(probs, steps, strict=True))
    mean = min(max(mean, steps[0]), steps[-1])
    return Rating(scores={item.axis or "overall": mean}, lowest=steps[0], highest=steps[-1])


def run_judge(
    store: Store,
    snapshot: Snapshot,
    judge: Judge,
    backend: Backend,
    cache: Cache,
    *,
    items: Mapping[Question, JudgedItem] | None = None,
    axes: Sequence[str] = (),
    references: Mapping[str, str] | None = None,
    budget: JudgeBudget | None = None,
    examples: Sequence[JudgedExample] = (),
    allowed: Allowed | None = None,
    now: Callable[[], str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> JudgeRun:
    """Judge a snapshot's questions, or these `items`, and write the judgments to its store."""
    items = items_of(snapshot, judge.template, axes, references) if items is None else items
    if not items:
        raise ConfigError(f"{snapshot.name} has no question for template {judge.template}", where="judge",
                          mend="choose another template or snapshot")  # fmt: skip
    asking = ("", *(i.principle for i in items.values()))
    whose = {p: judge.rater(backend.name, p, examples, references) for p in asking}
    raters = {q.id: whose[item.principle] for q, item in items.items()}
    before = store.judgments_on([q.id for q in items])
    done = {j.question for j in before if j.rater == raters[j.question].id}
    left = {q: item for q, item in items.items() if q.id not in done}
    verdicts, spent = judge_items(
        judge,
        backend,
        list(left.values()),
        cache,
        budget=budget,
        examples=examples,
        on_progress=on_progress,
    )
    verdict_of = dict(zip(left, verdicts, strict=True))
    kept = {
        q: v
        for q, v in verdict_of.items()
        if v.probs is not None and (allowed is None or allowed(left[q], v))
    }
    clock = now or (lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    judgments = [
        Judgment(question=q.id, rater=raters[q.id].id, at=clock(), rationale=v.rationale or None,
                 answer=answer_of(judge, left[q], v))
        for q, v in kept.items()
    ]  # fmt: skip
    with store.transaction():
        store.add_raters(list({raters[q.id].id: raters[q.id] for q in kept}.values()))
        store.add_questions(kept)
        store.add_judgments(judgments)
    return JudgeRun(
        whose[""].name, len(judgments), {q.id: v for q, v in verdict_of.items()},
        dict(Counter(v.missing for v in verdict_of.values() if v.probs is None)),
        [q.id for q, v in verdict_of.items() if q not in kept], len(done), spent,
        tuple(dict.fromkeys(r.name for r in raters.values())), {q.id: q.prompt for q in left},
    )  # fmt: skip
