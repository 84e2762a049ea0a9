"""Reviewers, owners, exports, the arena: what they see and what they leave behind."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from accord.core.errors import ConfigError, StoreError
from accord.core.types import Preference, Prompt, Response
from accord.feedback.trust.reliability import agreement_rows
from accord.plan.budget import Agreed
from accord.plan.came import came_in
from accord.stats.agreement import krippendorff_alpha
from accord.store import Store, import_file
from accord.web import tables
from accord.web.guard import accounts, audit, tokens
from accord.web.pages.export import study_snapshot, table
from accord.web.site import Site
from accord.web.work import hooks, jobs, quality
from accord.web.work.live import check_policies, top_up
from accord.web.work.studies import load_study
from tests.web.conftest import PAIRS, Browser, Enter, either, loaded, pairs_study, study_of

Q = tables.study_questions


def everybody(site: Site, enter: Enter, wants: dict[str, int], **more: object) -> None:
    """People of these names answer everything; each wants the response of this index."""
    from accord.web.guard.security import accounts
    from accord.web.work.leases import read_lease

    for name, wanted in wants.items():
        browser = enter(name, "annotator")
        browser.get("/studies/tents/annotate")
        while "/done" not in str(browser.last.url):
            who = accounts.session(site, browser.client.cookies["accord"])
            study = site.study("tents")
            assert who
            assert study
            lease = read_lease(site, study, who, browser.lease)
            assert lease
            browser.answer(choice=f"{lease.order.index(wanted)}:1", rationale=f"says {name}")


@either
def test_progress_agreement_and_raters(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study(overlap={"min": 3, "max": 3}))
    everybody(site, enter, {"anna": 0, "ben": 0, "cleo": 1})
    olga = enter("olga", "owner")
    page = olga.get("/studies/tents").text
    assert "<b>18</b>" in page
    given = quality.answers(site, "tents")
    (row,) = quality.agreement(site, "tents", given)
    assert (row["judgments"], row["questions"], row["twice"]) == (18, 6, 6)
    assert row["percent"].value == pytest.approx(1 / 3)  # one pair of three agrees
    # nominal alpha by hand: observed 2/3; which response is the first means nothing, so both are as frequent
    assert row["alpha"].value == pytest.approx(1 - (2 / 3) / (1 - 2 * (9 * 8) / (18 * 17)))
    rows = {r["name"]: r for r in quality.rater_rows(site, "tents", given)}
    assert rows["anna"]["agreement"].value == 0.5
    assert rows["cleo"]["agreement"].value == 0.0
    assert "cleo" in olga.get("/studies/tents/raters").text
    assert "Reliability and biases" not in olga.last.text
    measured = olga.get("/studies/tents/raters?measure=true").text
    assert "Reliability and biases" in measured
    assert measured.count('<th scope="row">cleo</th>') == 2


def test_agreement_of_every_axis_and_its_parts_by_name(site: Site, enter: Enter) -> None:
    items = [{"prompt": f"p{n}", "responses": [f"r{n}"], "category": "ab"[n % 2]} for n in range(6)]
    axes = [{"name": "tone"}, {"name": "fact"}]
    study = study_of({"kind": "rate", "axes": axes, "items": items}, overlap={"min": 2, "max": 2})
    loaded(site, study)
    for name, off in (("anna", 0), ("ben", 1)):  # always a point apart about the tone
        browser = enter(name, "annotator")
        page = browser.get("/studies/tents/annotate")
        while found := re.search(r"<p>p(\d)</p>", page.text):
            tone = int(found[1]) // 2 + 1 + off
            page = browser.answer(**{"group-0": str(tone), "group-1": str(1 + int(found[1]) % 5)})
    rows = {r["name"]: r for r in quality.agreement(site, "tents", quality.answers(site, "tents"))}
    names = ["rate · fact", "rate · fact · a", "rate · fact · b"]
    assert list(rows) == names + [n.replace("fact", "tone") for n in names]
    assert [r["judgments"] for r in rows.values()] == [12, 6, 6] * 2
    assert rows["rate · fact · b"]["percent"].value == 1.0
    tone = rows["rate · tone"]
    assert (tone["percent"].value, tone["scale"]) == (0.0, "ordinal")
    units = [[n // 2 + 1, n // 2 + 2] for n in range(6)]
    by_hand = krippendorff_alpha(units, scale="ordinal").value
    assert tone["alpha"].value == pytest.approx(by_hand)
    assert by_hand > 0.4  # of answers as equal or not it is below 0
    page = enter("olga", "owner").get("/studies/tents").text
    assert "rate · tone · b" in page


@either
def test_a_dispute_is_decided_once_and_stands_for_its_question(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study(overlap={"min": 2, "max": 2}))
    everybody(site, enter, {"anna": 0, "ben": 1})
    adam = enter("adam", "adjudicator")
    page = adam.get("/studies/tents/disputes").text
    ids = re.findall(r"/disputes/([0-9a-f]{24})", page)
    assert len(ids) == 6
    page = adam.get(f"/studies/tents/disputes/{ids[0]}").text
    assert "says anna" in page
    assert "A better" in page
    assert "B better" in page
    assert adam.post(f"/studies/tents/disputes/{ids[0]}", choice="").status_code == 422
    adam.get(f"/studies/tents/disputes/{ids[0]}")
    adam.post(f"/studies/tents/disputes/{ids[0]}", choice="1:1", rationale="B is right")
    adam.get(f"/studies/tents/disputes/{ids[0]}")
    assert "B is right" in adam.last.text
    adam.post(f"/studies/tents/disputes/{ids[0]}", choice="0:1", rationale="no, A")
    row = site.one(sa.select(Q).where(Q.c.id == ids[0]))
    assert row.state == "adjudicated"
    final = site.store.judgment(row.verdict)
    assert (final.rater.name, final.judgment.answer) == ("adam (adjudicator)", Preference(better=0))
    assert final.judgment.supersedes
    snapshot = study_snapshot(site, "tents")
    assert len(snapshot) == 5 * 2 + 1
    assert len(snapshot.pairs(even="drop")) == 1
    actions = [e["action"] for e in audit.newest(site, "tents")]
    assert actions.count("adjudicated") == 2


def test_gold_that_was_decided_stays_behind_and_goes_on_serving(site: Site, enter: Enter) -> None:
    gold = {**PAIRS[0], "prompt": "gold?", "gold": {"better": 0}}
    loaded(site, study_of({"kind": "compare", "items": [*PAIRS, gold]}, gold_rate=0.5))
    id = site.one(sa.select(Q.c.id).where(Q.c.gold.is_not(None))).id
    adam = enter("adam", "adjudicator")
    adam.get(f"/studies/tents/disputes/{id}")
    adam.post(f"/studies/tents/disputes/{id}", choice="1:1")
    row = site.one(sa.select(Q).where(Q.c.id == id))
    assert (row.state, row.verdict) == ("open", site.store.judgments()[0].id)
    assert len(study_snapshot(site, "tents")) == 0
    assert len(study_snapshot(site, "tents", gold=True)) == 1
    assert "gold?" in adam.get("/studies/tents/disputes").text


def test_the_category_comes_along_to_what_is_planned_next(site: Site, enter: Enter) -> None:
    items = [{**row, "category": "rain" if n < 4 else "wind"} for n, row in enumerate(PAIRS)]
    loaded(site, study_of({"kind": "compare", "items": items}, overlap={"min": 2, "max": 2}))
    everybody(site, enter, {"anna": 0, "ben": 0})
    snapshot = site.store.freeze("v1")
    found = came_in(snapshot, "category")
    assert {k: (m.prompts, m.rater) for k, m in found.items()} == {
        "rain": (4, Agreed(right=4, of=4)), "wind": (2, Agreed(right=2, of=2)),
    }  # fmt: skip
    assert {row.within for row in agreement_rows(snapshot)} >= {"category=rain", "category=wind"}


@either
def test_exports_open_and_say_nothing_wrong(
    site: Site, enter: Enter, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(3)  # gold comes
    monkeypatch.setattr(random, "SystemRandom", lambda: draw)
    gold = {**PAIRS[0], "prompt": "gold?", "gold": {"better": 0}}
    loaded(site, study_of({"kind": "compare", "items": [*PAIRS, gold]}, gold_rate=0.5))
    everybody(site, enter, {"=anna": 0})
    olga = enter("olga", "owner")
    page = olga.get("/studies/tents/export").text
    rows = list(csv.DictReader(io.StringIO(olga.get("/studies/tents/export/judgments.csv").text)))
    assert {r["rater"] for r in rows} == {"'=anna"}
    assert {r["order_shown"] for r in rows} <= {"AB", "BA"}
    for file in re.findall(r'href="(/studies/tents/export/[\w.]+)" download', page):
        told = olga.client.get(file)
        kind = file.rpartition("/")[2].partition(".")[0]
        assert told.status_code == (
            422 if kind in ("unpaired", "stepwise", "prompt_completion", "messages") else 200
        )
    for format in ("accord", "preference", "argilla", "label_studio"):
        (tmp_path / f"{format}.jsonl").write_bytes(
            olga.client.get(f"/studies/tents/export/{format}.jsonl").content
        )
        with Store(tmp_path / f"{format}.db") as again:
            assert import_file(again, tmp_path / f"{format}.jsonl").judgments == len(PAIRS)
    assert olga.client.get("/studies/tents/export/x.csv").status_code == 422
    olga.get("/studies/tents/export")
    olga.post("/studies/tents/export/freeze", name="round-1")
    assert site.store.snapshot_names() == ["round-1"]
    with Store(where) as opened:  # neither the gold question nor another study's answers
        frozen = {j.id for j in opened.snapshot("round-1").judgments}
    assert frozen == {j.id for j in study_snapshot(site, "tents").judgments}
    assert len(frozen) == len(PAIRS) < site.store.counts()["judgments"]
    assert (
        olga.client.post(
            "/studies/tents/export/freeze", data={"csrf": olga.csrf, "name": "a b"}
        ).status_code
        == 422
    )


def test_guidelines_are_versioned_and_compared(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study(guidelines="Be kind.\nBe brief.", criteria=[{"name": "truth"}]))
    olga = enter("olga", "owner")
    olga.get("/studies/tents/guidelines")
    kept = {"criterion-0-name": "truth"}
    olga.post("/studies/tents/guidelines", text="Be kind.\nBe right.", **kept)
    assert "<del>Be brief.</del>" in olga.last.text
    assert "<ins>Be right.</ins>" in olga.last.text
    assert "truth" in olga.last.text
    olga.post("/studies/tents/guidelines", text="Be kind.\nBe right.", **kept)
    assert site.guideline("tents").number == 2


def test_criteria_and_examples_are_written_in_the_browser(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study(guidelines="Be kind.", criteria=[{"name": "truth"}]))
    olga = enter("olga", "owner")
    page = olga.get("/studies/tents/guidelines").text
    assert re.search(r'name="criterion-0-name"[^>]* value="truth"', page)
    fields = {
        "text": "Be kind.",
        "criterion-0-place": "2", "criterion-0-name": "helpful", "criterion-0-text": "answers",
        "criterion-1-place": "1", "criterion-1-name": "truthful", "criterion-1-text": "",
        "criterion-2-place": "3", "criterion-2-name": "", "criterion-2-text": "",
        "example-0-prompt": "Wet?", "example-0-responseA": "Yes <b>.", "example-0-responseB": "No.",
        "example-0-verdict": "A.",
    }  # fmt: skip
    olga.post("/studies/tents/guidelines", **fields)
    told = json.loads(site.guideline("tents").document)
    assert [c["name"] for c in told["criteria"]] == ["truthful", "helpful"]
    assert told["examples"] == [
        {"prompt": "Wet?", "responses": ["Yes <b>.", "No."], "verdict": "A."}
    ]
    anna = enter("anna", "annotator")
    assert "truthful" in anna.get("/studies/tents/annotate").text
    olga.get("/studies/tents/guidelines")
    bad = olga.post("/studies/tents/guidelines", **{**fields, "example-0-verdict": ""})
    assert bad.status_code == 422
    assert "examples.0.verdict" in bad.text
    assert "Yes &lt;b&gt;." in bad.text  # nothing lost
    assert site.guideline("tents").number == 2
    assert anna.post("/studies/tents/guidelines", text="mine").status_code == 403


def test_the_quiz_is_written_in_the_browser(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    olga.get("/studies/tents/guidelines")
    fields = {
        "pass_share": "1", "quiz-0-prompt": "Wet?", "quiz-0-first": "Yes.", "quiz-0-second": "No.",
        "quiz-0-answer": "second", "quiz-0-why": "It is dry.",
        "quiz-1-prompt": "", "quiz-1-first": "", "quiz-1-second": "", "quiz-1-answer": "first",
    }  # fmt: skip
    assert "saved" in olga.post("/studies/tents/quiz-questions", **fields).text
    anna = enter("anna", "annotator")
    assert "Before you start" in anna.get("/studies/tents/annotate").text
    assert "It is dry." in anna.post("/studies/tents/quiz", **{"quiz-0": "first"}).text
    assert "Does tent" in anna.post("/studies/tents/quiz", **{"quiz-0": "second"}).text
    olga.get("/studies/tents/guidelines")
    for change in ({"quiz-0-second": ""}, {"pass_share": "2"}, {"quiz-0-answer": "third"}):
        bad = olga.post("/studies/tents/quiz-questions", **{**fields, **change})
        assert bad.status_code == 422
        assert "Wet?" in bad.text
    assert "saved" in olga.post("/studies/tents/quiz-questions", pass_share="0.8").text
    study = site.study("tents")
    assert study
    assert study.quiz is None


@either
def test_settings_are_checked_and_kept(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    olga.get("/studies/tents/settings")
    good = {
        "title": "T", "min": "2", "max": "3", "confidence": "0.8", "dispute_below": "0.5", "gold_rate": "0.1",
        "repeat_rate": "0.05", "lease_minutes": "5",
        "random": "0.8", "disagreement": "0", "information": "0.2",
    }  # fmt: skip
    olga.post("/studies/tents/settings", **good)
    study = site.study("tents")
    assert study
    assert (study.overlap.min, study.assignment.information, study.title) == (2, 0.2, "T")
    for change in (
        {"max": "1"},
        {"random": "0.9"},
        {"random": "0.6", "disagreement": "0.2"},  # nothing gives scores
        {"gold_rate": "2"},
        {"min": "x"},
        {"confidence": ""},
    ):
        olga.get("/studies/tents/settings")
        assert olga.post("/studies/tents/settings", **{**good, **change}).status_code == 422
    assert site.study("tents") == study
    line = json.dumps({"prompt": "new?", "responses": ["a", "b"]})
    assert (
        "1 new questions"
        in olga.post("/studies/tents/questions", block="0", lines=f"{line}\n{line}\n").text
    )
    for bad in ("{", '{"prompt": "x"}', '{"prompt": "x", "responses": ["a", "a"]}', "[]"):
        assert olga.post("/studies/tents/questions", block="0", lines=bad).status_code == 422
    assert olga.post("/studies/tents/questions", block="7", lines=line).status_code == 422


def test_a_manager_adds_people_and_the_password_is_shown_once(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    mia = enter("mia", "manager")
    mia.get("/studies/tents/people")
    page = mia.post("/studies/tents/people", name="new one", role="annotator").text
    password = re.search(r'class="once">new one: ([\w-]+)<', page)
    assert password
    assert (
        Browser(site).sign_in("new one", password[1]).get("/studies/tents/annotate").status_code
        == 200
    )
    assert password[1] not in mia.get("/studies/tents/people").text
    mia.post("/studies/tents/people", name="new one")
    assert "new one" not in mia.get("/studies/tents/people").text


def test_a_forgotten_password_is_replaced_by_a_manager_within_their_reach(
    site: Site, enter: Enter
) -> None:
    loaded(site, pairs_study())
    loaded(site, pairs_study().model_copy(update={"name": "boats"}))
    anna, both = enter("anna", "annotator"), enter("both", "annotator")
    accounts.set_role(site, "boats", "both", "reader", "test")
    enter("root", "annotator", admin=True)
    olga, mia = enter("olga", "owner"), enter("mia", "manager")
    page = mia.get("/studies/tents/people").text
    assert page.count('action="/studies/tents/people/password"') == 1
    once = re.search(
        r'class="once">anna: ([\w-]+)<',
        mia.post("/studies/tents/people/password", name="anna").text,
    )
    assert once
    assert "Sign in" in anna.get("/studies/tents/annotate").text  # every session ended
    assert Browser(site).sign_in("anna", once[1]).get("/studies/tents/annotate").status_code == 200
    for name in ("both", "root", "olga", "mia", "nobody", ""):
        mia.get("/studies/tents/people")
        assert mia.post("/studies/tents/people/password", name=name).status_code == 403, name
    olga.get("/studies/tents/people")
    assert olga.post("/studies/tents/people/password", name="mia").status_code == 200
    both.get("/studies/tents/annotate")
    assert both.post("/studies/tents/people/password", name="anna").status_code == 403
    told = [e for e in audit.newest(site, "tents") if e["action"] == "password changed"]
    assert [(e["actor"], e["detail"]["name"]) for e in told] == [("olga", "mia"), ("mia", "anna")]


def test_an_administrator_makes_a_study_in_the_browser(site: Site, enter: Enter) -> None:
    root = enter("root", admin=True)
    example = re.search(r"<textarea[^>]*>(.*?)</textarea>", root.get("/studies").text, re.DOTALL)
    assert example
    import html

    root.post("/studies", text=html.unescape(example[1]))
    assert str(root.last.url).endswith("/studies/my-study")
    assert site.study("my-study")
    root.get("/studies")
    assert root.post("/studies", text=html.unescape(example[1])).status_code == 422
    assert root.post("/studies", text="nme: x").status_code == 422


@either
def test_the_audit_log_is_a_chain_and_shows_a_change(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    assert "study saved" in olga.get("/studies/tents/audit").text
    n = audit.verify_events(site)
    assert n >= 5
    with pytest.raises(StoreError, match="never changed"):
        site.run(sa.update(tables.events).values(body="{}"))
    with pytest.raises(StoreError, match="never changed"):
        site.run(sa.delete(tables.events))
    with site.db.engine.begin() as connection:
        lite = site.db.dialect == "sqlite"
        off = "DROP TRIGGER events_no_update" if lite else "ALTER TABLE events DISABLE TRIGGER USER"
        connection.exec_driver_sql(off)
        connection.exec_driver_sql(
            "UPDATE events SET body = replace(body, 'actor', 'Actor') WHERE seq = 3"
        )
    with pytest.raises(StoreError, match=r"event \d of the audit log is not what was written"):
        audit.verify_events(site)


# -- policies that answer live ------------------------------------------------------------------------


def scripted(name: str) -> object:
    def answer(prompts: Sequence[Prompt]) -> list[Response]:
        said = [f"{name} heard {len(p.messages)} turns, last: {p.last}" for p in prompts]
        return [Response(text=t, source=f"model:{name}") for t in said]

    return answer


@pytest.fixture
def talking(site: Site) -> Site:
    site.policies = {"alpha": scripted("x1"), "beta": scripted("x2")}  # type: ignore[dict-item]
    return site


@either
def test_live_questions_are_sampled_ahead_and_no_further(talking: Site, tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"question {n}?"}) for n in range(9)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    import random

    live = {
        "kind": "compare",
        "policies": ["alpha", "beta"],
        "prompts": "prompts.jsonl",
        "ahead": 4,
    }
    study = study_of(live)
    load_study(talking, study)
    assert top_up(talking, study, tmp_path, random.Random(1)) == 4
    assert top_up(talking, study, tmp_path, random.Random(1)) == 0
    talking.run(sa.update(Q).values(taken=1))
    assert top_up(talking, study, tmp_path, random.Random(1)) == 4
    talking.run(sa.update(Q).values(taken=1))
    assert top_up(talking, study, tmp_path, random.Random(1)) == 1
    assert top_up(talking, study, tmp_path, random.Random(1)) == 0
    assert {r.source for _, r in talking.store.responses()} == {"model:x1", "model:x2"}
    parrot = scripted("x1")
    talking.policies = {"alpha": parrot, "beta": parrot}  # type: ignore[dict-item]
    again = study_of({**live, "prompts": "more.jsonl"})
    (tmp_path / "more.jsonl").write_text(json.dumps({"prompt": "who says what?"}))
    assert top_up(talking, again, tmp_path, random.Random(1)) == 0
    assert len(talking.fruitless) == 1  # two parrots compare nothing, and are not asked for ever
    talking.policies = {}
    with pytest.raises(ConfigError, match="not being served"):
        check_policies(talking, study)


@either
def test_the_arena_votes_are_judgments_and_the_chat_goes_on_from_the_winner(
    talking: Site, enter: Enter
) -> None:
    loaded(
        talking,
        study_of(arena={"policies": ["alpha", "beta"], "system": "Be brief.", "most_turns": 3}),
    )
    anna = enter("anna", "annotator")
    assert "Two policies" in anna.get("/studies/tents/arena").text
    anna.post("/studies/tents/arena", text="Hello <b>you</b>")
    page = anna.last.text
    assert "alpha" not in page
    assert "heard 2 turns" in page
    assert "Hello &lt;b&gt;you" in page
    anna.post("/studies/tents/arena/vote", choice="1:1")
    anna.post("/studies/tents/arena/vote", choice="0:1")
    first, second = talking.store.judgments()
    assert second.supersedes == first.id
    told = talking.store.judgment(second.id)
    winner = told.responses[0].text
    anna.post("/studies/tents/arena", text="More?")
    turns = json.loads(talking.one(sa.select(tables.talks.c.turns)).turns)
    assert turns[0]["answers"][turns[0]["on"]]["text"] == winner
    assert "heard 4 turns" in anna.last.text
    anna.post("/studies/tents/arena/vote", choice="tie")
    last = talking.store.judgment(talking.store.judgments()[-1].id)
    assert [m.content for m in last.prompt.messages] == [
        "Be brief.",
        "Hello <b>you</b>",
        winner,
        "More?",
    ]
    anna.post("/studies/tents/arena", text="And?")
    assert (
        anna.client.post(
            "/studies/tents/arena", data={"csrf": anna.csrf, "text": "4th"}
        ).status_code
        == 422
    )
    anna.post("/studies/tents/arena/new")
    assert "Two policies" in anna.last.text
    assert anna.post("/studies/tents/arena/vote", choice="tie").status_code == 404
    assert talking.store.verify() == 3


def test_votes_and_decisions_go_where_answers_go(talking: Site, enter: Enter) -> None:
    talking.hooks_allowed = ("hook.example",)
    arena = {"policies": ["alpha", "beta"]}
    loaded(talking, pairs_study(overlap={"min": 2, "max": 2}, arena=arena))
    hooks.add(talking, "tents", "https://hook.example/", "test")
    everybody(talking, enter, {"anna": 0, "ben": 1})
    adam, cleo = enter("adam", "adjudicator"), enter("cleo", "annotator")
    page = adam.get("/studies/tents/disputes").text
    found = re.search(r"/studies/tents/disputes/[\w-]+", page)
    assert found
    adam.get(found[0])
    adam.post(found[0], choice="0:1")
    cleo.get("/studies/tents/arena")
    cleo.post("/studies/tents/arena", text="Hello")
    cleo.post("/studies/tents/arena/vote", choice="1:1")
    cleo.post("/studies/tents/arena/vote", choice="0:1")
    kept = [j.id for j in talking.store.judgments()]
    assert len(kept) == 12 + 1 + 2
    sent = [json.loads(row.body) for row in talking.all(sa.select(tables.deliveries))]
    assert {told["judgment"] for told in sent} == set(kept)
    token = tokens.add(talking, "tents", "test", list(tokens.SCOPES), "test")
    cleo.client.headers["authorization"] = f"Bearer {token}"
    pulled = cleo.get("/api/v1/studies/tents/judgments").json()["judgments"]
    assert [told["id"] for told in pulled] == kept
    assert [told["study_question"] is None for told in pulled] == [False] * 13 + [True] * 2
    assert [told["superseded"] for told in pulled] == [False] * 13 + [True, False]
    assert cleo.get("/api/v1/studies/tents/progress").json()["votes"] == 1
    snapshot = study_snapshot(talking, "tents")
    assert {j.id for j in snapshot.judgments} >= {kept[12], kept[14]}
    assert len(snapshot) == 5 * 2 + 1 + 1
    (vote,) = (row for row in csv.DictReader(io.StringIO(table(talking, "tents").decode()))
               if row["category"] == "arena")  # fmt: skip
    assert (vote["rater"], vote["answer"], vote["judgment"]) == ("cleo", "A better", kept[14])
    olga = enter("olga", "owner")
    assert "<b>1</b><span>votes in the arena" in olga.get("/studies/tents").text
    assert "cleo" in olga.get("/studies/tents/raters").text


def test_a_store_of_before_learns_whose_its_judgments_are(
    talking: Site, enter: Enter, tmp_path: Path
) -> None:
    gold = {**PAIRS[0], "prompt": "gold?", "gold": {"better": 0}}
    block = {"kind": "compare", "items": [*PAIRS, gold]}
    loaded(talking, study_of(block, gold_rate=0.5, arena={"policies": ["alpha", "beta"]}))
    everybody(talking, enter, {"anna": 0})
    anna = Browser(talking).sign_in("anna")
    anna.get("/studies/tents/annotate")
    anna.post("/studies/tents/undo")
    anna.answer(choice="tie")
    anna.get("/studies/tents/arena")
    anna.post("/studies/tents/arena", text="Hello")
    for choice in ("1:1", "0:1"):
        anna.post("/studies/tents/arena/vote", choice=choice)
    id = talking.one(sa.select(Q.c.id).where(Q.c.gold.is_not(None))).id
    for name in ("adam", "ada"):  # the one's decision, then the other's
        judge = enter(name, "adjudicator")
        judge.get(f"/studies/tents/disputes/{id}")
        judge.post(f"/studies/tents/disputes/{id}", choice="0:1")

    def given(site: Site) -> set[tuple[str, str, str | None]]:
        return {tuple(row) for row in site.all(sa.select(tables.study_judgments))}

    known = given(talking)
    assert len(known) == talking.store.counts()["judgments"]
    talking.run(
        sa.text("DROP TABLE study_judgments"),
        sa.text("UPDATE alembic_version SET version_num = '0003'"),
        sa.update(Q).where(Q.c.id == id).values(state="adjudicated"),
    )
    with Store(tmp_path / "study.db") as again:
        assert given(Site(again)) == known
        assert Site(again).one(sa.select(Q.c.state).where(Q.c.id == id)).state == "open"


def test_the_quiz_comes_before_the_arena(talking: Site, enter: Enter) -> None:
    quiz = {"questions": [{"prompt": "Wet?", "responses": ["Yes.", "No."], "answer": "second"}]}
    loaded(talking, study_of(arena={"policies": ["alpha", "beta"]}, quiz=quiz))
    anna = enter("anna", "annotator")
    for told in (
        anna.get("/studies/tents/arena"),
        anna.post("/studies/tents/arena", text="Hello"),
        anna.post("/studies/tents/arena/vote", choice="0:1"),
    ):
        assert str(told.url).endswith("/studies/tents/quiz")
    assert talking.one(sa.select(tables.talks)) is None
    anna.post("/studies/tents/quiz", **{"quiz-0": "second"})
    assert "Two policies" in anna.get("/studies/tents/arena").text


def test_what_goes_wrong_beside_the_server_is_told_and_stops_nothing(
    talking: Site, enter: Enter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "EVERY", 0.01)
    monkeypatch.setattr(jobs, "AFTER_FAULT", 0.01)
    sent: list[str] = []
    monkeypatch.setattr(hooks, "_post", lambda url, body, headers: sent.append(url) or 200)
    good, talking.hooks_allowed = talking.policies, ("hook.example",)

    def broken(prompts: Sequence[Prompt]) -> list[Response]:
        raise RuntimeError("the GPU is gone")

    talking.policies = {"alpha": broken, "beta": broken}
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "live?", "category": "x" * 81}))
    live = {"kind": "compare", "policies": ["alpha", "beta"], "prompts": "prompts.jsonl"}
    study = loaded(
        talking, study_of({"kind": "compare", "items": PAIRS}, live, folder=str(tmp_path))
    )
    hooks.add(talking, "tents", "https://hook.example/", "test")
    anna, olga = enter("anna", "annotator"), enter("olga", "owner")
    with jobs.working(talking, study):
        _soon(lambda: "text of up to 80" in talking.faults.get("live questions", ""))
        (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "live?", "category": "c"}))
        _soon(lambda: "GPU is gone" in talking.faults.get("live questions", ""))
        assert "GPU is gone" in olga.get("/studies/tents/settings").text
        anna.get("/studies/tents/annotate")
        anna.answer(choice="0:1")
        _soon(lambda: sent)
        talking.policies = good
        _soon(lambda: not talking.faults)
    assert "Beside the server" not in olga.get("/studies/tents/settings").text
    assert {r.source for _, r in talking.store.responses()} >= {"model:x1", "model:x2"}
    assert talking.one(sa.select(Q.c.category).where(Q.c.block == 1)).category == "c"


def _soon(there: Callable[[], object]) -> None:
    until = time.monotonic() + 20
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)
