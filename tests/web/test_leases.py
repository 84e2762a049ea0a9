"""Leases: nothing lost, nothing doubled, whoever comes when."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from accord.core.errors import ConfigError, DataError
from accord.core.types import Exchange, Preference, Response, Thumb
from accord.feedback.study import assignment
from accord.feedback.study.definition import Item, Study
from accord.web import tables
from accord.web.guard.accounts import Who
from accord.web.pages.export import study_snapshot
from accord.web.site import PairScorer, Site
from accord.web.work import leases, quality
from accord.web.work.live import top_up
from accord.web.work.queue import APART, _open_to, left_for, tell_gains
from accord.web.work.studies import add_guideline, add_items, load_study
from tests.web.conftest import PAIRS, Clock, either, pairs_study, study_of

THUMB = {"prompt": "Does tent 8 leak?", "responses": ["In rain."]}
FIRST, SECOND = Preference(better=0), Preference(better=1)
Q, L = tables.study_questions, tables.leases
pytestmark = either


def person(site: Site, name: str) -> Who:
    """An account without a way to sign in: what leases need."""
    row = {"id": name, "name": name, "password": "", "admin": False, "disabled": False, "at": 0.0}
    site.run(sa.insert(tables.accounts).values(**row))
    return Who(name, name, False, "", "")


def start(site: Site, **more: object) -> Study:
    study = pairs_study(**more)
    load_study(site, study)
    return study


def question(site: Site, id: str) -> object:
    return site.one(sa.select(Q).where(Q.c.id == id))


def test_one_seat_is_one_rater_s(site: Site) -> None:
    study = start(site)
    anna, ben = person(site, "anna"), person(site, "ben")
    a, b = leases.claim(site, study, anna), leases.claim(site, study, ben)
    assert a is not None
    assert b is not None
    assert a.study_question != b.study_question
    again = leases.claim(site, study, anna)
    assert again is not None
    assert again.id == a.id


def test_a_lease_that_ran_out_goes_back_and_its_order_stays(site: Site, clock: Clock) -> None:
    study = start(site, lease_minutes=1.0)
    site.run(
        sa.delete(Q).where(Q.c.shuffle > sa.select(sa.func.min(Q.c.shuffle)).scalar_subquery())
    )
    anna, ben = person(site, "anna"), person(site, "ben")
    lease = leases.claim(site, study, anna)
    assert lease is not None
    assert leases.claim(site, study, ben) is None
    clock.at += 61
    got = leases.claim(site, study, ben)
    assert got is not None
    assert got.study_question == lease.study_question
    with pytest.raises(leases.Lost):
        leases.submit(site, study, anna, lease.id, FIRST, base="")
    leases.skip(site, study, ben, got.id, "no idea")
    back = leases.claim(site, study, anna)
    assert back is not None
    assert back.order == lease.order
    assert site.store.counts()["judgments"] == 0


def test_who_comes_late_but_first_is_counted(site: Site, clock: Clock) -> None:
    study = start(site, lease_minutes=1.0)
    anna = person(site, "anna")
    lease = leases.claim(site, study, anna)
    assert lease is not None
    clock.at += 3600
    leases.expire(site, study.name)
    assert leases.submit(site, study, anna, lease.id, FIRST, base="") is not None
    row = question(site, lease.study_question)
    assert (row.taken, row.answered) == (1, 1)  # type: ignore[attr-defined]


def test_a_draft_holds_the_lease(site: Site, clock: Clock) -> None:
    study = start(site, lease_minutes=1.0)
    anna = person(site, "anna")
    lease = leases.claim(site, study, anna)
    assert lease is not None
    for _ in range(5):
        clock.at += 50
        assert leases.save_draft(site, study, anna, lease.id, {"choice": "tie"})
    again = leases.claim(site, study, anna)
    assert again is not None
    assert (again.id, again.draft) == (lease.id, {"choice": "tie"})


def test_a_form_sent_twice_is_one_judgment_and_undo_supersedes(site: Site, clock: Clock) -> None:
    study = start(site)
    anna = person(site, "anna")
    lease = leases.claim(site, study, anna)
    assert lease is not None
    first = leases.submit(site, study, anna, lease.id, FIRST, base="")
    assert first is not None
    clock.at += 1
    assert leases.submit(site, study, anna, lease.id, SECOND, base="") is None
    assert leases.last_submitted(site, study, anna) == lease.id
    second = leases.submit(site, study, anna, lease.id, SECOND, base=first.id)
    assert second is not None
    assert second.supersedes == first.id
    assert len(site.store.freeze("v1")) == 1
    row = question(site, lease.study_question)
    assert sum(json.loads(row.tally)[""].values()) == row.answered == 1  # type: ignore[attr-defined]


def test_nobody_submits_another_s_lease(site: Site) -> None:
    study = start(site)
    anna, ben = person(site, "anna"), person(site, "ben")
    lease = leases.claim(site, study, anna)
    assert lease is not None
    with pytest.raises(leases.Lost):
        leases.submit(site, study, ben, lease.id, FIRST, base="")
    assert leases.read_lease(site, study, ben, lease.id) is None
    assert not leases.save_draft(site, study, ben, lease.id, {})


def test_a_skip_needs_a_reason_and_frees_the_seat(site: Site) -> None:
    study = start(site)
    anna = person(site, "anna")
    lease = leases.claim(site, study, anna)
    assert lease is not None
    with pytest.raises(DataError, match="say why"):
        leases.skip(site, study, anna, lease.id, " ")
    leases.skip(site, study, anna, lease.id, "not my language")
    assert question(site, lease.study_question).taken == 0  # type: ignore[attr-defined]
    seen = set()
    while (found := leases.claim(site, study, anna)) is not None:
        seen.add(found.study_question)
        leases.submit(site, study, anna, found.id, FIRST, base="")
    assert len(seen) == len(PAIRS) - 1
    assert lease.study_question not in seen


def test_a_skip_after_the_lease_ran_out_hurts_nobody(site: Site, clock: Clock) -> None:
    study = start(site, lease_minutes=1.0)
    anna, ben = person(site, "anna"), person(site, "ben")
    lease = leases.claim(site, study, anna)
    assert lease is not None
    clock.at += 3600
    leases.expire(site, study.name)
    site.run(sa.update(Q).where(Q.c.id != lease.study_question).values(state="settled"))
    got = leases.claim(site, study, ben)
    assert got is not None
    assert not leases.skip(site, study, ben, lease.id, "not mine")
    assert leases.skip(site, study, anna, lease.id, "no idea")
    assert leases.skip(site, study, anna, lease.id, "sent twice")
    row = site.one(sa.select(L).where(L.c.id == lease.id))
    assert (row.state, row.reason) == ("skipped", "no idea")
    assert question(site, lease.study_question).taken == 1  # type: ignore[attr-defined]  # ben's
    assert leases.submit(site, study, ben, got.id, FIRST, base="") is not None
    site.run(sa.update(Q).values(state="open", wanted=9))
    seen = set()
    while (found := leases.claim(site, study, anna)) is not None:
        seen.add(found.study_question)
        leases.submit(site, study, anna, found.id, FIRST, base="")
    assert lease.study_question not in seen
    assert not leases.skip(
        site, study, anna, leases.last_submitted(site, study, anna) or "", "late"
    )


def test_more_raters_where_they_disagree(site: Site) -> None:
    """min 2, max 4: the same answer twice settles at 0.85, a split asks on and ends with an adjudicator."""
    study = start(site, overlap={"min": 2, "max": 4, "confidence": 0.85})
    people = [person(site, f"p{n}") for n in range(6)]
    for n, who in enumerate(people):
        while (lease := leases.claim(site, study, who)) is not None:
            agreed = int(lease.study_question, 16) % 2 == 0
            wanted = 0 if agreed else n % 2  # which response, whatever its side
            leases.submit(
                site, study, who, lease.id, Preference(better=lease.order.index(wanted)), base=""
            )
    for row in site.all(sa.select(Q)):
        agreed = int(row.id, 16) % 2 == 0
        votes = json.loads(row.tally)[""]
        if agreed:
            assert (row.state, row.answered) == ("settled", 2)
        else:
            assert row.answered in (2, 4)
            assert row.state == (
                "disputed" if set(votes.values()) == {2} and row.answered == 4 else "settled"
            )


def test_both_orders_are_shown_as_often_and_recorded(site: Site) -> None:
    study = start(site, overlap={"min": 4, "max": 4, "confidence": 0.99})
    for n in range(4):
        who = person(site, f"p{n}")
        while (lease := leases.claim(site, study, who)) is not None:
            leases.submit(site, study, who, lease.id, FIRST, base="")
    shown = Counter((r.question, r.shown) for r in site.all(sa.select(L)))
    assert set(shown.values()) == {2}
    asked = Counter((q.prompt, q.responses) for q in site.store.questions())
    assert len(asked) == 2 * len(PAIRS)  # each order is a Question of its own


def test_gold_comes_at_its_rate_and_never_alone(site: Site) -> None:
    gold = [
        {**row, "prompt": f"gold {n}", "gold": {"better": 0}} for n, row in enumerate(PAIRS * 4)
    ]
    many = [{**row, "prompt": f"plain {n}"} for n, row in enumerate(PAIRS * 20)]
    study = study_of({"kind": "compare", "items": [*gold, *many]}, gold_rate=0.2)
    load_study(site, study)
    anna, draw = person(site, "anna"), random.Random(3)
    arms: Counter[str] = Counter()
    while (lease := leases.claim(site, study, anna, draw)) is not None:
        leases.submit(site, study, anna, lease.id, Preference(better=lease.order.index(0)), base="")
        row = site.one(sa.select(L).where(L.c.id == lease.id))
        arms[row.arm] += 1
        assert row.right is (True if row.arm == "gold" else None)
    assert arms["random"] == 120
    assert quality.progress(site, "tents")["judgments"] == 120 == len(many)
    assert 12 <= arms["gold"] <= 24  # 24 there are; about 0.2 of every draw


def test_reward_models_that_disagree_come_first(site: Site) -> None:
    rows = [{**row, "scores": [[n / 2], [0.0]]} for n, row in enumerate(PAIRS)]
    study = study_of(
        {"kind": "compare", "items": rows}, assignment={"random": 0.05, "disagreement": 0.95}
    )
    load_study(site, study)
    lease = leases.claim(site, study, person(site, "anna"), random.Random(5))
    assert lease is not None
    assert lease.prompt.last == "Does tent 0 leak?"


def test_the_study_s_reward_models_score_what_comes_without_scores(
    site: Site, tmp_path: Path
) -> None:
    """Two that disagree the more, the higher a tent's number."""
    heard: list[int] = []

    def model(sign: int) -> PairScorer:
        def score(exchanges: Sequence[Exchange]) -> list[float]:
            heard.append(len(exchanges))
            return [
                sign * float(e.prompt.last.split()[2]) * (e.response.text[0] == "I")
                for e in exchanges
            ]

        return score

    site.scorers = {"a": model(1), "b": model(-1)}
    (tmp_path / "p.jsonl").write_text(json.dumps({"prompt": "Does tent 3 leak?"}))
    site.policies = {
        n: lambda prompts, n=n: [Response(text=n) for _ in prompts] for n in ("I", "N")
    }
    live = {"kind": "compare", "policies": ["I", "N"], "prompts": "p.jsonl"}
    study = study_of(
        {"kind": "compare", "items": PAIRS}, live, {"kind": "thumb", "items": [THUMB]},
        assignment={"random": 0.05, "disagreement": 0.95}, scorers=["a", "b"],
    )  # fmt: skip
    for _ in range(2):
        load_study(site, study)
    assert heard == [12, 12]  # once
    lease = leases.claim(site, study, person(site, "anna"), random.Random(5))
    assert lease is not None
    assert lease.prompt.last == "Does tent 5 leak?"
    assert top_up(site, study, tmp_path, random.Random(1)) == 1
    sampled = site.one(sa.select(Q.c.priority).where(Q.c.block == 1))
    by_hand = assignment.disagreement([[3.0, -3.0], [0.0, 0.0]])
    assert sampled.priority == pytest.approx(by_hand)
    site.scorers = {}
    item = Item(prompt="Does tent 7 leak?", responses=["In rain.", "No."])
    with pytest.raises(ConfigError, match="reward model 'a' is not loaded"):
        add_items(site, study, 0, [("items.0", item)], "api")


