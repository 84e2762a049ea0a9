"""What an evaluation of a policy takes before it starts, and what it says when it is done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError
from accord.core.measure import Measure
from accord.core.rundir import make_dir, write_json, write_jsonl
from accord.core.types import Exchange, Metric, Prompt
from accord.evals.base import ChosenEvaluation, EvaluationContext
from accord.lm.sampler import Sampling
from accord.pipeline.answers import answer_row, metrics_of
from accord.pipeline.asked import AskedPrompts
from accord.stats.intervals import paired_difference

__all__ = ["EvalCost", "EvalReport"]

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
        left = self.replies - self.kept
        text = f"{self.replies:,} replies: {self.kept:,} kept from before, {left:,} to ask"
        if self.more:
            own = f"evaluations ask up to {self.more:,} times themselves, but for what is kept"
            text = f"{text}; {own}" if self.replies else own
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
        none = f"(no {tag})"  # prompts without it are shown too, not left out
        values = sorted({p.tags.get(tag, none) for p in self.asked.prompts})
        return {
            value: {
                name: figures
                for name, rows in self.rows.items()
                if (
                    figures := self.figures(
                        name, [r for r in rows if r[0].tags.get(tag, none) == value]
                    )
                )
            }
            for value in values
        }

    def figures(self, name: str, rows: Scored) -> Metrics:
        """What an evaluation says over these rows."""
        evaluation, context = self.chosen[name]
        clusters = [self.asked.cluster_of(p) for p, _ in rows]
        return metrics_of(evaluation.measures(context), [row for _, row in rows], clusters)

    def over(self, other: EvalReport) -> dict[str, Metrics]:
        """Differences of all compared measures to another policy's, paired by prompt, their intervals held
        together (Bonferroni): 95% for all of them at once."""
        both: list[tuple[str, Measure, dict[str, float], dict[str, float]]] = []
        for name, (evaluation, context) in self.chosen.items():
            for m in evaluation.measures(context):
                after, before = (_by_prompt(r.rows.get(name, []), m.name) for r in (self, other))
                if m.compared and after.keys() & before.keys():
                    both.append((name, m, after, before))
        differences: dict[str, Metrics] = {}
        prompts = list({p.id: p for p in self.asked.prompts}.values())
        for name, m, after, before in both:
            own = [p for p in prompts if p.id in after and p.id in before]
            differences.setdefault(name, {})[m.name] = paired_difference(
                [after[p.id] for p in own], [before[p.id] for p in own],
                level=1 - 0.05 / len(both), clusters=[self.asked.cluster_of(p) for p in own],
                bounded=m.span is not None, span=m.span or 1.0,
            ).of(m.difference())  # fmt: skip
        return differences

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
        rows = [
            answer_row(e, self.asked.world) | {"cluster": self.asked.cluster_of(e.prompt)}
            for e in self.replies
        ]
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


def _by_prompt(rows: Scored, measure: str) -> dict[str, float]:
    """A prompt's mean over its replies."""
    values: dict[str, list[float]] = {}
    for prompt, row in rows:
        if measure in row:
            values.setdefault(prompt.id, []).append(row[measure])
    return {k: sum(v) / len(v) for k, v in values.items()}


def _plain(metrics: Mapping[str, Metric]) -> dict[str, Any]:
    return {k: m.model_dump(mode="json") for k, m in metrics.items()}
