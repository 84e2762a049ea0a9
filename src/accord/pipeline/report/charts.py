"""Charts as inline SVG: no script, no fonts, colours from the page's CSS variables (--c0 … --c5).

Points that are not finite are left out; a chart with nothing to show says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Range", "Series", "crosses", "intervals", "lines", "reliability", "scatter"]

WIDTH, HEIGHT = 460, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 14, 44
XY = tuple[float, float]
Range = tuple[float, float | None, float | None]  # a value and its interval


@dataclass(frozen=True)
class Series:
    """Points of one name; `titles` are the tooltips of the points, if any."""

    name: str
    points: Sequence[XY]
    titles: Sequence[str] = ()

    def finite(self) -> list[tuple[float, float, str]]:
        titles = self.titles or [""] * len(self.points)
        both = zip(self.points, titles, strict=True)
        return [(x, y, t) for (x, y), t in both if math.isfinite(x) and math.isfinite(y)]


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) that lie in [low, high]."""
    span = high - low or abs(high) or 1.0
    raw = span / about
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) * 0.1 or 1.0
        return low - pad, high + pad
    pad = (high - low) * 0.06
    return low - pad, high + pad


def root_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """0 and round numbers up to `high` that stand at least 1/`about` of the way apart on a scale of roots."""
    span, power = _root(high) - _root(low), math.floor(math.log10(high or 1.0))
    chosen = [0.0]
    for value in (m * 10.0**k for k in range(power - 3, power + 1) for m in (1, 2, 5)):
        if value <= high and _root(value) - _root(chosen[-1]) >= span / about:
            chosen.append(round(value, 12))
    return chosen


def _root(x: float) -> float:
    return math.copysign(math.sqrt(abs(x)), x)


@dataclass(frozen=True)
class Frame:
    """The plot area and its scales; `root`: x stands where its square root is."""

    x: tuple[float, float]
    y: tuple[float, float]
    width: int = WIDTH
    height: int = HEIGHT
    root: bool = False

    @property
    def left(self) -> int:
        """Room for the axis name and the longest tick label."""
        return max(LEFT, 30 + 7 * max(len(f"{value:g}") for value in ticks(*self.y)))

    def at(self, x: float, y: float) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self.x, self.y
        if self.root:
            x, x0, x1 = _root(x), _root(x0), _root(x1)
        wide, high = self.width - self.left - RIGHT, self.height - TOP - BOTTOM
        return self.left + (x - x0) / (x1 - x0) * wide, TOP + (y1 - y) / (y1 - y0) * high

    def axes(self, xlabel: str, ylabel: str) -> list[str]:
        """Grid lines, tick labels and axis names."""
        left, bottom = self.left, self.height - BOTTOM
        right = self.width - RIGHT
        out = []
        for value in ticks(*self.y):
            _, v = self.at(self.x[0], value)
            out.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{v:.1f}" y2="{v:.1f}"/>')
            out.append(
                f'<text class="tick" x="{left - 6}" y="{v + 4:.1f}" text-anchor="end">{value:g}</text>'
            )
        for value in (root_ticks if self.root else ticks)(*self.x, 6):
            h, _ = self.at(value, self.y[0])
            out.append(f'<line class="grid" x1="{h:.1f}" x2="{h:.1f}" y1="{TOP}" y2="{bottom}"/>')
            out.append(
                f'<text class="tick" x="{h:.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
            )
        middle = (TOP + bottom) / 2
        out.append(f'<text class="axis" x="{(left + right) / 2}" y="{self.height - 8}" '
                   f'text-anchor="middle">{escape(xlabel)}</text>')  # fmt: skip
        out.append(f'<text class="axis" transform="rotate(-90 14 {middle})" x="14" y="{middle}" '
                   f'text-anchor="middle">{escape(ylabel)}</text>')  # fmt: skip
        return out


def _svg(parts: Sequence[str], label: str, width: int = WIDTH, height: int = HEIGHT) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _empty(label: str) -> Markup:
    return _svg(
        [
            f'<text class="axis" x="{WIDTH / 2}" y="{HEIGHT / 2}" text-anchor="middle">nothing to show</text>'
        ],
        label,
    )


def _legend(series: Sequence[Series]) -> Markup:
    if len(series) < 2:
        return Markup("")
    keys = "".join(
        f'<span><i style="background:var(--c{i % 6})"></i>{escape(s.name)}</span>'
        for i, s in enumerate(series)
    )
    return Markup(f'<div class="legend">{keys}</div>')


