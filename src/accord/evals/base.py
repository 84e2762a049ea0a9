"""What an evaluation is, and where evaluations are registered.

    @evaluation("questions", measures=[Measure(name="asks", title="asks", meaning="…", kind="share")])
    def questions(context: Context) -> ReplyScorer:
        return lambda replies: [{"asks": "?" in r.response.text} for r in replies]

The factory's signature is its schema: `evals: [gold, {name: questions}]` works in an eval stage. It scores
replies that were sampled before, whoever sampled them: it sees a prompt and a response, never a model.
One that must ask for itself (options by log-prob, a second turn) says how often, `asks=`, and is given
prompts instead of replies; it asks `context.asker`, which keeps what comes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from accord.core.errors import DataError
from accord.core.hashing import content_hash
from accord.core.measure import Measure, by_name
from accord.core.plugins import files_behind
from accord.core.registry import Registry
from accord.core.types import Exchange, Metric, Prompt, Response
from accord.worlds.base import World, code_behind

__all__ = [
    "DEFAULT",
    "Askable",
    "ChosenEvaluation",
    "EvaluationContext",
    "ReplyScorer",
    "Scores",
    "configured",
    "evaluation",
    "evaluations",
    "identity",
    "known_measures",
    "measured",
    "scored",
    "scores_of",
]  # fmt: skip

Scores = Mapping[str, float]
DEFAULT = ("gold", "length")


class ReplyScorer(Protocol):
    """Replies in; for each, in order, its scores by measure. One that does not apply is left out (or NaN)."""

    def __call__(self, replies: Sequence[Exchange]) -> Sequence[Scores]: ...


class Askable(Protocol):
    """A policy that can be asked. None for a prompt that could not be answered."""

    def replies(self, prompts: Sequence[Prompt]) -> list[Response | None]:
        """One reply to each."""
        ...

    def samples(
        self, prompts: Sequence[Prompt], n: int, temperature: float
    ) -> list[list[Response]]:
        """`n` sampled replies to each; none to one that could not be answered."""
        ...

    def option_logps(
        self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]
    ) -> list[tuple[float, ...] | None]:
        """The log-prob (nats) of each of a prompt's options as the beginning of the answer."""
        ...


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluation may need of the run: the world, where the truth is known; the policy, to ask it."""

    world: World | None = None
    asker: Askable | None = None

    def identity(self) -> str:
        """Hash of all that may decide scores beside replies and config."""
        if self.world is None:
            return ""
        path = self.world.path
        return content_hash([path.read_text(encoding="utf-8"), code_behind(path)])


evaluations: Registry = Registry("evaluation")


def evaluation(
    name: str,
    *,
    version: int = 1,
    measures: Sequence[Measure] | Callable[[EvaluationContext], Sequence[Measure]],
    asks: int = 0,
) -> Callable[[Callable[..., Any]], Any]:
    """Decorator of a factory: register an evaluation.

    Args:
        name: as recipes write it.
        version: raise it when scores change for the same replies: these are then scored again, nothing is
            sampled again, and no other evaluation's scores are touched.
        measures: what it measures, in the order of the report's columns; or a function of the context.
        asks: how many requests a prompt it makes of the policy itself; its scorer is then given prompts, and
            gives a row for each. 0: it is given replies.
    """

    def given(context: EvaluationContext) -> Sequence[Measure]:
        return measures(context) if callable(measures) else measures

    # a fact that is a function would be called with hyperparameters (Entry.known)
    return evaluations.register(name, version=version, measures=(given,), asks=asks)


def _house() -> None:
    """Register the house's own."""
    import accord.evals.house  # noqa: F401


@dataclass(frozen=True)
class ChosenEvaluation:
    """An evaluation as a recipe configures it."""

    name: str
    config: Mapping[str, Any]  # with defaults filled in
    version: int
    make: Callable[[EvaluationContext], Callable[[Any], Sequence[Scores]] | None]
    measures: Callable[[EvaluationContext], Sequence[Measure]]
    asks: int = 0

    def requests(self, prompts: int) -> tuple[int, int]:
        """Of how many prompts it asks the policy itself, and how often each: as it is registered, or as its
        hyperparameters `prompts` and `n` say."""
        n = int(self.config.get("n", self.asks)) if self.asks else 0
        return min(prompts, int(self.config.get("prompts", prompts))), n


