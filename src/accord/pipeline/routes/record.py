"""What a comparison over seeds reads of one run: kept as a file, it stands for the run, whose weights and
stores may be gone or lie on another machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from accord.core.errors import ConfigError
from accord.core.measure import Measure
from accord.core.rundir import user_path, write_text
from accord.core.types import Frozen
from accord.pipeline.routes.effort import Effort, effort_of, judgments_of
from accord.pipeline.routes.route import routes_of
from accord.pipeline.routes.runs import SeedRun, read_run
from accord.pipeline.routes.scores import distances_of, gaps_of, scores_by_prompt

__all__ = ["PolicyRecord", "SeedRecord", "keep_records", "read_records", "record_of"]

FORMAT = "accord routes 1"
PLACES = 6  # decimals that are kept
Column = tuple[float | None, ...]


class PolicyRecord(Frozen):
    """Of one policy: what it took, and by prompt, in the record's order (None where it has none), the figure
    that decides, nats from the baseline, and how much more the learned reward claims than is so
    (`scores.gaps_of`); None where that was not measured."""

    effort: Effort | None  # of the baseline none is told
    figure: Column
    distance: Column | None
    gap: Column | None


class SeedRecord(Frozen):
    """Of one run: its seed, the recipe and its settings, the figure that decides, the routes and the
    policies, by prompt and the cluster that it is in. `first`: what must be read before anything else."""

    seed: int
    recipe: str
    settings: dict[str, Any]
    baseline: str
    main: Measure
    first: tuple[str, ...]
    routes: tuple[tuple[str, ...], ...]
    prompts: tuple[str, ...]
    clusters: tuple[str, ...]
    policies: dict[str, PolicyRecord]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """A value of each prompt in every column, and every policy of a route with what it took."""
        n = len(self.prompts)
        columns = [c for p in self.policies.values() for c in (p.figure, p.distance, p.gap)]
        named = {p for route in self.routes for p in route}
        if len(set(self.prompts)) != n or len(self.clusters) != n:
            raise ValueError("prompts")
        if any(column is not None and len(column) != n for column in columns):
            raise ValueError("columns")
        if not named or not all(self.routes) or not {*named, self.baseline} <= self.policies.keys():
            raise ValueError("policies")
        if any(self.policies[p].effort is None for p in named):
            raise ValueError("effort")
        return self

    def column(self, values: Column | None) -> dict[str, tuple[float, str]]:
        """By prompt: value and cluster, where there is one."""
        rows = zip(self.prompts, values, self.clusters, strict=True) if values is not None else ()
        return {prompt: (v, c) for prompt, v, c in rows if v is not None}


def record_of(run: SeedRun) -> SeedRecord:
    """All that the table reads of a run."""
    outputs = run.outputs
    main, baseline = outputs.main, outputs.baseline
    routes = routes_of(run, lambda policy: judgments_of(run, policy))
    policies = [baseline, *(p for route in routes for p in route.policies)]
    scores = {p: scores_by_prompt(outputs.answers.get(p, ()), main.name) for p in policies}
    distances = {p: distances_of(run, p) for p in policies}
    gaps = {p: gaps_of(run, p) for p in policies}
    columns = [*scores.values(), *distances.values(), *gaps.values()]
    clusters = {i: c for rows in columns for i, (_, c) in (rows or {}).items()}

    def column(rows: Mapping[str, tuple[float, str]] | None) -> Column | None:
        if rows is None:
            return None
        return tuple(round(rows[i][0], PLACES) if i in rows else None for i in clusters)

    return SeedRecord(
        seed=run.seed, recipe=run.recipe, settings=run.settings, baseline=baseline, main=main,
        first=tuple(s.section.first for s in outputs.stages if s.section.first),
        routes=tuple(route.policies for route in routes),
        prompts=tuple(clusters), clusters=tuple(clusters.values()),
        policies={
            p: PolicyRecord(
                effort=None if p == baseline else effort_of(run, p), figure=column(scores[p]) or (),
                distance=column(distances[p]), gap=column(gaps[p]),
            )
            for p in policies
        },
    )  # fmt: skip


def read_records(sources: Sequence[str]) -> list[SeedRecord]:
    """Of these run directories and record files, by seed; ConfigError where two are of different recipes, or
    of one seed, or where a run was not evaluated and compared to its end."""
    records: list[SeedRecord] = []
    for source in sources:
        path = user_path(source)
        for record in _kept(path) if path.is_file() else [record_of(read_run(source))]:
            if records and (apart := _apart(records[0].settings, record.settings)):
                raise ConfigError(
                    f"is of another recipe than {sources[0]} ({apart})", where=source,
                    allowed="runs that differ in their seed alone", mend="accord run RECIPE --set seed=N",
                )  # fmt: skip
            if record.seed in [known.seed for known in records]:
                raise ConfigError(
                    f"seed {record.seed} is there already", where=source, mend="name each once"
                )
            records.append(record)
    return sorted(records, key=lambda record: record.seed)


def keep_records(path: Path, records: Sequence[SeedRecord]) -> None:
    """Write them as one file."""
    plain = {"format": FORMAT, "runs": [r.model_dump(mode="json") for r in records]}
    write_text(path, json.dumps(plain, ensure_ascii=False, separators=(",", ":")) + "\n")


def _kept(path: Path) -> list[SeedRecord]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            raise ValueError(plain["format"])
        return [SeedRecord.model_validate(run) for run in plain["runs"]]
    except (ValueError, KeyError, TypeError, ValidationError):
        raise ConfigError(
            "is no record of runs",
            where=str(path),
            allowed="a run's directory, what --record wrote",
        ) from None


def _apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The keys in which two resolved recipes differ, those of stages by stage; at most three. One that came
    later is unset in what was kept before."""
    keys = [k for k in {**one, **other} if k != "stages" and one.get(k) != other.get(k)]
    sides = [r["stages"] for r in (one, other)]
    keys += [
        f"{stage}.{key}"
        for stage in {**sides[0], **sides[1]}
        for key in {**sides[0].get(stage, {}), **sides[1].get(stage, {})}
        if sides[0].get(stage, {}).get(key) != sides[1].get(stage, {}).get(key)
    ]
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
