"""What `accord reward probe` asks of a reward model: its own held-out answers, or a file's."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.errors import ConfigError, DataError
from accord.core.rundir import read_json, user_path
from accord.core.types import Exchange, Group
from accord.detect.perturb import perturbations
from accord.detect.probe import ONE, ProbeReport, Score, probe
from accord.pipeline.context import data_store
from accord.worlds.base import World, open_world, truth

__all__ = [
    "Probed",
    "answers_of",
    "by_world",
    "known_names",
    "of_groups",
    "probe_of",
    "reward_at",
    "world_at",
]

PROMPTS = 200  # of as many a difference of a tenth of the spread is seen
WORLD = "world.json"


@dataclass(frozen=True)
class Probed:
    """A reward model's folder, and the data stage behind it where it is a run's."""

    model: Path
    data: Path | None = None


def reward_at(name: str) -> Probed:
    """The reward model that RUN:stage, RUN (of a run that has one) or a folder names."""
    from accord.pipeline.manifest import finished
    from accord.rewards.learned import is_reward_model

    folder, _, stage = name.rpartition(":") if ":" in name else (name, "", "")
    if not (user_path(folder) / "manifest.json").is_file():
        model = user_path(name)
        if not is_reward_model(model):
            raise ConfigError(
                "no reward model is there" if model.is_dir() else "no such folder",
                where=name,
                allowed="RUN:stage, or the folder model/ of a finished reward stage",
            )
        return Probed(model)
    recipe, _, stages = finished(Path(folder))
    models = [n for n, p in stages.items() if is_reward_model(p / "model")]
    if stage not in models and not (not stage and len(models) == 1):
        what = f"no reward model {stage!r} in this run" if stage else "which reward model?"
        raise ConfigError(what, where=name, allowed=", ".join(models) or "none is done")
    stage = stage or models[0]
    config = next(n.config for n in recipe.nodes if n.name == stage)
    return Probed(stages[stage] / "model", stages.get(str(getattr(config, "data", ""))))


def answers_of(probed: Probed, data: str | None, limit: int = PROMPTS) -> list[Exchange]:
    """The answers to perturb: held-out ones of the model's own data, or those of FILE or STORE@SNAPSHOT."""
    if data is None:
        if probed.data is None:
            raise ConfigError(
                "which answers?",
                where=str(probed.model),
                mend="name them: --data FILE|STORE@SNAPSHOT",
            )
        opened, facts = data_store(probed.data)
        with opened as store:
            groups = store.snapshot(facts["snapshot"]).groups()
            _, held = groups.split(test=facts["test"], seed=facts["seed"])
            return of_groups(held, limit)
    if "@" in data:
        from accord.store import opened_snapshot

        with opened_snapshot(data) as snapshot:
            return of_groups(snapshot.groups(), limit)
    return _of_file(user_path(data), limit)


def of_groups(groups: Iterable[Group], limit: int = PROMPTS) -> list[Exchange]:
    """Each response of the first prompts once, in an order fixed by their ids."""
    first = sorted(groups, key=lambda g: g.prompt.id)[:limit]
    return [
        Exchange(prompt=g.prompt, response=r)
        for g in first
        for r in {r.id_for(g.prompt): r for r in g.responses}.values()
    ]


def _of_file(path: Path, limit: int) -> list[Exchange]:
    from accord.pipeline.auditing import of_files
    from accord.store import Store, import_file

    with contextlib.suppress(
        DataError
    ):  # rows of prompt and response; else pairs, as import reads them
        (replies,) = of_files([path])[0].values()
        ids = set(list(dict.fromkeys(r.exchange.prompt.id for r in replies))[:limit])
        return [r.exchange for r in replies if r.exchange.prompt.id in ids]
    with tempfile.TemporaryDirectory() as folder, Store(Path(folder) / "look.db") as store:
        import_file(store, path)
        answers = of_groups(store.freeze("all").groups(), limit)
    if not answers:
        raise DataError("no answers in it", where=str(path), allowed="answers, or pairs of them")
    return answers


def probe_of(
    model: Any, exchanges: Sequence[Exchange], world: World | None, names: Iterable[str] = ()
) -> ProbeReport:
    """What a reward model pays for; how many perturbed answers it does not read to their end is noted."""
    cut: list[bool] = []

    def score(every: Sequence[Exchange]) -> Sequence[float]:
        cut.extend(model.cut(every))
        scores: Sequence[float] = model(every)
        return scores

    report = probe(exchanges, score, by_world(world) if world else None, names=names)
    if not any(cut):
        return report
    note = (
        f"{sum(cut) / len(cut):.0%} of the answers, perturbed ones among them, are longer than the model "
        "reads: what stands beyond is paid nothing"
    )
    return report.model_copy(update={"notes": (*report.notes, note)})


def known_names(names: Sequence[str]) -> Sequence[str]:
    """The same; ConfigError for one that is no perturbation."""
    for name in names:
        if name not in (*perturbations, ONE):
            what = f"unknown perturbation {name!r}"
            raise ConfigError(what, where="--only", allowed=", ".join([*perturbations, ONE]))
    return names


def world_at(data: Path | None) -> World | None:
    """The world behind a data stage's folder, None for real data."""
    path = data / WORLD if data else None
    return open_world(path.parent / read_json(path)["world"]) if path and path.exists() else None


def by_world(world: World) -> Score:
    """True scores of exchanges; NaN of prompts that the world does not know."""

    def score(exchanges: Sequence[Exchange]) -> list[float]:
        cases = [world.by_prompt.get(e.prompt.id) for e in exchanges]
        return [
            truth(world, case, e.response) if case else math.nan
            for case, e in zip(cases, exchanges, strict=True)
        ]

    return score
