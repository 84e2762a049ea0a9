"""`accord plan data`: what more judgments would buy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from accord.cli.options import table_console
from accord.core.errors import ConfigError, DataError
from accord.core.types import Group, Metric

if TYPE_CHECKING:  # numpy and scipy are loaded when a command runs
    from accord.stats.learning_curve import Point

__all__ = ["data"]


def data(
    store: Annotated[str | None, typer.Argument(help="STORE@SNAPSHOT to measure on.")] = None,
    points: Annotated[
        Path | None, typer.Option(help="A .jsonl or .csv of n, accuracy, of: nothing is trained.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model that the reward models start from.")] = "",
    sizes: Annotated[str, typer.Option(help="Comparisons to learn from.")] = "50,100,200,400",
    seeds: Annotated[int, typer.Option(min=1, help="Reward models a size.")] = 2,
    more: Annotated[int, typer.Option(min=1, help="How many more to ask about.")] = 1000,
    price: Annotated[float | None, typer.Option(min=0.0, help="Of one judgment.")] = None,
    ceiling: Annotated[
        float | None, typer.Option(min=0.5, max=1.0, help="The best accuracy noisy labels allow.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where finished points are kept.")] = Path("plan"),
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Training keys: lr=1e-3 (repeatable).")
    ] = None,
) -> None:
    """Fit a learning curve and say what the next judgments would buy, and at what price."""
    from accord.plan.data import verdict
    from accord.stats.learning_curve import Point, fit_curve

    if (points is None) == (store is None):
        raise ConfigError("give STORE@SNAPSHOT or --points, one of them", where="accord plan data")
    limit: Metric | None = Metric(value=ceiling, n=0, note="given") if ceiling else None
    notes: list[str] = []
    if points:
        known_points = [
            Point(int(r["n"]), float(r["accuracy"]), int(r["of"])) for r in _rows(points)
        ]
    else:
        assert store
        known_points, measured, notes = _measured(store, model, sizes, seeds, folder, sets or [])
        limit = limit or measured
    curve = fit_curve(known_points, ceiling=(limit.high or limit.value or 1.0) if limit else 1.0)
    console = table_console()
    console.print(f"accuracy(n) = {curve.c:.3f} - {curve.a:.3g}·n^-{curve.b:.2f}")
    if limit:
        console.print(f"the labels' noise leaves at most {limit}")
    table = Table(box=None, pad_edge=False)
    for name in ("comparisons", "accuracy", "more than now", "price"):
        table.add_column(name, justify="right")
    for n in sorted({curve.largest * k for k in (1, 2, 4)} | {curve.largest + more}):
        extra = n - curve.largest
        cost = "" if price is None or not extra else f"{extra * price:,.0f}"
        table.add_row(f"{n:,}", str(curve.at(n)), str(curve.buys(extra)) if extra else "now", cost)
    console.print(table)
    console.print(verdict(curve, more, limit))
    for line in notes:
        console.print(f"Note: {line}.")


def _rows(path: Path) -> list[dict[str, Any]]:
    from accord.store.io.readers import BadRow, read_rows

    rows = []
    for place, row in read_rows(path):
        if isinstance(row, BadRow) or not {"n", "accuracy", "of"} <= row.keys():
            raise DataError("is no point", where=place, mend="a point has n, accuracy and of")
        rows.append(dict(row))
    return rows


def _measured(
    store: str, model: str, sizes: str, seeds: int, folder: Path, sets: list[str]
) -> tuple[list[Point], Metric | None, list[str]]:
    """Points, the ceiling that measured label noise sets, and what else is short."""
    from accord.core.config import apply_sets
    from accord.core.hashing import content_hash
    from accord.plan.data import limits_of, measure
    from accord.store import opened_snapshot

    if not model:
        raise ConfigError("needs STORE@SNAPSHOT and --model", where="accord plan data")
    keys: dict[str, Any] = {}
    apply_sets(keys, sets)
    with opened_snapshot(store) as snapshot:
        groups = snapshot.groups()
        train, held = groups.split(test=0.2)
        notes = limits_of(train)
        key = content_hash([snapshot.sha256, model, keys])[:12]

    def one(some: Sequence[Group], other: Sequence[Group], seed: int) -> Metric:
        import accord

        place = folder / key / f"{len(some)}-{seed}"
        done = accord.train_reward(
            accord.load(model), some, run_dir=place, eval_on=other, seed=seed, **keys
        )
        return done.metrics["accuracy"]

    points = measure(
        train, held, _numbers(sizes, "--sizes"), seeds, folder / key / "points.jsonl", one
    )
    return points, _ceiling(held), notes


def _ceiling(held: Sequence[Group]) -> Metric | None:
    """What a perfect model reaches against these labels: the mean of what raters agreed on."""
    from accord.stats.intervals import cluster_mean

    rows = [(max(e.p, 1 - e.p), g.prompt.id) for g in held for e in g.edges if e.agreement]
    if not rows:
        return None
    return cluster_mean([p for p, _ in rows], [i for _, i in rows])


def _numbers(text: str, what: str) -> list[int]:
    try:
        numbers = sorted({int(x) for x in text.split(",")})
    except ValueError:
        raise ConfigError(
            f"is {text!r}", where=what, allowed="numbers with commas between"
        ) from None
    if not numbers or numbers[0] < 1:
        raise ConfigError("needs numbers of at least 1", where=what)
    return numbers