def configured(
    entries: Sequence[str | Mapping[str, Any]], where: str = ""
) -> list[ChosenEvaluation]:
    """Evaluations by `name` or `{name: …, hyperparameters}`; ConfigError names a wrong name or key."""
    _house()
    chosen = []
    for number, entry in enumerate(entries):
        config = {"name": entry} if isinstance(entry, str) else entry
        entry_, make = evaluations.configured(config, f"{where}.{number}" if where else "")
        facts = entry_.facts
        (measures,) = facts["measures"]
        hyper = dict(make.keywords)
        one = ChosenEvaluation(entry_.name, hyper, facts["version"], make, measures, facts["asks"])
        chosen.append(one)
    return chosen


def known_measures() -> list[Measure]:
    """What all evaluations measure where nothing else is known."""
    _house()
    known: list[Measure] = []
    for name in evaluations.names():
        (measures,) = evaluations.entry(name).facts["measures"]
        known += measures(EvaluationContext())
    return known


def identity(evaluation: ChosenEvaluation, context: EvaluationContext) -> str:
    """What decides its scores of given replies."""
    files = files_behind({"name": evaluation.name, **evaluation.config})
    facts = [
        evaluation.name,
        dict(evaluation.config),
        evaluation.version,
        files,
        context.identity(),
    ]
    return content_hash(facts)


def scored(
    evaluation: ChosenEvaluation,
    context: EvaluationContext,
    replies: Sequence[Exchange] | Sequence[Prompt],
) -> list[dict[str, float]] | None:
    """The scores of each reply (of each prompt, by one that asks for itself); None where the evaluation has
    nothing to say here. DataError for one that leaves replies out or scores what it did not declare."""
    scorer = evaluation.make(context)
    if scorer is None:
        return None
    rows = [{k: float(v) for k, v in row.items() if math.isfinite(v)} for row in scorer(replies)]
    declared, where = by_name(evaluation.measures(context)), f"evaluation {evaluation.name}"
    if len(rows) != len(replies):
        raise DataError(f"scored {len(rows)} of {len(replies)} replies", where=where)
    strange = {k for row in rows for k in row} - set(declared)
    if strange:
        what = f"scores {', '.join(sorted(strange))}, which it does not declare"
        raise DataError(what, where=where, allowed=", ".join(declared))
    return rows


def scores_of(row: Mapping[str, Any]) -> dict[str, float]:
    """All scores in a row of answers.jsonl: numbers beside the answer, then those of each evaluation."""
    scores = {k: float(v) for k, v in row.items() if isinstance(v, int | float)}
    for key, value in row.items():
        if isinstance(value, dict) and key not in ("prompt", "response"):
            scores |= value
    return scores


def measured(
    measure: Measure, values: Sequence[float], clusters: Sequence[Hashable] | None = None
) -> Metric:
    """One figure of a measure's values: of a share that of independent trials, or of as many as their
    clusters are worth; else the mean, by t where nothing bounds it (of values in [0, 1] that held 0.54 at 4
    answers and 0.91 at 30)."""
    from accord.stats.intervals import cluster_mean, mean, proportion

    apart = clusters is None or len(set(clusters)) == len(values)
    own = range(len(values)) if apart or clusters is None else clusters
    if measure.kind in ("share", "f1"):
        n = len(values)
        share = proportion(sum(values), n) if apart else cluster_mean(values, own, share=True)
        return (_f1(share) if measure.kind == "f1" else share).of(measure)
    if measure.kind == "difference" and measure.bounded:
        return _difference(values, own).of(measure)
    if measure.bounded:
        return cluster_mean(values, own, share=True).of(measure)
    return (mean(values) if apart else cluster_mean(values, own, share=False)).of(measure)


def _difference(values: Sequence[float], clusters: Sequence[Hashable]) -> Metric:
    """Mean of values in [-1, 1]: (1 + x) / 2 is a share, whose interval stays wide where all are alike."""
    from accord.stats.intervals import cluster_mean

    share = cluster_mean([(1 + x) / 2 for x in values], clusters, share=True)
    ends = {k: 2 * x - 1 for k in ("value", "low", "high") if (x := getattr(share, k)) is not None}
    return share.model_copy(update=ends)


def _f1(share: Metric) -> Metric:
    """F1 = 2tp/(2tp + fp + fn) of the share tp/(tp + fp + fn)."""

    def of(x: float | None) -> float | None:
        return None if x is None else 2 * x / (1 + x)

    ends = {k: of(getattr(share, k)) for k in ("value", "low", "high")}
    return share.model_copy(update=ends)
