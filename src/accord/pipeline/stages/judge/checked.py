"""A judge held against people and gold questions."""

from __future__ import annotations

from accord.core.errors import DataError
from accord.core.rundir import read_json, read_jsonl
from accord.feedback.trust.gold_questions import read_gold_questions
from accord.judges.check import CheckReport, Tried, truths
from accord.judges.decided import decided_pairs, measured
from accord.judges.principles import by_principle
from accord.judges.thresholds import Thresholds
from accord.pipeline.context import StageContext, data_store
from accord.pipeline.stages.judge import JudgeStage
from accord.pipeline.stages.judge.asked import SEED
from accord.pipeline.stages.judge.asking import Asking
from accord.store import split_of

__all__ = ["checked"]


def checked(asking: Asking) -> tuple[CheckReport | None, list[Tried]]:
    """The judge against people and gold on held-out prompts: what it may have learned from is none."""
    ctx, config = asking.ctx, asking.ctx.config
    if not config.checked:
        return None, []
    gold = read_gold_questions(ctx.path(config.gold)) if config.gold else None
    snapshot, facts = asking.snapshot, asking.facts
    if config.against:
        opened, facts = data_store(ctx.stages[config.against])
        with opened as store:
            snapshot = store.snapshot(facts["snapshot"])
    known, learned = truths(snapshot, gold), _learned_from(ctx, config.judge)
    template = config.asks.template
    items = decided_pairs(snapshot, template, known.keys(), asking.references, config.axes)
    if asking.constitution:
        items = by_principle(items, asking.constitution, config.principles, SEED)
    split = facts["test"], int(facts["seed"])
    items = {q: item for q, item in items.items() if split_of(q.prompt, *split) == "test"}
    some = sorted({q.prompt for q in items} - learned)[: config.checked]
    items = {q: item for q, item in items.items() if q.prompt in some}
    if not items:
        if config.gate or config.weight == "measured":
            raise DataError(
                "people judged no pair of a held-out prompt that the judge has not learned from, so it "
                "can't be measured",
                where=f"stage {ctx.name}", mend="collect some, or name gold answers (gold)",
            )  # fmt: skip
        return None, []
    least = (
        Thresholds(**config.gate.model_dump(exclude={"alone", "by"}))
        if config.gate
        else Thresholds()
    )
    report, spent, rows = measured(
        snapshot, config.asks, asking.backend, asking.cache, least, gold=gold, own=config.own_sources,
        budget=asking.budget, asked=items, by=config.gate.by if config.gate else None, axes=config.axes,
        examples=asking.examples, references=asking.references,
    )  # fmt: skip
    asking.stop(spent.failed)
    asking.spent += spent.read + spent.written
    return report, rows


def _learned_from(ctx: StageContext[JudgeStage], judge: str) -> set[str]:
    """The prompts that a judge of this recipe was trained on, and those of what it started from: other data
    may be split in another way."""
    prompts = set[str]()
    name = judge
    while name in ctx.stages:
        rows = ctx.stages[name] / "trained_on.jsonl"
        prompts |= {r["prompt"] for r in read_jsonl(rows)} if rows.exists() else set()
        name = str(read_json(ctx.stages[name] / "config.json").get("init"))
    return prompts
