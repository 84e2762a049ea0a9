"""`accord trust`: how far a store's judgments can be trusted, and what to do about it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from accord.core.errors import ConfigError
from accord.core.types import Metric
from accord.feedback.gold import read_gold
from accord.feedback.quality import RaterReport, quarantine, reweight
from accord.feedback.reliability import Agreement
from accord.feedback.trust import TrustReport, trust_report
from accord.stats.outcomes import OUTCOMES
from accord.store import Snapshot, Store

__all__ = ["show_trust"]

WIDTH = 118  # of tables in a file or a pipe
MOST_MODELS = 30


def show_trust(
    where: str,
    *,
    gold: Path | None,
    json: bool,
    without: Sequence[str],
    weigh: bool,
    because: str,
    name: str | None,
    ties: str,
    style: bool,
) -> None:
    """Print the report, or freeze a snapshot without the raters in quarantine, or with weights."""
    if ties not in OUTCOMES:
        raise ConfigError(f"is {ties!r}", where="--ties", allowed=", ".join(OUTCOMES))
    path, at, frozen = where.rpartition("@")
    with Store(path if at else where, create=False) as store:
        snapshot = store.snapshot(frozen) if at else Snapshot.now(store)
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        if without or weigh:
            _decide(console, snapshot, list(without), weigh, because, name, where)
            return
        report = trust_report(
            snapshot, read_gold(gold) if gold else None, ties=ties, style=style
        )  # fmt: skip
    if json:
        print(report.model_dump_json(indent=2))
        return
    _head(console, report)
    _agreement(console, report.agreement)
    _raters(console, report.raters)
    _sway(console, report)
    _models(console, report)
    _advice(console, report, where)


def _decide(
    console: Console,
    snapshot: Snapshot,
    without: list[str],
    weigh: bool,
    because: str,
    name: str | None,
    where: str,
) -> None:
    if not because:
        mend = "say it with --because, it is recorded"
        raise ConfigError("a decision needs its reason", where="accord trust", mend=mend)
    if without and weigh:
        mend = "first --quarantine, then --reweight of that snapshot"
        raise ConfigError("one decision at a time", where="accord trust", mend=mend)
    if without:
        made = quarantine(
            snapshot, without, because=because,
            name=name or "-".join([snapshot.name, "without", *without]),
        )  # fmt: skip
    else:
        made = reweight(
            snapshot, "reliability", because=because, name=name or f"{snapshot.name}-weighted"
        )
    store = where.rpartition("@")[0] or where
    console.print(
        f"snapshot {made.name}: {len(made)} of {len(snapshot)} judgments, sha256 {made.sha256[:12]}"
    )
    for rater, weight in made.selection.weights.items():
        console.print(f"  {rater} counts {weight:.2f}")
    console.print(
        f"Nothing was deleted. Train on it with data: {store}@{made.name}", soft_wrap=True
    )


# -- the report ------------------------------------------------------------------------------------


def share(m: Metric | None) -> str:
    """A share as percent: 84% [80, 88]."""
    if m is None or m.value is None:
        return "–"
    if m.low is None or m.high is None:
        return f"{100 * m.value:.0f}%"
    return f"{100 * m.value:.0f}% [{100 * m.low:.0f}, {100 * m.high:.0f}]"


def number(m: Metric | None, sign: str = "") -> str:
    """A number to two digits: +0.95 [0.80, 1.10]."""
    if m is None or m.value is None:
        return "–"
    value = format(m.value, f"{sign}.2f")
    return value if m.low is None else f"{value} [{m.low:.2f}, {m.high:.2f}]"


def points(m: Metric) -> str:
    """A difference of shares in points: -12 [-20, -4]."""
    if m.value is None or m.low is None or m.high is None:
        return "–"
    return f"{100 * m.value:+.0f} [{100 * m.low:+.0f}, {100 * m.high:+.0f}]"


def _table(title: str, note: str, *columns: str) -> Table:
    table = Table(
        title=f"[bold]{title}[/bold]", caption=f"[dim]{note}[/dim]" if note else None,
        title_justify="left", caption_justify="left", box=None, pad_edge=False, title_style="",
        caption_style="",
    )  # fmt: skip
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", no_wrap=i > 0)
    return table


def _head(console: Console, report: TrustReport) -> None:
    console.print(
        f"[bold]Snapshot {escape(report.snapshot)}[/bold]: {report.judgments:,} judgments by "
        f"{len(report.raters)} raters on {report.prompts:,} prompts, sha256 {report.sha256[:12]}"
    )
    if report.because:
        console.print(f"made because: {escape(report.because)}")
    n = report.noise
    if n.smoothing.value is not None:
        console.print(
            f"A single vote is wrong in {share(n.vote)} of cases, the majority in {share(n.majority)}; "
            f"{share(n.judged_once)} of pairs were judged once."
        )
        console.print(
            f"Suggested label smoothing: [bold]{number(n.smoothing)}[/bold] ({n.smoothing.note})"
        )
    console.print()


def _agreement(console: Console, rows: Sequence[Agreement]) -> None:
    if not rows:
        console.print("No two answers can be compared: agreement is undefined.\n")
        return
    scales = sorted({r.scale for r in rows})
    note = f"α: Krippendorff's ({', '.join(scales)}); 0.80 and more is reliable, under 0.67 is not."
    if any(r.easy for r in rows):
        note += " easy, hard: where the other raters all agree, and where they don't."
    table = _table("Agreement", note, "", "units", "agree", "α", "κ", "easy", "hard")
    for r in rows:
        what = f"{r.kind} {r.axis}".strip() if r.within == "all" else f"  {r.within}"
        kappa = number(r.kappa) if r.kappa.value is not None else "–"
        table.add_row(
            escape(what), f"{r.percent.n:,} of {r.units:,}", share(r.percent), number(r.alpha), kappa,
            share(r.easy) if r.easy else "", share(r.hard) if r.hard else "",
        )  # fmt: skip
    console.print(table)
    whole = [(f"{r.kind} {r.axis}".strip(), r) for r in rows if r.within == "all"]
    _why(console, [(who, m) for who, r in whole for m in (r.alpha, r.kappa)])


def _why(console: Console, undefined: Sequence[tuple[str, Metric]]) -> None:
    """Why figures are undefined, each reason once."""
    reasons: dict[str, list[str]] = {}
    for who, metric in undefined:
        if metric.value is None and metric.note:
            names = reasons.setdefault(metric.note, [])
            names += [who] if who not in names else []
    for note, names in reasons.items():
        console.print(f"[dim]– {escape(', '.join(names))}: {escape(note)}[/dim]", soft_wrap=True)
    console.print()


def _raters(console: Console, raters: Sequence[RaterReport]) -> None:
    note = "reliable: sides with the better response of a random pair, bias aside (model of skill)."
    table = _table(
        "Raters", note, "", "judged", "seconds", "reliable", "gold", "agrees with others", "repeats itself"
    )  # fmt: skip
    for r in raters:
        name = r.name if r.kind == "human" else f"{r.name} ({r.kind})"
        seconds = "–" if r.seconds.value is None else f"{r.seconds.value:.0f}"
        table.add_row(
            escape(name), f"{r.judgments:,}", seconds, share(r.reliability), share(r.gold),
            share(r.agreement), share(r.consistency),
        )  # fmt: skip
    console.print(table)
    console.print()


def _sway(console: Console, report: TrustReport) -> None:
    shown = [r for r in report.raters if r.agreement.value is not None or r.side.value is not None]
    if not shown:
        return
    styles = [s for s in shown[0].style if any(r.style[s].value is not None for r in shown)]
    note = (
        "side: logits for the left. length: logits for ten words more, beyond most raters'. "
        "Others: points, against the other raters on the same pairs."
    )
    table = _table("What sways them", note, "", "side", "length", *styles, "fast", "drift")
    for r in shown:
        table.add_row(
            escape(r.name), number(r.side, "+"), number(r.length, "+"),
            *(points(r.style[s]) for s in styles), points(r.speed), points(r.drift),
        )  # fmt: skip
    console.print(table)
    common = report.longer_is_better
    if common.value is not None and common.low is not None and common.low * (common.high or 0) > 0:
        console.print(
            f"[dim]All raters together give ten words more {number(common, '+')} of a standard deviation of "
            "quality: quality, or a taste they share; only gold questions can tell.[/dim]"
        )
    for text in report.notes:
        console.print(f"[dim]{escape(text)}[/dim]")
    for r in report.raters:
        if r.concerns:
            console.print(f"[yellow]{escape(r.name)}: {escape(', '.join(r.concerns))}[/yellow]")
    console.print()


def _models(console: Console, report: TrustReport) -> None:
    ranking = report.models
    if not ranking.models:
        return
    note = "strength: logits above the mean of all, at equal style if its worth is told below."
    table = _table("Sources of responses", note, "", "games", "wins", "strength", "Elo")
    for m in ranking.models[:MOST_MODELS]:
        elo = "–" if m.elo.value is None else f"{m.elo.value:.0f}"
        if m.elo.low is not None and m.elo.high is not None:
            elo += f" [{m.elo.low:.0f}, {m.elo.high:.0f}]"
        table.add_row(
            escape(m.name), f"{m.strength.n:,}", share(m.wins), number(m.strength, "+"), elo
        )
    console.print(table)
    worth = [f"{name} {number(m, '+')}" for name, m in ranking.style.items() if m.value is not None]
    if worth:
        console.print(f"[dim]What style is worth, in logits: {'; '.join(worth)}[/dim]")
    for text in ranking.notes:
        console.print(f"[dim]{escape(text)}[/dim]")
    console.print()


def _advice(console: Console, report: TrustReport, where: str) -> None:
    doubtful = [r.name for r in report.raters if r.concerns]
    if not doubtful:
        console.print("No rater stands out.")
        return
    console.print(
        "Soft labels (labels: soft in a recipe) allow for skill and for biases of side and length. "
        "To leave a rater out, with nothing deleted:"
    )
    console.print(
        f"  accord trust {escape(where)} --quarantine {escape(doubtful[0])} --because "
        f'"{escape(report.raters[[r.name for r in report.raters].index(doubtful[0])].concerns[0])}"',
        soft_wrap=True,
    )
