"""An hour of work with everything going wrong in any order: what a person typed can be found again, in the
store, in a draft, in the browser or on the page, unless they were shown it and let something replace it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from accord.core.types import Preference, Writing
from accord.store.db import schema
from accord.web import tables
from accord.web.guard import accounts
from accord.web.site import Site
from accord.web.work import leases
from tests.web.browsing import press
from tests.web.conftest import PASSWORD, Clock, Open, study_of
from tests.web.test_nothing_lost import Wrong

pytestmark = [pytest.mark.browser, pytest.mark.slow]
CARD = "[aria-label='What another page says']"
BOXES = "JSON.stringify([...document.querySelectorAll('input, textarea')].map((e) => e.value))"


class Hour:
    """One rater with up to two pages; `words` is all they typed."""

    def __init__(self, site: Site, page: Any, clock: Clock, wrong: Wrong, seed: int) -> None:
        self.site, self.clock, self.wrong, self.draw = site, clock, wrong, random.Random(seed)
        self.pages, self.words, self.done = [page], set[str](), list[str]()
        self.mend: Callable[[], None] = lambda: None
        self.broken, self.n = "", 0

    def go_on(self) -> None:
        name = self.draw.choices(list(STEPS), list(STEPS.values()))[0]
        page = self.draw.choice(self.pages)
        self.done.append(f"{name} on {self.pages.index(page)} {self.broken}")
        getattr(self, name)(page)
        self.pages[0].wait_for_timeout(self.draw.choice([10, 60, 200, 900]))

    def lost(self) -> set[str]:
        """What of all they typed is nowhere."""
        there = [page.evaluate("JSON.stringify({ ...localStorage })") for page in self.pages[:1]]
        for page in self.pages:
            there += [page.evaluate(BOXES), *page.locator(CARD).all_text_contents()]
        for column in (schema.judgments.c.body, tables.leases.c.draft, tables.leases.c.reason,
                       tables.flags.c.reason):  # fmt: skip
            there += [row[0] or "" for row in self.site.all(sa.select(column))]
        return {word for word in self.words if not any(word in text for text in there)}

    # -- what a rater does --------------------------------------------------------------------------

    def word(self, page: Any) -> None:
        """Type a word where the cursor is; only what is on the page then counts as typed."""
        self.n += 1
        page.keyboard.type(f" word{self.n}.")
        if f"word{self.n}." in page.evaluate(BOXES):
            self.words.add(f"word{self.n}.")

    def ready(self, page: Any) -> bool:
        press(page, "Escape")
        return bool(page.locator("#answer").count() and not page.locator("dialog[open]").count())

    def why(self, page: Any) -> None:
        if self.ready(page):
            press(page, "w")
            self.word(page)

    def text(self, page: Any) -> None:
        if self.ready(page) and page.locator("[data-main]").count():
            press(page, "e")
            self.word(page)

    def choose(self, page: Any) -> None:
        if self.ready(page):
            press(page, self.draw.choice("12"))

    def submit(self, page: Any) -> None:
        for text in page.locator(CARD).all_text_contents():  # they see what they replace
            self.words -= set(re.findall(r"word\d+\.", text))
        press(page, "Control+Enter")

    def undo(self, page: Any) -> None:
        if self.ready(page):
            press(page, "u")

    def reason(self, page: Any) -> None:
        if self.ready(page):
            press(page, self.draw.choice("sf"))
            if page.locator("#reason[open]").count():
                self.word(page)
                press(page, self.draw.choice(["Enter", "Escape"]))

    def reload(self, page: Any) -> None:
        if self.broken != "server_gone":
            page.goto(f"{self.site.origin}{self.draw.choice(['/studies/tents/annotate', '/'])}")

    def another(self, page: Any) -> None:
        if len(self.pages) == 2:
            self.pages.remove(page)
            page.close()
        elif self.broken != "server_gone":
            self.pages.append(page.context.new_page())
            self.reload(self.pages[-1])

    def sign_in(self, page: Any) -> None:
        if page.locator("[name=password]").count():
            page.fill("[name=name]", "anna")
            page.fill("[name=password]", PASSWORD)
            press(page, "Enter")
        elif page.locator("#status a:text-is('Sign in')").count():
            page.locator("#status a:text-is('Sign in')").first.click()
        page.wait_for_timeout(300)

    # -- what happens to them -----------------------------------------------------------------------

    def time(self, page: Any) -> None:
        self.clock.at += self.draw.choice([30, 100])
        if self.broken != "disk_full":
            study = self.site.study("tents")
            assert study
            lease = leases.claim(self.site, study, self.ben)
            if lease:
                answer = (
                    Preference(better=0)
                    if lease.ask.kind == "compare"
                    else Writing(text="ben", edits=0)
                )
                leases.submit(self.site, study, self.ben, lease.id, answer, base="")

    @property
    def ben(self) -> accounts.Who:
        them = tables.accounts
        id = self.site.one(sa.select(them.c.id).where(them.c.name == "ben")).id
        return accounts.Who(id, "ben", False, "", "")

    def signed_out(self, page: Any) -> None:
        if self.broken != "disk_full":
            self.site.run(sa.delete(tables.sessions))

    def fault(self, page: Any) -> None:
        self.mend()
        self.broken = "" if self.broken else self.draw.choice(["disk_full", "server_gone"])
        self.wrong.page = self.pages[0]
        mend: Callable[[], None] = (
            getattr(self.wrong, self.broken)()[1] if self.broken else lambda: None
        )
        self.mend = mend


STEPS = {"why": 14, "text": 6, "choose": 8, "submit": 8, "undo": 4, "reason": 5, "reload": 6, "another": 4,
         "sign_in": 8, "time": 3, "signed_out": 3, "fault": 5}  # fmt: skip


def test_what_was_typed_in_an_hour_of_faults_is_somewhere(
    site: Site, work: Open, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = [{"prompt": f"q{n}", "responses": ["a", "b"]} for n in range(12)]
    write = [{"prompt": f"w{n}", "responses": ["draft"]} for n in range(12)]
    blocks = ({"kind": "compare", "items": compare}, {"kind": "write", "items": write})
    page = work(study_of(*blocks, overlap={"min": 1, "max": 1}, lease_minutes=1.0))
    accounts.add_account(site, "ben", PASSWORD)
    hour = Hour(site, page, clock, Wrong(site, page, monkeypatch), seed=1)
    for _ in range(60):
        hour.go_on()
        assert hour.lost() == set(), json.dumps(hour.done[-20:], indent=1)
    hour.mend()
    assert hour.n > 10
