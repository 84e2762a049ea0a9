"""What `accord eval` and Python's `accord.run_evals` do: any policy, any prompts, every evaluation asked for.

What a policy answered is kept under (policy, prompt, sampling), where eval stages keep theirs: another
evaluation of the same prompts asks nothing, and a killed one goes on where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from accord.core.errors import ConfigError, ModelError, door
from accord.core.keys import SamplingKeys
from accord.core.rundir import make_dir, write_json, write_jsonl
from accord.core.types import Exchange, Metric, Prompt
from accord.evals.asking import Asker
from accord.evals.base import DEFAULT, ChosenEvaluation, EvaluationContext, configured, scored
from accord.evals.kept import scores
from accord.lm.sampler import Sampling, sampling_of
from accord.pipeline.answering import asker_of
from accord.pipeline.answers import answer_row, metrics_of
from accord.pipeline.asked import AskedPrompts, prompts_of, under

__all__ = ["EvalCost", "EvalReport", "run_evals"]

CHARS = 4  # of a token, where none is counted
Metrics = dict[str, Metric]
Scored = list[tuple[Prompt, dict[str, float]]]


@dataclass(frozen=True)
class EvalCost:
    """What an evaluation takes before it starts: replies wanted and kept, requests that evaluations make of
    their own at most, tokens to read (about) and to write (at most), and what they cost by the prices of a
    million."""

    replies: int
    kept: int
    more: int
    read: int
    written: int
    prices: tuple[float, float] = (0.0, 0.0)

    @property
    def cost(self) -> float:
        return (self.read * self.prices[0] + self.written * self.prices[1]) / 1e6

    def __str__(self) -> str:
        own = f"; evaluations ask up to {self.more:,} times more" if self.more else ""
        left = self.replies - self.kept
        text = f"{self.replies:,} replies: {self.kept:,} kept from before, {left:,} to ask{own}"
        if left or self.more:
            text += f"; about {self.read:,} tokens to read, at most {self.written:,} to write"
            text += f", at most {self.cost:.2f} by the prices" if any(self.prices) else ""
        return text


@dataclass
class EvalReport:
    """What was answered and what evaluations say of it.

    metrics: evaluation -> measure -> figure; its interval respects clusters (several replies to a prompt,
        prompts of a behaviour). rows: evaluation -> each reply's (or prompt's) scores. missing: why there is
        no reply, and how many prompts. silent: evaluations that have nothing to say of these prompts.
    """

    policy: str
    identity: str
    sampling: Sampling
    asked: AskedPrompts
    replies: list[Exchange]
    cost: EvalCost
    metrics: dict[str, Metrics] = field(default_factory=dict)
    rows: dict[str, Scored] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    chosen: dict[str, tuple[ChosenEvaluation, EvaluationContext]] = field(
        default_factory=dict, repr=False
    )

    def by(self, tag: str) -> dict[str, dict[str, Metrics]]:
        """The same figures for each value of a tag; ConfigError where no prompt has it."""
        known = {t for p in self.asked.prompts for t in p.tags}
        if tag not in known:
            what = f"no prompt has the tag {tag!r}"
            raise ConfigError(what, where="--by", allowed=", ".join(sorted(known)) or "no tag")
        values = sorted({p.tags[tag] for p in self.asked.prompts if tag in p.tags})
        return {
            value: {
                name: figures
                for name, rows in self.rows.items()
                if (
                    figures := self._figures(name, [r for r in rows if r[0].tags.get(tag) == value])
                )
            }
            for value in values
        }

    def _figures(self, name: str, rows: Scored) -> Metrics:
        evaluation, context = self.chosen[name]
        clusters = [self.asked.cluster_of(p) for p, _ in rows]
        return metrics_of(evaluation.measures(context), [row for _, row in rows], clusters)

    def plain(self, by: str | None = None) -> dict[str, Any]:
        """As JSON."""
        metrics = {k: _plain(v) for k, v in self.metrics.items()}
        tags = (
            {by: {v: {k: _plain(m) for k, m in own.items()} for v, own in self.by(by).items()}}
            if by
            else {}
        )
        evaluations = {
            k: {"config": dict(e.config), "version": e.version} for k, (e, _) in self.chosen.items()
        }
        return {
            "policy": self.policy, "identity": self.identity, "sampling": self.sampling.model_dump(),
            "prompts": len(self.asked.prompts), "replies": len(self.replies), "missing": self.missing,
            "cluster": self.asked.cluster or "prompt", "evaluations": evaluations, "metrics": metrics,
            "by": tags,
        }  # fmt: skip

    def write(self, folder: str | Path, by: str | None = None) -> None:
        """answers.jsonl, rows as an eval stage's (`accord audit` reads them), and eval.json."""
        place = make_dir(Path(folder))
        rows = [answer_row(e, self.asked.world) for e in self.replies]
        for name, scored_rows in self.rows.items():
            if len(scored_rows) == len(rows) and not self.chosen[name][0].asks:
                for row, (_, own) in zip(rows, scored_rows, strict=True):
                    row |= {name: own} if own else {}
        write_jsonl(place / "answers.jsonl", rows)
        asked = [
            {"evaluation": name, "prompt": p.model_dump(mode="json"), "scores": own}
            for name, scored_rows in self.rows.items() if self.chosen[name][0].asks
            for p, own in scored_rows
        ]  # fmt: skip
        if asked:
            write_jsonl(place / "asked.jsonl", asked)
        write_json(place / "eval.json", self.plain(by))


