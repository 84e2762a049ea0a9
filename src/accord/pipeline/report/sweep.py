"""The report's section on a sweep: all points in one table, and accuracy against distance in one plot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Metric
from accord.pipeline.report import charts
from accord.pipeline.report.charts import Series
from accord.pipeline.report.gather import Done, Row
from accord.pipeline.report.page import render
from accord.pipeline.report.training import CURVES, implicit, loss_of
from accord.pipeline.report.words import number
from accord.pipeline.section import Section
from accord.pipeline.stage import kind_of

__all__ = ["section"]

CHOSEN = ("chosen by", "accuracy on the part of the held-out comparisons that the point is chosen by; all "
          "other figures are of the other part, by which nothing is chosen")  # fmt: skip


def section(stage: Done) -> Section:
    """What was swept, what a point is chosen by beside what it reaches on other comparisons."""
    c = stage.config
    over = "; ".join(f"{key} in {', '.join(map(_plain, v))}" for key, v in c["over"].items())
    points = stage.result.facts["points"]
    body = render("sweep.html.j2", s=_sweep(stage))
    return Section(
        asked=f"{stage.name}: a sweep of {points} points from {c['init']} over {over}.",
        came_out=implicit(stage),
        title=f"Sweep: {stage.name}",
        nav="Sweep",
        body=body,
    )


def _plain(value: Any) -> str:
    return loss_of(value) if isinstance(value, Mapping) and "name" in value else str(value)


def _sweep(stage: Done) -> Row:
    points = read_json(stage.folder / "sweep.json")
    measured = [{k: Metric.model_validate(m) for k, m in p["metrics"].items()} for p in points]
    known = kind_of(stage.kind).declared().values()
    present = [m for m in known if any(m.name in point for point in measured)]
    apart = any(p.get("apart") for p in points)
    rows = [
        {
            "label": p["label"],
            "picked": p["picked"],
            "failed": p["failed"],
            "cells": [
                *([_cell(_chosen(p))] if apart else []),
                *(_cell(m.get(k.name)) for k in present),
            ],
        }
        for p, m in zip(points, measured, strict=True)
    ]
    placed = [
        Series(p["label"], [(kl.value, right.value)], [f"{p['label']}: {right}"])
        for p, m in zip(points, measured, strict=True)
        if (kl := m.get("kl")) and (right := m.get("accuracy"))
        if kl.value is not None and right.value is not None
    ]
    logs = {
        p["label"]: read_jsonl(stage.folder / "points" / p["folder"] / "metrics.jsonl")
        for p in points
        if (stage.folder / "points" / p["folder"] / "metrics.jsonl").exists()
    }
    return {
        "name": stage.name,
        "headline": stage.result.headline,
        "columns": [*([CHOSEN] if apart else []), *((m.title, m.meaning) for m in present)],
        "rows": rows,
        "plot": charts.scatter(placed, "kl (k3, per token)", "held-out accuracy") if placed else "",
        "curves": [
            ((key.replace("eval/", "held-out ").replace("_", " "), how), _curves(logs, key))
            for keys, _, how in CURVES
            for key in keys
            if any(key in row for rows in logs.values() for row in rows)
        ],
    }


def _chosen(point: Row) -> Metric | None:
    """Accuracy on the part of the held-out comparisons that points are chosen by."""
    accuracy = point["chosen_by"].get("accuracy")
    return None if accuracy is None else Metric.model_validate(accuracy)


def _cell(m: Metric | None) -> Row:
    if m is None or m.value is None:
        return {"value": "", "detail": "" if m is None else m.note}
    interval = "" if m.low is None else f"[{number(m.low)}, {number(m.high)}] "
    return {"value": number(m.value), "detail": f"{interval}n={m.n}"}


def _curves(logs: dict[str, list[Row]], key: str) -> str:
    series = [
        Series(label, [(float(r["step"]), float(r[key])) for r in rows if key in r])
        for label, rows in logs.items()
    ]
    return charts.lines(series, "step", key.replace("_", " "))
