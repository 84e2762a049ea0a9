"""The report: one self-contained page, made only from what the stages left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from accord.core.rundir import read_json, write_text
from accord.pipeline.report import cards, sections
from accord.pipeline.report.gather import Outputs
from accord.pipeline.report.lineage import trace
from accord.pipeline.report.page import render
from accord.pipeline.report.ship import advice
from accord.pipeline.report.words import asked, came_out

__all__ = ["write_report"]


def write_report(recipe: Any, folder: Path, stages: Mapping[str, Path]) -> Path:
    """Write folder/report.html from the finished `stages` (name -> folder); any subset will do."""
    from accord.pipeline.doctor.base import examined
    from accord.pipeline.doctor.reading import cases_of

    outputs = Outputs.read(stages)
    path = folder / "manifest.json"
    manifest = read_json(path) if path.exists() else {"stages": {}, "parents": {}}
    view = {
        "recipe": recipe,
        "run": folder.name,
        "waiting": [n for n in manifest["stages"] if n not in stages],
        "first": [s.section.first for s in outputs.stages if s.section.first],
        "advice": advice(outputs),
        "asked": asked(outputs, recipe),
        "came_out": came_out(outputs),
        "table": sections.table(outputs),
        "samples": sections.samples(outputs),
        "training": sections.training(outputs),
        "own": sections.own(outputs),
        "rm": sections.reward_model(outputs),
        "length": sections.length(outputs),
        "kl": sections.kl(outputs),
        "doctor": examined(cases_of(outputs, folder)).findings,
        "cards": cards.cards(outputs),
        "lineage": trace(outputs),
        "stages": sections.stage_rows(outputs.stages, manifest["stages"], manifest["parents"]),
        "manifest": manifest,
        "yaml": yaml.safe_dump(recipe.resolved, sort_keys=False, allow_unicode=True, width=100),
    }
    html = render("page.html.j2", **view).replace("\x00", "\N{REPLACEMENT CHARACTER}")
    write_text(folder / "report.html", html, secret=True)
    return folder / "report.html"
