"""The page's sections as plain data, one function each; the template only lays them out."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from accord.core.artifact import Answers
from accord.core.measure import Measure
from accord.core.rundir import read_jsonl
from accord.core.types import Exchange, Message, Metric
from accord.detect.base import DetectorContext, Reply
from accord.detect.reward_length import reward_length
from accord.evals.base import scores_of
from accord.pipeline.report import charts
from accord.pipeline.report.charts import Series
from accord.pipeline.report.gather import Done, Outputs, Row
from accord.pipeline.report.words import number, verdict
from accord.stats.calibration import calibration_error, reliability
from accord.stats.intervals import cluster_mean

__all__ = ["kl", "length", "own", "reward_model", "samples", "stage_rows", "table", "training"]

SHOWN = {"gained": 4, "lost": 4, "others": 6}
MARKS = {"better": "▲", "worse": "▼", "changed": "◆", "unclear": ""}


def _scramble(text: str) -> str:
    """A key that puts rows in a random but fixed order."""
    return hashlib.sha256(text.encode()).hexdigest()


def _cell(m: Metric | None, measure: Measure, change: Metric | None, trusted: bool) -> Row:
    if m is None:
        return {"value": "", "detail": "", "mark": "", "tone": ""}
    tone = verdict(measure, change, trusted) if change else "unclear"
    interval = "" if m.low is None or m.high is None else f"[{number(m.low)}, {number(m.high)}]"
    detail = f"{interval} n={m.n}" if m.value is not None else f"{m.note} n={m.n}"
    return {"value": number(m.value), "detail": detail.strip(), "mark": MARKS[tone], "tone": tone}


def _row(measure: Measure, change: Mapping[str, Mapping[str, Metric]], outputs: Outputs) -> Row:
    """A measure of every policy; the best in bold, where one way is better."""
    by_policy = {
        policy: row.get(measure.name) for policy, row in (outputs.table | outputs.floors).items()
    }
    values = [
        m.value for p, m in by_policy.items() if m and m.value is not None and p in outputs.table
    ]
    best = (max if measure.better == "more" else min)(values, default=None)
    cells = []
    for policy, m in by_policy.items():
        cell = _cell(m, measure, change.get(policy, {}).get(measure.name), outputs.trusted)
        shown = (
            policy in outputs.table
            and m
            and m.value == best
            and measure.better
            and measure.role != "proxy"
        )
        cells.append({**cell, "best": bool(shown and len(set(values)) > 1)})
    return {"title": measure.title, "meaning": measure.meaning, "cells": cells}


def table(outputs: Outputs) -> Row | None:
    """Measures by policies, and the main figure as a picture."""
    if not outputs.table:
        return None
    present = {key for row in outputs.table.values() for key in row}
    columns = [m for m in outputs.measures.values() if m.name in present]
    change = {pair.partition(" - ")[0]: row for pair, row in outputs.differences.items()}
    rows = [_row(c, change, outputs) for c in columns]
    main = outputs.main
    dots = [
        (policy, m.value, m.low, m.high, f"{policy}: {m}")
        for policy, row in outputs.table.items()
        if (m := row.get(main.name)) and m.value is not None
    ]
    steps = [
        (pair, m.value, m.low, m.high, f"{pair}: {m}")
        for pair, row in outputs.differences.items()
        if (m := row.get(main.name)) and m.value is not None
    ]
    name = main.title
    return {
        "policies": [*outputs.table, *outputs.floors],
        "rows": rows,
        "chart": charts.intervals(dots, f"{name}, mean with 95% interval") if dots else "",
        "steps": charts.intervals(
            steps,
            f"difference in {name}, paired by prompt",
            zero=True,
            policies=list(outputs.table),
        )
        if steps
        else "",
    }


def samples(outputs: Outputs) -> list[Row]:
    """Held-out prompts with every policy's answer: where the last policy gained, lost, and others."""
    policies = list(outputs.answers)
    if not policies:
        return []
    by_prompt: dict[str, Row] = {}
    for policy, rows in outputs.answers.items():
        for row in rows:
            entry = by_prompt.setdefault(row["prompt_id"], {"prompt": row["prompt"], "of": {}})
            entry["of"][policy] = row
    complete = [e | {"id": i} for i, e in by_prompt.items() if len(e["of"]) == len(policies)]
    for entry in complete:
        scores = [scores_of(entry["of"][p]).get(outputs.main.name, 0.0) for p in policies]
        entry["gain"] = scores[-1] - scores[0]
    return [_sample(entry, group, policies, outputs) for entry, group in _choose(complete)]


