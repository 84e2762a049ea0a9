"""What is written and not counted: kept, told, and given back, whatever the server has to refuse."""

from __future__ import annotations

import re
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from accord.core.types import Preference, Writing
from accord.web import tables
from accord.web.app import create_app
from accord.web.guard import accounts
from accord.web.pages.annotate import BOTH, DIFFERS, ELSEWHERE, STAYS
from accord.web.pages.arena import GONE_ON, NO_VOTE
from accord.web.pages.question import LOST
from accord.web.site import Site
from accord.web.work import leases
from accord.web.work.drafts import Elsewhere, mark_of, save_draft, uncounted
from accord.web.work.studies import load_study
from tests.web.conftest import ORIGIN, PAIRS, Browser, Clock, Enter, loaded, pairs_study, study_of
from tests.web.test_leases import FIRST, SECOND, person

ONE = {"kind": "compare", "items": PAIRS[:1]}
SAID = {"choice": "0:1", "rationale": "typed for long"}


# -- time that ran out --------------------------------------------------------------------------------


def test_a_question_begun_comes_back_as_it_was_unless_others_took_it(
    site: Site, clock: Clock
) -> None:
    study = study_of({"kind": "compare", "items": PAIRS}, lease_minutes=1.0)
    load_study(site, study)
    anna, ben = person(site, "anna"), person(site, "ben")
    begun = leases.claim(site, study, anna)
    assert begun is not None
    save_draft(site, study, anna, begun.id, {**SAID, "seconds": "9"})
    clock.at += 3600
    leases.expire(site, study.name)
    back = leases.claim(site, study, anna)
    assert back is not None
    assert (back.id, back.order, back.state) == (begun.id, begun.order, "held")
    assert back.draft == {**SAID, "seconds": "9"}
    clock.at += 3600
    site.run(sa.update(tables.study_questions).where(tables.study_questions.c.id != begun.study_question)
             .values(state="settled"))  # fmt: skip
    taken = leases.claim(site, study, ben)
    assert taken is not None
    assert taken.study_question == begun.study_question
    assert leases.claim(site, study, anna) is None
    assert [(row.id, said) for row, said in uncounted(site, study, anna)] == [(begun.id, SAID)]
    leases.skip(site, study, ben, taken.id, "no idea")
    again = leases.claim(site, study, anna)
    assert again is not None
    assert (again.id, again.draft["rationale"]) == (begun.id, "typed for long")
    assert leases.submit(site, study, anna, again.id, FIRST, base="") is not None
    assert uncounted(site, study, anna) == []
    assert site.one(sa.select(tables.study_questions.c.taken).where(
        tables.study_questions.c.id == begun.study_question)).taken == 1  # fmt: skip


def test_what_nobody_wrote_on_is_not_begun(site: Site, clock: Clock) -> None:
    study = study_of({"kind": "compare", "items": PAIRS}, lease_minutes=1.0)
    load_study(site, study)
    anna = person(site, "anna")
    lease = leases.claim(site, study, anna)
    assert lease is not None
    save_draft(site, study, anna, lease.id, {"seconds": "9", "tab": "x", "rationale": ""})
    clock.at += 3600
    leases.expire(site, study.name)
    again = leases.claim(site, study, anna)
    assert again is not None
    assert again.id != lease.id
    assert uncounted(site, study, anna) == []


def test_a_lost_answer_is_told_and_shown_on_the_way_to_all_done(
    site: Site, enter: Enter, clock: Clock
) -> None:
    loaded(site, study_of(ONE, lease_minutes=1.0))
    anna, ben = enter("anna", "annotator"), enter("ben", "annotator")
    anna.get("/studies/tents/annotate")
    clock.at += 100
    ben.get("/studies/tents/annotate")
    ben.answer(choice="0:1")
    told = anna.answer(choice="1:1", rationale="my long <reason>")
    assert "All done" in told.text
    assert LOST in told.text
    assert "B is better" in told.text
    assert "my long &lt;reason&gt;" in told.text
    link = re.search(r'href="(/studies/tents/annotate/[0-9a-f]+)">The question', told.text)
    assert link
    page = anna.get(link[1]).text
    assert 'value="1:1" checked' in page
    assert "my long &lt;reason&gt;</textarea>" in page
    assert site.store.counts()["judgments"] == 1


