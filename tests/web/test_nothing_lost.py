"""In a real browser, with something going wrong in the middle: nothing a person typed or chose is lost, and
what happened is said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from accord.core.types import Answer, Preference, Ranking, Rating, StepLabels, Thumb, Writing
from accord.feedback.study import Study
from accord.web import accounts, leases, tables
from accord.web.annotate import DIFFERS, ELSEWHERE
from accord.web.site import Site
from tests.web.browsing import press, settle, sign_in
from tests.web.conftest import PAIRS, PASSWORD, Clock, Open, pairs_study, study_of

pytestmark = pytest.mark.browser
WHY = "because " * 700  # more than the free room of a store's last page
FIELDS = """form => Object.fromEntries([...new FormData(form)].filter(([name, value]) => value
    && !['csrf', 'base', 'lease', 'tab', 'after', 'seconds'].includes(name)))"""


def fields(page: Any, form: str = "#answer") -> dict[str, str]:
    found: dict[str, str] = page.locator(form).evaluate(FIELDS)
    return found


# -- what goes wrong ----------------------------------------------------------------------------------


class Wrong:
    """break it, say what the page must say, and mend it: as the page tells to, where it does."""

    def __init__(self, site: Site, page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site, self.page, self.patch = site, page, monkeypatch

    def signed_out(self) -> tuple[str, Callable[[], None]]:
        self.site.run(sa.delete(tables.sessions))
        return "signed out", self.sign_in_again

    def disabled(self) -> tuple[str, Callable[[], None]]:
        accounts.disable(self.site, "anna", True)

        def mend() -> None:
            accounts.disable(self.site, "anna", False)
            self.sign_in_again()

        return "signed out", mend

    def another_session(self) -> tuple[str, Callable[[], None]]:
        self.site.run(sa.update(tables.sessions).values(csrf="another"))
        return "another session", lambda: self.page.click("#status a:text-is('Reload')")

    def disk_full(self) -> tuple[str, Callable[[], None]]:
        engine = self.site.db.engine

        def small(connection: Any) -> None:
            connection.exec_driver_sql("PRAGMA max_page_count=1")  # as many as there are

        event.listen(engine, "begin", small)

        def mend() -> None:
            event.remove(engine, "begin", small)
            engine.dispose()

        return "disk is full", mend

    def fault(self) -> tuple[str, Callable[[], None]]:
        usual = self.site.db.writing

        def broken() -> Any:
            raise RuntimeError("a fault of ours")

        self.patch.setattr(self.site.db, "writing", broken)
        return "went wrong", lambda: self.patch.setattr(self.site.db, "writing", usual)

    def server_gone(self) -> tuple[str, Callable[[], None]]:
        self.page.context.set_offline(True)
        return "can't be reached", lambda: self.page.context.set_offline(False)

    def no_answer(self) -> tuple[str, Callable[[], None]]:
        waits = self.page.evaluate("htmx.config.timeout")
        self.page.evaluate("htmx.config.timeout = 300")
        self.page.route("**/*", lambda _: None)

        def mend() -> None:
            self.page.unroute("**/*")
            self.page.evaluate(f"htmx.config.timeout = {waits}")

        return "not answered in time", mend

    def sign_in_again(self) -> None:
        self.page.click("#status a:text-is('Sign in')")
        sign_in(self.page)


FAULTS = ("signed_out", "disabled", "another_session", "disk_full", "fault", "server_gone", "no_answer")
RELOADS = FAULTS[:3]


def survives(wrong: Wrong, form: str, send: Callable[[], None]) -> None:
    """Whatever goes wrong when a form is sent, all in it stays, also where one must sign in or reload."""
    page = wrong.page
    page.set_default_timeout(8_000)
    before = fields(page, form)
    for name in FAULTS:
        words, mend = getattr(wrong, name)()
        send()
        told = page.wait_for_selector(f"#status >> text={words}").inner_text()
        assert "Nothing is lost" in page.locator("#status").inner_text(), (name, told)
        assert fields(page, form) == before, name
        mend()
        if name in RELOADS:
            page.wait_for_selector(form)
        page.wait_for_load_state("networkidle")
        assert fields(page, form) == before, name


KINDS: dict[str, tuple[dict[str, Any], list[str], list[str], Answer]] = {
    "compare": ({"kind": "compare"}, ["a", "b"], ["2"], Preference(better=1)),
    "rate": ({"kind": "rate", "axes": [{"name": "tone"}, {"name": "fact"}]}, ["a"], ["4", "2"],
             Rating(scores={"tone": 4, "fact": 2})),
    "rank": ({"kind": "rank"}, ["a", "b", "c"], ["2", "1", "3"], Ranking(ranks=(2, 1, 3))),
    "thumb": ({"kind": "thumb"}, ["a"], ["2"], Thumb(up=False)),
    "steps": ({"kind": "steps"}, ["one\n\ntwo"], ["1", "3"], StepLabels(labels=(1, -1))),
    "write": ({"kind": "write"}, ["a draft"], ["e", "Control+A", "*An edit.", "Escape"],
              Writing(text="An edit.", edits=0)),
}  # fmt: skip


def one_of(kind: str, **more: Any) -> Study:
    block, shown, _, _ = KINDS[kind]
    return study_of({**block, "items": [{"prompt": "p", "responses": shown}]}, **more)


def write(page: Any, keys: list[str], why: str = WHY) -> None:
    for key in keys:
        if key.startswith("*"):
            page.keyboard.type(key[1:])
        else:
            page.keyboard.press(key)
    if why:
        press(page, "w")
        page.fill("[name=rationale]", why)
        press(page, "Escape")


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_of_every_kind_survives_whatever_goes_wrong(
    site: Site, work: Open, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = work(one_of(kind))
    write(page, KINDS[kind][2])
    survives(Wrong(site, page, monkeypatch), "#answer", lambda: press(page, "Control+Enter"))
    press(page, "Control+Enter")
    kept = settle(page, site, 1)
    assert (kept.answer, kept.rationale) == (KINDS[kind][3], WHY.strip())
    page.wait_for_selector("text=All done")
    assert page.locator("#status details").count() == 0  # nothing is left unsent
    assert site.store.counts()["judgments"] == 1
