"""`accord plan`: what more judgments would buy, and where a budget should go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from accord.core.errors import ConfigError, DataError
from accord.core.types import Group, Metric

if TYPE_CHECKING:  # numpy and scipy are loaded when a command runs
    from accord.plan.budget import Budget, Came
    from accord.stats.learning_curve import Point

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Plan data and budgets before they are spent.")
WIDTH = 118


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)


def _numbers(text: str, what: str) -> list[int]:
    try:
        found = sorted({int(x) for x in text.split(",")})
    except ValueError:
        raise ConfigError(
            f"is {text!r}", where=what, allowed="numbers with commas between"
        ) from None
    if not found or found[0] < 1:
        raise ConfigError("needs numbers of at least 1", where=what)
    return found


@app.command("data")
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
    said: list[str] = []
    if points:
        found = [Point(int(r["n"]), float(r["accuracy"]), int(r["of"])) for r in _rows(points)]
    else:
        assert store
        found, measured, said = _measured(store, model, sizes, seeds, folder, sets or [])
        limit = limit or measured
    curve = fit_curve(found, ceiling=(limit.high or limit.value or 1.0) if limit else 1.0)
    console = _console()
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
    for line in said:
        console.print(f"Note: {line}.")


def _rows(path: Path) -> list[dict[str, Any]]:
    from accord.store.io.readers import BadRow, read_rows

    found = []
    for place, row in read_rows(path):
        if isinstance(row, BadRow) or not {"n", "accuracy", "of"} <= row.keys():
            raise DataError("is no point", where=place, mend="a point has n, accuracy and of")
        found.append(dict(row))
    return found


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
        said = limits_of(train)
        key = content_hash([snapshot.sha256, model, keys])[:12]

    def one(some: Sequence[Group], other: Sequence[Group], seed: int) -> Metric:
        import accord

        place = folder / key / f"{len(some)}-{seed}"
        done = accord.train_reward(
            accord.load(model), some, run_dir=place, eval_on=other, seed=seed, **keys
        )
        return done.metrics["accuracy"]

    found = measure(
        train, held, _numbers(sizes, "--sizes"), seeds, folder / key / "points.jsonl", one
    )
    return found, _ceiling(held), said


def _ceiling(held: Sequence[Group]) -> Metric | None:
    """What a perfect model reaches against these labels: the mean of what raters agreed on."""
    from accord.stats.intervals import cluster_mean

    rows = [(max(e.p, 1 - e.p), g.prompt.id) for g in held for e in g.edges if e.agreement]
    if not rows:
        return None
    return cluster_mean([p for p, _ in rows], [i for _, i in rows])


@app.command("budget")
def budget(
    file: Annotated[Path, typer.Argument(help="A budget, as recipes/plan/budget.yaml shows.")],
    store: Annotated[
        str | None, typer.Option(help="STORE@SNAPSHOT: plan on from what came in.")
    ] = None,
    tag: Annotated[str, typer.Option(help="Tag of a prompt that names its category.")] = "category",
) -> None:
    """Split a budget over categories, overlap against breadth, people and judges."""
    from accord.plan.budget import allocate, read_budget

    plan = read_budget(file)
    there: dict[str, Came] = {}
    console = _console()
    if store:
        plan, there = _came_in(plan, store, tag, console)
    bought = allocate(plan, there)
    table = Table(box=None, pad_edge=False)
    names = ("category", "by", "prompts", "a prompt", "cost", "label right", "worth", "RM accuracy")
    for name in names:
        table.add_column(name, justify="left" if name in ("category", "by") else "right")
    for p in bought:
        table.add_row(
            p.category, p.by, f"{p.prompts:,}", f"{p.overlap}", f"{p.cost:,.0f}", f"{p.label:.3f}",
            f"{p.worth:,.0f}", str(p.accuracy),
        )  # fmt: skip
    console.print(table)
    spent = sum(p.cost for p in bought)
    console.print(f"\nspent {spent:,.0f} of {plan.budget:,.0f}\n")
    for p in bought:
        price = plan.price.human * p.overlap
        if p.by == "judge":
            price = (plan.price.ai or 0.0) + plan.check * plan.price.human
        curve, right = plan.categories[p.category].curve, f"{p.label:.3f}"
        console.print(
            f"{p.category}: {p.prompts:,} × {price:g} = {p.cost:,.0f}; a label right with {right} is worth "
            f"(2·{right} - 1)² = {(2 * p.label - 1) ** 2:.3f}; "
            f"{curve.c:g} - {curve.a:g}·{p.worth:,.0f}^-{curve.b:g} = {p.accuracy.value:.3f} ({p.why})"
        )
    console.print(
        "\nA majority of m raters is right as Sheng et al. 2008 say; a label right with p is worth (2p - 1)² "
        "of a right one."
    )


@app.command("memory")
def memory(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or a shipped recipe's name.")],
    runs: Annotated[
        Path, typer.Option(help="Where runs are: finished stages are set beside.")
    ] = Path("runs"),
    tflops: Annotated[
        float | None,
        typer.Option(min=0.001, help="TFLOP/s another machine sustains: its time, not this one's."),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: sft.lr=1e-4 (repeatable).")
    ] = None,
    plugins: Annotated[
        list[Path] | None, typer.Option("--plugin", help="As of accord run (repeatable).")
    ] = None,
) -> None:
    """Memory, compute and time of every stage of a recipe, before anything runs."""
    from accord.pipeline.recipe import find_recipe, read_recipe
    from accord.pipeline.terminal import clock
    from accord.plan.stages import plan_stages

    found = read_recipe(find_recipe(recipe), sets or [], plugins or [])
    console = _console()
    rows, there = plan_stages(
        found,
        runs,
        rate=tflops and tflops * 1e12,
        tell=lambda text: console.print(f"[dim]{text}[/]"),
    )
    ran = any(row.took for row in rows)
    table = Table(box=None, pad_edge=False)
    for name in (
        "stage",
        "TFLOP",
        "memory",
        "time",
        *(("it took", "in") if ran else ()),
        "of the memory",
    ):
        table.add_column(name, justify="left" if name in ("stage", "of the memory") else "right")
    for row in rows:
        took = [_gb(row.took[0]), clock(row.took[1])] if row.took else ["", ""]
        cost = row.estimate
        table.add_row(
            row.name,
            *(
                [f"{cost.flop / 1e12:,.2f}", _gb(cost.peak), clock(cost.seconds)]
                if cost
                else [""] * 3
            ),
            *(took if ran else ()),
            _largest(cost.memory) if cost else "",
        )
    console.print(table)
    costs = [row.estimate for row in rows if row.estimate]
    peak, seconds = max((c.peak for c in costs), default=0.0), sum(c.seconds for c in costs)
    where = f"at {tflops:g} TFLOP/s" if tflops else "on this machine"
    console.print(f"\n{clock(seconds)} {where}, {_gb(peak)} at the peak; there are {_gb(there)}")
    for row in rows:
        said = list(row.said)
        if row.estimate and row.estimate.peak > there:
            said.append("does not fit: lower tokens, or tune fewer layers")
        for line in said:
            console.print(f"{row.name}: {line}")


def _largest(memory: dict[str, float]) -> str:
    """The three largest shares."""
    first = sorted(memory.items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {_gb(size)}" for name, size in first)


def _gb(size: float | None) -> str:
    return "" if size is None else f"{size / 2**30:.2f} GB"


def _came_in(
    plan: Budget, store: str, tag: str, console: Console
) -> tuple[Budget, dict[str, Came]]:
    """The plan with measured agreement in place of what was assumed, and what is labelled already."""
    from accord.plan.came import Measured, came_in
    from accord.store import opened_snapshot

    with opened_snapshot(store) as snapshot:
        found = came_in(snapshot, tag)
    there, categories = {}, {}
    for category, planned in plan.categories.items():
        came = found.get(category, Measured())
        there[category] = came.there
        measured = {"rater": came.rater, "judge": came.judge}
        known = {k: agreed for k, agreed in measured.items() if agreed}
        categories[category] = planned.model_copy(update=known)
        told = f"{category}: {came.prompts} prompts labelled"
        if came.rater:
            told += (
                f", raters agree {came.agree / came.together:.2f} ({came.together} pairs), so one is right "
                f"with {came.rater.right / came.rater.of:.2f}"
            )
        if came.judge:
            told += f", a judge says what they say {came.same / came.checked:.2f} ({came.checked})"
        if came.judged:
            told += f"; {came.judged} more by a judge alone"
        console.print(told)
    unknown = sum(m.prompts + m.judged for k, m in found.items() if k not in plan.categories)
    if unknown:
        console.print(f"{unknown} prompts are of no category of this plan (tag {tag!r})")
    console.print("")
    return plan.model_copy(update={"categories": categories}), there