def test_a_question_that_went_to_others_meanwhile_is_told_on_the_next(
    site: Site, enter: Enter, clock: Clock
) -> None:
    loaded(site, study_of({"kind": "compare", "items": PAIRS[:2]}, lease_minutes=1.0))
    anna, ben = enter("anna", "annotator"), enter("ben", "annotator")
    anna.get("/studies/tents/annotate")
    begun = anna.lease
    anna.client.post(f"/studies/tents/annotate/{begun}/draft", data={"csrf": anna.csrf, **SAID})
    clock.at += 100
    first = site.one(sa.select(tables.leases).where(tables.leases.c.id == begun))
    site.run(sa.update(tables.study_questions).where(tables.study_questions.c.id != first.question)
             .values(state="settled"))  # fmt: skip
    ben.get("/studies/tents/annotate")
    ben.answer(choice="0:1")
    site.run(sa.update(tables.study_questions).where(tables.study_questions.c.id != first.question)
             .values(state="open"))  # fmt: skip
    page = anna.get("/studies/tents/annotate").text
    assert LOST in page
    assert "Not counted: <strong>1</strong>" in page
    assert "typed for long" in anna.get("/studies/tents/done").text


# -- two pages ----------------------------------------------------------------------------------------


def test_a_different_answer_of_a_second_page_is_a_choice(site: Site, enter: Enter) -> None:
    loaded(site, study_of(ONE))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    url = f"/studies/tents/annotate/{anna.lease}"
    form = {"csrf": anna.csrf, "base": "", "seconds": "3"}
    anna.answer(choice="0:1", rationale="first")
    same = anna.client.post(url, data={**form, "choice": "0:1", "rationale": "first"})
    assert "kept already" in same.text
    for other in (
        {"choice": "1:1", "rationale": "first"},
        {"choice": "0:1", "rationale": "second"},
    ):
        anna.last = told = anna.client.post(url, data={**form, **other})
        assert told.status_code == 409
        assert DIFFERS in told.text
        assert f'value="{other["choice"]}" checked' in told.text
        assert f"{other['rationale']}</textarea>" in told.text
        assert "A better" in told.text
        assert site.store.counts()["judgments"] == 1  # until the rater says so
    anna.answer(choice="1:1", rationale="second")
    first, second = site.store.judgments()
    assert (second.supersedes, second.answer, second.rationale) == (
        first.id,
        Preference(better=1),
        "second",
    )


def test_a_refused_form_does_not_take_another_page_s_answer_for_its_own(
    site: Site, enter: Enter
) -> None:
    loaded(site, study_of(ONE))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    url, form = f"/studies/tents/annotate/{anna.lease}", {"csrf": anna.csrf, "base": ""}
    anna.answer(choice="0:1")
    anna.last = anna.client.post(url, data={**form, "choice": "", "rationale": "x"})
    assert anna.last.status_code == 422
    assert anna.answer(choice="1:1").status_code == 409


