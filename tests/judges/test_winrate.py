"""A win rate by a judge with planted errors; examples, references and a cost from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtri

from accord.core.errors import ConfigError, DataError
from accord.core.seeds import rng
from accord.core.types import Judgment, Preference, Prompt, Question, Rater, Response
from accord.judges.files import read_examples, read_references
from accord.judges.winrate import win_rate
from accord.stats.intervals import cluster_mean
from accord.stats.judged import corrected_share
from accord.store import Snapshot, Store
from accord.store.snapshot.pairs import Tables
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
    assert found.corrected.value is None
    assert found.corrected.note.startswith("needs wins and losses that people judged too")


def test_where_people_judged_every_pair_their_share_is_the_rate(tmp_path: Path) -> None:
    study(tmp_path / "w.db", pairs=40, people=40, seed=2)
    with Store(tmp_path / "w.db", create=False) as store:
        found = win_rate(store.snapshot("v1"), "j", "model:new", "model:old")
    assert found.both == found.corrected.n == 40
    assert found.corrected.value is not None
    assert found.corrected.low is not None
    assert found.corrected.low < TRUE < (found.corrected.high or 0)
    assert found.corrected.note == "people judged every pair: their own share, nothing to correct"


SIZE = 6  # pairs a prompt


class Prompts:
    """Prompts of SIZE pairs, in memory: the same pairs are judged anew in each simulation."""

    def __init__(self, count: int) -> None:
        people = [Rater(name=name, kind="human") for name in ("Ada", "Bo")]
        raters = [Rater(name="j pairwise@1", kind="model"), *people]
        prompts, responses, questions = {}, {}, {}
        self.said: list[list[list[Judgment]]] = []  # by pair, rater, whether new wins
        for k in range(count * SIZE):
            prompt = Prompt.user(f"Question {k // SIZE}?")
            both = [Response(text=f"{k} {s}", source=s) for s in ("model:new", "model:old")]
            ids = tuple(r.id_for(prompt) for r in both)
            q = Question(prompt=prompt.id, responses=ids, kind="compare")
            prompts[prompt.id], questions[q.id] = prompt, q
            responses.update(zip(ids, both, strict=True))
            self.said.append([[
                Judgment(question=q.id, rater=r.id, answer=Preference(better=b), at=AT) for b in (1, 0)
            ] for r in raters])  # fmt: skip
        self.tables = Tables(prompts, responses, questions, {r.id: r for r in raters})

    def snapshot(self, says: np.ndarray, truth: np.ndarray, asked: np.ndarray) -> Snapshot:
        judge = [pair[0][int(x)] for pair, x in zip(self.said, says, strict=True)]
        people = [self.said[i][1][int(truth[i])] for i in np.flatnonzero(asked)]
        snapshot = Snapshot(None, "v1", judge + people)  # type: ignore[arg-type]
        snapshot.tables = self.tables
        return snapshot


@pytest.mark.parametrize(
    ("prompts", "errors", "whole"),
    [(20, 0.0, True), (20, 0.6, True), (40, 0.6, False), (60, 0.6, True)],
)
def test_the_corrected_interval_covers_where_pairs_share_prompts(
    prompts: int, errors: float, whole: bool
) -> None:
    """500 studies of 6 pairs a prompt, whose outcomes (and errors) hang together by normal variables that
    correlate by 0.9 (and `errors`) inside a prompt; people judge half of the prompts, or of the pairs: the
    truth is held in 93%. By the counts of the rest, taken as independent, it is not."""
    world, draw = Prompts(prompts), np.random.default_rng(7)
    own = np.repeat(np.arange(prompts), SIZE)

    def normal(rho: float) -> np.ndarray:
        each = draw.standard_normal(len(own))
        return rho**0.5 * draw.standard_normal(prompts)[own] + (1 - rho) ** 0.5 * each

    told = held = apart = 0
    for _ in range(500):
        truth = normal(0.9) < ndtri(TRUE)
        says = truth ^ (normal(errors) < ndtri(np.where(truth, 0.1, 0.15)))
        drawn = draw.permutation(prompts)[own] if whole else draw.permutation(len(own))
        asked = drawn < (drawn.max() + 1) / 2
        found = win_rate(
            world.snapshot(says, truth, asked), "j", "model:new", "model:old"
        ).corrected
        won, lost, rest = asked & truth, asked & ~truth, says[~asked]
        counts = corrected_share(
            int(rest.sum()), len(rest), int(says[won].sum()), int(won.sum()),
            int((~says[lost]).sum()), int(lost.sum()),
        )  # fmt: skip
        apart += counts.low is None or counts.low <= TRUE <= (counts.high or 0)
        if found.low is not None and found.high is not None:
            told += 1
            held += found.low <= TRUE <= found.high
    assert told >= 400
    assert held / told >= 0.93
    assert apart / 500 < 0.93
    every = win_rate(world.snapshot(says, truth, own >= 0), "j", "model:new", "model:old").corrected
    share = cluster_mean(truth.astype(float), own.tolist(), share=True)
    assert (every.value, every.low, every.high) == (share.value, share.low, share.high)


def test_an_even_split_of_people_is_half_a_win() -> None:
    """Ada prefers new in all of 12 pairs, Bo does not in three: 10.5 of 12; the other way round 1.5."""
    world, yes = Prompts(2), np.ones(12, bool)
    snapshot = world.snapshot(yes, yes, yes)
    snapshot.judgments += [pair[2][int(k > 2)] for k, pair in enumerate(world.said)]
    for of, over, share in (("model:new", "model:old", 10.5), ("model:old", "model:new", 1.5)):
        assert win_rate(snapshot, "j", of, over).corrected.value == pytest.approx(share / 12)


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