def test_an_arm_that_nothing_gives_scores_is_refused(site: Site) -> None:
    arm = {"random": 0.5, "disagreement": 0.5}
    live = {"kind": "compare", "policies": ["x", "y"], "prompts": "p.jsonl"}
    for study in (pairs_study(assignment=arm), study_of(live, assignment=arm)):
        with pytest.raises(ConfigError, match=r"no question has scores.*scorers"):
            load_study(site, study)
        assert site.study("tents") is None
    load_study(site, study_of({"kind": "compare"}, assignment=arm))  # what is pushed may have some


def test_the_comparison_that_tells_most_comes_first_whatever_else_there_is(site: Site) -> None:
    """Of 200 prompts one has three responses: where a > b is known well, a and c tell most."""
    rows = [{**PAIRS[0], "prompt": f"plain {n}"} for n in range(200)]
    answers = [{"text": f"answer {k}"} for k in range(3)]
    rows += [
        {"prompt": "three", "responses": [answers[a], answers[b]]}
        for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    study = study_of(
        {"kind": "compare", "items": rows}, assignment={"random": 0.05, "information": 0.95},
        overlap={"min": 9, "max": 9},
    )  # fmt: skip
    load_study(site, study)
    every = site.all(sa.select(Q))
    assert {row.gain for row in every} == {assignment.UNTOLD}
    for row in every:  # all are told something but one, which nobody chose
        if row.prompt != every[0].prompt:
            tally = '{"":{"first":4,"second":4}}'
            site.run(sa.update(Q).where(Q.c.id == row.id).values(tally=tally))
    with site.db.writing() as connection:
        for prompt in {row.prompt for row in every}:
            tell_gains(connection, study.name, prompt)
    lease = leases.claim(site, study, person(site, "anna"), random.Random(5))
    assert lease is not None
    assert lease.question.prompt == every[0].prompt
    leases.submit(site, study, Who("anna", "anna", False, "", ""), lease.id, FIRST, base="")
    assert question(site, lease.study_question).gain < assignment.UNTOLD  # type: ignore[attr-defined]


def test_a_rater_meets_some_questions_again_and_nothing_but_the_rater_is_measured(
    site: Site, clock: Clock
) -> None:
    rows = [{**row, "prompt": f"{row['prompt']} {n}"} for n, row in enumerate(PAIRS * 10)]
    thumbs = [{"prompt": f"thumb {n}", "responses": ["yes"]} for n in range(20)]
    blocks = ({"kind": "compare", "items": rows}, {"kind": "thumb", "items": thumbs})
    study = study_of(*blocks, repeat_rate=0.3)
    load_study(site, study)
    anna, draw, arms = person(site, "anna"), random.Random(3), []
    while (lease := leases.claim(site, study, anna, draw)) is not None:
        clock.at += 5
        row = site.one(sa.select(L).where(L.c.id == lease.id))
        arms.append(row.arm)
        again = row.arm == "repeat"
        if again:  # the other way round, some time after
            first = site.one(sa.select(L).where(L.c.question == row.question, L.c.arm != "repeat"))
            assert len(lease.order) == 1 or list(lease.order) == json.loads(first.shown)[::-1]
            assert row.at - first.ended_at >= 5 * APART
        if lease.question.kind == "thumb":
            answer: Any = Thumb(up=not again)
        else:
            answer = Preference(better=lease.order.index(0))
        leases.submit(site, study, anna, lease.id, answer, base="")
        assert question(site, lease.study_question).taken == 1  # type: ignore[attr-defined]
    many = arms.count("repeat")
    assert arms.count("random") == 80
    assert 10 <= many <= 50
    assert arms[-1] != "repeat"  # never alone
    assert all(r.answered == 1 for r in site.all(sa.select(Q)))
    assert quality.progress(site, "tents")["judgments"] == 80
    assert len(quality.answers(site, "tents")) == 80
    assert len(study_snapshot(site, "tents")) == 80 + many  # pooled, it has 80 says (below)
    given = quality.answers(site, "tents", repeats=True)
    assert len(given) == 80 + many
    turned = sum(g.repeat and g.kind == "thumb" for g in given)
    assert turned
    pooled = study_snapshot(
        site, "tents"
    ).labelled()  # the last answer counts, here as on the pages
    assert len(pooled) == 20
    assert sum(not x.desirable for x in pooled) == turned
    last = [g for g in quality.answers(site, "tents") if g.kind == "thumb"]
    assert sum(g.judgment.answer == Thumb(up=False) for g in last) == turned
    (rater,) = quality.rater_rows(site, "tents", given)
    assert rater["judgments"] == 80
    assert rater["itself"].n == many
    assert rater["itself"].value == pytest.approx(1 - turned / many)
    (report,) = quality.reports(site, "tents", given)
    assert report.consistency.n == many
    assert report.consistency.value == pytest.approx(1 - turned / many)


def test_a_repeat_can_be_skipped_lost_and_taken_again(site: Site, clock: Clock) -> None:
    rows = [{**row, "prompt": f"{row['prompt']} {n}"} for n, row in enumerate(PAIRS * 6)]
    study = study_of({"kind": "compare", "items": rows}, repeat_rate=0.5, lease_minutes=1.0)
    load_study(site, study)
    anna, draw, did = person(site, "anna"), random.Random(1), Counter[str]()
    while (lease := leases.claim(site, study, anna, draw)) is not None:
        row = site.one(sa.select(L).where(L.c.id == lease.id))
        clock.at += 5
        if row.arm != "repeat" or did["submitted"]:
            leases.submit(site, study, anna, lease.id, FIRST, base="")
        elif not did["skipped"]:
            leases.skip(site, study, anna, lease.id, "seen it")
            did["skipped"] += 1
        else:
            clock.at += 3600
            leases.expire(site, study.name)
            assert leases.submit(site, study, anna, lease.id, FIRST, base="") is not None
            did["submitted"] += 1
    assert set(did) == {"skipped", "submitted"}
    assert all(r.taken == r.answered == 1 for r in site.all(sa.select(Q)))


def test_a_question_names_the_guidelines_it_was_shown_under(site: Site) -> None:
    study = start(site, guidelines="Be kind.")
    anna = person(site, "anna")
    one = leases.claim(site, study, anna)
    assert one is not None
    add_guideline(site, "tents", {**study.guideline_document(), "text": "Be brief."}, "owner")
    leases.submit(site, study, anna, one.id, FIRST, base="")
    two = leases.claim(site, study, anna)
    assert two is not None
    assert (one.question.guideline, two.question.guideline) == ("v1", "v2")


def test_fifty_raters_at_once_lose_nothing_and_double_nothing(site: Site) -> None:
    """Threads without a server: claims, submissions, skips and forms sent twice, all at the same time."""
    rows = [{**row, "prompt": f"{row['prompt']} {n}"} for n, row in enumerate(PAIRS * 5)]
    study = study_of({"kind": "compare", "items": rows}, overlap={"min": 3, "max": 3})
    load_study(site, study)
    people = [person(site, f"p{n}") for n in range(50)]
    sent: list[str] = []
    faults: list[BaseException] = []

    def work(who: Who) -> None:
        draw = random.Random(who.name)
        try:
            while (lease := leases.claim(site, study, who)) is not None:
                if draw.random() < 0.1:
                    leases.skip(site, study, who, lease.id, "tired")
                    continue
                for _ in range(2 if draw.random() < 0.2 else 1):
                    kept = leases.submit(site, study, who, lease.id, FIRST, base="")
                    if kept:
                        sent.append(kept.id)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    kept = site.store.judgments()
    assert sorted(sent) == sorted(j.id for j in kept)
    assert len(kept) == len(rows) * 3
    done = site.all(sa.select(L).where(L.c.state == "submitted"))
    assert len({(r.question, r.account) for r in done}) == len(done) == len(kept)
    assert set(Counter(r.question for r in done).values()) == {3}
    assert all(r.taken == r.answered == 3 for r in site.all(sa.select(Q)))
    assert site.store.verify() == len(kept)


def test_the_database_itself_refuses_a_doubled_seat(site: Site) -> None:
    study = start(site)
    lease = leases.claim(site, study, person(site, "anna"))
    assert lease is not None
    person(site, "ben")
    row = dict(site.one(sa.select(L).where(L.c.id == lease.id))._mapping)
    for change in ({"account": "ben"}, {"seat": 1, "state": "submitted"}, {"seat": 1}):
        with pytest.raises(Exception, match=r"(?i)unique"):
            site.run(sa.insert(L).values(**{**row, "id": "other", **change}))


def test_what_is_left_for_a_rater_is_what_they_may_claim(site: Site, clock: Clock) -> None:
    study = start(site, overlap={"min": 1, "max": 1})
    anna, ben = person(site, "anna"), person(site, "ben")

    def left(who: Who) -> int:
        with site.db.reading() as connection:
            return left_for(connection, study.name, who.id)

    every = len(site.all(sa.select(Q.c.id)))
    assert left(anna) == left(ben) == every
    held = leases.claim(site, study, anna)
    assert held is not None
    assert left(anna) == left(ben) == every - 1  # one seat, and it is taken
    clock.at += 10**6
    leases.claim(site, study, ben)  # what ran out goes back
    assert left(anna) == every - 1
    if site.db.engine.dialect.name == "sqlite":  # nobody else's leases are read for it
        query = str(
            _open_to(study.name, "anna", gold=False).compile(
                site.db.engine, compile_kwargs={"literal_binds": True}
            )
        )
        with site.db.reading() as connection:
            steps = [
                str(row[-1]) for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}")
            ]
        assert [s for s in steps if "leases" in s] == [
            "SEARCH leases USING INDEX leases_of (study=? AND account=?)"
        ]
