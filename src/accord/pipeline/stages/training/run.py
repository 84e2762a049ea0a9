"""What stages that train on a snapshot share: reading it, telling progress, leaving a result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from accord.core.errors import DataError
from accord.core.rundir import write_jsonl
from accord.core.types import Demonstration, Group, LabelledResponse, LabelledSteps
from accord.feedback.trust.aggregate import soft_groups
from accord.pipeline.context import StageContext, StageResult, data_store, read_result
from accord.pipeline.stages.training import Comparing, Training
from accord.pipeline.work import limits_of
from accord.store import part_of
from accord.train.loop.data import comparisons
from accord.train.loop.optimise import Optimise
from accord.train.loop.saved import Trained

__all__ = [
    "but_its_fold",
    "check_any",
    "common",
    "read_groups",
    "result",
    "snapshot_demonstrations",
    "write_rows",
]

TrainingItem = Demonstration | LabelledResponse | LabelledSteps | Group
T = TypeVar("T", Group, LabelledSteps)


def check_any(ctx: StageContext[Any], train: Sequence[Any], what: str) -> None:
    if not train:
        holds = read_result(ctx.stages[ctx.config.data]).headline
        raise DataError(
            f"{ctx.config.data} holds no {what} to train on ({holds})",
            where=f"stage {ctx.name}",
            mend="look at it with accord data; sft can learn from comparisons with on: chosen",
        )


def common(ctx: StageContext[Any], config: Training) -> dict[str, Any]:
    def on_step(done: int, total: int, row: Mapping[str, float]) -> None:
        shown = [f"{k} {row[k]:.3g}" for k in ("loss", "accuracy") if k in row]
        ctx.reporter.progress(done, total, "  ".join(shown))

    return {
        "run_dir": ctx.folder,
        "tune": config.tune,
        "optimise_with": Optimise(**config.optimise_keys()),
        "limits": limits_of(config),
        "seed": ctx.seed,
        "on_step": on_step,
        "trackers": ctx.trackers,
        "tell": ctx.reporter.note,
    }


def result(ctx: StageContext[Any], trained: Trained, metric: str, of: str) -> StageResult:
    """What a training stage tells; what it trained on, row by row, goes to trained_on.jsonl."""
    config, data = ctx.config, trained.data
    write_rows(ctx, data.items)
    headline = "nothing is held out to measure on"
    if metric in trained.metrics:
        headline = f"{metric} {trained.metrics[metric]} {of}"
    facts = {
        "items": len(data.items),
        "left_out": trained.left_out,
        "completions cut off": data.truncated,
        "came cut off": sum(map(_unended, data.items)),
        "init": config.init,
        "data": config.data,
    }
    return StageResult(trained.metrics, list(trained.notes), facts, headline)


def _unended(item: TrainingItem) -> int:
    """How many of its answers a limit had ended before."""
    answers = item.responses if isinstance(item, Group) else [item.response]
    return sum(not r.ends_turn for r in answers)


def write_rows(ctx: StageContext[Any], items: Iterable[TrainingItem]) -> None:
    """What a stage trained on, for the way back to the judgments."""
    write_jsonl(ctx.folder / "trained_on.jsonl", (row for x in items for row in rows_of(x)))


def rows_of(item: TrainingItem) -> Iterator[dict[str, Any]]:
    """A single answer as one row, a group as one a comparison, with the judgments behind it."""
    if not isinstance(item, Group):
        row: dict[str, Any] = {
            "prompt": item.prompt.id,
            "text": item.response.text,
            "sources": item.sources,
        }
        if isinstance(item, LabelledResponse):
            row["good"] = item.desirable
        if isinstance(item, LabelledSteps):
            row["steps"] = item.labels
        yield row
        return
    for better, worse, edge in comparisons(item):
        yield {
            "prompt": item.prompt.id, "better": better.text, "worse": worse.text, "p": edge.p,
            "sources": edge.sources,
        }  # fmt: skip


def snapshot_demonstrations(
    ctx: StageContext[Any], config: Training
) -> tuple[list[Demonstration], list[Demonstration]]:
    """The data's demonstrations, training and held out."""
    store, facts = data_store(ctx.stages[config.data])
    with store:
        demonstrations = store.snapshot(facts["snapshot"]).demonstrations()
        if not len(demonstrations):
            return [], []
        train, held = demonstrations.split(test=facts["test"], seed=facts["seed"])
    return list(train)[: config.limit], list(held)[: config.eval_limit]


def read_groups(
    ctx: StageContext[Any], config: Any
) -> tuple[list[Group], list[Group], dict[str, int]]:
    """Training and held-out groups of the stage's snapshot, and what the policies left out."""
    store, facts = data_store(ctx.stages[config.data])
    policies = {
        k: getattr(config, k) for k in ("ties", "min_agreement", "margin") if hasattr(config, k)
    }
    with store:
        snapshot = store.snapshot(facts["snapshot"])
        if isinstance(config, Comparing) and config.labels == "soft":
            groups = soft_groups(snapshot, min_confidence=config.min_confidence, **policies)
        else:
            groups = snapshot.groups(**policies)
        train, held = groups.split(test=facts["test"], seed=facts["seed"])
    kept, notes = but_its_fold(train, config, facts["seed"])
    return kept[: config.limit], list(held)[: config.eval_limit], {**groups.notes, **notes}


def but_its_fold(train: Sequence[T], config: Any, seed: int) -> tuple[list[T], dict[str, int]]:
    """Without the part of the training prompts that the stage's `fold` names, and how many items that is."""
    fold = getattr(config, "fold", None)
    if fold is None:
        return list(train), {}
    part, parts = map(int, fold.split("/"))
    kept = [x for x in train if part_of(x.prompt.id, parts, seed) != part]
    return kept, {f"in fold {fold}": len(train) - len(kept)}
