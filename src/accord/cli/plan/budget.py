"""`accord plan budget`: where a budget should go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from accord.cli.options import table_console

if TYPE_CHECKING:  # numpy and scipy are loaded when a command runs
    from accord.plan.budget import Budget, Came

__all__ = ["budget"]


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
    console = table_console()
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


def _came_in(
    plan: Budget, store: str, tag: str, console: Console
) -> tuple[Budget, dict[str, Came]]:
    """The plan with measured agreement in place of what was assumed, and what is labelled already."""
    from accord.plan.came import Measured, came_in
    from accord.store import opened_snapshot

    with opened_snapshot(store) as snapshot:
        by_category = came_in(snapshot, tag)
    there, categories = {}, {}
    for category, planned in plan.categories.items():
        came = by_category.get(category, Measured())
        there[category] = came.there
        measured = {"rater": came.rater, "judge": came.judge}
        known = {k: agreed for k, agreed in measured.items() if agreed}
        categories[category] = planned.model_copy(update=known)
        line = f"{category}: {came.prompts} prompts labelled"
        if came.rater:
            line += (
                f", raters agree {came.agree / came.together:.2f} ({came.together} pairs), so one is right "
                f"with {came.rater.right / came.rater.of:.2f}"
            )
        if came.judge:
            line += f", a judge says what they say {came.same / came.checked:.2f} ({came.checked})"
        if came.judged:
            line += f"; {came.judged} more by a judge alone"
        console.print(line)
    unknown = sum(m.prompts + m.judged for k, m in by_category.items() if k not in plan.categories)
    if unknown:
        console.print(f"{unknown} prompts are of no category of this plan (tag {tag!r})")
    console.print("")
    return plan.model_copy(update={"categories": categories}), there