def _choose(entries: list[Row]) -> list[tuple[Row, str]]:
    ordered = sorted(entries, key=lambda e: (-e["gain"], e["id"]))
    gained = [e for e in ordered if e["gain"] > 0][: SHOWN["gained"]]
    lost = [e for e in reversed(ordered) if e["gain"] < 0][: SHOWN["lost"]]
    taken = {e["id"] for e in gained + lost}
    others = sorted((e for e in entries if e["id"] not in taken), key=lambda e: _scramble(e["id"]))
    parts = {"gained": gained, "lost": lost, "others": others[: SHOWN["others"]]}
    return [(e, group) for group, chosen in parts.items() for e in chosen]


def _sample(entry: Row, group: str, policies: Sequence[str], outputs: Outputs) -> Row:
    turns = [{**m, "content": Message(**m).shown} for m in entry["prompt"]["messages"]]
    return {
        "group": group,
        "id": entry["id"],
        "prompt": turns[-1]["content"],
        "before": [t for t in turns[:-1] if t["role"] != "system"],
        "system": next((t["content"] for t in turns if t["role"] == "system"), ""),
        "case": entry["of"][policies[0]].get("case", ""),
        "answers": [_answer(p, entry["of"][p], outputs) for p in policies],
    }


def _answer(policy: str, row: Row, outputs: Outputs) -> Row:
    parts, scores = [f"{row['words']} words"], scores_of(row)
    proxy, truth = outputs.of_role("proxy"), outputs.of_role("truth")
    if proxy and proxy.name in scores:
        parts.append(f"{proxy.name} {number(scores[proxy.name])}")
    known = truth and truth.name in scores
    beside = next(
        (v for v in row.values() if truth and isinstance(v, dict) and truth.name in v), {}
    )
    failed = [
        outputs.measures[k].title
        for k, v in beside.items()
        if truth and k in outputs.measures and k != truth.name and v < 1.0
    ]
    return {
        "policy": policy,
        "text": row["response"]["text"],
        "cut": row["response"]["finish"] == "length",
        "score": f"{truth.title} {number(scores[truth.name])}" if truth and known else "",
        "failed": failed,
        "facts": ", ".join(parts),
    }


def training(outputs: Outputs) -> list[Row]:
    """Curves of every training stage, each with how to read it."""
    stages = []
    for stage in outputs.stages:
        if stage.section.curves is None:
            continue
        rows = stage.metrics_rows
        present = {key for row in rows for key in row}
        drawn = []
        for keys, name, sentence in stage.section.curves:
            drawn_keys = [k for k in keys if k in present]
            if not drawn_keys:
                continue
            series = [s for k in drawn_keys for s in _curve(rows, k)]
            drawn.append(
                {"name": name, "sentence": sentence, "svg": charts.lines(series, "step", name)}
            )
        stages.append({
            "name": stage.name, "kind": stage.kind, "headline": stage.result.headline, "charts": drawn,
            "steps": len(rows), "notes": stage.result.notes, "facts": _plain(stage.result.facts),
        })  # fmt: skip
    return stages


