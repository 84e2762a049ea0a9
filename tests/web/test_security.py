"""What an attacker tries: other sites' forms, other people's roles, hostile texts, guessed passwords."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import sqlalchemy as sa
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from accord.core.errors import ConfigError
from accord.core.hashing import content_hash
from accord.web import tables
from accord.web.app import create_app
from accord.web.guard import accounts, audit
from accord.web.guard.accounts import MAY, ROLES
from accord.web.guard.security import HEADERS
from accord.web.pages import texts
from accord.web.pages.render import HERE
from accord.web.routes import ROOMS
from accord.web.site import Site
from tests.web.conftest import (
    ORIGIN,
    PASSWORD,
    PROMISED,
    Browser,
    Clock,
    Enter,
    loaded,
    pairs_study,
    study_of,
)

EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "![x](http://evil/pixel.png)",
    "</textarea><svg/onload=alert(1)>",
    "\" autofocus onfocus=alert(1) x=\"",
    "{{ 7*7 }}{% raw %}",
    "<a href='vbscript:x' style='position:fixed'>x</a>",
    "[x](/sign-out)",
    "<form action=/account><button>",
    "`<b>`",
    "\ue000003C\ue001script\ue000003E\ue001",
]  # fmt: skip
OURS = {
    "aside", "b", "body", "button", "caption", "dd", "del", "details", "dialog", "div", "dl", "dt",
    "fieldset", "form", "head", "header", "html", "input", "ins", "kbd", "label", "legend", "link",
    "main", "mark", "meta", "nav", "option", "progress", "script", "section", "select", "span", "summary",
    "textarea", "title",
}  # fmt: skip


class Elements(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: set[str] = set()
        self.scripts: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {k for k, _ in attrs}
        if tag == "script":
            self.scripts.add(dict(attrs).get("src") or "inline")
        for key, value in attrs:
            if key in ("href", "action", "formaction", "src", "hx-post", "hx-get"):
                self.links.add(value or "")


def posts() -> list[str]:
    """Every page route that changes something."""
    routes = [r for room in ROOMS for r in room.router.routes if isinstance(r, APIRoute)]
    assert len(routes) > 30
    return sorted(r.path for r in routes if "POST" in r.methods and not r.path.startswith("/api/"))


# -- where requests come from -------------------------------------------------------------------------


def test_no_form_is_taken_from_another_site_or_without_its_token(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    owner = enter("olga", "owner")
    paths = posts()
    assert len(paths) >= 18
    before = site.one(sa.select(sa.func.count()).select_from(tables.events))[0]
    for path in paths:
        url = re.sub(r"\{[a-z]+\}", "tents", path, count=1)
        url = re.sub(r"\{[a-z]+\}", "x", url)
        good = {"csrf": Browser.csrf.fget(owner), "text": "x", "name": "x"}  # type: ignore[attr-defined]
        for headers in (
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "http://localhost:8001"},
        ):
            assert owner.client.post(url, data=good, headers=headers).status_code == 403, (
                path,
                headers,
            )
        for csrf in ("", "x", "é"):
            told = owner.client.post(url, data={**good, "csrf": csrf})
            assert told.status_code == 403, (path, csrf)
            assert told.url.path == url
    after = site.one(sa.select(sa.func.count()).select_from(tables.events))[0]
    assert (after, site.store.counts()["judgments"]) == (before, 0)


def test_a_client_that_says_nothing_of_where_it_comes_from_is_refused(site: Site) -> None:
    bare = TestClient(create_app(site), base_url=ORIGIN)
    assert bare.post("/sign-in", data={"name": "a"}).status_code == 403


def test_another_s_token_is_no_good(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna, ben = enter("anna", "annotator"), enter("ben", "annotator")
    ben.get("/studies/tents/annotate")
    anna.get("/studies/tents/annotate")
    told = anna.post(f"/studies/tents/annotate/{anna.lease}", csrf=ben.csrf, base="", choice="0:1")
    assert told.status_code == 403
    assert site.store.counts()["judgments"] == 0


def test_another_host_s_name_is_not_answered(site: Site) -> None:
    client = TestClient(create_app(site), base_url="http://rebound.example")
    assert client.get("/sign-in").status_code == 421


def test_what_is_too_long_or_of_no_length_is_not_read(site: Site, enter: Enter) -> None:
    anna = enter("anna")
    many = {f"f{n}": "x" for n in range(600)}
    assert anna.client.post("/account", data={"csrf": anna.csrf, **many}).status_code == 400
    assert anna.client.post("/account", data={"old": "x" * (3 << 20)}).status_code == 413
    assert anna.client.post("/api/v1/studies/x/questions", content=iter([b"x"])).status_code == 411
    huge = {"content-length": str(10**9)}
    assert (
        anna.client.post("/api/v1/studies/x/questions", content=b"x", headers=huge).status_code
        == 413
    )
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert anna.client.post("/account", content=b"--x--", headers=form).status_code == 415


def test_headers_are_on_every_answer(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    for path in ("/", "/sign-in", "/static/accord.css", "/nothing", "/api/openapi.json"):
        headers = anna.client.get(path).headers
        assert {k: headers[k] for k in HEADERS} == HEADERS
    assert "unsafe" not in HEADERS["content-security-policy"]
    assert anna.get("/studies/tents/annotate").headers["cache-control"] == "no-store"


def test_nothing_in_a_page_needs_a_weaker_policy(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    olga = enter("olga", "owner")
    for path in ("/", "/studies/tents/annotate", "/studies/tents", "/studies/tents/settings"):
        page = olga.get(path).text
        assert not re.search(
            r"\sstyle=|\son[a-z]+=|<style|<script(?! src=\"/static/)|javascript:", page
        )


# -- signing in ---------------------------------------------------------------------------------------


def test_a_password_is_argon2id_with_the_parameters_promised(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "_hasher", PROMISED)
    accounts.add_account(site, "anna", PASSWORD)
    row = site.one(sa.select(tables.accounts.c.password))
    assert row.password.startswith("$argon2id$v=19$m=7168,t=5,p=1$")


@pytest.mark.parametrize("password", ["short", "x" * 257, "annaannaanna"])
def test_poor_passwords_are_refused(site: Site, password: str) -> None:
    with pytest.raises(ConfigError):
        accounts.add_account(site, "annaannaanna", password)


def test_the_session_is_new_at_every_sign_in_and_kept_hashed(site: Site, enter: Enter) -> None:
    anna = enter("anna")
    first = anna.client.cookies["accord"]
    stored = [r.token for r in site.all(sa.select(tables.sessions))]
    assert first not in stored
    anna.sign_in("anna")
    second = anna.client.cookies["accord"]
    assert second != first
    assert accounts.session(site, first) is None
    assert accounts.session(site, second) is not None


def test_a_cookie_planted_before_is_worth_nothing(site: Site) -> None:
    accounts.add_account(site, "anna", PASSWORD)
    browser = Browser(site)
    browser.client.cookies.set("accord", "planted")
    browser.sign_in("anna")
    assert accounts.session(site, "planted") is None


def test_sessions_end_unused_and_at_last(site: Site, enter: Enter, clock: Clock) -> None:
    anna = enter("anna")
    cookie = anna.client.cookies["accord"]
    clock.at += accounts.IDLE - 10
    assert accounts.session(site, cookie) is not None
    clock.at += accounts.IDLE + 10
    assert accounts.session(site, cookie) is None
    anna.sign_in("anna")
    cookie = anna.client.cookies["accord"]
    for _ in range(15):
        clock.at += accounts.IDLE - 10
        alive = accounts.session(site, cookie) is not None
    assert not alive
    assert "Sign in" in anna.get("/").text


def test_sign_out_and_a_new_password_end_sessions(site: Site, enter: Enter) -> None:
    anna, other = enter("anna"), Browser(site).sign_in("anna")
    anna.get("/account")
    wrong = anna.post("/account", old="wrong", new="another good one")
    assert wrong.status_code == 403
    assert anna.post("/account", old=PASSWORD, new="another good one").status_code == 200
    assert "Sign in" in other.get("/account").text
    assert "anna" in anna.get("/account").text
    cookie = anna.client.cookies["accord"]
    anna.post("/sign-out")
    assert accounts.session(site, cookie) is None


def test_a_disabled_account_is_out_at_once(site: Site, enter: Enter) -> None:
    anna = enter("anna")
    site.run(sa.update(tables.accounts).values(disabled=True))
    assert "Sign in" in anna.get("/").text
    assert anna.sign_in("anna").last.status_code == 403


def test_over_https_the_cookie_is_the_host_s_own(site: Site) -> None:
    site.origin = "https://judge.example"
    accounts.add_account(site, "anna", PASSWORD)
    client = TestClient(create_app(site), base_url=site.origin, headers={"origin": site.origin})
    token = re.search(r'name="csrf" value="([^"]+)"', client.get("/sign-in").text)
    assert token
    form = {"csrf": token[1], "name": "anna", "password": PASSWORD}
    told = client.post("/sign-in", data=form, follow_redirects=False)
    cookie = told.headers["set-cookie"].lower()
    assert cookie.startswith("__host-accord=")
    assert all(part in cookie for part in ("secure", "httponly", "samesite=lax", "path=/"))
    assert "domain" not in cookie
    assert "max-age" in told.headers["strict-transport-security"]


def test_guessing_is_slowed_and_the_right_one_waits_too(site: Site, clock: Clock) -> None:
    accounts.add_account(site, "anna", PASSWORD)
    browser = Browser(site)
    codes = [browser.sign_in("anna", "wrong password").last.status_code for _ in range(6)]
    assert codes == [403] * 5 + [429]
    slowed = browser.sign_in("anna").last
    assert slowed.status_code == 429
    assert int(slowed.headers["retry-after"]) >= 1
    clock.at += 3
    assert browser.sign_in("anna").last.status_code == 200
    events = [e["action"] for e in audit.newest(site, None)]
    assert events.count("sign-in failed") == 5


def test_a_password_is_changed_while_somebody_guesses_it(site: Site, enter: Enter) -> None:
    anna, other = enter("anna"), Browser(site)
    codes = [other.sign_in("anna", "wrong password").last.status_code for _ in range(6)]
    assert codes[-1] == 429
    anna.get("/account")
    told = anna.post("/account", old=PASSWORD, new="battery horse correct")
    assert "Password changed." in told.text
    assert anna.get("/account").status_code == 200


def test_an_unknown_name_is_told_the_same(site: Site) -> None:
    accounts.add_account(site, "anna", PASSWORD)
    one = Browser(site).sign_in("anna", "wrong password").last
    two = Browser(site).sign_in("nobody", "wrong password").last
    strip = re.compile(r'value="[0-9a-f]{64}"')
    assert (one.status_code, strip.sub("", one.text)) == (two.status_code, strip.sub("", two.text))


@pytest.mark.parametrize(
    "then", ["//evil.example", "https://evil.example", "/\\evil.example", "\\\\evil"]
)
def test_signing_in_leads_nowhere_else(site: Site, then: str) -> None:
    accounts.add_account(site, "anna", PASSWORD)
    browser = Browser(site)
    browser.client.follow_redirects = False
    told = browser.post("/sign-in", name="anna", password=PASSWORD, then=then)
    assert told.headers["location"] == "/"


# -- roles --------------------------------------------------------------------------------------------

PAGES = {  # path: what one must be allowed
    "/studies/tents/annotate": "annotate", "/studies/tents/done": "annotate",
    "/studies/tents": "look", "/studies/tents/raters": "look", "/studies/tents/guidelines": "look",
    "/studies/tents/disputes": "adjudicate", "/studies/tents/export": "export",
    "/studies/tents/export/judgments.csv": "export", "/studies/tents/people": "manage",
    "/studies/tents/settings": "manage", "/studies/tents/audit": "own",
}  # fmt: skip
FORMS = {
    "/studies/tents/undo": "annotate", "/studies/tents/disputes/x": "adjudicate",
    "/studies/tents/disputes/x/close": "adjudicate", "/studies/tents/export/freeze": "export",
    "/studies/tents/people": "manage", "/studies/tents/settings": "manage",
    "/studies/tents/guidelines": "manage", "/studies/tents/questions": "manage",
    "/studies/tents/tokens": "own", "/studies/tents/tokens/x/revoke": "own",
    "/studies/tents/webhooks": "own", "/studies/tents/webhooks/x/close": "own",
}  # fmt: skip


@pytest.mark.parametrize("role", [*ROLES, None])
def test_each_role_opens_what_it_may_and_nothing_else(
    site: Site, enter: Enter, role: str | None
) -> None:
    loaded(site, pairs_study())
    who = enter("anna", role)
    who.get("/account")
    csrf = who.csrf
    for path, what in PAGES.items():
        expected = 404 if role is None else 200 if role in MAY[what] else 403
        assert who.client.get(path).status_code == expected, path
    for path, what in FORMS.items():
        told = who.client.post(path, data={"csrf": csrf}).status_code
        if role is None:
            assert told == 404, path
        else:
            assert (told != 403) == (role in MAY[what]), (path, told)
    assert who.client.get("/studies").status_code == 403
    assert who.client.post("/studies", data={"csrf": csrf, "text": "name: x"}).status_code == 403


def test_a_manager_makes_no_owners_and_unmakes_none(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    enter("olga", "owner")
    mia = enter("mia", "manager")
    mia.get("/studies/tents/people")
    csrf = mia.csrf
    for fields in ({"name": "mia", "role": "owner"}, {"name": "olga"}, {"name": "olga", "role": "reader"},
                   {"name": "new", "role": "manager"}):  # fmt: skip
        told = mia.client.post("/studies/tents/people", data={"csrf": csrf, **fields})
        assert told.status_code == 403, fields
    roles = {r.role for r in site.all(sa.select(tables.roles))}
    assert roles == {"owner", "manager"}


def test_a_study_made_in_the_browser_reads_no_files(site: Site, enter: Enter) -> None:
    root = enter("root", admin=True)
    root.get("/studies")
    for line in ("file: /etc/passwd", "run: ..", "policies: [a]\n    prompts: /etc/passwd"):
        text = f"name: x\nquestions:\n  - kind: compare\n    {line}\n"
        told = root.post("/studies", text=text)
        assert told.status_code == 422
        assert "files" in told.text
    assert site.study("x") is None


def test_model_names_never_reach_a_browser(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study(overlap={"min": 1, "max": 1}))
    anna, olga = enter("anna", "annotator"), enter("olga", "owner")
    seen = ""
    page = anna.get("/studies/tents/annotate")
    while "/done" not in str(page.url):
        seen += page.text + str(page.headers)
        page = anna.answer(choice="0:1")
    ids = [r.id for r in site.all(sa.select(tables.study_questions))]
    seen += anna.get("/studies/tents/done").text
    seen += anna.post("/studies/tents/undo").text
    q = tables.study_questions
    site.run(sa.update(q).values(state="disputed"))
    for path in ("", "/raters", "/disputes", f"/disputes/{ids[0]}", "/settings", "/audit"):
        seen += olga.get(f"/studies/tents{path}").text
    prompts = {p.id: p for p in site.store.prompts()}
    known = [r.id_for(prompts[p]) for p, r in site.store.responses()]
    assert len(known) == 12
    asked = site.all(sa.select(q))
    guessed = [[r.study, r.block, r.prompt, json.loads(r.responses)] for r in asked]
    known += [content_hash(guess)[:24] for guess in guessed]
    known += [x.id for x in [*site.store.questions(), *site.store.judgments()]]
    assert len(known) == 12 + 3 * 6
    assert all(r.id in seen for r in asked)
    assert "secret" not in seen
    assert not [
        i for i in known if i in seen
    ]  # such an id is a hash of text and source, or of one that is: it could be guessed


# -- hostile texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize("evil", EVIL)
def test_hostile_text_is_only_text_wherever_it_is_stored(
    site: Site, enter: Enter, evil: str
) -> None:
    kinds = [
        {
            "kind": "compare",
            "ask": evil,
            "items": [{"prompt": evil, "responses": [evil, "b"], "category": evil[:80]}],
        },
        {"kind": "write", "items": [{"prompt": evil, "responses": [evil]}]},
    ]  # fmt: skip
    example = {"prompt": evil, "responses": [evil], "verdict": evil}
    study = study_of(
        *kinds, title=evil, guidelines=evil, criteria=[{"name": evil, "text": evil}], examples=[example],
        overlap={"min": 1, "max": 1},
    )  # fmt: skip
    loaded(site, study)
    olga = enter(
        f"o{evil}"[:60].strip().replace("\n", " ") if evil.isprintable() else "olga", "owner"
    )
    pages = [olga.get("/studies/tents/annotate").text]
    while "/done" not in str(olga.last.url):
        olga.post(f"/studies/tents/annotate/{olga.lease}/flag", reason=evil)
        pages.append(olga.last.text)
        olga.answer(choice="0:1", text=f"{evil} edited", rationale=evil)
        pages.append(olga.last.text)
    q = tables.study_questions
    site.run(sa.update(q).values(state="disputed"))
    ids = [r.id for r in site.all(sa.select(q))]
    paths = ["", "/raters", "/disputes", *(f"/disputes/{i}" for i in ids), "/guidelines", "/people",
             "/settings", "/export", "/audit"]  # fmt: skip
    pages += [olga.get(f"/studies/tents{p}").text for p in paths]
    pages += [olga.get("/").text, olga.get("/account").text]
    for text in pages:
        found = Elements(text)
        assert found.tags <= OURS | texts.TAGS
        assert not [a for a in found.attributes if a.startswith("on") or a in ("style", "srcdoc")]
        assert all(re.match(r"(/(?!/)|#|https?://|mailto:|\?)", link) for link in found.links), (
            found.links
        )
        assert found.scripts == {"/static/htmx.min.js", "/static/keep.js", "/static/accord.js"}


VS = "\ufe0f"
CONTROL = "\u202e\u2066\u200b\u2060\ufeff\u00ad\U000e0041"


def test_what_hides_is_shown() -> None:
    for render in (texts.markdown, texts.raw):
        shown = render(f"safe{CONTROL}text")
        for c in CONTROL:
            assert c not in shown
            assert f"U+{ord(c):04X}" in shown
    assert "👩‍🚀" in texts.markdown("an astronaut 👩‍🚀")  # a joiner inside an emoji belongs there
    assert "U+200D" in texts.markdown("pass\u200dword")
    for whole in (
        "❤\ufe0f",
        "👁\ufe0f\u200d🗨\ufe0f",
        "🕵🏻\u200d♂\ufe0f",
        "🏳\ufe0f\u200d🌈",
        "1\ufe0f\u20e3",
        "©\ufe0f",
    ):
        assert whole in texts.raw(f"x {whole}y")
        assert "U+" not in texts.markdown(f"x {whole}y")
    for text, marks in (
        (f"❤{VS * 50}x", 49), (f"x{VS}", 1), (f"1{VS}", 1), (f"🕵🏻{VS}", 1),
        ("❤\u200dx", 1), ("❤\u200d", 1), ("❤\u200d\u200d❤", 2), ("x\u200d❤", 1),
    ):  # fmt: skip
        assert texts.markdown(text).count("hidden-character") == marks, ascii(text)


def test_what_hides_in_a_rater_s_reasons_is_shown(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna, olga = enter("anna", "annotator"), enter("olga", "owner")
    anna.get("/studies/tents/annotate")
    anna.post(f"/studies/tents/annotate/{anna.lease}/flag", reason=f"see{CONTROL}this")
    anna.answer(choice="0:1", rationale=f"and{CONTROL}that")
    question = site.one(sa.select(tables.flags.c.question)).question
    page = olga.get(f"/studies/tents/disputes/{question}").text
    assert page.count("hidden-character") == 2 * len(CONTROL)
    assert not [c for c in CONTROL if c in page]


def test_links_go_out_only_and_say_nothing_of_us() -> None:
    html = texts.markdown(
        "[a](https://x.example) [b](/sign-out) [c](javascript:x) <b>d</b> ![e](http://x/y.png)"
    )
    assert 'href="https://x.example"' in html
    assert 'rel="noopener nofollow"' in html
    assert html.count("href") == 1
    assert "<img" not in html
    assert "&lt;b&gt;" in html


@given(st.text(max_size=200))
def test_no_text_makes_a_tag_that_is_not_allowed(text: str) -> None:
    allowed = texts.TAGS | {"span"}
    for tag in re.findall(r"<\s*/?\s*([a-zA-Z][\w-]*)", texts.markdown(text)):
        assert tag.lower() in allowed
    assert not re.search(r"<(?!span class=\"hidden-character\"|/span>)", texts.raw(text))


@given(st.text(max_size=60), st.text(max_size=60))
def test_a_difference_holds_both_texts_and_escapes_them(a: str, b: str) -> None:
    for marks in (texts.EDIT, texts.NEUTRAL):
        sides = texts.difference(a, b, marks)
        for html, text, mark in zip(sides, (a, b), marks, strict=True):
            assert re.sub(f"</?{mark}>", "", html) == texts.raw(text)


def test_a_numbered_list_keeps_its_number() -> None:
    assert texts.markdown("3. third").startswith('<ol start="3">')


def test_no_browser_gives_back_what_another_person_typed() -> None:
    """Browsers fill a form in again on the way back, whoever is signed in by then."""
    forms = [
        (file.name, form)
        for file in (HERE / "templates").glob("*.html")
        for form in re.findall(r"<form [^>]*data-keep=[^>]*>", file.read_text())
    ]
    assert len(forms) > 10
    assert [name for name, form in forms if 'autocomplete="off"' not in form] == []
