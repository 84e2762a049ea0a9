"""An annotator's work, from the click to the store."""

from __future__ import annotations

import re
from typing import Any

import pytest

from accord.core.types import (
    Answer,
    Preference,
    Ranking,
    Rating,
    StepLabels,
    Thumb,
    Writing,
)
from accord.web.pages.answers import fields_of
from accord.web.site import Site, document
from accord.web.work.leases import expire
from accord.web.work.studies import add_guideline
from tests.web.conftest import PAIRS, Clock, Enter, either, loaded, pairs_study, study_of


@either
def test_a_comparison_reaches_the_store_in_the_order_shown(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    page = anna.get("/studies/tents/annotate").text
    first = page.index("It may, <strong>in</strong>") < page.index("Never at all")
    anna.answer(choice="1:1", rationale="because", seconds="7")
    (judgment,) = site.store.judgments()
    told = site.store.judgment(judgment.id)
    assert judgment.answer == Preference(better=1)
    assert told.responses[0].text.startswith("It may" if first else "Never")
    assert (told.rater.name, told.rater.kind, judgment.rationale) == ("anna", "human", "because")
    assert "<strong>1</strong> done" in anna.last.text


@either
def test_every_kind_is_answered_and_comes_back_in_the_form(
    site: Site, enter: Enter, clock: Clock
) -> None:
    prompt = "2+2?"
    kinds: list[tuple[dict[str, Any], list[str], dict[str, str], Answer]] = [
        ({"kind": "compare", "points": 5}, ["a", "b"], {"choice": "1:2"}, Preference(better=1, strength=2)),
        ({"kind": "compare", "points": 7}, ["a", "b"], {"choice": "0:3"}, Preference(better=0, strength=3)),
        ({"kind": "compare"}, ["a", "b"], {"choice": "bad"}, Preference(better=None, both_bad=True)),
        ({"kind": "compare"}, ["a", "b"], {"choice": "tie"}, Preference(better=None)),
        ({"kind": "rate", "axes": [{"name": "tone"}, {"name": "fact"}], "points": 7}, ["a"],
         {"group-0": "7", "group-1": "2"}, Rating(scores={"tone": 7, "fact": 2}, highest=7)),
        ({"kind": "rank"}, ["a", "b", "c", "d"], {f"group-{i}": r for i, r in enumerate("4114")},
         Ranking(ranks=(2, 1, 1, 2))),
        ({"kind": "thumb"}, ["a"], {"choice": "down"}, Thumb(up=False)),
        ({"kind": "steps"}, ["one\n\ntwo"], {"group-0": "good", "group-1": "bad"},
         StepLabels(labels=(1, -1))),
        ({"kind": "write"}, ["a draft"], {"text": " An edit.\r\nTwo. "},
         Writing(text="An edit.\nTwo.", edits=0)),
        ({"kind": "write"}, [], {"text": "Four."}, Writing(text="Four.")),
    ]  # fmt: skip
    questions = [
        {**kind, "items": [{"prompt": f"{prompt} {n}", "responses": shown}]}
        for n, (kind, shown, _, _) in enumerate(kinds)
    ]
    study = loaded(site, study_of(*questions))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    for _ in kinds:
        found = re.search(r"2\+2\? (\d)</p>", anna.last.text)
        assert found
        _, _, fields, expected = kinds[int(found[1])]
        wrong = anna.answer()
        assert (wrong.status_code, site.store.counts()["judgments"]) in {
            (422, n) for n in range(10)
        }
        clock.at += 1
        anna.answer(**fields)
        last = site.store.judgments()[-1]
        assert last.answer == expected
        anna.post("/studies/tents/undo")
        assert f'value="{site.opaque(last.id)}"' in anna.last.text
        for key, value in fields_of(expected, study.questions[int(found[1])]).items():
            if key == "text":
                assert (
                    ">An edit.\nTwo.</textarea>" in anna.last.text
                    or ">Four.</textarea>" in anna.last.text
                )
            else:
                assert re.search(rf'name="{key}" value="{value}" checked', anna.last.text), key
        anna.get("/studies/tents/annotate")
    assert "All done" in anna.last.text


WRONG: list[tuple[dict[str, Any], list[str], dict[str, str]]] = [
    ({"kind": "compare"}, ["a", "b"], {"choice": "0:2"}),
    ({"kind": "compare", "tie": False}, ["a", "b"], {"choice": "tie"}),
    ({"kind": "compare", "both_bad": False}, ["a", "b"], {"choice": "bad"}),
    ({"kind": "rate", "axes": [{"name": "x"}]}, ["a"], {"group-0": "6"}),
    ({"kind": "rate", "axes": [{"name": "x"}]}, ["a"], {"group-0": "²"}),
    (
        {"kind": "rank", "ties": False},
        ["a", "b", "c"],
        {"group-0": "1", "group-1": "1", "group-2": "2"},
    ),
    ({"kind": "rank"}, ["a", "b", "c"], {"group-0": "1", "group-1": "2"}),
    ({"kind": "thumb"}, ["a"], {"choice": "0:1"}),
    ({"kind": "steps"}, ["a\nb"], {"group-0": "good"}),
    ({"kind": "write", "minimum": 5}, [], {"text": "abc"}),
    ({"kind": "write"}, ["same"], {"text": "same "}),
]


@pytest.mark.parametrize(("kind", "shown", "fields"), WRONG)
def test_an_answer_that_does_not_fit_is_told_and_nothing_is_lost(
    site: Site, enter: Enter, kind: dict[str, Any], shown: list[str], fields: dict[str, str]
) -> None:
    loaded(site, study_of({**kind, "items": [{"prompt": "p", "responses": shown}]}))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    told = anna.answer(**fields, rationale="typed for long")
    assert told.status_code == 422
    assert 'class="notice"' in told.text
    assert "typed for long" in told.text
    assert site.store.counts()["judgments"] == 0


@either
def test_drafts_come_back_and_go_with_the_answer(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    url, csrf = f"/studies/tents/annotate/{anna.lease}/draft", anna.csrf
    saved = anna.client.post(
        url, data={"csrf": csrf, "choice": "1:1", "rationale": "half a tho", "seconds": "9"}
    )
    assert saved.text == "Saved"
    page = anna.get("/studies/tents/annotate").text
    assert "half a tho" in page
    assert 'value="1:1" checked' in page
    assert 'name="seconds" value="9"' in page
    anna.answer(choice="1:1")
    assert "half a tho" not in anna.last.text
    late = anna.client.post(url, data={"csrf": csrf, "choice": "0:1"})
    assert (late.status_code, late.text) == (200, "")


def test_a_worked_example_may_have_many_responses(site: Site, enter: Enter) -> None:
    many = [f"response no {n}" for n in range(28)]
    loaded(site, pairs_study(examples=[{"prompt": "p", "responses": many, "verdict": "v"}]))
    anna, olga = enter("anna", "annotator"), enter("olga", "owner")
    page = anna.get("/studies/tents/annotate").text
    assert "<strong>Z</strong>" in page
    assert "<strong>28</strong>" in page
    page = olga.get("/studies/tents/guidelines").text
    fields = dict(re.findall(r'name="(example-0-response\w+)" rows="3">([^<]*)<', page))
    assert list(fields.values()) == many
    fields |= {"example-0-prompt": "p", "example-0-verdict": "v", "text": "new"}
    olga.post("/studies/tents/guidelines", **fields)
    assert document(site.guideline("tents", 2).document)["examples"][0]["responses"] == many


def test_a_skip_after_time_ran_out_is_kept_or_told(site: Site, enter: Enter, clock: Clock) -> None:
    loaded(site, study_of({"kind": "compare", "items": PAIRS[:1]}, lease_minutes=1.0))
    anna, ben = enter("anna", "annotator"), enter("ben", "annotator")
    anna.get("/studies/tents/annotate")
    first, csrf = anna.lease, anna.csrf
    clock.at += 100
    ben.get("/studies/tents/annotate")  # the question goes to ben, and back
    ben.post(f"/studies/tents/annotate/{ben.lease}/skip", reason="no idea")
    anna.get("/studies/tents/annotate")
    again = anna.lease
    told = anna.post(f"/studies/tents/annotate/{first}/skip", reason="late", csrf=csrf)
    assert "Not skipped" in told.text
    assert anna.lease == again
    clock.at += 100
    expire(site, "tents")
    anna.post(f"/studies/tents/annotate/{again}/skip", reason="late", csrf=csrf)
    assert "All done" in anna.last.text


@either
def test_a_lost_lease_is_told(site: Site, enter: Enter, clock: Clock) -> None:
    one = study_of({"kind": "compare", "items": PAIRS[:1]}, lease_minutes=1.0)
    loaded(site, one)
    anna, ben = enter("anna", "annotator"), enter("ben", "annotator")
    anna.get("/studies/tents/annotate")
    lease = anna.lease
    clock.at += 100
    ben.get("/studies/tents/annotate")
    ben.answer(choice="0:1")
    csrf = anna.csrf
    draft = anna.client.post(
        f"/studies/tents/annotate/{lease}/draft", data={"csrf": csrf, "choice": "0:1"}
    )
    assert draft.status_code == 409
    told = anna.answer(choice="0:1")
    assert "All done" in told.text
    (judgment,) = site.store.judgments()
    assert site.store.judgment(judgment.id).rater.name == "ben"


@either
def test_skip_flag_and_what_is_done(site: Site, enter: Enter, clock: Clock) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    anna.post(f"/studies/tents/annotate/{anna.lease}/flag", reason="a phone number")
    assert "Flagged" in anna.last.text
    lease = anna.lease
    assert anna.post(f"/studies/tents/annotate/{lease}/skip", reason="").status_code == 422
    anna.post(f"/studies/tents/annotate/{lease}/skip", reason="no idea")
    assert anna.lease != lease
    for n in range(5):
        clock.at += 60
        anna.answer(choice="0:1", seconds=str(10 + n), rationale=f"why {n}")
    assert "<strong>5</strong> answered" in anna.last.text
    assert "about 12 s each" in anna.last.text
    assert "why 4" in anna.last.text


def test_a_claim_of_more_time_than_there_was_is_cut(site: Site, enter: Enter, clock: Clock) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    clock.at += 7
    anna.answer(choice="0:1", seconds="5000")
    clock.at += 7
    anna.answer(choice="0:1", seconds="nan")
    assert [j.seconds for j in site.store.judgments()] == [7.0, 7.0]


def test_the_quiz_comes_first(site: Site, enter: Enter) -> None:
    ask = {"prompt": "p", "responses": ["good", "bad"], "answer": "first", "why": "because it is"}
    loaded(site, pairs_study(quiz={"questions": [ask, ask], "pass_share": 0.5}))
    anna = enter("anna", "annotator")
    assert "Before you start" in anna.get("/studies/tents/annotate").text
    anna.post("/studies/tents/quiz", **{"quiz-0": "second", "quiz-1": "tie"})
    assert "0 of 2 right" in anna.last.text
    assert "because it is" in anna.last.text
    anna.post("/studies/tents/quiz", **{"quiz-0": "first", "quiz-1": "tie"})
    assert anna.lease


def test_the_preview_shows_what_changed(site: Site, enter: Enter) -> None:
    loaded(
        site, study_of({"kind": "write", "items": [{"prompt": "p", "responses": ["it is dry"]}]})
    )
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    anna.post(f"/studies/tents/annotate/{anna.lease}/preview", text="it is **wet**")
    assert "<strong>wet</strong>" in anna.last.text
    assert "<del>dry</del>" in anna.last.text


@either
def test_new_guidelines_are_announced_with_what_changed(
    site: Site, enter: Enter, clock: Clock
) -> None:
    study = loaded(site, pairs_study(guidelines="Be kind.\nBe brief."))
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    anna.answer(choice="0:1")
    add_guideline(
        site, "tents", {**study.guideline_document(), "text": "Be kind.\nBe right."}, "olga"
    )
    assert (
        "guidelines have changed" not in anna.last.text
    )  # this question was given out under the old ones
    anna.answer(choice="0:1")
    assert "guidelines have changed" in anna.last.text
    assert "<ins>Be right.</ins>" in anna.last.text
    clock.at += 1
    anna.answer(choice="0:1")
    assert "guidelines have changed" not in anna.last.text
