"""What a run knows of a policy, for the card of its export: method, data and figures."""

from __future__ import annotations

from pathlib import Path

from accord.pipeline.manifest import finished
from accord.pipeline.report.gather import Done, Outputs
from accord.pipeline.report.words import asked

__all__ = ["about_policy"]


def about_policy(run: Path, stage: str) -> dict[str, list[str]]:
    """Sections of a model card: how the stage came about, what it read, what was measured of it."""
    recipe, path, places = finished(run)
    outputs = Outputs.read(places)
    chain = _chain(outputs, stage)
    names = [s.name for s in chain]
    sentences = [line for line in asked(outputs, recipe) if line.split(":")[0] in names]
    read = {r.name: r for s in chain if (r := outputs.read_by(s))}
    data = [f"{name}: {source.result.headline}" for name, source in read.items()]
    figures = [
        f"{s.name}, held out: {name} {metric}"
        for s in chain
        for name, metric in s.result.metrics.items()
    ]
    figures += [
        f"{stage}: {name} {metric}" for name, metric in outputs.table.get(stage, {}).items()
    ]
    for pair, row in outputs.differences.items():
        if stage in pair.split(" - "):
            figures += [
                f"{pair}, paired by prompt: {name} {metric}" for name, metric in row.items()
            ]
    return {
        "Method": [*sentences, f"Run {path.name}, recipe {recipe.name}, seed {recipe.seed}."],
        "Data": data,
        "Figures": [*figures, "Intervals are 95%; n is what they are over."] if figures else [],
    }


def _chain(outputs: Outputs, stage: str) -> list[Done]:
    """The stage and those it started from, the first one first."""
    by_name = {s.name: s for s in outputs.stages}
    chain: list[Done] = []
    while stage in by_name:
        chain.insert(0, by_name[stage])
        stage = str(chain[0].config.get("init"))
    return chain
