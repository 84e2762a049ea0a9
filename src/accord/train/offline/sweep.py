"""A grid of trainings from one loaded base: texts rendered once, reference log-probs computed once.

Each point trains in a folder of its own and leaves `point.json` last, so a killed sweep goes on with the
point it was in. A point that diverges is kept as failed; the others go on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accord.core.errors import RunError
from accord.core.rundir import read_json, whole_folder, write_json
from accord.core.types import Metric
from accord.lm.model.load import write_model_json
from accord.lm.model.lora import Lora
from accord.losses import choose_loss
from accord.store.snapshot.frozen import part_of
from accord.train.loop.optimise import Optimise, Progress
from accord.train.loop.trainee import Tune
from accord.train.offline.preference import Judged, Material, train_on

__all__ = ["GridPoint", "SweepOutcome", "best", "learnt_from", "parts", "sweep", "use"]

FILE = "point.json"
LEAST = 10  # prompts to choose by, and as many to report on


@dataclass(frozen=True)
class GridPoint:
    """One place of the grid: what is said of it, and how it trains."""

    label: str
    tune: Tune
    optimise_with: Optimise
    loss: dict[str, Any]


@dataclass(frozen=True)
class SweepOutcome:
    """What a point came to: its metrics on the held-out comparisons that points are chosen by, and on those
    that nothing is chosen by (none where there are too few); or why it failed."""

    point: GridPoint
    folder: Path
    metrics: dict[str, Metric]
    reported: dict[str, Metric]
    failed: str = ""


PointMeasured = tuple[dict[str, Metric], dict[str, Metric], str]


def _done_before(folder: Path) -> PointMeasured | None:
    try:
        raw = read_json(folder / FILE)
        metrics, reported = (
            {name: Metric.model_validate(m) for name, m in raw[part].items()}
            for part in ("metrics", "reported")
        )
        return metrics, reported, str(raw["failed"])
    except (RunError, KeyError, TypeError, ValueError):
        return None


def sweep(
    material: Material,
    points: Sequence[GridPoint],
    folder: Path,
    *,
    seed: int,
    cache: Path | None = None,
    trackers: Sequence[str] = (),
    on_point: Callable[[int, GridPoint], Progress | None] | None = None,
    tell: Callable[[str], None] | None = None,
) -> list[SweepOutcome]:
    """Train every point. `on_point` is told which begins, and gives what to call after its steps.

    DataError or ConfigError, before the first trains, where a point's loss can't read the data; RunError when
    every point failed.
    """
    for point in points:
        material.ready(point.loss, point.optimise_with.batch_size)
    outcomes, planned = [], list[Any]()
    for number, point in enumerate(points):
        at = folder / "points" / f"{number:02d}"
        done = _done_before(at)
        if done is None:
            plan = (point.tune, point.optimise_with.batch_size, point.optimise_with.tokens,
                    choose_loss(point.loss).family)  # fmt: skip
            done = _train(material, point, at, seed, cache or folder / "reference", trackers,
                          on_point(number, point) if on_point else None,
                          tell if plan not in planned else None)  # fmt: skip
            planned.append(plan)  # like points have like memory plans
            kept, reported = (
                {n: m.model_dump(mode="json") for n, m in part.items()} for part in done[:2]
            )
            write_json(
                at / FILE,
                {"label": point.label, "metrics": kept, "reported": reported, "failed": done[2]},
            )
        outcomes.append(SweepOutcome(point, at, *done))
    if all(outcome.failed for outcome in outcomes):
        raise RunError(
            f"every point failed; the first: {outcomes[0].failed}",
            where=str(folder),
            mend="lower lr",
        )
    return outcomes


def _train(
    material: Material,
    point: GridPoint,
    folder: Path,
    seed: int,
    cache: Path,
    trackers: Sequence[str],
    on_step: Progress | None,
    tell: Callable[[str], None] | None,
) -> PointMeasured:
    try:
        trained = train_on(
            material,
            run_dir=folder,
            tune=point.tune,
            optimise_with=point.optimise_with,
            loss=point.loss,
            seed=seed,
            cache=cache,
            trackers=trackers,
            on_step=on_step,
            tell=tell,
            borrow=True,
        )
    except RunError as error:
        if (
            " is nan" not in str(error)
            and " is inf" not in str(error)
            and " is -inf" not in str(error)
        ):
            raise
        return {}, {}, error.what
    return trained.metrics, trained.reported, ""


def best(outcomes: Sequence[SweepOutcome]) -> SweepOutcome:
    """The point with the highest accuracy on what points are chosen by; of equal ones the one that moved
    least (kl)."""

    def rank(outcome: SweepOutcome) -> tuple[float, float]:
        accuracy, kl = outcome.metrics.get("accuracy"), outcome.metrics.get("kl")
        return (
            -1.0 if accuracy is None or accuracy.value is None else accuracy.value,
            0.0 if kl is None or kl.value is None else -kl.value,
        )

    return max((o for o in outcomes if not o.failed), key=rank)


def parts(held: Sequence[Judged], seed: int) -> tuple[list[Judged], list[Judged]]:
    """Held-out items to choose by and to report on, by prompt; with fewer than LEAST prompts on either side
    all are to choose by and none is left to report on."""
    sides: tuple[list[Judged], list[Judged]] = ([], [])
    for item in held:
        sides[part_of(item.prompt.id, 2, seed) - 1].append(item)
    if min(len({item.prompt.id for item in side}) for side in sides) < LEAST:
        return list(held), []
    return sides


def learnt_from(outcome: SweepOutcome, material: Material) -> list[Any]:
    """The items that the point trained on."""
    return material.trees(choose_loss(outcome.point.loss))[0].items


def use(outcome: SweepOutcome, material: Material, folder: Path) -> None:
    """Make folder/model load as the point's policy: by its adapter, or with a copy of its weights."""
    lm, model = material.lm, outcome.folder / "model"
    if isinstance(outcome.point.tune, Lora):
        stage = not Path(lm.name).is_absolute() and lm.path.is_dir() and Path(lm.name).is_dir()
        write_model_json(
            folder / "model",
            base=os.path.relpath(lm.path) if stage else lm.name,
            base_weights=lm.weights,
            adapters=[model / "adapter"],
            template=lm.tokenizer.chat_template,
        )
        return
    with whole_folder(folder / "model") as beside:
        for file in model.iterdir():
            os.link(file, beside / file.name)


def label_of(point: Mapping[str, Any]) -> str:
    """`lr 0.0001, loss.beta 0.1`."""
    return ", ".join(f"{key} {_short(value)}" for key, value in point.items())


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(str(v) for v in value.values())
    return f"{value:g}" if isinstance(value, float) else str(value)
