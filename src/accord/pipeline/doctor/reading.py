"""What the doctor is shown: a run's stages, finished or not, a snapshot, or a file."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from accord.core.artifact import Answers
from accord.core.errors import AccordError, DataError
from accord.core.refs import is_url
from accord.core.rundir import FAILED, read_json, read_jsonl, user_path
from accord.pipeline.context import data_store
from accord.pipeline.doctor.base import StageRecord
from accord.pipeline.manifest import finished
from accord.pipeline.report.gather import Done, Outputs
from accord.store import Snapshot, Store, import_file, opened_snapshot
from accord.store.opening import is_store
from accord.store.snapshot.pairs import Vote, by_pair, votes

__all__ = ["cases_of", "of_data", "of_run"]

TRAINED = ("sft", "reward", "preference")


def of_run(path: Path) -> list[StageRecord]:
    """The cases of a run: of stages that did not finish too, as far as they logged."""
    recipe, run, stages = finished(path)
    cases = cases_of(Outputs.read(stages), path)
    root, folders = next(iter(stages.values())).parent, read_json(run / "manifest.json")["stages"]
    for node in recipe.nodes:
        log, of = root / folders[node.name] / "metrics.jsonl", _kind(node.config.kind)
        if node.name not in stages and of and log.exists():
            config = node.config.model_dump(mode="json")
            facts = _ended_by(log.parent / FAILED)
            cases.append(
                StageRecord(node.name, of, config, read_jsonl(log), facts, places=_places(path))
            )
    return cases


def _places(run: Path | None, data: Done | None = None) -> dict[str, str]:
    """What the capitals of a check's command are, of a run and of the data that a stage read."""
    if run is None:
        return {}
    beside = "" if run.parent == Path("runs") else f" --runs {quote(str(run.parent))}"
    places = {"RUN": quote(str(run)), "RECIPE": quote(str(run)) + beside}
    if data:
        where = quote(f"{data.store}@{data.result.facts['snapshot']}")
        places |= {"STORE@SNAPSHOT": where, "FILE": where}
    return places


def _ended_by(path: Path) -> dict[str, str]:
    """What a stage that did not finish broke off with, where that was a number."""
    error = str(read_json(path)["error"]) if path.exists() else ""
    return {"not finite": error} if re.search(r" is -?(nan|inf)\b", error) else {}


def cases_of(outputs: Outputs, run: Path | None = None) -> list[StageRecord]:
    """Data that was trained on, each training, and each policy's answers."""
    cases, data = [], {}
    for stage in outputs.data:
        data[stage.name] = case = replace(_data_case(stage), places=_places(run, stage))
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
                    places=behind.places if behind else _places(run),
                )
            )
    asked = {str(s.result.facts["policy"]): s for s in outputs.giving(Answers)}
    for policy, rows in outputs.answers.items():
        by = asked.get(policy)
        config = {**by.config, "stage": by.name} if by else {}
        cases.append(StageRecord(policy, "answers", config, answers=rows, places=_places(run)))
    if truth := outputs.of_role("truth"):
        answers = [{**r, "policy": name} for name, rows in outputs.answers.items() for r in rows]
        read = {
            str(s.config.get("data")) for s in outputs.stages if s.kind in ("reward", "preference")
        }
        cases += [
            replace(data[name], of="evaluation", answers=answers, facts={"truth": truth.name})
            for name in data
            if name in read
        ]
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


def _split(name: str, snapshot: Snapshot, facts: Mapping[str, Any]) -> StageRecord:
    # with pairs that are split evenly: without them raters seem to agree
    groups = snapshot.groups(even="keep")
    train, held = groups.split(test=facts["test"], seed=facts["seed"])
    shown, _ = snapshot.demonstrations().split(test=facts["test"], seed=facts["seed"])
    return StageRecord(
        name,
        "data",
        facts={**facts, **_turned(snapshot)},
        train=list(train),
        held=list(held),
        shown=list(shown),
    )


def _turned(snapshot: Snapshot) -> dict[str, Any]:
    """How many pairs one rater, or one file that names none, judged; how many of them both ways;
    and whether there is such a file."""
    cast, _ = votes(snapshot.judgments, snapshot.tables, repeats=True)
    ways: dict[tuple[str, ...], set[float]] = defaultdict(set)
    for prompt, pairs in by_pair(cast).items():
        for pair, own in pairs.items():
            for vote in own:
                ways[prompt, *pair, vote.rater].add(vote.value)
    both = [key for key, values in ways.items() if min(values) < 0.5 < max(values)]
    example = snapshot.tables.prompts[both[0][0]].last if both else ""
    nameless = any(snapshot.tables.raters[key[-1]].facts.get("many") for key in ways)
    names = {id: snapshot.tables.raters[id].name for id in {key[-1] for key in ways}}
    against = _against([pair for pairs in by_pair(cast).values() for pair in pairs.values()])
    return {
        "judged": len(ways), "turned": len(both), "turned_example": example, "nameless": nameless,
        "raters": {names[id]: shares for id, shares in against.items() if id in names},
    }  # fmt: skip


def _against(pairs: Iterable[Sequence[Vote]]) -> dict[str, tuple[int, int]]:
    """Of each rater on how many pairs they side with most of the others, and of how many that is."""
    sides: dict[str, list[bool]] = defaultdict(list)
    for own in pairs:
        for vote in own:
            rest = [v.value for v in own if v.rater != vote.rater]
            mean = sum(rest) / len(rest) if rest else 0.5
            if mean != 0.5 and vote.value != 0.5:
                sides[vote.rater].append((mean > 0.5) == (vote.value > 0.5))
    return {rater: (sum(same), len(same)) for rater, same in sides.items()}


def of_data(where: str, test: float = 0.2, seed: int = 17) -> list[StageRecord]:
    """The case of STORE@SNAPSHOT, or of a file that could be imported."""
    facts: dict[str, Any] = {"test": test, "seed": seed}
    path, places = user_path(where), {"FILE": quote(where)}
    if "@" in where or is_url(where) or is_store(path):
        with opened_snapshot(where) as snapshot:
            return [
                replace(
                    _split(where, snapshot, facts), places=places | {"STORE@SNAPSHOT": quote(where)}
                )
            ]
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "look.db") as store:
        report = import_file(
            store, path, skip_bad=True, rejects_path=Path(folder) / "rejects.jsonl"
        )
        if not store.counts()["judgments"]:
            first = next(iter(report.rejects), None)
            why = f"; row {first['place']} {first['field']}: {first['reason']}" if first else ""
            raise DataError(f"no judgments or demonstrations in it{why}", where=str(path))
        facts |= {"unread": report.rejects, "rows": report.rows}
        return [replace(_split(path.name, store.freeze("everything"), facts), places=places)]
