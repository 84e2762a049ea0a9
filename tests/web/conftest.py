"""A site with a small study of every kind, people in every role, and browsers signed in as them."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from fastapi.testclient import TestClient

from accord.feedback.study.definition import Study
from accord.store import Store
from accord.web.app import create_app
from accord.web.guard import accounts
from accord.web.site import Site
from accord.web.work.studies import load_study
from tests.store.conftest import postgres
from tests.web.serving import served

ORIGIN = "http://localhost:8000"
PASSWORD = "correct horse battery"
PAIRS = [
    {"prompt": f"Does tent {n} leak?", "responses": [
        {"text": f"It may, **in** heavy rain {n}.", "source": f"model:secret-policy-{n}"},
        {"text": f"Never at all, tent {n} is dry.", "source": "person:secret-author"},
    ]}
    for n in range(6)
]  # fmt: skip


def study_of(*questions: dict[str, Any], **more: Any) -> Study:
    """A study with these blocks of questions."""
    return Study.model_validate({"name": "tents", "questions": list(questions), **more})


def pairs_study(**more: Any) -> Study:
    """Six comparisons."""
    return study_of({"kind": "compare", "items": PAIRS}, **more)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1_800_000_000.0

    def __call__(self) -> float:
        return self.at


class Browser:
    """A client with one person's cookies, that sends what a browser sends."""

    def __init__(self, site: Site) -> None:
        self.client = TestClient(
            create_app(site), base_url=ORIGIN, follow_redirects=True,
            headers={"origin": ORIGIN, "sec-fetch-site": "same-origin"},
        )  # fmt: skip
        self.last = self.get("/sign-in")

    def get(self, path: str) -> Any:
        self.last = self.client.get(path)
        return self.last

    def post(self, path: str, **fields: Any) -> Any:
        """Post a form with the token of the last page."""
        fields = {"csrf": self.csrf, **fields}
        self.last = self.client.post(path, data=fields)
        return self.last

    @property
    def csrf(self) -> str:
        found = re.search(r'name="csrf" value="([^"]+)"', self.last.text)
        return found[1] if found else ""

    def sign_in(self, name: str, password: str = PASSWORD) -> Browser:
        self.get("/sign-in")
        self.post("/sign-in", name=name, password=password)
        return self

    @property
    def lease(self) -> str:
        """The lease of the question on the page."""
        found = re.search(r'action="/studies/[\w-]+/annotate/([0-9a-f]+)"', self.last.text)
        assert found, self.last.text
        return found[1]

    @property
    def base(self) -> str:
        found = re.search(r'name="base" value="([^"]*)"', self.last.text)
        assert found
        return found[1]

    def answer(self, study: str = "tents", **fields: Any) -> Any:
        """Submit the question on the page."""
        fields = {"base": self.base, "seconds": "3", **fields}
        return self.post(f"/studies/{study}/annotate/{self.lease}", **fields)


PROMISED = accounts._hasher
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


@pytest.fixture(autouse=True)
def _quick_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password takes 20 ms for a reason, which most tests are not about: those that are set PROMISED."""
    monkeypatch.setattr(accounts, "_hasher", QUICK)


@pytest.fixture
def clock() -> Clock:
    return Clock()


either = pytest.mark.parametrize("where", ["sqlite", "postgresql"], indirect=True)
"""For tests of a site (or of where its store is) that run on PostgreSQL too."""


@pytest.fixture
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What to open for the store: a file, or what `either` says."""
    lite = getattr(request, "param", "sqlite") == "sqlite"
    return str(tmp_path / "study.db") if lite else postgres()


@pytest.fixture
def site(where: str, clock: Clock) -> Iterator[Site]:
    with Store(where) as store:
        yield Site(store, origin=ORIGIN, now=clock)


Enter = Callable[..., Browser]


@pytest.fixture
def enter(site: Site) -> Enter:
    """enter("anna", "annotator"): a browser signed in as somebody with that role in `tents`."""

    def make(name: str, role: str | None = None, admin: bool = False) -> Browser:
        accounts.add_account(site, name, PASSWORD, admin=admin)
        if role:
            accounts.set_role(site, "tents", name, role, "test")
        return Browser(site).sign_in(name)

    return make


def loaded(site: Site, study: Study) -> Study:
    load_study(site, study)
    return study


# -- a real browser ---------------------------------------------------------------------------------

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
REFUSED = re.compile(r"\b(40[139]|422|50[037])\b|net::ERR|htmx:(afterRequest|sendError|timeout)")
"""What Chromium and htmx say on the console of requests that failed: tests look at what the page says."""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="browser: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        path = next(p for name in CHROMIUM if (p := shutil.which(name)))
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


Open = Callable[..., Any]


@pytest.fixture
def work(site: Site, chromium: Any) -> Iterator[Open]:
    """work(study, width=…): a page signed in as anna, at the first question. At the end nothing may have been
    refused by the policy, and no script may have failed."""
    said: list[str] = []
    contexts = []
    with served(site) as origin:
        accounts.add_account(site, "anna", PASSWORD)

        def start(study: Study, width: int = 1280, role: str = "annotator", **how: Any) -> Any:
            load_study(site, study)
            accounts.set_role(site, "tents", "anna", role, "test")
            context = chromium.new_context(viewport={"width": width, "height": 800}, **how)
            context.set_default_timeout(20_000)
            contexts.append(context)
            page = context.new_page()
            page.on("console", lambda m: said.append(m.text) if m.type == "error" else None)
            page.on("pageerror", lambda e: said.append(str(e)))
            page.on("dialog", lambda d: said.append(f"dialog {d.message}"))
            page.goto(origin)
            from tests.web.browsing import sign_in

            sign_in(page)
            page.wait_for_selector("#work, .study, .quiz")
            return page

        yield start
        for context in contexts:
            context.close()
    assert [s for s in said if not REFUSED.search(s)] == []
