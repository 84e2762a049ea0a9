"""A win rate by a judge with planted errors; examples, references and a cost from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from accord.core.errors import ConfigError, DataError
from accord.core.seeds import rng
from accord.core.types import Judgment, Preference, Prompt, Question, Rater, Response
from accord.judges.files import read_examples, read_references
from accord.judges.winrate import win_rate
from accord.stats.judged import corrected_share
from accord.store import Store
from tests.feedback.study import simulate
from tests.test_cli import accord, assert_one_line

AT = "2026-05-04T10:00:00+00:00"
TRUE, WINS_RIGHT, LOSSES_RIGHT = 0.6, 0.85, 0.7


def study(path: Path, pairs: int, people: int, seed: int) -> None:
    """New beats old in TRUE of all pairs; the judge says so in WINS_RIGHT of the wins and 1 - LOSSES_RIGHT of
    the losses; people judge the first ones."""
    draw = rng(seed, "win rate")
    judge, person = Rater(name="j pairwise@1", kind="model"), Rater(name="Ada", kind="human")
    questions, judgments, answers = [], [], []
    with Store(path) as store:
        store.add_raters([judge, person])
        for k in range(pairs):
            prompt = Prompt.user(f"Question {k}?")
            shown = [Response(text=f"{k} {s}", source=s) for s in ("model:new", "model:old")]
            draw.shuffle(shown)
            answers += [(prompt, r) for r in shown]
            new = [r.source for r in shown].index("model:new")
            ids = tuple(r.id_for(prompt) for r in shown)
            q = Question(prompt=prompt.id, responses=ids, kind="compare")
            win = draw.random() < TRUE
            says = win if draw.random() < (WINS_RIGHT if win else LOSSES_RIGHT) else not win
            first = says == (new == 0)
            said = Preference(better=int(not first), p=0.8 if first else 0.2)
            questions.append(q)
            judgments.append(Judgment(question=q.id, rater=judge.id, answer=said, at=AT))
            if k < people:
                better = new if win else 1 - new
                answer = Preference(better=0 if better == 0 else 1)
                judgments.append(Judgment(question=q.id, rater=person.id, answer=answer, at=AT))
        store.add_prompts([p for p, _ in answers])
        store.add_all_responses(answers)
        store.add_questions(questions)
        store.add_judgments(judgments)
        store.freeze("v1")


def test_the_planted_rate_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The judge says .6·.85 + .4·.3 = .63 and people know .6: both are in their intervals, the figures are
    those of the counts, and the other way round is one minus."""
    study(tmp_path / "w.db", pairs=1500, people=500, seed=1)
    with Store(tmp_path / "w.db", create=False) as store:
        found = win_rate(store.snapshot("v1"), "j", "model:new", "model:old")
        turned = win_rate(store.snapshot("v1"), "", "model:old", "model:new")
        with pytest.raises(DataError, match="decided no pair of model:new and model:older"):
            win_rate(store.snapshot("v1"), "j", "model:new", "model:older")
        with pytest.raises(ConfigError, match="0 judges are called 'k'"):
            win_rate(store.snapshot("v1"), "k", "model:new", "model:old")
    said = TRUE * WINS_RIGHT + (1 - TRUE) * (1 - LOSSES_RIGHT)
    assert found.both == 500
    for metric, truth in ((found.raw, said), (found.corrected, TRUE)):
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low < truth < metric.high
    assert found.corrected.n == 1500
    assert turned.raw.value == pytest.approx(1 - (found.raw.value or 0))
    assert turned.corrected.value == pytest.approx(1 - (found.corrected.value or 0))
    code, out, _ = accord(
        capsys, "judge", "winrate", f"{tmp_path}/w.db@v1", "--of", "model:new", "--over", "model:old"
    )  # fmt: skip
    assert code == 0
    assert f"corrected for its errors on 500 pairs that people judged: {found.corrected}" in out
    assert f"as the judge says it: {found.raw}" in out


def test_without_people_nothing_is_corrected(tmp_path: Path) -> None:
    study(tmp_path / "w.db", pairs=40, people=0, seed=2)
    with Store(tmp_path / "w.db", create=False) as store:
        found = win_rate(store.snapshot("v1"), "j", "model:new", "model:old")
    assert found.raw.value is not None
    assert found.corrected == corrected_share(10, 40, 0, 0, 0, 0)  # undefined, and says why


def test_examples_and_references_are_read(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    row = {"prompt": "Open?", "responses": ["Yes.", "No."], "verdict": "B"}
    path.write_text(json.dumps(row) + "\n\n")
    (example,) = read_examples(path, "pairwise")
    assert (example.item.prompt, example.verdict) == (Prompt.user("Open?"), "B")
    path.write_text(json.dumps({**row, "verdict": "C"}))
    with pytest.raises(ConfigError, match=r"examples.jsonl:1 verdict: is 'C'.*A, B"):
        read_examples(path, "pairwise")
    path.write_text('{"prompt": "Open?", "reference": "From nine."}\n{"prompt": ""}')
    with pytest.raises(ConfigError, match=r":2 reference: needs a text"):
        read_references(path)
    path.write_text('{"prompt": "Open?", "reference": "From nine."}')
    assert read_references(path) == {Prompt.user("Open?").id: "From nine."}


def test_in_a_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A template of references says what it lacks, with them it labels; a cost needs prices."""
    monkeypatch.chdir(tmp_path)
    with Store("s.db") as store:
        simulate(store, prompts=4)
        store.freeze("v1")
        prompts = list(store.prompts())
    words = [
        "judge",
        "run",
        "s.db@v1",
        "--judge",
        "stand-in:longest",
        "--set",
        "template=reference",
    ]
    code, _, error = accord(capsys, *words)
    assert_one_line(code, error, "needs a reference answer")
    rows = [{"prompt": [m.model_dump() for m in p.messages], "reference": "So."} for p in prompts]
    Path("r.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, _, error = accord(capsys, *words, "--references", "r.jsonl")
    assert (code, error) == (0, "")
    code, _, error = accord(capsys, *words[:5], "--cost", "1.5")
    assert_one_line(code, error, "a cost needs prices")
