"""Clocks that are set back or on, and scales that change under those who answer on them."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from accord.cli import main
from accord.core.errors import ConfigError
from accord.core.types import Preference
from accord.web.guard import accounts, throttle, tokens
from accord.web.site import Site, steady
from accord.web.work import leases
from accord.web.work.studies import load_study
from tests.web.conftest import PAIRS, PASSWORD, Clock, Enter, loaded, pairs_study, study_of
from tests.web.test_leases import person


def test_a_steady_clock_never_goes_back_and_keeps_its_pace() -> None:
    wall, elapsed = Clock(), Clock()
    start, now = wall.at, steady(wall, elapsed)
    seen = []
    for moved, passed in [(10, 10), (-3600, 5), (5, 5), (3590, 20), (7200, 1)]:
        wall.at, elapsed.at = wall.at + moved, elapsed.at + passed
        seen.append(now() - start)
    # 10 s on; an hour back, 5 s later; 5 s later; the wall is at 5 s, 20 s later; set on two hours
    assert seen == [10, 15, 20, 40, 7205]


@pytest.mark.parametrize(("moved", "told", "kept"), [
    (-3600, "3", 3.0), (-3600, "", 0.0), (-1, "9", 9.0), (0, "9", 0.0), (7, "3", 3.0), (7, "", 7.0),
    (7, "0", 0.0), (3600, "12", 12.0),
])  # fmt: skip
def test_no_clock_makes_an_answer_take_less_than_nothing(
    site: Site, enter: Enter, clock: Clock, moved: float, told: str, kept: float
) -> None:
    loaded(site, study_of({"kind": "compare", "items": PAIRS[:1]}, lease_minutes=1440))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    form = {"base": "", "seconds": told, "choice": "0:1", "csrf": anna.csrf}
    url = f"/studies/tents/annotate/{anna.lease}"
    clock.at += moved
    anna.client.post(url, data=form)
    (judgment,) = site.store.judgments()
    assert judgment.seconds == kept


def test_a_clock_set_back_makes_nobody_wait_longer(site: Site, clock: Clock) -> None:
    accounts.add_account(site, "anna", PASSWORD)
    for _ in range(throttle.FREE_BY_NAME):
        accounts.sign_in(site, "anna", "wrong", None, None)
    clock.at -= 7200  # the server was stopped and started again
    with pytest.raises(throttle.Throttled) as told:
        accounts.sign_in(site, "anna", PASSWORD, None, None)
    assert told.value.seconds <= 3


def test_the_last_answer_is_the_last_in_the_chain(site: Site, clock: Clock) -> None:
    study = pairs_study()
    load_study(site, study)
    anna = person(site, "anna")
    for _ in range(3):
        lease = leases.claim(site, study, anna)
        assert lease is not None
        leases.submit(site, study, anna, lease.id, Preference(better=0), base="")
        assert leases.last_submitted(site, study, anna) == lease.id
        clock.at -= 3600


RATE: dict[str, Any] = {"kind": "rate", "axes": [{"name": "tone"}, {"name": "fact"}]}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "points of a comparison": ({"kind": "compare"}, {"points": 7}, "points"),
    "no more ties": ({"kind": "compare"}, {"tie": False}, "tie"),
    "no more both bad": ({"kind": "compare"}, {"both_bad": False}, "both_bad"),
    "points of a rating": (RATE, {"points": 7}, "points"),
    "an axis more": (RATE, {"axes": [*RATE["axes"], {"name": "care"}]}, "axes"),
    "an axis less": (RATE, {"axes": RATE["axes"][:1]}, "axes"),
    "axes in another order": (RATE, {"axes": RATE["axes"][::-1]}, "axes"),
    "a scale turned round": (RATE, {"axes": [{"name": "tone", "low": "excellent", "high": "poor"},
                                             {"name": "fact"}]}, "axes"),
    "no more equal ranks": ({"kind": "rank"}, {"ties": False}, "ties"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_scale_stays_what_it_was_once_people_answer_on_it(site: Site, name: str) -> None:
    block, change, key = CHANGES[name]
    shown = ["a"] if block["kind"] == "rate" else ["a", "b"]
    items = [{"prompt": "p", "responses": shown}]
    before = study_of({**block, "items": items})
    load_study(
        site, study_of({**block, **change, "items": items})
    )  # nobody has begun: it may change
    load_study(site, before)
    assert leases.claim(site, before, person(site, "anna")) is not None
    with pytest.raises(
        ConfigError, match=rf"questions\.0\.{key}: can't change.*further block"
    ) as told:
        load_study(site, study_of({**block, **change, "items": items}))
    assert "\n" not in str(told.value)
    assert site.study("tents") == before.model_copy(
        update={"questions": site.study("tents").questions}
    )  # type: ignore[union-attr]
    load_study(
        site, study_of({**block, "items": items}, {**block, **change})
    )  # as a block of its own
    reworded = {**block, "items": items, "ask": "Which one helps more?"}
    if "axes" in block:
        reworded["axes"] = [{**axis, "text": "explained"} for axis in block["axes"]]
    load_study(site, study_of(reworded, {**block, **change}))


def test_no_door_changes_a_scale_people_answer_on(
    site: Site, enter: Enter, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    block = {"kind": "compare", "points": 5, "items": PAIRS}
    study = loaded(site, study_of(block, RATE))
    olga, admin = enter("olga", "owner"), enter("admin", admin=True)
    page = olga.get("/studies/tents/annotate") and olga.get("/studies/tents/settings").text
    fields = dict(re.findall(r'name="(\w+)" type="number"[^>]* value="([^"]*)"', page))
    more = {"points": "7", "tie": "", "questions": "[]", "axes": "[]", "questions.0.points": "7"}
    assert "Saved" in olga.post("/studies/tents/settings", **fields, **more, title="New").text
    olga.get("/studies/tents/guidelines")
    olga.post("/studies/tents/guidelines", text="Be kind.", **more)
    changed = yaml.safe_dump(study_of({**block, "points": 7}, RATE).model_dump(mode="json"))
    admin.get("/studies")
    assert "is taken" in html.unescape(admin.post("/studies", text=changed).text)
    api = {"authorization": f"Bearer {tokens.add(site, 'tents', 'x', list(tokens.SCOPES), 'x')}"}
    for method in ("put", "patch", "post"):
        for path in ("", "/settings"):
            url = f"/api/v1/studies/tents{path}"
            told = getattr(olga.client, method)(url, json={"points": 7}, headers=api)
            assert told.status_code in (404, 405)
    now = site.study("tents")
    assert now is not None
    assert [a.model_copy(update={"items": []}) for a in study.questions] == list(now.questions)

    file = tmp_path / "study.yaml"
    monkeypatch.setattr(uvicorn.Server, "run", lambda *_, **__: pytest.fail("it is served"))
    for text, sets in (
        (changed, []),
        (changed.replace("points: 7", "points: 5"), ["questions.0.points=7"]),
    ):
        file.write_text(text)
        command = ["accord", "collect", "serve", str(file), "--store", where, "--port", "8765"]
        monkeypatch.setattr("sys.argv", command + [f"--set={s}" for s in sets])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        for words in ("questions.0.points", "can't change", "allowed: 5", "further block"):
            assert words in line
