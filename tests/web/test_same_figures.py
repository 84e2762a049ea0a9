"""One fact, one measure: the pages, `accord trust`, the data card and the report show the same figures."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from accord.core.rundir import write_json
from accord.core.types import Answer, Metric, Preference, Rating, Thumb
from accord.feedback.trust.card import data_card
from accord.feedback.trust.report import TrustReport
from accord.pipeline.report import cards
from accord.web.pages.render import figure
from accord.web.site import Site
from accord.web.work import leases, quality
from accord.web.work.studies import load_study
from tests.test_cli import accord
from tests.web.conftest import PAIRS, Clock, Enter, study_of
from tests.web.test_leases import person

ITEMS = [{"prompt": f"p{n}", "responses": [f"r{n}"], "category": "ab"[n % 2]} for n in range(6)]


def judged(site: Site, clock: Clock) -> None:
    """Three raters of comparisons, ratings on two axes and thumbs, some of them asked again."""
    blocks = (
        {"kind": "compare", "items": [{**row, "category": "pairs"} for row in PAIRS]},
        {"kind": "rate", "axes": [{"name": "tone"}, {"name": "fact"}], "items": ITEMS},
        {"kind": "thumb", "items": [{**x, "prompt": f"thumb {x['prompt']}"} for x in ITEMS]},
    )
    study = study_of(*blocks, repeat_rate=0.5, overlap={"min": 3, "max": 3})
    load_study(site, study)
    draw = random.Random(5)
    for name in ("anna", "ben", "cleo"):
        who = person(site, name)
        while (lease := leases.claim(site, study, who, draw)) is not None:
            clock.at += 5
            answer: Answer
            if lease.question.kind == "rate":
                answer = Rating(scores={a: draw.choice([2, 3, 3, 4]) for a in ("tone", "fact")})
            elif lease.question.kind == "thumb":
                answer = Thumb(up=draw.random() < 0.7)
            else:
                better = draw.choice([lease.order.index(0)] * 3 + [lease.order.index(1), None])
                answer = Preference(better=better)
            leases.submit(site, study, who, lease.id, answer, base="")


def test_all_doors_show_the_same_figures(
    site: Site, clock: Clock, enter: Enter, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    judged(site, clock)
    code, out, _ = accord(capsys, "trust", str(tmp_path / "study.db"), "--json")
    assert code == 0
    trust = TrustReport.model_validate_json(out)
    card = data_card(site.store)
    given = quality.answers(site, "tents", repeats=True)
    olga = enter("olga", "owner")
    overview, page = olga.get("/studies/tents").text, olga.get("/studies/tents/raters").text
    pages = {
        row["name"]: row for row in quality.agreement(site, "tents", quality.answers(site, "tents"))
    }
    folder = tmp_path / "stage"
    folder.mkdir()
    write_json(folder / "card.json", card)
    done: Any = SimpleNamespace(folder=folder, name="d", result=SimpleNamespace(notes={}))
    report = json.dumps(cards._card(done), ensure_ascii=False)

    shown = [r for r in trust.agreement if r.within == "all"]
    assert [(r.kind, r.axis) for r in shown] == [
        ("compare", ""), ("rate", "fact"), ("rate", "tone"), ("thumb", ""),
    ]  # fmt: skip
    for row in shown:
        name = f"{row.kind} {row.axis}".strip()
        there = pages[name.replace(" ", " · ")]
        assert (there["percent"], there["alpha"]) == (row.percent, row.alpha)
        assert card["agreement"][f"{name}: percent"] == row.percent
        assert card["agreement"][f"{name}: {row.scale} α"] == row.alpha
        for metric in (row.percent, row.alpha):
            assert figure(metric) in overview
            assert str(metric) in report
    assert len(pages) == 4 + 3 * 2  # and ratings and thumbs by category

    rows = {r["name"]: r for r in quality.rater_rows(site, "tents", given)}
    assert any(row["itself"].n for row in rows.values())
    of_card = {r["name"]: r for r in card["raters"]}
    for r in trust.raters:
        mine, theirs = rows[r.name], of_card[r.name]
        assert (mine["agreement"], mine["left"], mine["itself"]) == (
            r.agreement, r.left, r.consistency,
        )  # fmt: skip
        assert (theirs["agreement"], theirs["left"], theirs["longer"]) == (
            r.agreement, r.left, r.longer,
        )  # fmt: skip
        assert theirs["judgments"] == r.judgments
        for metric in (r.agreement, r.left, r.consistency):
            assert isinstance(metric, Metric)
            assert figure(metric) in page
        assert str(r.agreement) in report
