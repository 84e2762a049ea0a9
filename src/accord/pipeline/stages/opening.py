"""A snapshot of a store that exists already, read where it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from accord.core.artifact import Data
from accord.core.hashing import content_hash
from accord.core.refs import StoreRef, hidden, is_url
from accord.pipeline.context import StageContext, StageResult
from accord.pipeline.stage import Share, StageConfig, stage


def run(ctx: StageContext[OpenStage]) -> StageResult:
    from accord.pipeline.stages.data import finish, keep_prompts
    from accord.store import Store

    config = ctx.config
    where = config.place(ctx.recipe_folder)
    with Store(where, create=False) as store:
        snapshot = store.snapshot(config.snapshot)
        keep_prompts(ctx.folder, snapshot.tables.prompts.values())
        result = finish(ctx, snapshot, config.test)
    result.facts |= {"snapshot": config.snapshot, "store": where}
    return result


@stage("open", gives=Data, run=run, uses_model=False, free=True)
class OpenStage(StageConfig):
    """A snapshot of a store that exists already (`data: study.db@v3` is short for it)."""

    store: Annotated[str, AfterValidator(hidden)]  # a file or URL
    snapshot: str
    test: Share = 0.1

    def hashed(self) -> dict[str, Any]:
        """A database is known by its snapshot's hash, wherever it is served."""
        return super().hashed() | ({"store": "database"} if is_url(self.store) else {})

    def place(self, folder: Path) -> str:
        """Where the store of a recipe in this folder is now: a whole path, or a URL."""
        where = StoreRef(self.store).location(folder)
        return where if is_url(where) else str(Path(where).resolve())

    def inputs(self, stage: str, folder: Path) -> dict[str, str]:
        """The judgments, and which prompts there are: any may be answered, a snapshot names none of them."""
        from accord.store import Store

        with Store(self.place(folder), create=False) as store:
            prompts = content_hash(sorted(p.id for p in store.prompts()))
            return {"snapshot": store.snapshot(self.snapshot).sha256, "prompts": prompts}

    def moved(self, facts: Mapping[str, Any], folder: Path) -> bool:
        return bool(facts["store"] != self.place(folder))
