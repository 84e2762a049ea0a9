"""In a real browser: an annotator's hour in fast motion, by keyboard."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sqlalchemy as sa

from accord.core.types import Answer, Preference, Ranking, Rating, StepLabels, Thumb, Writing
from accord.web import tables
from accord.web.guard import accounts
from accord.web.site import Site
from accord.web.work import leases
from tests.web.browsing import press, settle
from tests.web.conftest import PAIRS, PASSWORD, Clock, Open, pairs_study, study_of

pytestmark = pytest.mark.browser
LONG = "A line that is long enough to wrap on a phone, said again. " * 30


KINDS: dict[str, tuple[dict[str, Any], list[str], list[str], Answer]] = {
    "compare": ({"kind": "compare"}, ["a", "b"], ["2", "2"], Preference(better=1)),
    "compare, tie": ({"kind": "compare"}, ["a", "b"], ["0", "Enter"], Preference(better=None)),
    "compare, 5 points": ({"kind": "compare", "points": 5}, ["a", "b"], ["1", "Enter"],
                          Preference(better=0, strength=2)),
    "compare, 7 points": ({"kind": "compare", "points": 7}, ["a", "b"], ["3", "7", "Enter"],
                          Preference(better=1, strength=3)),
    "both bad": ({"kind": "compare", "points": 7}, ["a", "b"], ["9", "9"],
                 Preference(better=None, both_bad=True)),
    "rate": ({"kind": "rate", "axes": [{"name": "tone"}, {"name": "fact"}]}, ["a"],
             ["4", "2", "ArrowUp", "5", "Enter"], Rating(scores={"tone": 5, "fact": 2})),
    "rank": ({"kind": "rank"}, ["a", "b", "c", "d"], ["2", "1", "1", "3", "Enter"],
             Ranking(ranks=(2, 1, 1, 3))),
    "rank, by letter": ({"kind": "rank"}, ["a", "b", "c", "d"],
                        ["Shift+C", "1", "2", "Shift+A", "3", "4", "Enter"], Ranking(ranks=(3, 4, 1, 2))),
    "thumb": ({"kind": "thumb"}, ["a"], ["2", "2"], Thumb(up=False)),
    "steps": ({"kind": "steps"}, ["one\n\ntwo\n\nthree"], ["1", "2", "3", "Enter"],
              StepLabels(labels=(1, 0, -1))),
    "edit": ({"kind": "write"}, ["a draft"], ["e", "Control+A", "*An edit.", "Control+Enter"],
             Writing(text="An edit.", edits=0)),
    "demonstration": ({"kind": "write"}, [], ["e", "*Four.", "Control+Enter"], Writing(text="Four.")),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_by_keyboard_alone(site: Site, work: Open, name: str) -> None:
    kind, shown, keys, expected = KINDS[name]
    page = work(study_of({**kind, "items": [{"prompt": "p", "responses": shown}]}))
    for key in keys:
        if key.startswith("*"):
            page.keyboard.type(key[1:])
        else:
            page.keyboard.press(key)
    assert settle(page, site, 1).answer == expected
    page.wait_for_selector("text=All done")


def test_nothing_is_sent_before_it_is_complete(site: Site, work: Open) -> None:
    page = work(study_of({"kind": "rate", "axes": [{"name": "a"}, {"name": "b"}],
                          "items": [{"prompt": "p", "responses": ["r"]}]}))  # fmt: skip
    press(page, "3", "ArrowUp", "Enter")
    assert "not answered" in page.locator("#status").inner_text()
    assert page.locator("[data-active] legend").inner_text() == "b"
    assert site.store.counts()["judgments"] == 0
    press(page, "1", "Enter")
    settle(page, site, 1)


def test_a_key_held_down_answers_once(site: Site, work: Open) -> None:
    page = work(pairs_study())
    for _ in range(8):  # of a key that is down already: repeats
        page.keyboard.down("1")
        page.wait_for_timeout(40)
    page.keyboard.up("1")
    assert site.store.counts()["judgments"] == 0
    for _ in range(8):
        page.keyboard.down("Enter")
        page.wait_for_timeout(40)
    page.keyboard.up("Enter")
    page.wait_for_selector(".pace strong:text-is('1') >> nth=0")
    assert site.store.counts()["judgments"] == 1
    page.keyboard.down("1")
    page.keyboard.down("1")
    page.wait_for_timeout(100)
    assert page.locator("input:checked").count() == 1


def test_keys_answer_where_the_focus_is_and_say_so(site: Site, work: Open) -> None:
    axes = [{"name": n} for n in ("tone", "fact", "care")]
    items = [{"prompt": f"{LONG * 4}", "responses": [LONG * 8]}]
    page = work(study_of({"kind": "rate", "axes": axes, "items": items}))
    focused = "document.activeElement.getAttribute('aria-label')"
    page.locator("[aria-label='fact 2']").focus()
    press(page, "4")
    checked = "all => all.map(e => e.getAttribute('aria-label'))"
    assert page.eval_on_selector_all("input:checked", checked) == ["fact 4"]
    assert page.locator("#announcement[role=status]").inner_text() == "fact 4: chosen"
    assert page.evaluate(focused) == "care 1"
    press(page, "k")
    assert page.evaluate(focused) == "fact 4"
    for place in (".response", ".prompt"):  # arrows scroll what has the focus
        page.locator(place).focus()
        press(page, "ArrowDown")
        page.wait_for_timeout(300)
        assert page.locator(place).evaluate("e => e.scrollTop") > 0, place
        assert page.locator("[data-active] legend").inner_text() == "fact"


def test_undo_corrects_the_last_answer(site: Site, work: Open, clock: Clock) -> None:
    page = work(pairs_study())
    press(page, "1", "1")
    first = settle(page, site, 1)
    page.wait_for_selector(".pace strong:text-is('1') >> nth=0")
    press(page, "u")
    page.wait_for_selector("text=This is your last answer")
    assert page.locator("input:checked").get_attribute("value") == "0:1"
    clock.at += 5
    press(page, "2", "Enter")
    second = settle(page, site, 2)
    assert (second.supersedes, second.answer) == (first.id, Preference(better=1))
    page.wait_for_selector("text=Your answer was changed")


def test_skip_flag_and_why_by_keyboard(site: Site, work: Open) -> None:
    page = work(pairs_study())
    before = page.locator("#answer").get_attribute("action")
    press(page, "f")
    page.keyboard.type("a phone number in it")
    press(page, "Enter")
    page.wait_for_selector("text=Flagged")
    assert page.locator("#answer").get_attribute("action") == before
    press(page, "s", "2")
    other = page.wait_for_selector(f'#answer:not([action="{before}"])').get_attribute("action")
    press(page, "s")
    page.keyboard.type("Because 1 of them is in Dutch")
    press(page, "Enter")
    page.wait_for_selector(f'#answer:not([action="{other}"])')
    reasons = [r.reason for r in site.all(sa.select(tables.leases.c.reason)) if r.reason]
    assert sorted(reasons) == ["Because 1 of them is in Dutch", "The prompt is unclear"]
    press(page, "w")
    page.keyboard.type("why 1 not 2?")  # digits and letters in a text are only text
    press(page, "Escape", "1", "Enter")
    assert settle(page, site, 1).rationale == "why 1 not 2?"


def test_the_overlay_lists_the_keys_and_the_views_toggle(site: Site, work: Open) -> None:
    page = work(pairs_study(guidelines="# Be kind"))
    press(page, "?")
    assert page.locator("#help").is_visible()
    for word in ("undo", "skip", "flag", "guidelines", "A is better"):
        assert word in page.locator("#help").inner_text()
    press(page, "Escape")
    assert not page.locator("#help").is_visible()
    assert page.locator(".as-markdown strong").first.is_visible()
    press(page, "m")
    assert not page.locator(".as-markdown").first.is_visible()
    assert "**in**" in page.locator(".responses .as-raw", has_text="It may").inner_text()
    press(page, "d")
    assert page.locator("mark").first.is_visible()
    press(page, "d", "g")
    assert page.locator("#guidelines h1").is_visible()
    press(page, "1", "1")
    settle(page, site, 1)
    page.wait_for_selector(".pace strong:text-is('1') >> nth=0")
    assert page.locator("#guidelines h1").is_visible()  # as it was left


def test_a_draft_survives_a_reload(site: Site, work: Open) -> None:
    page = work(study_of({"kind": "write", "items": [{"prompt": "p", "responses": ["old words"]}]}))
    press(page, "e", "Control+A")
    page.keyboard.type("new words")
    page.wait_for_selector("text=Saved")
    page.wait_for_selector("ins:has-text('new')")
    page.reload()
    assert page.locator("[name=text]").input_value() == "new words"


def test_a_lost_lease_says_so(site: Site, work: Open, clock: Clock) -> None:
    page = work(study_of({"kind": "compare", "items": PAIRS[:1]}, lease_minutes=1.0))
    clock.at += 3600
    accounts.add_account(site, "ben", PASSWORD)
    row = site.one(sa.select(tables.accounts).where(tables.accounts.c.name == "ben"))
    ben = accounts.Who(row.id, "ben", False, "", "")
    study = site.study("tents")
    assert study
    lease = leases.claim(site, study, ben)
    assert lease
    leases.submit(site, study, ben, lease.id, Preference(better=0), base="")
    press(page, "1")
    page.wait_for_selector("text=Time ran out")
    press(page, "Enter")
    page.wait_for_selector("text=All done")
    assert site.store.counts()["judgments"] == 1


def test_the_timer_stands_still_while_nobody_is_there(site: Site, work: Open) -> None:
    page = work(pairs_study())
    page.clock.install()
    page.reload()
    page.wait_for_selector("#work")
    page.clock.run_for(20_000)
    assert page.locator("[data-timer]").inner_text() == "0:20"
    page.clock.run_for(300_000)
    assert page.locator("[data-timer]").inner_text() == "1:00"
    assert page.locator("[data-paused]").is_visible()
    press(page, "ArrowDown")
    page.clock.run_for(2_000)
    assert page.locator("[data-timer]").inner_text() == "1:02"
    assert not page.locator("[data-paused]").is_visible()


def test_both_responses_scroll_together(site: Site, work: Open) -> None:
    page = work(
        study_of(
            {"kind": "compare", "items": [{"prompt": "p", "responses": [LONG * 4, f"{LONG * 6}!"]}]}
        )
    )
    page.evaluate("document.querySelectorAll('[data-scroll]')[0].scrollTop = 200")
    page.wait_for_timeout(200)
    assert page.evaluate("document.querySelectorAll('[data-scroll]')[1].scrollTop") > 50
    press(page, "y")
    page.wait_for_timeout(50)
    page.evaluate("document.querySelectorAll('[data-scroll]')[0].scrollTop = 0")
    page.wait_for_timeout(100)
    assert page.evaluate("document.querySelectorAll('[data-scroll]')[1].scrollTop") > 50


def test_ranking_by_drag(site: Site, work: Open) -> None:
    page = work(
        study_of({"kind": "rank", "items": [{"prompt": "p", "responses": ["a", "b", "c", "d"]}]})
    )
    page.drag_and_drop("[data-letter=d] .grip", "[data-letter=a] .grip")
    assert page.locator("[data-letter]").first.get_attribute("data-letter") == "d"
    press(page, "Enter")
    assert settle(page, site, 1).answer == Ranking(ranks=(2, 3, 4, 1))


@pytest.mark.parametrize("name", ["compare, 7 points", "rate", "rank", "thumb", "steps", "edit"])
def test_on_a_phone_there_is_one_column_and_no_sideways_scrolling(
    site: Site, work: Open, name: str
) -> None:
    kind, shown, _, _ = KINDS[name]
    texts = [f"{LONG} {'x' * 300} {t}\n\n{LONG}" for t in shown]
    page = work(study_of({**kind, "items": [{"prompt": LONG, "responses": texts}]}), width=360)
    for width in (320, 360):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    lefts = page.eval_on_selector_all(
        ".response", "all => all.map(e => e.getBoundingClientRect().left)"
    )
    assert len(set(lefts)) <= 1
    small = page.eval_on_selector_all(
        ".face, .actions button",
        "all => all.filter(e => e.getBoundingClientRect().height < 33).length",
    )
    assert small == 0


CONTRAST = """() => {
  const channel = (c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (e) => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length < 4 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !e.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const name = `${e.tagName}.${e.className} ${e.textContent.trim().slice(0, 30)}`;
    if (ratio < 4.5) poor.push(`${name} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["compare, 7 points", "rate", "edit"])
def test_text_stands_out_in_light_and_dark(site: Site, work: Open, scheme: str, name: str) -> None:
    kind, shown, keys, _ = KINDS[name]
    items = [{"prompt": "p", "responses": shown}]
    study = study_of({**kind, "items": items}, guidelines="# Kind\n\n- a `b`")
    page = work(study, color_scheme=scheme)
    press(page, "g", keys[0], "Escape")
    if len(shown) == 2:
        press(page, "d")
    page.wait_for_timeout(250)  # transitions
    assert page.evaluate(CONTRAST) == []
    press(page, "?")
    page.wait_for_timeout(250)
    assert page.evaluate(CONTRAST.replace("body *", "#help *")) == []


def test_dark_is_chosen_once_and_stays(site: Site, work: Open) -> None:
    page = work(pairs_study(), color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    press(page, "t")
    dark = page.evaluate(ground)
    assert dark != light
    page.reload()
    assert page.evaluate(ground) == dark


def test_what_a_screen_reader_finds(site: Site, work: Open) -> None:
    page = work(
        study_of(
            {
                "kind": "rate",
                "axes": [{"name": "tone"}],
                "items": [{"prompt": "p", "responses": ["r"]}],
            }
        )
    )
    assert page.get_by_role("main").count() == 1
    assert page.get_by_role("group", name="tone").count() == 1
    assert page.get_by_role("radio", name="tone 3").count() == 1
    assert page.get_by_role("region", name="Prompt").count() == 1
    assert page.locator("#status[role=status][aria-live=polite]").count() == 1
    unnamed = page.eval_on_selector_all(
        "button, a, input:not([type=hidden]), textarea, select, progress",
        """all => all.filter(e => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim()))
           .map(e => e.outerHTML)""",
    )
    assert unnamed == []
    press(page, "Tab")
    assert page.evaluate("document.activeElement.className") == "skip-link"


def test_hostile_responses_run_nothing(site: Site, work: Open) -> None:
    from tests.web.test_security import EVIL

    evil = "\n\n".join(EVIL)
    items = [{"prompt": evil, "responses": [evil, f"{evil}!"]}]
    page = work(study_of({"kind": "compare", "ask": evil[:300], "items": items}))
    press(page, "m", "m", "d", "g")
    page.wait_for_timeout(200)
    assert page.locator("#work img, #work iframe, #work svg, .responses form").count() == 0
    press(page, "1", "1")
    settle(page, site, 1)
    assert json.loads(page.evaluate("JSON.stringify(typeof alerted)")) == "undefined"


# -- reviewers and owners -----------------------------------------------------------------------------

PLACES = ("", "/raters", "/disputes", "/disputes/ID", "/guidelines", "/export", "/people", "/settings",
          "/audit", "/arena", "/done")  # fmt: skip


WIDTHS = {"light": (360, 320, 420, 560, 640, 720), "dark": (1280, 900)}
WORD = "x" * 100  # that nothing breaks


@pytest.mark.parametrize("scheme", WIDTHS)
def test_every_page_fits_and_stands_out(site: Site, work: Open, scheme: str) -> None:
    site.policies = {"a": lambda _: [], "b": lambda _: []}
    study = pairs_study(
        guidelines="# Kind\n\n- a `b`", criteria=[{"name": "truth", "text": "first"}],
        examples=[{"prompt": WORD, "responses": ["a", WORD], "verdict": "a"}], title=WORD,
        arena={"policies": ["a", "b"]}, overlap={"min": 2, "max": 2},
    )  # fmt: skip
    page = work(study, width=WIDTHS[scheme][0], role="owner", color_scheme=scheme)
    site.run(sa.update(tables.study_questions).values(state="disputed", tally='{"": {"first": 1}}'))
    id = site.one(sa.select(tables.study_questions.c.id)).id
    flag = {
        "id": "f",
        "study": "tents",
        "question": id,
        "at": 1.0,
        "closed_at": None,
        "reason": WORD,
    }
    anna = site.one(sa.select(tables.accounts.c.id)).id
    site.run(sa.insert(tables.flags).values(account=anna, **flag))
    for place in PLACES:
        page.goto(f"{site.origin}/studies/tents{place.replace('ID', id)}")
        assert page.locator("h1, h2").first.is_visible(), place
        assert page.evaluate(CONTRAST) == [], place
        for width in WIDTHS[scheme]:
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (place, width)


def test_a_dispute_is_decided_by_keyboard(site: Site, work: Open) -> None:
    page = work(pairs_study(), role="adjudicator")
    site.run(sa.update(tables.study_questions).values(state="disputed"))
    page.goto(f"{site.origin}/studies/tents/disputes")
    with (
        page.expect_navigation()
    ):  # a click doesn't wait for the page it opens, and keys would go to the old one
        page.locator("td a").first.click()
    press(page, "d", "d", "2", "Enter")
    assert settle(page, site, 1).answer == Preference(better=1)
    page.wait_for_selector("text=The judgment is kept")
    assert page.locator("caption", has_text="Adjudicated 1").count() == 1


def test_the_arena_by_keyboard(site: Site, work: Open) -> None:
    from accord.core.types import Response

    site.policies = {
        n: lambda prompts, n=n: [Response(text=f"{n} says {len(p.messages)}") for p in prompts]
        for n in "xy"
    }
    page = work(study_of(arena={"policies": ["x", "y"]}), role="owner")
    page.goto(f"{site.origin}/studies/tents/arena")
    page.wait_for_selector("textarea:focus")
    page.keyboard.type("Hello")
    press(page, "Control+Enter")
    page.wait_for_selector(".mine")
    press(page, "1", "1")
    assert settle(page, site, 1).answer == Preference(better=0)
    page.wait_for_selector("text=Your vote is kept")
