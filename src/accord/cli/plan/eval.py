"""`accord plan eval`: how many prompts it takes to see a difference."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

import typer

from accord.core.errors import ConfigError

__all__ = ["evaluation"]


def evaluation(
    difference: Annotated[
        float | None, typer.Option(help="To be seen; without it --prompts says which one is.")
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, help="The baseline's share, of yes and no (0.5)."),
    ] = None,
    correlation: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Of two policies' outcomes on a prompt.")
    ] = 0.0,
    sd: Annotated[
        float | None, typer.Option(min=0.0, help="Of values: the spread of differences by prompt.")
    ] = None,
    power: Annotated[float, typer.Option(min=0.05, max=0.999)] = 0.8,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Of the interval.")] = 0.95,
    comparisons: Annotated[int, typer.Option(min=1, help="Looked at together (Bonferroni).")] = 1,
    per_cluster: Annotated[
        float, typer.Option(min=1.0, help="Prompts that hang together, as those of a behaviour.")
    ] = 1.0,
    icc: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Correlation of differences within a cluster.")
    ] = 0.0,
    prompts: Annotated[
        int | None, typer.Option(min=2, help="What there is: what is seen of it?")
    ] = None,
) -> None:
    """How many prompts it takes to see a difference of two policies that answer the same ones."""
    from accord.stats.power import changed, mean_power, prompts_needed, seen_from, share_power

    if (difference is None) == (prompts is None):
        raise ConfigError("give --difference or --prompts, one of them", where="accord plan eval")
    if sd is not None and (share is not None or correlation):
        raise ConfigError("--sd is of values, --share and --correlation of yes and no", where="--sd",
                          mend="give one or the other")  # fmt: skip
    if sd == 0 or difference == 0:
        raise ConfigError(
            "is 0", where="--sd" if sd == 0 else "--difference", allowed="another number"
        )
    base, held = 0.5 if share is None else share, 1 - (1 - level) / comparisons
    effect = 1 + (per_cluster - 1) * icc

    def powered(n: int, d: float) -> float:
        if sd is not None:
            return mean_power(n, d, sd, held)
        return share_power(n, *changed(base, d, correlation), held)

    what = (
        f"spread {sd:g} of differences"
        if sd is not None
        else f"shares from {base:g}, correlation {correlation:g}"
    )
    print(f"Paired: both policies answer the same prompts; {what}; interval of {held:.4g}.")
    if difference is not None:
        _needed(lambda n: powered(n, difference), difference, power, effect, prompts_needed)
        return
    assert prompts
    plain = max(2, int(prompts / effect))
    most = _most(base, correlation, sd, plain)
    seen = seen_from(lambda d: powered(plain, d), most, power)
    worth = f", worth {plain:,} that hang together with none" if effect > 1 else ""
    if seen is None:
        print(f"{prompts:,} prompts{worth} show no difference with power {power:g}.")
    else:
        least = math.ceil(1000 * seen) / 1000
        print(f"{prompts:,} prompts{worth} show a difference of {least:.3f} with power {power:g}.")


def _most(share: float, correlation: float, sd: float | None, n: int) -> float:
    """The largest difference there can be."""
    from accord.stats.power import changed

    if sd is not None:
        return 100 * sd
    if not correlation:
        return 1 - share
    low, high = 0.0, 1 - share
    for _ in range(30):
        middle = (low + high) / 2
        try:
            changed(share, middle, correlation)
            low = middle
        except ConfigError:
            high = middle
    return low


def _needed(
    of: Callable[[int], float], difference: float, power: float, effect: float,
    needed: Callable[[Callable[[int], float], float], int],
) -> None:  # fmt: skip
    n = needed(of, power)
    whole = math.ceil(n * effect)
    print(
        f"{whole:,} prompts show a difference of {difference:g} with power {power:g} (there: {of(n):.3f})."
    )
    if effect > 1:
        print(f"That is {n:,} times {effect:.3g}, for what hangs together says less.")
    print("With fewer, the power is:")
    for part in (0.25, 0.5, 0.75):
        less = max(2, round(n * part))
        print(f"  {math.ceil(less * effect):>7,}  {of(less):.3f}")
