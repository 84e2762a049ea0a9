"""In a real browser: sessions that end between, two pages at once, pages that are closed, time that runs out;
and what the keys answer is in sight, at every width."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from accord.core.types import Preference, Writing
from accord.web import accounts, leases, tables
from accord.web.annotate import DIFFERS, ELSEWHERE
from accord.web.site import Site
from tests.web.browsing import press, settle, sign_in
from tests.web.conftest import PAIRS, PASSWORD, Clock, Open, study_of
from tests.web.test_nothing_lost import drafts, fields, one_of, write

pytestmark = pytest.mark.browser


def test_a_session_that_ends_between_is_said_at_the_next_autosave(site: Site, work: Open) -> None:
    page = work(one_of("write", overlap={"min": 2, "max": 2}))
    site.run(sa.delete(tables.sessions))
    press(page, "e", "Control+A")
    page.keyboard.type("My own words.")
    page.wait_for_selector("#status >> text=signed out")
    assert page.locator("[data-saved]").inner_text() == "Not saved"
    assert page.locator("[name=password]").count() == 0  # the sign-in page is nowhere on this one
    accounts.add_account(site, "ben", PASSWORD)
    accounts.set_role(site, "tents", "ben", "annotator", "test")
    page.click("#status a:text-is('Sign in')")
    page.wait_for_selector("text=What anna wrote in this browser and has not sent is kept")
    sign_in(page, "ben")  # on the same machine: sees nothing of it
    page.wait_for_selector("#work")
    assert "My own words" not in page.content()
    assert page.locator("[name=text]").input_value() == "a draft"
    assert len(drafts(page)) == 1
    page.click("button:text-is('Sign out')")
    sign_in(page)
    page.wait_for_selector("#work")
    assert page.locator("[name=text]").input_value() == "My own words."


def test_a_lost_last_question_is_shown_with_what_was_written(
    site: Site, work: Open, clock: Clock
) -> None:
    page = work(study_of({"kind": "compare", "items": PAIRS[:1]}, lease_minutes=1.0))
    others_take_it(site, clock)
    press(page, "2", "w")
    page.keyboard.type("a long thought")
    press(page, "Escape", "Enter")
    page.wait_for_selector("text=All done")
    told = page.locator("body").inner_text()
    for words in ("ran out", "not counted", "B is better", "a long thought"):
        assert words in told
    assert site.store.counts()["judgments"] == 1
    page.goto(site.origin)  # and stays there
    page.wait_for_selector("text=a long thought")


def others_take_it(site: Site, clock: Clock) -> None:
    """Time runs out and somebody else answers the question."""
    clock.at += 3600
    accounts.add_account(site, "ben", PASSWORD)
    row = site.one(sa.select(tables.accounts).where(tables.accounts.c.name == "ben"))
    study, ben = site.study("tents"), accounts.Who(row.id, "ben", False, "", "")
    assert study
    lease = leases.claim(site, study, ben)
    assert lease
    leases.submit(site, study, ben, lease.id, Preference(better=0), base="")


def test_of_two_pages_with_different_answers_the_rater_chooses(site: Site, work: Open) -> None:
    page = work(study_of({"kind": "compare", "items": PAIRS[:1]}))
    other = page.context.new_page()
    other.goto(page.url)
    press(page, "1", "w")
    page.keyboard.type("the first")
    press(page, "Escape", "Enter")
    first = settle(page, site, 1)
    page.wait_for_selector("text=All done")
    press(other, "2", "w")
    other.keyboard.type("the second")
    press(other, "Escape", "Enter")
    other.wait_for_selector(f"text={DIFFERS[:60]}")
    there = other.locator("[aria-label='The answer that is kept']").inner_text()
    for words in ("A better", "the first"):
        assert words in there
    assert fields(other) == {"choice": "1:1", "rationale": "the second"}
    assert site.store.counts()["judgments"] == 1  # nothing is replaced unasked
    other.click("text=Replace it with this")
    second = settle(other, site, 2)
    assert (second.supersedes, second.answer, second.rationale) == (
        first.id, Preference(better=1), "the second"
    )  # fmt: skip


def test_two_pages_that_write_at_once_overwrite_nothing(site: Site, work: Open) -> None:
    page = work(one_of("write"))
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector("#work")
    for where, text in ((page, "In the first."), (other, "In the second.")):
        press(where, "e", "Control+A")
        where.keyboard.type(text)
        if where is page:
            page.wait_for_selector("text=Saved")
    other.wait_for_selector(f"#status >> text={ELSEWHERE[:50]}")
    assert other.locator("[name=text]").input_value() == "In the second."
    page.reload()  # both are there to choose from
    page.wait_for_selector("text=What you had not sent is back")
    assert page.locator("[name=text]").input_value() == "In the second."
    page.wait_for_timeout(1500)
    page.click("text=Take what the server has instead")
    assert page.locator("[name=text]").input_value() == "In the first."
    press(other, "Control+Enter")
    assert settle(other, site, 1).answer == Writing(text="In the second.", edits=0)
    other.wait_for_selector("text=All done")
    assert drafts(other) == []


def test_a_page_closed_before_anything_was_sent_comes_back(site: Site, work: Open) -> None:
    page = work(one_of("rank"))
    page.context.set_offline(True)
    write(page, ["2", "1"], "so far")
    page.wait_for_selector("#status >> text=can't be reached")
    before = fields(page)
    page.context.set_offline(False)
    again = page.context.new_page()
    page.close()
    again.goto(site.origin)
    again.wait_for_selector("text=What you had not sent is back")
    assert fields(again) == before
    again.click("text=Take what the server has instead")
    assert fields(again) == {}


HIDDEN = """() => {
  const box = (e) => e.getBoundingClientRect();
  const group = document.querySelector('[data-group][data-active]');
  const whole = [group.querySelector('.choices'), document.activeElement.closest('.choice')];
  const above = box(document.querySelector('#status')).bottom;
  const below = box(document.querySelector('.actions.sticky')).top;
  const hidden = whole.some((e) => box(e).top < above - 1 || box(e).bottom > below + 1);
  return hidden ? group.textContent.trim().slice(0, 20) : null;
}"""
WORDS = "Some words that wrap on a phone. " * 3
MANY = {
    "steps": ({"kind": "steps"}, ["\n\n".join(f"{n}. {WORDS * (1 + n % 3)}" for n in range(40))]),
    "rank": ({"kind": "rank"}, [f"{n} {WORDS * (1 + 12 * (n % 2))}" for n in range(9)]),
    "rate": ({"kind": "rate", "points": 9, "axes": [{"name": f"axis {n}"} for n in range(12)]}, [WORDS]),
}  # fmt: skip


@pytest.mark.parametrize(("width", "height"), [(360, 640), (560, 700), (640, 400), (1280, 800)])
@pytest.mark.parametrize("kind", MANY)
def test_what_the_keys_answer_is_never_under_the_bar(
    site: Site, work: Open, kind: str, width: int, height: int
) -> None:
    block, shown = MANY[kind]
    page = work(study_of({**block, "items": [{"prompt": "p", "responses": shown}]}), width=width)
    page.set_viewport_size({"width": width, "height": height})
    many = page.locator("[data-group]").count()
    hidden = []
    for key in ["1"] + ["j"] * (many - 1) + ["k"] * (many - 1):
        press(page, key)
        hidden.append(page.evaluate(HIDDEN))
    assert [h for h in hidden if h] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


ENDS = """() => [...document.querySelectorAll('.axis')].map((axis) => {
  const boxes = (query) => [...axis.querySelectorAll(query)].map((e) => e.getBoundingClientRect());
  const faces = boxes('.choice'), [low, high] = boxes('.ends span'), first = faces[0], last = faces.at(-1);
  return {one_row: new Set(faces.map((f) => Math.round(f.top))).size === 1, apart: low.right <= high.left,
    low: Math.abs(low.left - first.left) <= 2, high: Math.abs(high.right - last.right) <= 2,
    under: Math.min(low.top, high.top) >= first.bottom - 1};
})"""


@pytest.mark.parametrize("width", [360, 420, 560, 640, 720, 740, 900, 1280])
def test_what_a_scale_s_ends_mean_stands_under_them(site: Site, work: Open, width: int) -> None:
    axes = [
        {"name": "tone", "low": "rude and dismissive to people", "high": "warm and wholly fitting"},
        {"name": "fact"},
        {"name": "care", "low": "x" * 60, "high": "y"},
    ]  # fmt: skip
    block = {"kind": "rate", "points": 9, "axes": axes}
    study = study_of({**block, "items": [{"prompt": "p", "responses": ["r"]}]}, guidelines="# Kind")
    page = work(study, width=width)
    for _ in range(2):  # without and with the guidelines beside the task
        for found in page.evaluate(ENDS):
            assert all(found.values()), found
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        press(page, "g")
    said = page.locator(".axis .ends").first.inner_text().split()
    assert (said[0], said[1]) == ("1", "rude")
    assert "9 warm" in " ".join(said)