def _title(text: str) -> str:
    return f"<title>{escape(text)}</title>" if text else ""


def lines(series: Sequence[Series], xlabel: str, ylabel: str) -> Markup:
    """One line per series; a series of one point is a dot."""
    kept = [(s, s.finite()) for s in series]
    kept = [(s, points) for s, points in kept if points]
    if not kept:
        return _empty(ylabel)
    every = [p for _, points in kept for p in points]
    frame = Frame(_range([p[0] for p in every]), _range([p[1] for p in every]))
    parts = frame.axes(xlabel, ylabel)
    for i, (s, points) in enumerate(kept):
        path = " ".join(f"{h:.1f},{v:.1f}" for h, v in (frame.at(x, y) for x, y, _ in points))
        parts.append(f'<polyline points="{path}" fill="none" stroke="var(--c{i % 6})" stroke-width="1.8">'
                     f"{_title(s.name)}</polyline>")  # fmt: skip
        if len(points) < 30:
            parts += _dots(points, frame.at, i, 2.6)
    return _svg(parts, ylabel) + _legend([s for s, _ in kept])


def _dots(
    points: Sequence[tuple[float, float, str]],
    at: Callable[[float, float], XY],
    colour: int,
    radius: float,
) -> list[str]:
    out = []
    for x, y, title in points:
        h, v = at(x, y)
        out.append(f'<circle cx="{h:.1f}" cy="{v:.1f}" r="{radius}" fill="var(--c{colour % 6})" '
                   f'fill-opacity="0.72">{_title(title or f"{x:.4g}, {y:.4g}")}</circle>')  # fmt: skip
    return out


def scatter(series: Sequence[Series], xlabel: str, ylabel: str) -> Markup:
    """Points, one colour per series."""
    kept = [(s, s.finite()) for s in series]
    every = [p for _, points in kept for p in points]
    if not every:
        return _empty(ylabel)
    frame = Frame(_range([p[0] for p in every]), _range([p[1] for p in every]))
    parts = frame.axes(xlabel, ylabel)
    for i, (_, points) in enumerate(kept):
        parts += _dots(points, frame.at, i, 3.2)
    return _svg(parts, ylabel) + _legend(series)


def crosses(
    rows: Sequence[tuple[str, Range, Range, str]],
    front: Sequence[int],
    xlabel: str,
    ylabel: str,
    *,
    root: bool = False,
) -> Markup:
    """A dot a row with its intervals on both axes: (name, x, y, tooltip); a line joins those of `front`. With
    `root` x, which is then at least 0, is on the scale of its square root."""
    if not rows:
        return _empty(ylabel)
    if root:
        rows = [(n, tuple(v and max(v, 0.0) for v in x), y, t) for n, x, y, t in rows]  # type: ignore[misc]
    xs = [v for _, x, _, _ in rows for v in x if v is not None]
    ys = [v for _, _, y, _ in rows for v in y if v is not None]
    top = max(xs) or 1.0
    frame = Frame((-top / 900, top * 1.1) if root else _range(xs), _range(ys), root=root)
    parts = frame.axes(xlabel, ylabel)
    joined = sorted((rows[i][1][0], rows[i][2][0]) for i in front)
    path = " ".join(f"{h:.1f},{v:.1f}" for h, v in (frame.at(x, y) for x, y in joined))
    parts.append(f'<polyline class="diagonal" points="{path}" fill="none"/>')
    for i, (_, (x, left, right), (y, low, high), title) in enumerate(rows):
        for ends in (((left, y), (right, y)), ((x, low), (x, high))):
            if None not in (*ends[0], *ends[1]):
                (h0, v0), (h1, v1) = (frame.at(float(a or 0), float(b or 0)) for a, b in ends)
                place = f'x1="{h0:.1f}" y1="{v0:.1f}" x2="{h1:.1f}" y2="{v1:.1f}"'
                parts.append(f'<line {place} stroke="var(--c{i % 6})" stroke-opacity="0.6"/>')
        parts += _dots([(x, y, title)], frame.at, i, 4 if i in front else 2.8)
    return _svg(parts + _names([(row[0], *frame.at(row[1][0], row[2][0])) for row in rows]), ylabel)


