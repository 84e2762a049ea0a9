"""In a real browser, with something going wrong in the middle: nothing a person typed or chose is lost, and
what happened is said."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from accord.core.types import Answer, Preference, Ranking, Rating, StepLabels, Thumb, Writing
from accord.feedback.study.definition import Study
from accord.web import tables
from accord.web.guard import accounts
from accord.web.site import Site
from tests.web.browsing import press, settle, sign_in
from tests.web.conftest import Open, pairs_study, study_of

pytestmark = pytest.mark.browser
WHY = "because " * 20


def quick(names: Iterable[str], *fast: str) -> list[Any]:
    """Parameters of which all but these are slow."""
    return [pytest.param(n, marks=[] if n in fast else [pytest.mark.slow]) for n in names]


FULL = sqlite3.OperationalError("database or disk is full")
FIELDS = """form => Object.fromEntries([...new FormData(form)].filter(([name, value]) => value
    && !['csrf', 'base', 'lease', 'tab', 'after', 'over', 'seconds'].includes(name)))"""


def fields(page: Any, form: str = "#answer") -> dict[str, str]:
    found: dict[str, str] = page.locator(form).evaluate(FIELDS)
    return found


def drafts(page: Any) -> list[dict[str, str]]:
    """What this browser keeps, of every account."""
    kept: list[dict[str, str]] = page.evaluate(
        """Object.keys(localStorage).filter(key => key.includes('not sent'))
             .map(key => JSON.parse(localStorage.getItem(key)).fields)"""
    )
    return kept


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
        return "another session", lambda: self.page.locator("a:text-is('Reload'):visible").click()

    def disk_full(self) -> tuple[str, Callable[[], None]]:
        engine = self.site.db.engine

        def full(_c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            if statement.startswith(("INSERT", "UPDATE", "DELETE")):
                raise sa.exc.OperationalError(statement, {}, FULL)

        event.listen(engine, "before_cursor_execute", full)

        def mend() -> None:
            event.remove(engine, "before_cursor_execute", full)

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
        self.page.locator("a:text-is('Sign in'):visible").click()
        sign_in(self.page)


FAULTS = (
    "signed_out",
    "disabled",
    "another_session",
    "disk_full",
    "fault",
    "server_gone",
    "no_answer",
)
RELOADS = FAULTS[:3]


def survives(
    wrong: Wrong, form: str, send: Callable[[], Any], again: Callable[[], Any] = lambda: None
) -> None:
    """Whatever goes wrong when a form is sent, all in it stays, also where one must sign in or reload
    (`again`: what is done then to see it)."""
    page = wrong.page
    before = fields(page, form)
    for name in FAULTS:
        words, mend = getattr(wrong, name)()
        send()
        place = "dialog[open] [data-say]" if page.locator("dialog[open]").count() else "#status"
        page.wait_for_selector(f"{place} >> text={words}")
        assert "Nothing is lost" in page.locator(place).inner_text(), name
        assert ".db" not in page.locator(place).inner_text()  # nor where the store is
        assert fields(page, form) == before, name
        mend()
        if name in RELOADS:
            page.wait_for_selector(form, state="attached")
            page.wait_for_load_state()
            again()
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


@pytest.mark.parametrize("kind", quick(KINDS, "rate", "write"))
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


Q = {"prompt": "2+2?", "responses": ["4", "5"], "answer": "first", "why": "sums"}
PLACES: dict[str, tuple[str, str, str, Callable[[Any], Any]]] = {
    # path, form, how it is filled, what it brings about
    "dispute": ("/disputes/ID", "#answer", "*2",
                lambda site: [j.rationale for j in site.store.judgments()] == [WHY.strip()]),
    "quiz": ("/quiz", "form.stack", "[value=first]", lambda site: site.one(sa.select(tables.qualifications))),
    "guidelines": ("/guidelines", "form[data-named=guidelines]", "text",
                   lambda site: WHY.strip() in site.guideline("tents").document),
    "quiz's questions": ("/guidelines", "form[data-named='a quiz']", "quiz-1-prompt",
                         lambda site: WHY.strip() in [q.prompt for q in site.study("tents").quiz.questions]),
    "questions": ("/settings", "form[data-named='questions to add']", "lines",
                  lambda site: site.store.counts()["prompts"] == 7),
}  # fmt: skip


@pytest.mark.parametrize("name", quick(PLACES, "quiz"))
def test_reviewers_and_owners_forms_survive_too(
    site: Site, work: Open, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, form, how, done = PLACES[name]
    more = {"quiz": {"questions": [Q]}} if name.startswith("quiz") else {}
    page = work(pairs_study(guidelines="# Be kind", **more), role="owner")
    site.run(sa.update(tables.study_questions).values(state="disputed"))
    id = site.one(sa.select(tables.study_questions.c.id)).id
    page.goto(f"{site.origin}/studies/tents{path.replace('ID', id)}")
    if how.startswith("*"):
        press(page, how[1:])
        page.fill("[name=rationale]", WHY)
    elif how.startswith("["):
        page.check(how, force=True)
    else:
        for closed in page.locator(f"{form} details:has([name={how}])").all():
            closed.evaluate("e => { e.open = true; }")
        text = '{"prompt": "' + WHY + '", "responses": ["a", "b"]}' if how == "lines" else WHY
        page.fill(f"{form} [name={how}]", text)
        if how.startswith("quiz"):
            page.fill(f"{form} [name=quiz-1-first]", "a")
            page.fill(f"{form} [name=quiz-1-second]", "b")
    button = f"{form} button:not([type=button])"
    survives(Wrong(site, page, monkeypatch), form, lambda: page.click(button))
    page.click(button)
    for _ in range(100):
        if done(site):
            break
        page.wait_for_timeout(30)
    assert done(site), page.locator("#status").inner_text()
    for _ in range(100):
        if not (left := drafts(page)):
            break
        page.wait_for_timeout(30)
    assert left == []


@pytest.mark.parametrize("key", quick(["f", "s"], "s"))
def test_a_reason_and_the_answer_under_it_survive(
    site: Site, work: Open, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = work(one_of("rate"))
    write(page, KINDS["rate"][2])
    before = fields(page)
    press(page, key)
    page.fill("#reason [name=reason]", "x" * 1999)
    wrong = Wrong(site, page, monkeypatch)
    send = lambda: page.click("[data-reason-submit]")  # noqa: E731
    survives(wrong, "[data-reason-form]", send, lambda: press(page, key))
    assert fields(page) == before
    send()
    page.wait_for_selector("text=Flagged" if key == "f" else "text=All done")
    if key == "f":
        assert fields(page) == before


def test_undo_right_after_typing_loses_nothing(site: Site, work: Open) -> None:
    page = work(pairs_study())
    press(page, "1", "1")
    first = settle(page, site, 1)
    page.wait_for_selector(".pace strong:text-is('1') >> nth=0")
    press(page, "2", "w")
    page.keyboard.type("half a thought")
    press(page, "Escape", "u")  # at once: before anything was saved
    page.wait_for_selector("text=This is your last answer")
    assert fields(page) == {"choice": "0:1"}  # of the other question
    press(page, "w")
    page.keyboard.type("and why")
    press(page, "Escape", "Enter")
    second = settle(page, site, 2)
    assert (second.supersedes, second.rationale) == (first.id, "and why")
    page.wait_for_selector("text=Your answer was changed")
    assert fields(page) == {"choice": "1:1", "rationale": "half a thought"}
