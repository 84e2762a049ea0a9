"""Learned reward, KL from the baseline and paired differences of all evaluated policies."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from accord.core.measure import Measure, by_name, decisive
from accord.core.rundir import read_jsonl, write_json, write_jsonl
from accord.core.types import Exchange, Metric, Prompt, Response
from accord.detect import base as detect
from accord.evals.base import measured, scores_of
from accord.lm.allocator import release_freed_memory
from accord.lm.chat import render_exchange
from accord.lm.engine import Engine
from accord.lm.load import load
from accord.lm.score import tree_logps
from accord.lm.tree import share_prompts
from accord.pipeline.context import StageContext, StageResult, read_result
from accord.pipeline.stage import StageConfig
from accord.pipeline.stages.compare import MEASURES, VERDICTS, Compare
from accord.pipeline.stages.data import held_out_prompts
from accord.pipeline.stages.eval import Eval
from accord.pipeline.work import Answer, Known, Learn, Read, Work, answered, fit, together
from accord.rewards.learned import load_reward_model
from accord.stats.intervals import paired_difference

__all__ = ["run", "work"]

Row = dict[str, Any]
TOKENS = 512  # per scoring call: on a CPU, longer rows lose more to attention than they gain


def run(ctx: StageContext[Compare]) -> StageResult:
    """Learned reward, KL from the baseline and paired differences for all evaluated policies."""
    config = ctx.config
    folders = {
        k.partition("/")[2]: f for k, f in ctx.stages.items() if k.startswith(f"{config.eval}/")
    }
    answers = {policy: read_jsonl(folder / "answers.jsonl") for policy, folder in folders.items()}
    notes = _add_rewards(ctx, config.reward, answers) if config.reward else []
    _add_kl(ctx, config.baseline, answers)
    for policy, rows in answers.items():
        write_jsonl(ctx.folder / f"{policy}.jsonl", rows)
    known = _measures(list(folders.values()))
    table = {policy: _table_row(rows, known) for policy, rows in answers.items()}
    steps = _differences(answers, known)
    if config.detectors:
        write_jsonl(ctx.folder / VERDICTS, _verdicts(config, answers, known))
    plain = {p: {k: m.model_dump(mode="json") for k, m in row.items()} for p, row in table.items()}
    told = {s: {k: m.model_dump(mode="json") for k, m in d.items()} for s, d in steps.items()}
    write_json(
        ctx.folder / "compare.json",
        {
            "policies": list(answers),
            "table": plain,
            "differences": told,
            "baseline": config.baseline,
        },
    )
    main = decisive({k: known[k] for d in steps.values() for k in d})
    key = main.name if main and main.better else ""
    headline = "; ".join(f"{s}: {key} {d[key]}" for s, d in steps.items() if key in d)
    flat = {f"{s} {k}": m for s, d in steps.items() for k, m in d.items()}
    return StageResult(flat, notes, {"policies": list(answers)}, headline)


def _exchanges(rows: Sequence[Row]) -> list[Exchange]:
    return [
        Exchange(
            prompt=Prompt.model_validate(r["prompt"]),
            response=Response.model_validate(r["response"]),
        )
        for r in rows
    ]


def _add_rewards(ctx: StageContext[Compare], name: str, answers: dict[str, list[Row]]) -> list[str]:
    """The reward of every answer; a note where the model did not read answers to their end."""
    model = load_reward_model(ctx.stages[name] / "model")
    rows = [row for part in answers.values() for row in part]
    exchanges = _exchanges(rows)
    scores = model(exchanges, on_progress=lambda d, n: ctx.reporter.progress(d, n, "rewards"))
    for row, score in zip(rows, scores, strict=True):
        row["reward"] = score
    cut = sum(model.cut(exchanges))
    most = model.max_completion
    return (
        [f"{name} read the first {most} tokens only of {cut} of {len(rows)} answers"] if cut else []
    )


def _add_kl(ctx: StageContext[Compare], baseline: str, answers: dict[str, list[Row]]) -> None:
    """log π(y|x) - log π_ref(y|x) of each policy's own answers, per sequence: for sampled answers an
    unbiased estimate of KL(π‖π_ref); for greedy ones the log-ratio of the mode. Policies listed
    before the baseline came before it in training: they get none."""
    for row in answers.get(baseline, ()):
        row["kl"] = 0.0
    names = list(answers)
    later = names[names.index(baseline) + 1 :] if baseline in names else names
    others = [row for policy in later for row in answers[policy]]
    there = _logps(ctx, baseline, others)
    for row, value in zip(others, there, strict=True):
        row["kl"] = -value
    for policy in later:
        for row, value in zip(answers[policy], _logps(ctx, policy, answers[policy]), strict=True):
            row["kl"] += value


def _logps(ctx: StageContext[Compare], policy: str, rows: Sequence[Row]) -> list[float]:
    """log π(y|x) of each row's answer (nats); 0 for one that was cut off before its first token."""
    if not rows:
        return []
    release_freed_memory()  # the model before
    lm = load(ctx.policy(policy))
    rendered = [
        render_exchange(lm.tokenizer, e.prompt, e.response, sampled=True) for e in _exchanges(rows)
    ]
    trees, places = share_prompts([(r.prompt, r.completion) for r in rendered if r.completion])

    def told(done: int, n: int) -> None:
        ctx.reporter.progress(done, n, f"log-probs under {policy}")

    found = tree_logps(Engine(lm.model), trees, TOKENS, told)
    values = iter([float(found[tree][k]) for tree, k in places])
    return [next(values) if r.completion else 0.0 for r in rendered]