def _names(places: Sequence[tuple[str, float, float]]) -> list[str]:
    """Names beside their dots at (h, v): above, or below where another's stands there; to the left where
    there is no room to the right."""
    out: list[str] = []
    taken: list[tuple[float, float]] = []
    for name, h, v in places:
        left, y = h > 0.75 * WIDTH, v - 6
        if any(abs(h - other) < 90 and abs(y - line) < 14 for other, line in taken):
            y = v + 15
        taken.append((h, y))
        where = f'x="{h - 7:.1f}" text-anchor="end"' if left else f'x="{h + 7:.1f}"'
        out.append(f'<text class="name" {where} y="{y:.1f}">{escape(name)}</text>')
    return out


def reliability(
    rows: Sequence[tuple[float, float, float, float, int]], xlabel: str, ylabel: str
) -> Markup:
    """Bins (predicted, observed, low, high, n) against the diagonal."""
    if not rows:
        return _empty(ylabel)
    frame = Frame((0.0, 1.0), (0.0, 1.0))
    (h0, v0), (h1, v1) = frame.at(0, 0), frame.at(1, 1)
    parts = frame.axes(xlabel, ylabel)
    parts.append(f'<line class="diagonal" x1="{h0}" y1="{v0}" x2="{h1}" y2="{v1}"/>')
    for predicted, observed, low, high, n in rows:
        h, bottom = frame.at(predicted, low)
        _, top = frame.at(predicted, high)
        title = f"predicted {predicted:.2f}, observed {observed:.2f} [{low:.2f}, {high:.2f}] n={n}"
        parts.append(f'<line x1="{h:.1f}" x2="{h:.1f}" y1="{bottom:.1f}" y2="{top:.1f}" '
                     f'stroke="var(--c0)" stroke-width="1.5"/>')  # fmt: skip
        parts += _dots(
            [(predicted, observed, title)],
            frame.at,
            0,
            3 + 4 * math.sqrt(n / sum(r[4] for r in rows)),
        )
    return _svg(parts, ylabel)


def intervals(
    rows: Sequence[tuple[str, float, float | None, float | None, str]],
    xlabel: str,
    zero: bool = False,
    policies: Sequence[str] = (),
) -> Markup:
    """A dot with its interval per row: (name, value, low, high, tooltip). Each of `policies` has a colour, as
    has its difference from another."""
    rows = [r for r in rows if math.isfinite(r[1])]
    if not rows:
        return _empty(xlabel)
    ends = [v for _, value, low, high, _ in rows for v in (value, low, high) if v is not None]
    height = TOP + BOTTOM + 26 * len(rows)
    span = _range([*ends, 0.0] if zero else ends)
    left = 12 + 7.2 * max(len(r[0]) for r in rows)
    bottom, right = height - BOTTOM, WIDTH - RIGHT

    def at(value: float) -> float:
        return left + (value - span[0]) / (span[1] - span[0]) * (right - left)

    parts = []
    for value in ticks(*span):
        parts.append(
            f'<line class="grid" x1="{at(value):.1f}" x2="{at(value):.1f}" y1="{TOP}" y2="{bottom}"/>'
        )
        parts.append(
            f'<text class="tick" x="{at(value):.1f}" y="{bottom + 16}" text-anchor="middle">{value:g}</text>'
        )
    if zero:
        parts.append(
            f'<line class="diagonal" x1="{at(0):.1f}" x2="{at(0):.1f}" y1="{TOP}" y2="{bottom}"/>'
        )
    for i, (name, value, low, high, title) in enumerate(rows):
        v, of = TOP + 26 * i + 13, name.partition(" - ")[0]
        hue = (list(policies).index(of) if of in policies else i) % 6
        parts.append(
            f'<text class="name" x="{left - 8:.0f}" y="{v + 4}" text-anchor="end">{escape(name)}</text>'
        )
        if low is not None and high is not None:
            parts.append(f'<line x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{v}" y2="{v}" '
                         f'stroke="var(--c{hue})" stroke-width="2.4" stroke-linecap="round"/>')  # fmt: skip
        parts.append(
            f'<circle cx="{at(value):.1f}" cy="{v}" r="4.5" fill="var(--c{hue})">{_title(title)}</circle>'
        )
    middle = (left + right) / 2
    parts.append(
        f'<text class="axis" x="{middle}" y="{height - 8}" text-anchor="middle">{escape(xlabel)}</text>'
    )
    return _svg(parts, xlabel, WIDTH, height)
