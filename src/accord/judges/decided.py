"""What a judge is measured on: pairs that people or gold questions decided, each asked as its template asks.

A pair is compared; a ranking is asked of the two alone. A rating is asked of each response on each axis, and
says of a pair what ratings say where training reads them (`store.snapshot.pairs`): the one with the higher
mean is better, two that are rated alike say nothing. Its p is (1 + the difference of the means)/2, each from
0 to 1; of one yes-or-no criterion that is P(only the first meets it) + P(both or neither)/2.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from accord.core.types import Question, Rating
from accord.feedback.trust.gold_questions import GoldAnswer
from accord.judges.ask import Judge, JudgeBudget, Spent, judge_items
from accord.judges.backends import Backend
from accord.judges.cache import Cache
from accord.judges.check import CheckReport, Tried, check_judge, tried, truths
from accord.judges.run import answer_of, question_of
from accord.judges.templates import JudgedExample, JudgedItem, check_template
from accord.judges.thresholds import Thresholds
from accord.judges.verdict import JudgeVerdict
from accord.store import Snapshot

__all__ = ["asked_on_pairs", "decided_pairs", "measured"]

ALIKE = "both are rated alike"
LEAST_APART = (
    0.5 + 1e-12
)  # of the p of two that are not: their levels may differ by less than a float of p


def measured(
    snapshot: Snapshot,
    judge: Judge,
    backend: Backend,
    cache: Cache,
    thresholds: Thresholds,
    *,
    gold: Mapping[str, GoldAnswer] | None = None,
    own: Collection[str] = (),
    retest: int = 0,
    budget: JudgeBudget | None = None,
    asked: Mapping[Question, JudgedItem] | None = None,
    by: Collection[str] | None = None,
    axes: Sequence[str] = (),
    examples: Sequence[JudgedExample] = (),
    references: Mapping[str, str] | None = None,
) -> tuple[CheckReport, Spent, list[Tried]]:
    """Ask a judge every pair (of those `asked`: one that learned from some is not measured on them) that
    people or gold decide, and measure it: the report, what was spent, the pairs. Nothing is written to the
    store. `by`: the tags that the gate asks about, by default all; `axes` of a rating; `examples` that it is
    shown are no pairs to measure it on; `references` by prompt id, all there are."""
    known, shown = truths(snapshot, gold), {e.item.prompt.id for e in examples}
    items = {
        q: i
        for q, i in (
            decided_pairs(snapshot, judge.template, known.keys(), references, axes)
            if asked is None
            else asked
        ).items()
        if frozenset(q.responses) in known and q.prompt not in shown
    }
    pairs = list(items.values())
    verdicts, spent = asked_on_pairs(
        judge, backend, pairs, cache, axes=axes, budget=budget, examples=examples
    )
    again = None
    if retest:
        other = judge.model_copy(update={"seed": judge.seed + 1})
        again, _ = asked_on_pairs(
            other, backend, pairs[:retest], cache, axes=axes, budget=budget, examples=examples
        )
    rows = tried(items, verdicts, known, again=again, own=own)
    name = judge.rater(backend.name, "", examples, references).name
    report = check_judge(
        name,
        rows,
        thresholds,
        snapshot=snapshot.name,
        sha256=snapshot.sha256,
        by=by,
        axes=judge.axes_of(axes),
        sure=judge.compares,
    )
    return report, spent, rows


def decided_pairs(
    snapshot: Snapshot,
    template: str,
    known: Collection[frozenset[str]],
    references: Mapping[str, str] | None = None,
    axes: Sequence[str] = (),
) -> dict[Question, JudgedItem]:
    """The pairs of responses that are `known` (`check.truths`), in the order they were shown; those that
    ratings decide, which were not shown together, in the order of their ids. `references` by prompt id. With
    `axes` a pair that is compared is asked about on them."""
    tables, rates = snapshot.tables, check_template(template).facts["kind"] == "rate"
    asked = [tables.questions[j.question] for j in snapshot.judgments]
    asked += tables.questions.values()  # a gold question that nobody answered
    prompt_of = {
        id: q.prompt for q in asked for id in q.responses
    }  # an edit that nobody was shown has none
    shown = [pair for q in asked for pair in itertools.combinations(q.responses, 2)]
    order = {frozenset(pair): pair for pair in reversed(shown)}  # as it was first shown
    pairs = [order[pair] for pair in dict.fromkeys(map(frozenset, shown)) if pair in known]
    pairs += [(min(pair), max(pair)) for pair in known if pair not in order]
    items = {}
    for pair in pairs:
        if len(set(pair)) == 2 and set(pair) <= prompt_of.keys():
            prompt = tables.prompts[prompt_of[pair[0]]]
            responses = tuple(tables.responses[id] for id in pair)
            for axis in ("",) if rates or not axes else axes:
                item = JudgedItem(prompt, responses, axis, (references or {}).get(prompt.id, ""))
                items[question_of(prompt.id, pair, "compare", template, axis)] = item
    return items


def asked_on_pairs(
    judge: Judge,
    backend: Backend,
    pairs: Sequence[JudgedItem],
    cache: Cache,
    *,
    axes: Sequence[str] = (),
    budget: JudgeBudget | None = None,
    examples: Sequence[JudgedExample] = (),
) -> tuple[list[JudgeVerdict], Spent]:
    """What the judge says of each pair, in order; of a rating on these `axes`."""
    if check_template(judge.template).facts["kind"] != "rate":
        return judge_items(judge, backend, pairs, cache, budget=budget, examples=examples)
    axes = judge.axes_of(axes)
    keys = [[[(r.id_for(i.prompt), axis) for axis in axes] for r in i.responses] for i in pairs]
    single = {
        key: JudgedItem(i.prompt, (r,), key[1], i.reference)
        for i, both in zip(pairs, keys, strict=True)
        for r, own in zip(i.responses, both, strict=True)
        for key in own
    }
    verdicts, spent = judge_items(
        judge, backend, list(single.values()), cache, budget=budget, examples=examples
    )
    rated = dict(zip(single, verdicts, strict=True))
    levels = {
        key: _level(judge, item, rated[key]) for key, item in single.items() if rated[key].probs
    }
    return [_by_ratings(one, two, rated, levels) for one, two in keys], spent


Key = tuple[str, str]  # a response, an axis


def _by_ratings(
    one: Sequence[Key],
    two: Sequence[Key],
    rated: Mapping[Key, JudgeVerdict],
    levels: Mapping[Key, float],
) -> JudgeVerdict:
    """What ratings of two responses say of the pair. Where they are rated alike, nothing: training leaves it
    out too."""
    some = [rated[key] for key in (*one, *two)]
    both = [
        (levels[a], levels[b]) for a, b in zip(one, two, strict=True) if {a, b} <= levels.keys()
    ]
    unread, replies = sum(v.unread for v in some), sum(v.replies for v in some)
    if not both:
        missing = next(v.missing for v in some if v.missing)
        return JudgeVerdict(None, missing=missing, unread=unread, replies=replies)
    of_one, of_two = (sum(side) / len(both) for side in zip(*both, strict=True))
    if of_one == of_two:
        return JudgeVerdict(None, missing=ALIKE, unread=unread, replies=replies)
    p = (1 + of_one - of_two) / 2
    p = max(p, LEAST_APART) if of_one > of_two else min(p, 1 - LEAST_APART)
    return JudgeVerdict((p, 1 - p), (), "", some[0].rationale, unread, replies)


def _level(judge: Judge, item: JudgedItem, verdict: JudgeVerdict) -> float:
    """Of a rating, from 0 to 1."""
    rating = answer_of(judge, item, verdict)
    assert isinstance(rating, Rating)
    (score,) = rating.scores.values()
    return (score - rating.lowest) / (rating.highest - rating.lowest)
