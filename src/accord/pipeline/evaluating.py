"""What `accord eval` and Python's `accord.run_evals` do: any policy, any prompts, every evaluation asked for.

What a policy answered is kept under (policy, prompt, sampling), where eval stages keep theirs: another
evaluation of the same prompts asks nothing, and a killed one goes on where it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from accord.core.errors import ConfigError, ModelError, door
from accord.core.keys import SamplingKeys
from accord.core.types import Exchange, Prompt
from accord.evals.asking import Asker
from accord.evals.base import DEFAULT, ChosenEvaluation, EvaluationContext, configured, scored
from accord.evals.kept import scores
from accord.lm.sampler import sampling_of
from accord.pipeline.answering import asker_of
from accord.pipeline.asked import AskedPrompts, cluster_tag, prompts_of, under
from accord.pipeline.eval_report import EvalCost, EvalReport

__all__ = ["run_evals"]

CHARS = 4  # of a token, where none is counted
Scored = list[tuple[Prompt, dict[str, float]]]


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
        else AskedPrompts(ready[:limit], cluster=cluster_tag(ready, cluster))
    )
    asker, own = asker_of(
        policy, how, cache=Path(cache) if cache else None, batch_size=batch_size,
        at_once=at_once, on_progress=on_progress,
    )  # fmt: skip
    asked = under(own if system is None else system, asked)
    cost = _cost(asker, asked.prompts, chosen, prices)
    report = EvalReport(policy, asker.policy, how, asked, [], cost)
    if before and before(cost) is False:
        return report
    _evaluate(report, asker, chosen)
    return report


def _cost(
    asker: Asker, prompts: Sequence[Prompt], chosen: Sequence[ChosenEvaluation], prices: tuple[float, float]
) -> EvalCost:  # fmt: skip
    n, plain = asker.sampling.n, any(not e.asks for e in chosen)
    left = asker.missing(prompts) if plain else []
    times = [e.requests(len(prompts)) for e in chosen]
    one = [sum(len(m.content) for m in p.messages) // CHARS + 1 for p in prompts]
    length = dict(zip((p.id for p in prompts), one, strict=True))
    read = sum(length[p.id] for p in left)
    read += sum(n * sum(one[:some]) for some, n in times)
    once = len({p.id for p in prompts}) if plain else 0
    more = sum(some * n for some, n in times)
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
        report.metrics[evaluation.name] = report.figures(evaluation.name, rows)
    report.missing = dict(Counter(asker.failed.values()))
    if not report.metrics and asker.failed:
        why = next(iter(asker.failed.values()))
        raise ModelError(f"answered nothing that can be scored ({why})", where=report.policy)


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