def test_a_draft_of_one_page_is_not_written_over_by_another(site: Site) -> None:
    study = study_of(ONE)
    load_study(site, study)
    anna = person(site, "anna")
    lease = leases.claim(site, study, anna)
    assert lease is not None

    def save(tab: str, text: str, after: str) -> bool:
        draft = {"tab": tab, "after": after, "rationale": text}
        return save_draft(site, study, anna, lease.id, draft)

    def kept() -> str:
        found = leases.claim(site, study, anna)
        assert found is not None
        return found.draft["rationale"]

    blank = mark_of({})
    assert save("one", "abc", blank)
    with pytest.raises(Elsewhere):
        save("two", "xyz", blank)
    with pytest.raises(Elsewhere):
        save("two", "", blank)  # a page left alone, that only says it is still there
    assert kept() == "abc"
    assert save("one", "abcd", blank)
    assert save("two", "abcd", blank)  # the same
    assert save("three", "abcde", mark_of({"rationale": "abcd"}))  # made from what is kept
    with pytest.raises(Elsewhere):
        save("one", "other", blank)
    assert kept() == "abcde"


@pytest.mark.parametrize("gone", ["to others", "skipped", "answered"])
def test_what_a_second_page_wrote_and_the_server_can_t_keep_stays_on_it(
    site: Site, enter: Enter, clock: Clock, gone: str
) -> None:
    loaded(site, study_of(ONE, lease_minutes=1.0))
    anna, ben = enter("anna", "annotator"), enter("ben", "annotator")
    anna.get("/studies/tents/annotate")
    url, form = f"/studies/tents/annotate/{anna.lease}", {"csrf": anna.csrf, "base": ""}
    first = {**form, "tab": "one", "after": mark_of({}), "choice": "1:1", "rationale": "the first"}
    anna.client.post(f"{url}/draft", data=first)
    if gone == "to others":
        clock.at += 100
        ben.get("/studies/tents/annotate")
        ben.answer(choice="0:1")
    elif gone == "skipped":
        anna.client.post(f"{url}/skip", data={**first, "reason": "r"})
    else:
        anna.client.post(url, data=first)
    judged = site.store.counts()["judgments"]
    second = {**form, "tab": "two", "after": mark_of({}), **SAID, "reason": "hard to say"}
    if gone != "answered":  # what the first page wrote is shown before anything takes its place
        told = anna.client.post(url, data=second)
        assert (told.status_code, BOTH in told.text, "the first" in told.text) == (409, True, True)
        second["over"] = re.findall(r'name="over" value="(\w+)"', told.text)[0]
    told = anna.client.post(f"{url}/skip" if gone == "answered" else url, data=second)
    assert site.store.counts()["judgments"] == judged
    assert (told.status_code, STAYS in told.text) == (409, True)
    assert "typed for long</textarea>" in told.text
    assert 'value="0:1" checked' in told.text
    if gone == "to others":
        assert "the first" in anna.get("/studies/tents/done").text  # is where it was


def test_what_another_page_wrote_is_shown_before_an_answer_takes_its_place(
    site: Site, enter: Enter
) -> None:
    loaded(site, study_of(ONE))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    url, form = f"/studies/tents/annotate/{anna.lease}", {"csrf": anna.csrf, "base": ""}
    first = {"tab": "one", "after": mark_of({}), "choice": "1:1", "rationale": "of the <first>"}
    assert anna.client.post(f"{url}/draft", data={**form, **first}).text == "Saved"
    second = {"tab": "two", "after": mark_of({}), **SAID}
    anna.last = told = anna.client.post(url, data={**form, **second})
    assert (told.status_code, site.store.counts()["judgments"]) == (409, 0)
    for words in (BOTH, "B is better", "of the &lt;first&gt;</p>", "typed for long</textarea>"):
        assert words in told.text
    sent = dict(re.findall(r'name="(tab|after|over)" value="(\w+)"', told.text))
    saved = anna.client.post(f"{url}/draft", data={**form, **SAID, **sent})
    assert (saved.status_code, saved.text) == (409, ELSEWHERE)  # only an answer replaces it
    anna.answer(**SAID, **sent)
    assert [j.rationale for j in site.store.judgments()] == ["typed for long"]