def _plain(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {k: m.model_dump(mode="json") for k, m in metrics.items()}


@door
def run_evals(
    policy: str,
    evals: Sequence[str | Mapping[str, Any]] = DEFAULT,
    *,
    prompts: str | Path | Sequence[str | Path | Prompt],
    n: int = 1,
    system: str | None = None,
    cluster: str = "",
    limit: int | None = None,
    cache: str | Path | None = "runs/cache",
    prices: tuple[float, float] = (0.0, 0.0),
    batch_size: int = 32,
    at_once: int = 16,
    before: Callable[[EvalCost], bool | None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    **sampling: Unpack[SamplingKeys],
) -> EvalReport:
    """Evaluate any policy on any prompts.

        report = accord.run_evals("http://localhost:8000/v1#qwen", ["refusal"], prompts=["xstest.csv"])
        print(report.metrics["refusal"]["over-refusal"], report.by("type"))

    Args:
        policy: a model's folder or hub id, RUN[:stage], or a server ("http://host:8000/v1#model").
        evals: as in an eval stage: names, or {"name": …, its keys}.
        prompts: files, STORE@SNAPSHOT, a world's .yaml, a run; or `Prompt`s.
        n: replies to each.
        system: a system message for prompts that have none; by default the one the policy had in its run.
        cluster: the tag whose values hang together; a world's groups, or a tag cluster or behaviour if unset.
        limit: the first so many prompts.
        cache: where replies are kept; None keeps none.
        prices: of a million tokens read and written.
        batch_size: of a local model. at_once: requests to a server under way together.
        before: called with what it will take; what returns False ends it there.
        on_progress: called with (done, all).
        sampling: as of `policy.answer`; greedy by default, 256 tokens.

    Returns:
        `metrics` by evaluation and measure, `by(tag)`, `replies`, `missing`, `write(folder)`.

    Raises:
        ConfigError, DataError: a wrong evaluation, key, prompt. ModelError: no such model, no reply at all.
    """
    chosen = configured(evals, "--evals")
    names = [e.name for e in chosen]
    if not names or len(set(names)) < len(names):
        what = "names one twice" if names else "names none"
        raise ConfigError(what, where="--evals", mend="name each once")
    how = sampling_of({"temperature": 0.0, "max_new_tokens": 256, **sampling, "n": n}, batch_size)
    prompts = [prompts] if isinstance(prompts, str | Path) else prompts
    ready = [p for p in prompts if isinstance(p, Prompt)]
    named = [p for p in prompts if not isinstance(p, Prompt)]
    asked = (
        prompts_of(named, cluster=cluster, limit=limit)
        if named
        else AskedPrompts(ready[:limit], cluster=cluster)
    )
    asker, own = asker_of(
        policy, how, cache=Path(cache) if cache else None, batch_size=batch_size,
        at_once=at_once, on_progress=on_progress,
    )  # fmt: skip
    told = under(own if system is None else system, asked.prompts)
    asked = AskedPrompts(told, asked.world, asked.cluster)
    cost = _cost(asker, asked.prompts, chosen, prices)
    report = EvalReport(policy, asker.policy, how, asked, [], cost)
    if before and before(cost) is False:
        return report
    _evaluate(report, asker, chosen)
    return report


def _cost(
    asker: Asker, prompts: Sequence[Prompt], chosen: Sequence[ChosenEvaluation], prices: tuple[float, float]
) -> EvalCost:  # fmt: skip
    n, some = asker.sampling.n, any(not e.asks for e in chosen)
    left = asker.missing(prompts) if some else []
    times = sum(e.asks for e in chosen)
    one = [sum(len(m.content) for m in p.messages) // CHARS + 1 for p in prompts]
    length = dict(zip((p.id for p in prompts), one, strict=True))
    read = sum(length[p.id] for p in left) + times * sum(one)
    once = len({p.id for p in prompts}) if some else 0
    more = times * len(prompts)
    return EvalCost(
        once * n, (once - len(left)) * n, more, read,
        (len(left) * n + more) * asker.sampling.max_new_tokens, prices,
    )  # fmt: skip


def _evaluate(report: EvalReport, asker: Asker, chosen: Sequence[ChosenEvaluation]) -> None:
    prompts = report.asked.prompts
    if any(not e.asks for e in chosen):
        answers = asker.all_replies(prompts)
        report.replies = [
            Exchange(prompt=p, response=r)
            for p, own in zip(prompts, answers, strict=True)
            for r in own
        ]
        if not report.replies:
            why = next(iter(asker.failed.values()), "there is no prompt")
            raise ModelError(
                f"answered none of {len(prompts)} prompts ({why})", where=report.policy
            )
    context = EvaluationContext(report.asked.world, asker)
    for evaluation in chosen:
        rows = _rows(evaluation, context, report, asker)
        if rows is None or not any(row for _, row in rows):
            report.silent.append(evaluation.name)
            continue
        report.chosen[evaluation.name] = (evaluation, context)
        report.rows[evaluation.name] = rows
        report.metrics[evaluation.name] = report._figures(evaluation.name, rows)
    report.missing = dict(Counter(asker.failed.values()))


def _rows(
    evaluation: ChosenEvaluation, context: EvaluationContext, report: EvalReport, asker: Asker
) -> Scored | None:
    """Every reply's scores, kept where no more is asked for them; every prompt's of one that asks."""
    if evaluation.asks:
        asked = report.asked.prompts
        rows = scored(evaluation, context, asked)
        return rows if rows is None else list(zip(asked, rows, strict=True))
    replies = report.replies
    if asker.folder:
        rows = scores(asker.folder, evaluation, context, replies)
    else:
        rows = scored(evaluation, context, replies)
    return rows if rows is None else [(e.prompt, r) for e, r in zip(replies, rows, strict=True)]
