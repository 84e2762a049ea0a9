"""Backup, restore, verify, and the commands that do it; the study file; the shipped example."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from accord.cli import main
from accord.core.errors import AccordError, ConfigError, DataError
from accord.feedback.study.definition import check_item, read_items, read_study
from accord.store import Store
from accord.web import tables
from accord.web.backup import backup, restore
from accord.web.guard import audit
from accord.web.serving import serve_study
from accord.web.site import Site
from accord.web.work.studies import load_study, save_study
from tests.store.conftest import postgres
from tests.web.conftest import Enter, either, loaded, pairs_study, study_of

RECIPE = Path(__file__).parents[2] / "recipes" / "collect" / "study.yaml"


def accord(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    before, sys.argv = sys.argv, ["accord", "collect", *words]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def work(site: Site, enter: Enter) -> None:
    loaded(site, pairs_study())
    anna = enter("anna", "annotator")
    anna.get("/studies/tents/annotate")
    while "/done" not in str(anna.last.url):
        anna.answer(choice="0:1", rationale="é 👩‍🚀 \u202e")


def everything(site: Site) -> dict[str, list[tuple[object, ...]]]:
    """All rows of all tables, without sessions and attempts."""
    from accord.web.backup import _all

    return {t.name: sorted(map(tuple, site.all(sa.select(t))), key=str) for t in _all()}


@pytest.mark.parametrize(
    ("where", "to"),
    [("sqlite", "sqlite"), ("sqlite", "postgresql"), ("postgresql", "sqlite")],
    indirect=["where"],
)
def test_a_backup_is_the_store_again(
    site: Site, enter: Enter, tmp_path: Path, where: str, to: str
) -> None:
    new = postgres() if to == "postgresql" else str(tmp_path / "new.db")
    work(site, enter)
    backup(where, tmp_path / "b.jsonl.gz")
    assert restore(tmp_path / "b.jsonl.gz", new) == (6, audit.verify_events(site))
    with Store(new, create=False) as again:
        assert everything(Site(again)) == everything(site)
        assert again.judgments() == site.store.judgments()
    with pytest.raises(AccordError, match="holds something already"):
        restore(tmp_path / "b.jsonl.gz", new)


@pytest.mark.parametrize("harm", ["cut", "changed", "not gzip", "not ours", "another schema"])
def test_a_damaged_backup_leaves_no_store(
    site: Site, enter: Enter, tmp_path: Path, harm: str
) -> None:
    work(site, enter)
    file, target = tmp_path / "b.jsonl.gz", tmp_path / "new.db"
    backup(site.store.name, file)
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    changed = {
        "cut": lambda: gzip.compress(b"".join(lines[:-2])),
        "changed": lambda: gzip.compress(b"".join(lines).replace(b"tent 3", b"tent 9", 1)),
        "not gzip": lambda: b"".join(lines),
        "not ours": lambda: gzip.compress(b'{"a": 1}\n'),
        "another schema": lambda: gzip.compress(b'{"accord": "backup", "schema": "0009"}\n'),
    }
    file.write_bytes(changed[harm]())
    with pytest.raises(DataError):
        restore(file, str(target))
    assert not target.exists()


def test_the_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with Store("study.db") as store:
        load_study(Site(store), pairs_study())
    code, out, _ = accord(capsys, "user", "anna", "--study", "tents", "--role", "annotator")
    assert code == 0
    assert "password" in out
    assert "anna is annotator in tents" in out
    assert (
        "password" not in accord(capsys, "user", "anna", "--study", "tents", "--role", "owner")[1]
    )
    assert "password" in accord(capsys, "user", "anna", "--reset")[1]
    assert accord(capsys, "user", "anna", "--disable")[1] == "anna is shut out\n"
    assert accord(capsys, "user", "anna", "--enable")[1] == "anna is let in\n"
    assert accord(capsys, "token", "tents", "ci", "--scope", "questions:read")[1].startswith("acc_")
    assert "0 judgments and" in accord(capsys, "verify", "study.db")[1]
    assert accord(capsys, "backup", "study.db", "b.jsonl.gz")[0] == 0
    assert "restored" in accord(capsys, "restore", "b.jsonl.gz", "two.db")[1]
    wrong = {
        ("user", "x", "--study", "tents"): "go together",
        ("user", "x", "--disable"): "nobody is called 'x'",
        ("user", "x", "--study", "none", "--role", "owner"): "no study 'none'",
        ("user", "x", "--study", "tents", "--role", "king"): "is no role",
        ("token", "tents", "x", "--scope", "all"): "unknown scope",
        ("backup", "study.db", "b.jsonl.gz"): "is there already",
        ("backup", "none.db", "c.jsonl.gz"): "no such store",
        ("restore", "none", "three.db"): "no such file",
        ("export", "study.db", "none", "x.jsonl"): "no study 'none'",
        ("export", "study.db", "tents", "x.jsonl"): "holds nothing",
        ("serve", "none.yaml"): "no such file",
        ("serve", str(RECIPE), "--host", "0.0.0.0"): "plain http",
        ("serve", str(RECIPE), "--set", "name=Not A Name"): "name",
    }
    for words, said in wrong.items():
        code, out, err = accord(capsys, *words)
        assert (code, out) == (2, ""), words
        assert said in err
        assert err.count("\n") == 1


def test_verify_finds_a_changed_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "study.db"
    with Store(path) as store:
        load_study(Site(store), pairs_study())
        with store.database.engine.begin() as connection:
            connection.exec_driver_sql("DROP TRIGGER events_no_update")
            connection.exec_driver_sql("UPDATE events SET body = replace(body, 'cli', 'eve')")
    code, _, err = accord(capsys, "verify", str(path))
    assert code == 2
    assert "event 1 of the audit log is not what was written" in err


# -- the study file -----------------------------------------------------------------------------------


@either
def test_the_shipped_example_loads_and_loads_again(site: Site) -> None:
    study = read_study(RECIPE)
    kinds = {ask.kind for ask in study.questions}
    assert kinds == {"compare", "rate", "rank", "thumb", "steps", "write"}
    new = load_study(site, study)
    assert new == 77
    assert load_study(site, read_study(RECIPE)) == 0
    gold = site.one(sa.select(sa.func.count()).where(tables.study_questions.c.gold.is_not(None)))[0]
    assert gold == 6
    assert len(audit.newest(site, "support")) == 8  # saved, guidelines, six blocks: once each


def test_what_was_changed_in_the_browser_survives_a_restart(site: Site, enter: Enter) -> None:
    study = loaded(site, pairs_study(guidelines="Be kind."))
    olga = enter("olga", "owner")
    olga.get("/studies/tents/guidelines")
    olga.post("/studies/tents/guidelines", text="Be right.")
    changed = study.model_copy(update={"title": "Changed in the browser"})
    save_study(site, changed, "olga")
    load_study(site, study)
    assert json.loads(site.guideline("tents").document)["text"] == "Be right."
    assert site.study("tents") == changed.model_copy(
        update={"questions": site.study("tents").questions}
    )  # type: ignore[union-attr]
    load_study(site, pairs_study(guidelines="Be brief.", title="New in the file"))
    assert json.loads(site.guideline("tents").document)["text"] == "Be brief."
    assert site.study("tents").title == "New in the file"  # type: ignore[union-attr]


def test_a_block_never_becomes_another_kind(site: Site) -> None:
    loaded(site, pairs_study())
    with pytest.raises(ConfigError, match="compare, then more"):
        load_study(site, study_of({"kind": "thumb"}, title="x"))
    load_study(site, study_of({"kind": "compare"}, {"kind": "thumb"}, title="x"))


WRONG = {
    "name: Not A Name": "name",
    "name: a\nquestions: [{kind: guess}]": "questions.0",
    "name: a\nquestions: [{kind: compare, points: 6}]": "points",
    "name: a\nquestions: [{kind: rate, axes: []}]": "axes",
    "name: a\noverlap: {min: 3, max: 2}": "overlap",
    "name: a\nassignment: {random: 0.0, information: 1.0}": "random",
    "name: a\nassignment: {random: 0.5}": "sum to 1",
    "name: a\ngold_rate: 0.9": "gold_rate",
    "name: a\nquestions: [{kind: thumb, file: a, run: b}]": "one source",
    "name: a\nquestions: [{kind: compare, policies: [a, b]}]": "prompts",
    "name: a\nguidelines: missing.md": "missing.md",
    "name: a\nnmae: b": "nmae",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_study_is_told_with_its_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError, match=WRONG[text]):
        read_study(tmp_path / "s.yaml")


def test_wrong_items_are_told_with_their_line(tmp_path: Path) -> None:
    rows = [
        '{"prompt": "a", "responses": ["x", "y"]}',
        '{"prompt": "a", "responses": ["x"]}',
        '{"prmpt": 1}',
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(rows[:2]))
    (tmp_path / "s.yaml").write_text("name: a\nquestions: [{kind: compare, file: q.jsonl}]")
    study = read_study(tmp_path / "s.yaml")
    items = read_items(study.questions[0], tmp_path)
    assert check_item(study.questions[0], items[0][1], items[0][0])
    with pytest.raises(DataError, match=r"q\.jsonl:2.*1 responses for a compare"):
        check_item(study.questions[0], items[1][1], items[1][0])
    (tmp_path / "q.jsonl").write_text(rows[2])
    with pytest.raises(DataError, match=r"q\.jsonl:1"):
        read_items(study.questions[0], tmp_path)


GOLD: list[tuple[dict[str, object], list[str], dict[str, object], bool]] = [
    ({"kind": "compare"}, ["a", "b"], {"better": None}, True),
    ({"kind": "compare"}, ["a", "b"], {"better": 2}, False),
    ({"kind": "rate", "axes": [{"name": "x"}], "points": 7}, ["a"], {"scores": {"x": 7}}, True),
    ({"kind": "rate", "axes": [{"name": "x"}], "points": 5}, ["a"], {"scores": {"x": 7}}, False),
    ({"kind": "rate", "axes": [{"name": "x"}, {"name": "y"}]}, ["a"], {"scores": {"x": 1}}, False),
    ({"kind": "rank"}, ["a", "b", "c"], {"ranks": [1, 2, 3]}, True),
    ({"kind": "rank"}, ["a", "b", "c"], {"ranks": [1, 2]}, False),
    ({"kind": "steps"}, ["a\nb"], {"labels": [1, -1]}, True),
    ({"kind": "steps"}, ["a\nb"], {"labels": [1]}, False),
    ({"kind": "thumb"}, ["a"], {"up": True}, True),
    ({"kind": "write"}, [], {"text": "x"}, False),
]


@pytest.mark.parametrize(("kind", "shown", "gold", "good"), GOLD)
def test_a_known_answer_must_be_one(
    kind: dict[str, object], shown: list[str], gold: dict[str, object], good: bool
) -> None:
    item = {"prompt": "p", "responses": shown, "gold": gold}
    ask = study_of({**kind, "items": [item]}).questions[0]
    if good:
        _, _, known = check_item(ask, ask.items[0], "here")
        assert known is not None
    else:
        with pytest.raises(DataError, match="here"):
            check_item(ask, ask.items[0], "here")


def test_a_run_s_answers_become_questions(tmp_path: Path) -> None:
    for policy, text in (("eval_a", "yes"), ("eval_b", "no")):
        folder = tmp_path / "run" / policy
        folder.mkdir(parents=True)
        row = {
            "prompt": {"messages": [{"role": "user", "content": "Hi?"}], "tags": {"category": "c"}},
            "response": {"text": text, "source": "model:x"},
        }
        (folder / "answers.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "s.yaml").write_text(
        "name: a\nquestions: [{kind: compare, run: run}, {kind: thumb, run: run}]"
    )
    study = read_study(tmp_path / "s.yaml")
    compare, thumb = (read_items(ask, tmp_path) for ask in study.questions)
    prompt, shown, _ = check_item(study.questions[0], compare[0][1], compare[0][0])
    assert prompt.tags == {"category": "c"}
    assert [r.source for r in shown] == ["run:run:eval_a", "run:run:eval_b"]
    assert len(thumb) == 2


def test_a_policy_that_is_not_served_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("name: a\narena: {policies: [x, y]}")
    with pytest.raises(ConfigError, match="policy 'x' is not being served"):
        serve_study(tmp_path / "s.yaml", str(tmp_path / "s.db"), "127.0.0.1", 8000, None, [])
