"""Judgments of a snapshot on top of those of a data stage: what a guard asked for, beside what was there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

from accord.core.artifact import Data
from accord.core.errors import ConfigError
from accord.core.refs import StoreRef
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stage import StageConfig, stage

if TYPE_CHECKING:
    from accord.core.types import Prompt
    from accord.store import Snapshot, Store

__all__ = ["AddStage"]


def _named(judgments: str) -> str:
    """Without a password; of a store that is a file whose snapshot is named."""
    return str(StoreRef.parse(judgments))


def run(ctx: StageContext[AddStage]) -> StageResult:
    """A copy of the data's store with the judgments, frozen, split as the data is."""
    from accord.pipeline.stages.data import (
        copied,
        finish,
        keep_prompts,
        keep_world,
        prompts_of,
        world_of,
    )
    from accord.store import opened_snapshot

    config = ctx.config
    world, (opened, facts) = world_of(ctx, config.data), copied(ctx, config.data)
    with opened as store, opened_snapshot(config.judgments, ctx.recipe_folder) as more:
        earlier = store.snapshot(facts["snapshot"])
        prompts = prompts_of(ctx.folder, store.prompts())
        keep_prompts(ctx.folder, [*prompts, *_put(store, more)])
        old = {j.id for j in earlier.judgments}
        new = {j.id for j in more.judgments} - old
        weights = {**earlier.selection.weights, **more.selection.weights}
        snapshot = store.freeze(ctx.name, only=old | new, weights=weights)
        if world:
            keep_world(ctx, world, facts["test"])
        result = finish(ctx, snapshot, facts["test"], facts["seed"])
    result.headline += f", {len(new)} of them added"
    return result


def _put(store: Store, more: Snapshot) -> list[Prompt]:
    """The judgments, and all that they speak of; which prompts. What the store has already stays as it is."""
    from datetime import datetime

    tables, judgments = more.tables, more.judgments
    questions = {j.question: tables.questions[j.question] for j in judgments}
    for question in questions.values():
        prompt = tables.prompts[question.prompt]
        store.add_prompts([prompt])
        store.add_responses(prompt, [tables.responses[i] for i in question.responses])
    store.add_questions(list(questions.values()))
    store.add_raters(list({j.rater: tables.raters[j.rater] for j in judgments}.values()))
    store.add_judgments(sorted(judgments, key=lambda j: (datetime.fromisoformat(j.at), j.id)))
    return [tables.prompts[q.prompt] for q in questions.values()]


@stage("add", reads={"data": Data}, gives=Data, run=run, uses_model=False, free=True)
class AddStage(StageConfig):
    """The judgments of `data`, and those of a snapshot besides: what people said of the answers that a
    guard asked about, say. Prompts are held out as those of `data` are."""

    data: str
    judgments: Annotated[str, AfterValidator(_named)]  # STORE@SNAPSHOT

    def check_names(self, place: Any) -> None:
        if not StoreRef.parse(self.judgments).snapshot:
            raise ConfigError("is no STORE@SNAPSHOT", where=place("judgments"))

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """The judgments, wherever they lie."""
        from accord.store import opened_snapshot

        with opened_snapshot(self.judgments, folder) as snapshot:
            return {"judgments": snapshot.sha256}