# -- leaving a question -------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", ["undo", "flag", "skip"])
def test_what_is_typed_goes_with_every_form_of_the_page(
    site: Site, enter: Enter, sent: str
) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    anna.answer(choice="0:1")
    lease = anna.lease
    url = "/studies/tents/undo" if sent == "undo" else f"/studies/tents/annotate/{lease}/{sent}"
    anna.post(url, reason="  ", lease=lease, tab="t", after=mark_of({}), base="", **SAID)
    page = anna.get("/studies/tents/annotate").text
    assert anna.lease == lease
    assert "typed for long" in page
    assert 'value="0:1" checked' in page


@pytest.mark.parametrize("sent", ["flag", "skip", "answer"])
def test_a_text_too_long_is_refused_whole(site: Site, enter: Enter, sent: str) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    if sent == "answer":
        told = anna.answer(choice="0:1", rationale="x" * 20_001)
        assert "x" * 20_001 in told.text
    else:
        told = anna.post(f"/studies/tents/annotate/{anna.lease}/{sent}", reason="x" * 2001, **SAID)
        assert "typed for long" in told.text
    assert told.status_code == 422
    assert "characters long, at most" in told.text
    assert site.store.counts()["judgments"] == 0
    assert site.all(sa.select(tables.flags)) == []


def post(site: Site, browser: Browser, path: str, **fields: str) -> Any:
    """What the page's script sends."""
    client = TestClient(
        create_app(site), base_url=ORIGIN, headers={"origin": ORIGIN, "hx-request": "true"},
        cookies=dict(browser.client.cookies),
    )  # fmt: skip
    return client.post(path, data={"csrf": browser.csrf, **fields}, follow_redirects=False)


# -- nobody is signed in ---------------------------------------------------------------------------------


FORMS = [
    "/annotate/0a",
    "/annotate/0a/draft",
    "/quiz",
    "/arena",
    "/guidelines",
    "/disputes/0a",
    "/settings",
]


@pytest.mark.parametrize("path", FORMS)
def test_who_is_signed_out_is_told_and_gets_no_page_in_its_place(
    site: Site, enter: Enter, path: str
) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    site.run(sa.delete(tables.sessions))
    told = post(site, olga, f"/studies/tents{path}", text="written")
    assert (told.status_code, told.headers["content-type"].split(";")[0]) == (401, "text/plain")
    assert "signed out" in told.text
    assert "password" not in told.text