def _curve(rows: Sequence[Row], key: str) -> list[Series]:
    points = [
        (float(r["step"]), float(r[key])) for r in rows if isinstance(r.get(key), int | float)
    ]
    name = key.replace("eval/", "held-out ").replace("_", " ")
    window = max(1, len(points) // 10)
    if window < 3 or key in {"lr"}:
        return [Series(name, points)]
    half = window // 2
    mean = [
        (x, sum(y for _, y in part) / len(part))
        for i, (x, _) in enumerate(points)
        if (part := points[max(0, i - half) : i + half + 1])
    ]
    return [Series(f"{name}, mean of {2 * half + 1} batches", mean)]


def _plain(facts: Row) -> list[tuple[str, str]]:
    """Facts worth a line: nested counts flattened, empty ones left out."""
    out = []
    for key, value in facts.items():
        if isinstance(value, dict):
            out += [(k, str(v)) for k, v in value.items() if v]
        elif value not in (None, "", 0):
            out.append((key, str(value)))
    return out


def reward_model(outputs: Outputs) -> Row | None:
    """Accuracy by agreement, and calibration."""
    stage = outputs.reward
    if stage is None:
        return None
    rows = read_jsonl(stage.folder / "held_out.jsonl")
    judged = [r for r in rows if r["sources"]]
    predicted, happened, prompts = _oriented(judged)
    bins = reliability(predicted, happened)
    drawn = [
        (
            b.predicted,
            b.observed.value or 0.0,
            b.observed.low or 0.0,
            b.observed.high or 1.0,
            b.observed.n,
        )
        for b in bins
    ]
    return {
        "name": stage.name,
        "metrics": [(k, str(m)) for k, m in stage.result.metrics.items()],
        "by_agreement": _by_agreement(judged),
        "calibration": charts.reliability(
            drawn, "predicted P(better wins)", "raters' share of votes"
        ),
        "ece": str(calibration_error(predicted, happened, prompts)),
    }


def own(outputs: Outputs) -> dict[str, list[Done]]:
    """The parts of the page that kinds of stage make themselves, by title: one heading for several stages."""
    by_title: dict[str, list[Done]] = defaultdict(list)
    for stage in outputs.stages:
        if stage.section.title:
            by_title[stage.section.title].append(stage)
    return dict(by_title)


def _oriented(rows: Sequence[Row]) -> tuple[list[float], list[float], list[str]]:
    """Prediction and label of each pair, the first side chosen by the texts alone: were it always the
    raters' favourite, every label would be above one half and calibration would mean nothing."""
    predicted, happened = [], []
    for r in rows:
        p, label = 1 / (1 + math.exp(-max(-60.0, min(60.0, r["gap"])))), r["p"]
        straight = _scramble(r["better"]) < _scramble(r["worse"])
        predicted.append(p if straight else 1 - p)
        happened.append(label if straight else 1 - label)
    return predicted, happened, [r["prompt"] for r in rows]


def _by_agreement(rows: Sequence[Row]) -> list[Row]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for r in rows:
        a = r["agreement"]
        groups["judged once" if a is None else f"{a:.0%} of votes agree"].append(r)
    order = sorted(groups, key=lambda k: (k == "judged once", -_first_number(k)))
    return [
        {
            "name": name,
            "raters": str(_accuracy(groups[name], lambda r: 1.0)),
            "truth": str(
                _accuracy([r for r in groups[name] if r.get("truth")], lambda r: r["truth"])
            ),
            "known": any("truth" in r for r in groups[name]),
        }
        for name in order
    ]


def _first_number(text: str) -> int:
    head = text.partition("%")[0]
    return int(head) if head.isdigit() else 0


def _accuracy(rows: Sequence[Row], sign: Any) -> Metric:
    hits = [0.5 if r["gap"] == 0 else float(r["gap"] * sign(r) > 0) for r in rows]
    return cluster_mean(hits, [r["prompt"] for r in rows])


def length(outputs: Outputs) -> Row | None:
    """Reward against words: a reward that can be had by writing more will be."""
    proxy = outputs.of_role("proxy")
    if proxy is None:
        return None
    name = proxy.name
    by_policy = {p: [r for r in rows if name in r] for p, rows in outputs.answers.items()}
    if not any(by_policy.values()):
        return None
    series = [
        Series(
            p,
            [(float(r["words"]), float(r[name])) for r in rows],
            [f"{p}: {_clip(r)}" for r in rows],
        )
        for p, rows in by_policy.items()
    ]
    look = reward_length(DetectorContext(proxy=name))
    rows = [
        (p, str(look([_answered(r) for r in rows], []).metrics["correlation"]))
        for p, rows in by_policy.items()
    ]
    return {"chart": charts.scatter(series, "words", proxy.title), "rows": rows}


def _answered(row: Row) -> Reply:
    parts = {k: row[k] for k in ("prompt", "response")}
    return Reply(Exchange.model_validate(parts), scores_of(row))


def _clip(row: Row) -> str:
    text = " ".join(row["response"]["text"].split())
    return text[:90] + ("…" if len(text) > 90 else "")


def kl(outputs: Outputs) -> Row | None:
    """How far each policy has moved."""
    distance = outputs.of_role("distance")
    rows = [
        (policy, m.value, m.low, m.high, f"{policy}: {m}")
        for policy, row in outputs.table.items()
        if distance and policy != outputs.baseline
        if (m := row.get(distance.name)) and m.value is not None
    ]
    if not rows:
        return None
    greedy = all(s.config.get("temperature") == 0 for s in outputs.giving(Answers))
    return {
        "chart": charts.intervals(
            rows,
            "log π(y|x) − log π_ref(y|x), nats per answer",
            zero=True,
            policies=list(outputs.table),
        ),
        "baseline": outputs.baseline,
        "greedy": greedy,
        "rows": [r[4] for r in rows],
    }


def stage_rows(
    stages: Sequence[Done], keys: dict[str, str], parents: dict[str, list[str]]
) -> list[Row]:
    """What ran: kind, parents, key, seconds."""
    return [
        {
            "name": s.name,
            "kind": s.kind,
            "reads": ", ".join(parents.get(s.name, [])),
            "key": keys.get(s.name, s.folder.name),
            "seconds": "" if s.seconds is None else f"{s.seconds:.0f} s",
            "headline": s.result.headline,
        }
        for s in stages
    ]
