"""In a real browser: sessions that end between, two pages at once, pages that are closed, time that runs out;
and what the keys answer is in sight, at every width."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from accord.core.types import Preference, Writing
from accord.web import tables
from accord.web.guard import accounts
from accord.web.pages.annotate import DIFFERS, ELSEWHERE
from accord.web.site import Site
from accord.web.work import leases
from tests.web.browsing import press, settle, sign_in
from tests.web.conftest import PAIRS, PASSWORD, Clock, Open, pairs_study, study_of
from tests.web.test_nothing_lost import Q, drafts, fields, one_of, write

pytestmark = pytest.mark.browser


def test_a_session_that_ends_between_is_said_at_the_next_autosave(site: Site, work: Open) -> None:
    page = work(one_of("write", overlap={"min": 2, "max": 2}))
    site.run(sa.delete(tables.sessions))
    press(page, "e", "Control+A")
    page.keyboard.type("My own words.")
    page.wait_for_selector("#status >> text=signed out")
    page.wait_for_selector("[data-saved]:text-is('Not saved')")  # another request may say so first
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
    page.click("summary:has-text('as the server had it')")
    assert "In the first." in page.locator("#status pre").inner_text()
    page.wait_for_timeout(1500)
    page.click("text=Take what the server has instead")
    assert page.locator("[name=text]").input_value() == "In the first."
    press(other, "Control+Enter")  # what it would replace is shown first
    other.wait_for_selector("[aria-label='What another page says'] >> text=In the first.")
    assert other.locator("[name=text]").input_value() == "In the second."
    other.click("text=Replace it with this")
    assert settle(other, site, 1).answer == Writing(text="In the second.", edits=0)
    other.wait_for_selector("text=All done")
    assert drafts(other) == []


def test_what_is_typed_on_while_an_answer_is_sent_stays(site: Site, work: Open) -> None:
    page = work(pairs_study())
    write(page, ["1"], "so far")
    press(page, "w", "End")
    page.route("**/annotate/*", lambda route: (page.wait_for_timeout(300), route.continue_()))
    press(page, "Control+Enter")
    page.keyboard.type(", and then some")  # before the answer to it is here
    settle(page, site, 1)
    page.wait_for_selector(".pace strong:text-is('1') >> nth=0")
    page.unroute("**/annotate/*")
    assert fields(page) == {}
    page.click("#status summary:has-text('Not sent yet: an answer')")
    assert "so far, and then some" in page.locator("#status pre").inner_text()
    page.click("#status >> text=Go back to it")
    page.wait_for_selector("text=What you had not sent is back")
    press(page, "Control+Enter")
    assert settle(page, site, 2).rationale == "so far, and then some"


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


def enters(page: Any, site: Site, name: str) -> None:
    """Whoever is signed in signs out, and `name` in."""
    page.goto(site.origin)
    page.click("button:text-is('Sign out')")
    sign_in(page, name)


def test_what_is_sent_after_another_has_signed_in_stays_its_writer_s(
    site: Site, work: Open
) -> None:
    page = work(one_of("compare", overlap={"min": 2, "max": 2}))
    accounts.add_account(site, "ben", PASSWORD)
    accounts.set_role(site, "tents", "ben", "annotator", "test")
    write(page, ["2"], "mine alone")
    page.wait_for_selector("text=Saved")
    other = page.context.new_page()
    enters(other, site, "ben")
    other.wait_for_selector("#work")
    page.fill("[name=rationale]", "mine alone, and more")
    press(page, "Control+Enter")  # anna's page, with ben's session
    page.wait_for_selector("#status >> text=another session")
    assert fields(page) == {"choice": "1:1", "rationale": "mine alone, and more"}
    assert site.store.counts()["judgments"] == 0
    page.click("#status a:text-is('Reload')")
    page.wait_for_selector("a[href='/account']:text-is('ben')")
    for where in (page, other):
        assert "mine alone" not in where.content()
        assert fields(where) == {}
    press(page, "1", "1")
    assert settle(page, site, 1).rationale is None
    enters(page, site, "anna")
    page.wait_for_selector("text=What you had not sent is back")
    assert fields(page) == {"choice": "1:1", "rationale": "mine alone, and more"}
    press(page, "Control+Enter")
    assert settle(page, site, 2).rationale == "mine alone, and more"


def test_going_back_shows_nobody_else_s_choices(site: Site, work: Open) -> None:
    page = work(pairs_study(quiz={"questions": [Q]}))
    page.check("[value=first]", force=True)
    accounts.add_account(site, "ben", PASSWORD)
    accounts.set_role(site, "tents", "ben", "annotator", "test")
    page.click("button:text-is('Sign out')")
    sign_in(page, "ben")
    page.wait_for_selector(".quiz")
    page.go_back()
    page.go_back()  # to where anna chose, as ben
    page.wait_for_selector("a[href='/account']:text-is('ben')")
    page.wait_for_timeout(200)
    assert fields(page, "form.stack") == {}
    enters(page, site, "anna")
    page.wait_for_selector("text=What you had not sent is back")
    assert fields(page, "form.stack") == {"quiz-0": "first"}


def test_a_reason_stays_when_its_dialog_is_closed(site: Site, work: Open) -> None:
    page = work(one_of("thumb"))
    field = page.locator("#reason [name=reason]")
    for close, text in (("Escape", "half a"), ("Cancel", "half a reason")):
        press(page, "s")
        field.fill(text)
        press(page, "Escape") if close == "Escape" else page.click("#reason >> text=Cancel")
        page.wait_for_selector("#reason", state="hidden")
        page.reload()
        page.wait_for_selector("text=What you had not sent is back")
        press(page, "f")
        page.wait_for_selector("#reason", state="visible")
        assert field.input_value() == text
        press(page, "Escape")
        page.wait_for_selector("#reason", state="hidden")


def test_a_browser_without_room_says_so(site: Site, work: Open) -> None:
    page = work(pairs_study())
    page.evaluate(
        """() => {
          for (let n = 1 << 22; n; n >>= 1)
            try { localStorage.setItem(`filled ${n}`, 'x'.repeat(n)); } catch { continue; }
        }"""
    )
    press(page, "2", "w")
    page.keyboard.type("a thought")
    page.wait_for_selector("#status >> text=no room to keep")
    press(page, "Escape", "Control+Enter")
    assert settle(page, site, 1).rationale == "a thought"


def test_of_a_lost_question_on_two_pages_both_texts_stay(
    site: Site, work: Open, clock: Clock
) -> None:
    page = work(study_of({"kind": "compare", "items": PAIRS[:1]}, lease_minutes=1.0))
    other = page.context.new_page()
    other.goto(page.url)
    other.wait_for_selector("#work")
    write(page, ["1"], "the first")
    page.wait_for_selector("text=Saved")
    write(other, ["2"], "the second")
    other.wait_for_selector(f"#status >> text={ELSEWHERE[:50]}")
    others_take_it(site, clock)
    press(other, "Control+Enter")
    other.wait_for_selector("[aria-label='What another page says'] >> text=the first")
    assert fields(other) == {"choice": "1:1", "rationale": "the second"}
    press(other, "Control+Enter")
    other.wait_for_selector("#status >> text=stays on this page")
    assert fields(other) == {"choice": "1:1", "rationale": "the second"}
    other.goto(f"{site.origin}/studies/tents/done")
    told = other.locator("body").text_content()
    assert "the first" in told
    assert "the second" in told


SIZES = [(360, 640), (420, 740), (560, 700), (720, 900), (1280, 800), (640, 400), (1280, 800, 2)]
"""The last two are the one before them at 200% zoom: of the browser, and of the page by its own style."""
WATCH = """() => {
  const box = (e) => e.getBoundingClientRect();
  const bar = () => box(document.querySelector('.actions.sticky')).top;
  const status = document.querySelector('#status');
  const top = () => status.textContent ? box(status).bottom : 0;
  const fits = (e) => box(e).height + 24 < bar() - top(); // with a little room around it
  const hidden = (e) => fits(e) && (box(e).top < top() - 1 || box(e).bottom > bar() + 1);
  const told = (key, e) => `${key} ${e.className} ${box(e).top} ${box(e).bottom} of ${top()} ${bar()}`;
  window.hidden = [];
  document.addEventListener('keyup', ({ key }) => {
    const at = document.activeElement, group = document.querySelector('[data-group][data-active]');
    const seen = at.matches('#work .choice input, #work textarea') ? [at.closest('.choice') ?? at] : [];
    if (group && /^[0-9jk]$/.test(key)) seen.push(group.querySelector('.choices'), group);
    window.hidden.push(...seen.filter(hidden).map((e) => told(key, e)));
  });
}"""
WORDS = "Some words that wrap on a phone. " * 3
MANY: dict[str, tuple[dict[str, Any], list[str]]] = {
    "compare": ({"kind": "compare", "points": 7}, [WORDS * 4, WORDS * 5]),
    "thumb": ({"kind": "thumb"}, [WORDS * 3]),
    "rate": ({"kind": "rate", "points": 9, "axes": [{"name": f"axis {n}"} for n in range(12)]}, [WORDS]),
    "rank": ({"kind": "rank"}, [f"{n} {WORDS * (1 + 12 * (n % 2))}" for n in range(9)]),
    "steps": ({"kind": "steps"}, ["\n\n".join(f"{n}. {WORDS * (1 + n % 3)}" for n in range(40))]),
    "write": ({"kind": "write"}, [WORDS]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [("steps", SIZES[::6]), *(pytest.param(kind, SIZES, marks=pytest.mark.slow) for kind in MANY)],
)
def test_what_the_keys_answer_is_never_under_the_bar(
    site: Site, work: Open, kind: str, sizes: list[tuple[int, ...]]
) -> None:
    block, shown = MANY[kind]
    page = work(study_of({**block, "items": [{"prompt": WORDS, "responses": shown}]}))
    by_key = (
        ["e", "Escape", "w", "Escape"]
        if kind == "write"
        else ["1", "2"] * 5 + ["j"] * 9 + ["k"] * 9
    )
    for width, height, *zoom in sizes:
        page.set_viewport_size({"width": width, "height": height})
        page.reload()
        page.wait_for_selector("#work")
        page.evaluate(WATCH)
        page.evaluate(f"document.body.style.zoom = {(zoom or [1])[0]}")
        press(page, *["Tab"] * 25, *["Shift+Tab"] * 12, "Escape", *by_key, "w", "Escape")
        assert page.evaluate("window.hidden") == [], (width, height, zoom)
        assert page.evaluate("document.documentElement.scrollWidth") <= width


ENDS = """() => [...document.querySelectorAll('.axis')].map((axis) => {
  const boxes = (query) => [...axis.querySelectorAll(query)].map((e) => e.getBoundingClientRect());
  const faces = boxes('.choice'), [low, high] = boxes('.ends span'), first = faces[0], last = faces.at(-1);
  return {one_row: new Set(faces.map((f) => Math.round(f.top))).size === 1, apart: low.right <= high.left,
    low: Math.abs(low.left - first.left) <= 2, high: Math.abs(high.right - last.right) <= 2,
    under: Math.min(low.top, high.top) >= first.bottom - 1};
})"""


def test_what_a_scale_s_ends_mean_stands_under_them(site: Site, work: Open) -> None:
    axes = [
        {"name": "tone", "low": "rude and dismissive to people", "high": "warm and wholly fitting"},
        {"name": "fact" * 10},
        {"name": "care", "low": "x" * 60, "high": "y"},
    ]  # fmt: skip
    block = {"kind": "rate", "points": 9, "axes": axes}
    study = study_of({**block, "items": [{"prompt": "p", "responses": ["r"]}]}, guidelines="# Kind")
    page = work(study)
    for width in (320, 360, 420, 560, 640, 720, 740, 900, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for beside in ("without", "with"):  # the guidelines beside the task
            for found in page.evaluate(ENDS):
                assert all(found.values()), (width, beside, found)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            press(page, "g")
        press(page, "g")
    said = page.locator(".axis .ends").first.inner_text().split()
    assert (said[0], said[1]) == ("1", "rude")
    assert "9 warm" in " ".join(said)