def test_a_locked_account_is_told_the_same(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    accounts.disable(site, "anna", True)
    assert (
        post(site, anna, f"/studies/tents/annotate/{anna.lease}/draft", **SAID).status_code == 401
    )


# -- adjudicators, owners, the arena ------------------------------------------------------------------


def test_two_adjudicators_at_once(site: Site, enter: Enter) -> None:
    loaded(site, study_of(ONE))
    site.run(sa.update(tables.study_questions).values(state="disputed"))
    mia, olga = enter("mia", "manager"), enter("olga", "owner")
    id = site.one(sa.select(tables.study_questions.c.id)).id
    url = f"/studies/tents/disputes/{id}"
    mia.get(url)
    olga.get(url)
    mia.post(url, base="", choice="0:1", rationale="mia and why")
    told = olga.post(url, base="", choice="1:1", rationale="olga and why")
    assert told.status_code == 409
    for words in (
        "decided since",
        "mia (adjudicator)",
        "mia and why",
        "olga and why</textarea>",
        "A better",
    ):
        assert words in told.text, words
    assert site.store.counts()["judgments"] == 1
    olga.post(url, base=olga.base, choice="1:1", rationale="olga and why")
    assert [j.answer for j in site.store.judgments()] == [FIRST, SECOND]


def test_two_owners_write_guidelines_at_once(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study(guidelines="Be kind."))
    mia, olga = enter("mia", "manager"), enter("olga", "owner")
    mia.get("/studies/tents/guidelines")
    olga.get("/studies/tents/guidelines")
    mia.post("/studies/tents/guidelines", base="1", text="Be kind. Be brief.")
    told = olga.post("/studies/tents/guidelines", base="1", text="Be kind. Be right.")
    assert told.status_code == 409
    assert "Version 2 was published by mia" in told.text
    assert "Be kind. Be right.</textarea>" in told.text
    assert site.guideline("tents").number == 2
    olga.post("/studies/tents/guidelines", base="2", text="Be kind. Be right.")
    assert site.guideline("tents").number == 3
    again = olga.post("/studies/tents/guidelines", base="2", text="Be kind. Be right.")
    assert again.status_code == 200  # sent twice


def test_the_arena_sends_and_counts_nothing_on_a_page_that_is_behind(
    site: Site, enter: Enter
) -> None:
    from accord.core.types import Response

    site.policies = {
        n: lambda prompts, n=n: [Response(text=f"{n} {len(p.messages)}") for p in prompts]
        for n in "xy"
    }
    loaded(site, study_of(arena={"policies": ["x", "y"]}))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/arena")
    url = "/studies/tents/arena"
    anna.post(url, turn="", text="Hello")
    first = re.findall(r'name="turn" value="([^"]+)"', anna.last.text)[0]
    told = anna.post(url, turn="", text="Quite another")
    assert told.status_code == 409
    assert GONE_ON in told.text
    assert "Quite another</textarea>" in told.text
    anna.post(url, turn=first, text="More")
    told = anna.post(f"{url}/vote", turn=first, choice="0:1")
    assert (told.status_code, NO_VOTE in told.text) == (409, True)
    assert site.store.counts()["judgments"] == 0
    site.policies = {}
    last = re.findall(r'name="turn" value="([^"]+)"', anna.last.text)[0]
    told = anna.post(url, turn=last, text="A long message")
    assert told.status_code == 422
    assert "A long message</textarea>" in told.text


def test_what_was_written_in_full_is_shown_beside_what_is_kept(site: Site, enter: Enter) -> None:
    loaded(site, study_of({"kind": "write", "items": [{"prompt": "p", "responses": []}]}))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    url, form = f"/studies/tents/annotate/{anna.lease}", {"csrf": anna.csrf, "base": ""}
    long = "word " * 500
    anna.answer(text=long)
    told = anna.client.post(url, data={**form, "text": "another"})
    assert long.strip() in told.text
    assert "another</textarea>" in told.text
    assert [j.answer for j in site.store.judgments()] == [Writing(text=long.strip())]


def test_another_page_is_told_of_in_words(site: Site, enter: Enter) -> None:
    loaded(site, study_of(ONE))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    url, form = (
        f"/studies/tents/annotate/{anna.lease}/draft",
        {"csrf": anna.csrf, "after": mark_of({})},
    )
    assert anna.client.post(url, data={**form, "tab": "one", "rationale": "a"}).text == "Saved"
    told = anna.client.post(url, data={**form, "tab": "two", "rationale": "b"})
    assert (told.status_code, told.text) == (409, ELSEWHERE)


def test_two_owners_change_settings_at_once(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    mia, olga = enter("mia", "manager"), enter("olga", "owner")
    page = mia.get("/studies/tents/settings").text
    olga.get("/studies/tents/settings")
    (base,) = set(re.findall(r'name="base" value="([0-9a-f]+)"', page))
    fields = dict(re.findall(r'name="(\w+)" type="number"[^>]* value="([^"]*)"', page))
    mia.post("/studies/tents/settings", **fields, base=base, title="Mia's")
    told = olga.post("/studies/tents/settings", **fields, base=base, title="Olga's")
    assert (told.status_code, "changed since" in told.text) == (409, True)
    assert site.study("tents").title == "Mia's"  # type: ignore[union-attr]
    (base,) = set(re.findall(r'name="base" value="([0-9a-f]+)"', told.text))
    olga.post("/studies/tents/settings", **fields, base=base, title="Olga's")
    assert site.study("tents").title == "Olga's"  # type: ignore[union-attr]
