"""`accord trust`: how far a store's judgments can be trusted, and what to do about it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from accord.core.errors import ConfigError
from accord.core.refs import StoreRef, hidden
from accord.core.types import Metric
from accord.feedback.trust.gold_questions import read_gold_questions
from accord.feedback.trust.quality import RaterReport, quarantine, reweight
from accord.feedback.trust.reliability import Agreement
from accord.feedback.trust.report import TrustReport, trust_report
from accord.stats.outcomes import OUTCOMES
from accord.store import Snapshot, Store

__all__ = ["show_trust"]

WIDTH = 118  # of tables in a file or a pipe
MOST_MODELS, MOST_PARTS = 30, 6


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
    ref = StoreRef.parse(where)
    with Store(ref.where, create=False) as store:
        snapshot = Snapshot.now(store) if ref.snapshot is None else store.snapshot(ref.snapshot)
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
        if without or weigh:
            _decide(console, snapshot, list(without), weigh, because, name, hidden(ref.where))
            return
        report = trust_report(
            snapshot, read_gold_questions(gold) if gold else None, ties=ties, style=style
        )  # fmt: skip
    if json:
        print(report.model_dump_json(indent=2))
        return
    _head(console, report)
    _agreement(console, report.agreement)
    _raters(console, report.raters)
    _sway(console, report)
    _models(console, report)
    _advice(console, report, str(ref))


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
        decided = quarantine(
            snapshot, without, because=because,
            name=name or "-".join([snapshot.name, "without", *without]),
        )  # fmt: skip
    else:
        decided = reweight(
            snapshot, "reliability", because=because, name=name or f"{snapshot.name}-weighted"
        )
    console.print(
        f"snapshot {decided.name}: {len(decided)} of {len(snapshot)} judgments, sha256 {decided.sha256[:12]}"
    )
    for rater, weight in decided.selection.weights.items():
        console.print(f"  {rater} counts {weight:.2f}")
    console.print(
        f"Nothing was deleted. Train on it with data: {where}@{decided.name}", soft_wrap=True
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


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _print(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], note: str
) -> None:
    """A table without the columns in which nothing is known, its note below."""
    kept = [i for i in range(len(columns)) if i == 0 or any(r[i] not in ("", "–") for r in rows)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i in kept:
        table.add_column(columns[i], justify="right" if i else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(escape(row[i]) for i in kept))
    if title:
        console.print(f"[bold]{title}[/bold]")
    if len(kept) > 1:
        console.print(table)
    if len(kept) > 1:
        console.print(f"[dim]{escape(note)}[/dim]")


def _head(console: Console, report: TrustReport) -> None:
    console.print(
        f"[bold]Snapshot {escape(report.snapshot)}[/bold]: {_many(report.judgments, 'judgment')} by "
        f"{_many(len(report.raters), 'rater')} on {_many(report.prompts, 'prompt')}, "
        f"sha256 {report.sha256[:12]}"
    )
    if report.because:
        console.print(f"made because: {escape(report.because)}")
    n = report.noise
    if n.smoothing.value is None:
        console.print(f"The noise of labels is undefined: {n.smoothing.note}.")
    else:
        once = f"; {share(n.judged_once)} of pairs were judged once" if n.judged_once.value else ""
        console.print(
            f"A single vote is wrong in {share(n.vote)} of cases, the majority in {share(n.majority)}{once}."
        )
        console.print(
            f"Suggested label smoothing: [bold]{number(n.smoothing)}[/bold] ({n.smoothing.note})"
        )
    console.print()


def _agreement(console: Console, rows: Sequence[Agreement]) -> None:
    if not rows:
        console.print("No two answers can be compared: agreement is undefined.\n")
        return
    whole = [r for r in rows if r.within == "all"]
    scales = ", ".join(sorted({f"{r.scale} for {r.kind}" for r in rows}))
    _print(
        console,
        "Agreement",
        ("", "units", "agree", "α", "α ordinal"),
        [row for r in whole for row in _agreement_rows(r, rows)],
        f"α: Krippendorff's ({scales}); 0.80 and more is reliable, under 0.67 is not.",
    )
    _print(
        console,
        "",
        ("", "κ", "on easy", "on hard"),
        [[_what(r), number(r.kappa), share(r.easy), share(r.hard)] for r in whole],
        "κ: Cohen's for two raters, else Fleiss'. easy: agreement where all others agree, hard: where not.",
    )
    _why(console, [(_what(r), m) for r in whole for m in (r.alpha, r.kappa, r.easy or r.alpha)])


def _what(r: Agreement) -> str:
    return f"{r.kind} {r.axis}".strip()


def _agreement_rows(whole: Agreement, rows: Sequence[Agreement]) -> list[list[str]]:
    """A kind and its parts; of a tag with many values those with the lowest α."""
    cells = [[_what(whole), *_agreement_cells(whole)]]
    parts: dict[str, list[Agreement]] = {}
    for r in rows:
        if r.within != "all" and (r.kind, r.axis) == (whole.kind, whole.axis):
            parts.setdefault(r.within.replace("guideline ", "guideline=").split("=")[0], []).append(
                r
            )
    for tag, members in parts.items():
        members.sort(key=lambda r: 2.0 if r.alpha.value is None else r.alpha.value)
        cells += [[f"  {r.within}"[:34], *_agreement_cells(r)] for r in members[:MOST_PARTS]]
        if len(members) > MOST_PARTS:
            cells.append([f"  {tag}: {len(members) - MOST_PARTS} more, higher", *[""] * 4])
    return cells


def _agreement_cells(r: Agreement) -> list[str]:
    units = f"{r.percent.n:,}" if r.percent.n == r.units else f"{r.percent.n:,} of {r.units:,}"
    ordinal = number(r.ordinal) if r.ordinal else ""
    return [units, share(r.percent), number(r.alpha), ordinal]


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
    columns = ("", "judged", "seconds", "reliable", "gold", "agrees with others", "repeats itself")
    rows = [
        [
            r.name if r.kind == "human" else f"{r.name} ({r.kind})",
            f"{r.judgments:,}",
            "–" if r.seconds.value is None else f"{r.seconds.value:.0f}",
            *(share(m) for m in (r.reliability, r.gold, r.agreement, r.consistency)),
        ]
        for r in raters
    ]
    note = "reliable: sides with the better response of a random pair, bias aside, by a model of skill."
    _print(console, "Raters", columns, rows, note)
    kinds = list(dict.fromkeys(k for r in raters for k in r.right))[:MOST_PARTS]
    if kinds:
        rows = [[r.name, *(share(r.right.get(k)) for k in kinds)] for r in raters if r.right]
        _print(console, "", ("", *kinds), rows, "Says the true one, by Dawid and Skene's model.")
    console.print()


def _sway(console: Console, report: TrustReport) -> None:
    shown = [r for r in report.raters if any(m.value is not None for m in (r.agreement, r.left))]
    if not shown:
        return
    _print(
        console,
        "What sways them",
        ("", "left wins", "left side", "10 words more", "when fast", "first to last"),
        [
            [
                r.name,
                share(r.left),
                number(r.side, "+"),
                number(r.length, "+"),
                points(r.speed),
                points(r.drift),
            ]
            for r in shown
        ],
        "left side, 10 words more: logits (words: beyond what most raters give). when fast, first to last: "
        "points of agreement with the others.",
    )
    styles = [s for s in shown[0].style if any(r.style[s].value is not None for r in shown)]
    if styles:
        rows = [[r.name, *(points(r.style[s]) for s in styles)] for r in shown]
        note = "Points it prefers the response with more of it, beyond the median rater on the same pairs."
        _print(console, "", ("", *styles), rows, note)
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
    rows = []
    for m in ranking.models[:MOST_MODELS]:
        elo = "–" if m.elo.value is None else f"{m.elo.value:.0f}"
        if m.elo.low is not None and m.elo.high is not None:
            elo += f" [{m.elo.low:.0f}, {m.elo.high:.0f}]"
        name = m.name if ranking.models[-1].group == 1 else f"{m.name} (group {m.group})"
        rows.append([name, f"{m.strength.n:,}", share(m.wins), number(m.strength, "+"), elo])
    worth = [f"{name} {number(m, '+')}" for name, m in ranking.style.items() if m.value is not None]
    note = "strength: logits above the mean of all (Bradley-Terry). Elo: 1000 is the mean."
    if worth:
        note += f" Strength is at equal style, which by itself is worth {'; '.join(worth)} logits."
    _print(console, "Sources of responses", ("", "games", "wins", "strength", "Elo"), rows, note)
    for text in ranking.notes:
        console.print(f"[dim]{escape(text)}[/dim]")
    console.print()


def _advice(console: Console, report: TrustReport, where: str) -> None:
    doubtful = [r for r in report.raters if r.concerns]
    if not doubtful:
        console.print("No rater stands out.")
        return
    console.print(
        "Soft labels (labels: soft in a recipe) allow for skill and for biases of side and length. "
        "To leave a rater out, with nothing deleted:"
    )
    words = ("--quarantine", doubtful[0].name, "--because", doubtful[0].concerns[0])
    console.print(escape(f"  accord trust {shlex.join([where, *words])}"), soft_wrap=True)
