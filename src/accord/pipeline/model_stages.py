"""Stages that train: a snapshot in, a model and its held-out metrics out."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from accord.core.errors import DataError
from accord.core.rundir import write_jsonl
from accord.core.types import Demonstration, Edge, Group, LabelledResponse, LabelledSteps
from accord.evals.support import World, gold
from accord.feedback.aggregate import soft_groups
from accord.lm.load import load
from accord.losses import choose_loss
from accord.pipeline.context import StageContext, StageResult, data_store, read_result
from accord.pipeline.data_stages import world_of
from accord.pipeline.kinds import PreferenceStage, Process, Reward, RewardAxes, Sft, Training
from accord.stats.intervals import cluster_mean
from accord.store import Store, part_of
from accord.train.axes import train_axes
from accord.train.data import Limits, best_against_rest, best_response
from accord.train.optimise import Optimise
from accord.train.preference import Judged, train_preference
from accord.train.process import train_process
from accord.train.reward import HeldOut, train_reward
from accord.train.sft import train_sft
from accord.train.trainee import Trained

__all__ = [
    "axes_stage",
    "preference_stage",
    "process_stage",
    "read_axes",
    "read_demonstrations",
    "read_groups",
    "read_judged",
    "read_steps",
    "reward_stage",
    "sft_stage",
    "snapshot_demonstrations",
    "write_rows",
]

Item = Demonstration | LabelledResponse | LabelledSteps | Group
T = TypeVar("T", Group, LabelledSteps)


def sft_stage(ctx: StageContext) -> StageResult:
    """Fine-tune on demonstrations (or on the chosen responses)."""
    config = ctx.config
    assert isinstance(config, Sft)
    train, held = read_demonstrations(ctx, config)
    _check_any(ctx, train, config.on)
    trained = train_sft(
        load(ctx.policy(config.init)),
        train,
        eval_on=held,
        all_turns=config.all_turns,
        **_common(ctx, config),
    )
    return _result(ctx, trained, "nll", "nats per held-out token")


def reward_stage(ctx: StageContext) -> StageResult:
    """Fit a reward model; centre it on the demonstrations."""
    config = ctx.config
    assert isinstance(config, Reward)
    train, held, left_out = read_groups(ctx, config)
    _check_any(ctx, train, "comparisons")
    trained = train_reward(
        load(ctx.policy(config.init)),
        train,
        eval_on=held,
        loss=config.loss,
        average=config.average,
        centre_on=snapshot_demonstrations(ctx, config)[0],
        **_common(ctx, config),
    )
    rows = _pair_rows(trained.held_out, world_of(ctx, config.data))
    write_jsonl(ctx.folder / "held_out.jsonl", rows)
    result = _result(ctx, trained, "accuracy", "of held-out comparisons")
    known = [r for r in rows if r.get("truth")]
    if known:
        hits = [0.5 if r["gap"] == 0 else float(r["gap"] * r["truth"] > 0) for r in known]
        true = cluster_mean(hits, [r["prompt"] for r in known])
        result.metrics["accuracy against the true order"] = true
        result.headline += f"; {true} against the true order"
    result.facts["not_used"] = left_out
    return result


def process_stage(ctx: StageContext) -> StageResult:
    """Fit a process reward model to labelled steps."""
    config = ctx.config
    assert isinstance(config, Process)
    train, held, left_out = read_steps(ctx, config)
    _check_any(ctx, train, "labelled steps")
    trained = train_process(
        load(ctx.policy(config.init)), train, eval_on=held, **_common(ctx, config)
    )
    result = _result(ctx, trained, "accuracy", "of held-out steps")
    result.facts["not_used"] = left_out
    return result


def read_steps(
    ctx: StageContext, config: Process
) -> tuple[list[LabelledSteps], list[LabelledSteps], dict[str, int]]:
    """Labelled steps, training and held out, and what was left out."""
    store, facts = _store(ctx, config.data)
    with store:
        found = store.snapshot(facts["snapshot"]).stepped()
        train, held = found.split(test=facts["test"], seed=facts["seed"])
    kept, notes = _but_its_fold(train, config, facts["seed"])
    return kept[: config.limit], list(held)[: config.eval_limit], {**found.notes, **notes}


def axes_stage(ctx: StageContext) -> StageResult:
    """Fit a reward model with a head for each axis of the ratings."""
    config = ctx.config
    assert isinstance(config, RewardAxes)
    train, held = read_axes(ctx, config)
    _check_any(ctx, [g for groups in train.values() for g in groups], "ratings that differ")
    trained = train_axes(
        load(ctx.policy(config.init)),
        train,
        eval_on=held,
        average=config.average,
        **_common(ctx, config),
    )
    first = next(iter(train))
    return _result(ctx, trained, f"accuracy of {first}", "of held-out comparisons")


def read_axes(
    ctx: StageContext, config: RewardAxes
) -> tuple[dict[str, list[Group]], dict[str, list[Group]]]:
    """What the ratings say on each axis, training and held out."""
    store, facts = _store(ctx, config.data)
    train: dict[str, list[Group]] = {}
    held: dict[str, list[Group]] = {}
    with store:
        snapshot = store.snapshot(facts["snapshot"])
        known = snapshot.axes()
        if unknown := [a for a in config.axes if a not in known]:
            raise DataError(
                f"no rating has the axis {unknown[0]!r}", where=f"stage {ctx.name}",
                mend=f"the ratings have: {', '.join(known) or 'no axis'}",
            )  # fmt: skip
        for axis in config.axes or known:
            groups = snapshot.groups(axis=axis)
            one, other = groups.split(test=facts["test"], seed=facts["seed"])
            kept, _ = _but_its_fold(one, config, facts["seed"])
            train[axis], held[axis] = kept[: config.limit], other[: config.eval_limit]
    return train, held


def _pair_rows(held: Sequence[HeldOut], world: World | None) -> list[dict[str, Any]]:
    """Every pair of held-out responses: score gap, raters' label and, where known, the truth.

    Pairs are oriented as the raters judged them; a pair they split evenly has p = 0.5.
    """
    rows: list[dict[str, Any]] = []
    for h in held:
        judged = {frozenset((e.better, e.worse)): e for e in h.group.edges}
        for i, j in itertools.combinations(range(len(h.scores)), 2):
            edge = judged.get(frozenset((i, j)), Edge(better=i, worse=j, p=0.5, agreement=0.5))
            better, worse = (h.group.responses[k] for k in (edge.better, edge.worse))
            row = {
                "prompt": h.group.prompt.id,
                "better": better.text,
                "worse": worse.text,
                "gap": h.gap(edge),
                "p": edge.p,
                "agreement": edge.agreement,
                "sources": list(edge.sources),
            }
            if world and (case := world.by_prompt.get(h.group.prompt.id)):
                apart = gold(world, case, better)["gold"] - gold(world, case, worse)["gold"]
                row["truth"] = 0 if abs(apart) < 1e-9 else 1 if apart > 0 else -1
            rows.append(row)
    return rows


def preference_stage(ctx: StageContext) -> StageResult:
    """DPO and its family."""
    config = ctx.config
    assert isinstance(config, PreferenceStage)
    train, held, left_out = read_judged(ctx, config)
    trained = train_preference(
        load(ctx.policy(config.init)),
        train,
        eval_on=held,
        loss=config.loss,
        average=config.average,
        share=config.share,
        cache=ctx.cache_folder / "reference",
        on_reference=lambda done, n: ctx.reporter.progress(done, n, "reference log-probs"),
        **_common(ctx, config),
    )
    of = {"unpaired": "judged answers"}.get(choose_loss(config.loss).family, "comparisons")
    result = _result(ctx, trained, "accuracy", f"of held-out {of}")
    result.facts["not_used"] = left_out
    return result


def read_judged(
    ctx: StageContext, config: PreferenceStage, losses: Sequence[Mapping[str, Any]] = ()
) -> tuple[list[Judged], list[Judged], dict[str, int]]:
    """What policy losses (the stage's own by default) learn from, training and held out: comparisons, and
    where one is a loss of single answers thumbs as well."""
    train, held, left_out = read_groups(ctx, config)
    if config.pairs == "best":
        train, held = (
            [g for g in map(best_against_rest, part) if g.edges] for part in (train, held)
        )
    found: tuple[list[Judged], list[Judged]] = ([*train], [*held])
    if any(choose_loss(x).family == "unpaired" for x in losses or [config.loss]):
        thumbs = _snapshot_thumbs(ctx, config)
        found = ([*train, *thumbs[0]], [*held, *thumbs[1]])
    _check_any(ctx, found[0], "comparisons")
    return *found, left_out


def _snapshot_thumbs(
    ctx: StageContext, config: Training
) -> tuple[list[LabelledResponse], list[LabelledResponse]]:
    store, facts = _store(ctx, config.data)
    with store:
        found = store.snapshot(facts["snapshot"]).labelled()
        if not len(found):
            return [], []
        train, held = found.split(test=facts["test"], seed=facts["seed"])
    return list(train)[: config.limit], list(held)[: config.eval_limit]


def _check_any(ctx: StageContext, train: Sequence[Any], what: str) -> None:
    if not train:
        assert isinstance(ctx.config, Training)
        holds = read_result(ctx.stages[ctx.config.data]).headline
        raise DataError(
            f"{ctx.config.data} holds no {what} to train on ({holds})",
            where=f"stage {ctx.name}",
            mend="look at it with accord data; sft can learn from comparisons with on: chosen",
        )


def _common(ctx: StageContext, config: Training) -> dict[str, Any]:
    def on_step(done: int, total: int, row: Mapping[str, float]) -> None:
        shown = [f"{k} {row[k]:.3g}" for k in ("loss", "accuracy") if k in row]
        ctx.reporter.progress(done, total, "  ".join(shown))

    return {
        "run_dir": ctx.folder,
        "tune": config.tune,
        "optimise_with": Optimise(**config.optimise_keys()),
        "limits": Limits(
            max_prompt=config.max_prompt,
            max_completion=config.max_completion,
            skip_bad=bool(config.skip_bad),
        ),
        "seed": ctx.seed,
        "on_step": on_step,
        "trackers": ctx.trackers,
        "tell": ctx.reporter.note,
    }


def _result(ctx: StageContext, trained: Trained, metric: str, of: str) -> StageResult:
    """What a training stage tells; what it trained on, row by row, goes to trained_on.jsonl."""
    config, data = ctx.config, trained.data
    assert isinstance(config, Training)
    write_rows(ctx, data.items)
    headline = "nothing is held out to measure on"
    if metric in trained.metrics:
        headline = f"{metric} {trained.metrics[metric]} {of}"
    facts = {
        "items": len(data.items),
        "left_out": trained.left_out,
        "completions cut off": data.truncated,
        "init": config.init,
        "data": config.data,
    }
    return StageResult(trained.metrics, list(trained.notes), facts, headline)


def write_rows(ctx: StageContext, items: Iterable[Item]) -> None:
    """What a stage trained on, for the way back to the judgments."""
    write_jsonl(ctx.folder / "trained_on.jsonl", (row for x in items for row in _rows_of(x)))


def _rows_of(
    item: Item,
) -> Iterator[dict[str, Any]]:
    """A single answer as one row, a group as one a comparison, with the judgments behind it."""
    if not isinstance(item, Group):
        row = {"prompt": item.prompt.id, "text": item.response.text, "sources": item.sources}
        if isinstance(item, LabelledResponse):
            row["good"] = item.desirable
        if isinstance(item, LabelledSteps):
            row["steps"] = item.labels
        yield row
        return
    for pair in item.pairs():
        yield {
            "prompt": item.prompt.id,
            "better": pair.chosen.text,
            "worse": pair.rejected.text,
            "p": pair.p,
            "sources": pair.sources,
        }


def _store(ctx: StageContext, data: str) -> tuple[Store, dict[str, Any]]:
    return data_store(ctx.stages[data])


def read_demonstrations(
    ctx: StageContext, config: Sft
) -> tuple[list[Demonstration], list[Demonstration]]:
    """What SFT imitates, training and held out."""
    if config.on == "demonstrations":
        return snapshot_demonstrations(ctx, config)
    train, held, _ = read_groups(ctx, config)
    return [_best(g) for g in train if g.edges], [_best(g) for g in held if g.edges]


def _best(group: Group) -> Demonstration:
    response = group.responses[best_response(group)]
    return Demonstration(prompt=group.prompt, response=response, sources=group.sources)


def snapshot_demonstrations(
    ctx: StageContext, config: Training
) -> tuple[list[Demonstration], list[Demonstration]]:
    """The data's demonstrations, training and held out."""
    store, facts = _store(ctx, config.data)
    with store:
        found = store.snapshot(facts["snapshot"]).demonstrations()
        if not len(found):
            return [], []
        train, held = found.split(test=facts["test"], seed=facts["seed"])
    return list(train)[: config.limit], list(held)[: config.eval_limit]


def read_groups(ctx: StageContext, config: Any) -> tuple[list[Group], list[Group], dict[str, int]]:
    """Training and held-out groups of the stage's snapshot, and what the policies left out."""
    store, facts = _store(ctx, config.data)
    policies = {
        k: getattr(config, k) for k in ("ties", "min_agreement", "margin") if hasattr(config, k)
    }
    with store:
        snapshot = store.snapshot(facts["snapshot"])
        if isinstance(config, Reward | PreferenceStage) and config.labels == "soft":
            groups = soft_groups(snapshot, min_confidence=config.min_confidence, **policies)
        else:
            groups = snapshot.groups(**policies)
        train, held = groups.split(test=facts["test"], seed=facts["seed"])
    kept, notes = _but_its_fold(train, config, facts["seed"])
    return kept[: config.limit], list(held)[: config.eval_limit], {**groups.notes, **notes}


def _but_its_fold(train: Sequence[T], config: Any, seed: int) -> tuple[list[T], dict[str, int]]:
    """Without the part of the training prompts that the stage's `fold` names, and how many items that is."""
    fold = getattr(config, "fold", None)
    if fold is None:
        return list(train), {}
    part, parts = map(int, fold.split("/"))
    kept = [x for x in train if part_of(x.prompt.id, parts, seed) != part]
    return kept, {f"in fold {fold}": len(train) - len(kept)}
