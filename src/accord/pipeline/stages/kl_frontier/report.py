"""What the report says of it: gold and learned reward against KL, and the figures beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from accord.core.measure import Measure
from accord.core.rundir import read_json
from accord.core.types import Metric
from accord.pipeline.report import charts
from accord.pipeline.report.words import number, signed
from accord.pipeline.section import Section
from accord.pipeline.stages.kl_frontier import ERROR, KL, POINTS, REWARD, RIGHT, SURE
from accord.pipeline.stages.kl_frontier.headline import over_optimised

__all__ = ["report"]

Figures = dict[str, Metric]
NARROW = "\N{NO-BREAK SPACE}"
INTRO = (
    "What each policy gained for the distance it went, on answers sampled to the same held-out prompts. Best "
    "of n needs no training: it draws n answers and gives the one that the reward model likes best. A policy "
    "worth its KL lies above that line, or further along it. Where the learned reward still rises and "
    "{gold} does not, what is won is the reward model's mistakes (over-optimisation)."
)
FIDELITY = (
    "Right orders, confidence and calibration are of pairs of a policy's own answers to one prompt, one of "
    "them truly better. A reward model that learned raters' votes learned their doubts too: it may well be "
    "right more often than it expects to be; it should not expect more than it gets."
)
CAPTION = (
    "Against {x}, on the scale of its square root (as Gao et al. 2022 draw it). The dashed line is best of n "
    "of {reference}'s answers, whose KL is at most that; bars are 95% intervals."
)


def report(done: Any) -> Section:
    config, facts, line = done.config, done.result.facts, done.result.headline
    kept = read_json(done.folder / POINTS)
    truth = Measure.model_validate(kept["truth"]) if kept["truth"] else None
    points = {name: _figures(kept["policies"][name]) for name in facts["policies"]}
    doubled = sorted(map(int, kept["best_of"]))[1:]
    best = {f"best of {n}": _figures(kept["best_of"][str(n)]) for n in doubled}
    gains = [m for m in (truth, REWARD) if m]
    warned = [n for n, f in points.items() if truth and over_optimised(f, truth)]
    columns = [(m.name, m.title) for m in gains]
    columns += [(f"{m.name} gained", f"{m.title} gained") for m in gains]
    columns += [(KL.name, f"{KL.title}, {KL.unit}")]
    columns += [(m.name, m.title) for m in (RIGHT, SURE, ERROR) if truth]
    return Section(
        came_out=[_warning(name, points[name], gains) for name in warned],
        title="Gain against KL",
        nav="Gain and KL",
        intro=INTRO.format(gold=gains[0].title if truth else "the truth"),
        subtitle=f"{done.name}: {facts['prompts']} prompts, {facts['n']} answers of each policy to each",
        text=[f"{line[:1].upper()}{line[1:]}.", *([FIDELITY] if truth else []), *done.result.notes],
        columns=("", *(title for _, title in columns)),
        rows=[
            [name.replace(" ", NARROW), *(_cell(f.get(key)) for key, _ in columns)]
            for name, f in (points | best).items()
        ],
        body=_pictures(points, best, gains, config["reference"]),
    )


def _figures(row: Mapping[str, Any]) -> Figures:
    return {key: Metric.model_validate(m) for key, m in row.items()}


def _warning(name: str, figures: Figures, gains: Sequence[Measure]) -> dict[str, str]:
    gold, reward = (f"{m.title} {signed(figures[f'{m.name} gained'])}" for m in gains)
    return {"tone": "worse", "text": f"{name} is over-optimised: {reward}, but {gold}."}


def _cell(m: Metric | None) -> str:
    """A value above its interval; n where it isn't the prompts'."""
    if m is None:
        return ""
    if m.value is None:
        return Markup("<small>{}</small>").format(m.note)
    if m.low is None:
        return f"{m.note} {number(m.value)}".replace(" ", NARROW) if m.value else number(m.value)
    pairs = m.measure is not None and m.measure.name in (RIGHT.name, SURE.name, ERROR.name)
    detail = f"[{number(m.low)}, {number(m.high)}]" + (f" n={m.n}" if pairs else "")
    return Markup("{}<small>{}</small>").format(number(m.value), detail)


def _pictures(
    points: Mapping[str, Figures],
    best: Mapping[str, Figures],
    gains: Sequence[Measure],
    reference: str,
) -> str:
    """The truth where it is known, and the learned reward, each against KL."""
    every = [*points.items(), *best.items()]
    line = [0, *range(len(points), len(every))]
    xlabel = f"{KL.title} from {reference}, {KL.unit} per answer"
    caption = CAPTION.format(x=KL.title, reference=reference)
    drawn = []
    for m in gains:
        rows = [
            (name, _range(f[KL.name]), _range(f[m.name]), f"{name}: {m.title} {f[m.name]}")
            for name, f in every
        ]
        chart = charts.crosses(rows, line, xlabel, m.title, root=True)
        figure = Markup("<figure>{}<figcaption><b>{}</b>. {}</figcaption></figure>")
        drawn.append(figure.format(chart, m.title, caption))
    return Markup('<div class="charts">{}</div>').format(Markup("").join(drawn))


def _range(m: Metric) -> charts.Range:
    return float(m.value or 0.0), m.low, m.high
