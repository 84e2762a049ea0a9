"""What the doctor is shown: a run's stages, finished or not, a snapshot, or a file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accord.core.errors import AccordError, DataError
from accord.core.refs import is_url
from accord.core.rundir import read_json, read_jsonl, user_path
from accord.pipeline.context import data_store
from accord.pipeline.doctor.base import StageRecord
from accord.pipeline.manifest import finished
from accord.pipeline.report.gather import Done, Outputs
from accord.store import Store, import_file, opened_snapshot
from accord.store.opening import is_store

__all__ = ["cases_of", "of_data", "of_run"]

TRAINED = ("sft", "reward", "preference")


def of_run(path: Path) -> list[StageRecord]:
    """The cases of a run: of stages that did not finish too, as far as they logged."""
    recipe, run, stages = finished(path)
    cases = cases_of(Outputs.read(stages))
    root, folders = next(iter(stages.values())).parent, read_json(run / "manifest.json")["stages"]
    for node in recipe.nodes:
        log, of = root / folders[node.name] / "metrics.jsonl", _kind(node.config.kind)
        if node.name not in stages and of and log.exists():
            config = node.config.model_dump(mode="json")
            cases.append(StageRecord(node.name, of, config, log=read_jsonl(log)))
    return cases


def cases_of(outputs: Outputs) -> list[StageRecord]:
    """Data that was trained on, each training, and each policy's answers."""
    cases, data = [], {}
    for stage in outputs.data:
        data[stage.name] = case = _data_case(stage)
        cases.append(case)
    for stage in outputs.stages:
        of, behind = _kind(stage.kind), data.get(str(stage.config.get("data")))
        if of:
            cases.append(
                StageRecord(
                    stage.name,
                    of,
                    stage.config,
                    stage.metrics_rows,
                    stage.result.facts,
                    stage.result.metrics,
                    train=behind.train if behind else (),
                )
            )
    cases += [StageRecord(p, "answers", answers=rows) for p, rows in outputs.answers.items()]
    return cases


def _kind(kind: str) -> str | None:
    from accord.train.online.method import methods

    return kind if kind in TRAINED else "online" if kind in methods() else None


def _data_case(stage: Done) -> StageRecord:
    """A data stage's comparisons and demonstrations, split as trainings split them; none where the store is
    gone."""
    try:
        opened, facts = data_store(stage.folder)
        with opened as store:
            return _split(stage.name, store.snapshot(facts["snapshot"]), facts)
    except AccordError:
        return StageRecord(stage.name, "data")


def _split(name: str, snapshot: Any, facts: Mapping[str, Any]) -> StageRecord:
    train, held = snapshot.groups().split(test=facts["test"], seed=facts["seed"])
    shown, _ = snapshot.demonstrations().split(test=facts["test"], seed=facts["seed"])
    return StageRecord(name, "data", train=list(train), held=list(held), shown=list(shown))


def of_data(where: str, test: float = 0.2, seed: int = 17) -> list[StageRecord]:
    """The case of STORE@SNAPSHOT, or of a file that could be imported."""
    facts = {"test": test, "seed": seed}
    path = user_path(where)
    if "@" in where or is_url(where) or is_store(path):
        with opened_snapshot(where) as snapshot:
            return [_split(where, snapshot, facts)]
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "look.db") as store:
        import_file(store, path, skip_bad=True, rejects_path=Path(folder) / "rejects.jsonl")
        if not store.counts()["judgments"]:
            raise DataError("no judgments or demonstrations in it", where=str(path))
        return [_split(path.name, store.freeze("everything"), facts)]