def _measures(folders: Sequence[Path]) -> dict[str, Measure]:
    """What stands in the answers' rows, as the stages that gave them declare it; its own first."""
    told = [m.measure for f in folders for m in read_result(f).metrics.values() if m.measure]
    return by_name([*MEASURES, *told])


def _values(rows: Sequence[Row], known: Mapping[str, Measure]) -> dict[str, list[float]]:
    """Every declared score of the answers that have it."""
    each = [scores_of(row) for row in rows]
    found = {k: [row[k] for row in each if k in row] for k in known}
    return {k: values for k, values in found.items() if values}


def _table_row(rows: Sequence[Row], known: Mapping[str, Measure]) -> dict[str, Metric]:
    return {name: measured(known[name], values) for name, values in _values(rows, known).items()}


def _differences(
    answers: Mapping[str, Sequence[Row]], known: Mapping[str, Measure]
) -> dict[str, dict[str, Metric]]:
    """Each policy against the one before it, paired by the prompts on which both have a score."""
    found: dict[str, dict[str, Metric]] = {}
    for before, after in itertools.pairwise(answers):
        old_by = {row["prompt_id"]: scores_of(row) for row in answers[before]}
        new_by = {row["prompt_id"]: scores_of(row) for row in answers[after]}
        both = [(old_by[i], new) for i, new in new_by.items() if i in old_by]
        row = {}
        for name, measure in known.items():
            sides = [(new[name], old[name]) for old, new in both if name in old and name in new]
            if sides and measure.compared:
                new_, old_ = zip(*sides, strict=True)
                row[name] = paired_difference(new_, old_).of(measure.difference())
        found[f"{after} - {before}"] = row
    return found


def _verdicts(
    config: Compare, answers: Mapping[str, Sequence[Row]], known: Mapping[str, Measure]
) -> list[Row]:
    """What each detector says of each policy beside the one before it."""
    roles = {m.role: m.name for m in known.values() if m.role}
    context = detect.Context(proxy=roles.get("proxy"), truth=roles.get("truth"))
    looks = [make(context) for _, _, make in detect.configured(config.detectors or ())]
    seen = {
        policy: [
            detect.Answered(e, scores_of(row))
            for e, row in zip(_exchanges(rows), rows, strict=True)
        ]
        for policy, rows in answers.items()
    }
    return [
        {
            "policy": after,
            "before": before,
            "verdict": look(seen[after], seen[before]).model_dump(mode="json"),
        }
        for before, after in itertools.pairwise(answers)
        for look in looks
    ]


def _evaluated(config: Compare, configs: dict[str, StageConfig]) -> list[str]:
    """The policies a comparison is of."""
    return [n.partition("/")[2] for n in configs if n.startswith(f"{config.eval}/")]


def work(ctx: StageContext[Compare], known: Known) -> Work:
    """Rewards of all policies' answers; log-probs of later policies' under themselves and the baseline."""
    config = ctx.config
    names = _evaluated(config, known.configs)
    first = cast(Eval, known.configs[f"{config.eval}/{names[0]}"])
    prompts = fit(known, held_out_prompts(ctx, first.data), first, ctx.name)[0][: first.prompts]
    wrote = {name: known.written(ctx, name, first.max_new_tokens) for name in names}
    later = names[names.index(config.baseline) + 1 :] if config.baseline in names else names
    own = [answered(known.lm, prompts, 1, wrote[name]) for name in later]
    parts: list[Learn | Read | Answer] = [Read(trees, TOKENS) for trees in own]
    parts.append(Read(together(own), TOKENS))
    if config.reward:
        every = together([answered(known.lm, prompts, 1, wrote[name]) for name in names])
        parts.append(Read(every, 1024, scalar=True))
    reward = [config.reward] if config.reward else []
    return Work(
        [p for p in parts if isinstance(p, Read) and p.trees],
        uses=[*reward, config.baseline, *later],
    )
