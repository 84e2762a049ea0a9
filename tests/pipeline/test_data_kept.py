"""What a stage adds to stands on what its data stage froze: those judgments with their weights, those
prompts; an answer that was cut off is never learned as a whole one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from accord.core.errors import RunError
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Judgment, Preference, Prompt, Question, Rater, Response, Writing
from accord.feedback.study.definition import read_items, read_study
from accord.lm.sampler import Sampling
from accord.pipeline.context import data_store
from accord.pipeline.folder import RunFolder, plan
from accord.pipeline.recipe import Recipe, read_recipe
from accord.pipeline.runner import run
from accord.pipeline.stages.data import held_out_of
from accord.pipeline.stages.revise import reviser
from accord.store import Snapshot, Store
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, small_world
from tests.store.conftest import postgres
from tests.store.words import BEN, BOOT, COMPARE, TENT, every, fill, says

STUDY = """\
  study:
    kind: simulate
    world: {here}/world.yaml
    raters: [{{name: Ada, skill: 16}}, {{name: Emre, skill: 8}}]
    demonstrations: 1
"""
LATER = "2026-12-01T10:00:00+00:00"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept")
    save_tiny_model(folder / "model")
    small_world(folder / "world.yaml")
    return folder


def recipe(here: Path, folder: Path, stages: str) -> Recipe:
    path = folder / "kept.yaml"
    head = f"name: kept\nabout: Data.\nseed: 3\nmodel: {here}/model\nstages:\n"
    path.write_text(head + stages.format(here=here))
    return read_recipe(path)


def done_of(here: Path, stages: str) -> RunFolder:
    return run(recipe(here, here, stages), here / "runs", Heard())


def frozen(folder: Path) -> Snapshot:
    """A data stage's snapshot, all that it speaks of read."""
    opened, facts = data_store(folder)
    with opened as store:
        snapshot = store.snapshot(facts["snapshot"])
        assert snapshot.tables
    return snapshot


def ids(snapshot: Snapshot) -> set[str]:
    return {j.id for j in snapshot.judgments}


# -- judgments ------------------------------------------------------------------------------------


def test_a_round_on_a_judges_labels_brings_nobody_back(here: Path) -> None:
    done = done_of(
        here,
        STUDY + "  judged: {{kind: judge, data: study, judge: stand-in:first, people: drop, "
        "checked: 0, weight: 0.5}}\n"
        "  round2: {{kind: ask, policy: base, data: judged, prompts: 3, held_out: 2, n: 2, "
        "max_new_tokens: 4, raters: [{{name: Bo, skill: 9}}]}}\n",
    )
    judged, both = (frozen(done.stages[name]) for name in ("judged", "round2"))
    new = ids(both) - ids(judged)
    assert ids(judged) < ids(both)
    assert {both.tables.raters[j.rater].name for j in both.judgments if j.id in new} == {"Bo"}
    assert both.selection.weights == judged.selection.weights
    assert set(both.weights.values()) == {0.5}
    headline = read_json(done.stages["round2"] / "result.json")["headline"]
    assert f", {len(new)} of them on fresh answers of base" in headline


@pytest.fixture
def study(here: Path, tmp_path: Path) -> Path:
    """A store whose snapshot v1 leaves Emre out and weighs Ada."""
    done = done_of(here, STUDY)
    opened, facts = data_store(done.stages["study"])
    path = tmp_path / "study.db"
    with opened as store, Store(path) as copy:
        whole = store.snapshot(facts["snapshot"])
        copy.add_prompts(store.prompts())
        prompts = {p.id: p for p in store.prompts()}
        copy.add_all_responses((prompts[p], r) for p, r in store.responses())
        copy.add_questions(store.questions())
        copy.add_raters(store.raters())
        copy.add_judgments(whole.judgments)
        copy.freeze("v1", without=["Emre"], weights={"Ada": 0.25})
    return path


ROUND = (
    "  round2: {kind: ask, policy: base, data: study.db@v1, prompts: %d, held_out: %d, n: 2, "
    "max_new_tokens: 4%s}\n"
)


def waiting(here: Path, folder: Path, heard: Heard | None = None, most: int = 3) -> Path:
    """The stage's folder, when its questions wait for people."""
    with pytest.raises(RunError, match="questions wait for people"):
        run(_round(here, folder, "", most), folder / "runs", heard or Heard())
    return next((folder / "runs" / "stages").glob("round2-*"))


def _round(here: Path, folder: Path, keys: str, most: int = 3) -> Recipe:
    stages = ROUND % (most, most, keys)
    return recipe(here, folder, stages.replace("{", "{{").replace("}", "}}"))


def judged_by(rater: Rater, folder: Path, where: Path) -> int:
    """A store with a judgment of each question that waits there, in snapshot `people`; how many."""
    asked = []
    with Store(where) as store:
        for block in read_study(folder / "study.yaml").questions:
            for _, item in read_items(block, folder):
                prompt, responses = item.prompt_(), item.responses_()
                store.add_prompts([prompt])
                store.add_responses(prompt, responses)
                shown = tuple(r.id_for(prompt) for r in responses)
                asked.append(Question(prompt=prompt.id, responses=shown, kind="compare"))
        store.add_questions(asked)
        store.add_raters([rater])
        store.add_judgments(
            Judgment(question=q.id, rater=rater.id, answer=Preference(better=0), at=LATER)
            for q in asked
        )
        store.freeze("people", weights={rater.name: 0.5})
    return len(asked)


def test_a_round_on_a_snapshot_keeps_who_was_left_out_and_what_votes_weigh(
    here: Path, study: Path
) -> None:
    folder = study.parent
    n = judged_by(Rater(name="Chiara", kind="human"), waiting(here, folder), folder / "people.db")
    answered = _round(here, folder, f", answers: {folder}/people.db@people")
    done = run(answered, folder / "runs", Heard())
    with Store(study) as store:
        first = store.snapshot("v1")
    both = frozen(done.stages["round2"])
    new = ids(both) - ids(first)
    assert ids(first) < ids(both)
    assert len(new) == n > 0
    assert both.selection.weights == {"Ada": 0.25, "Chiara": 0.5}
    assert "Emre" not in {both.tables.raters[j.rater].name for j in both.judgments}
    assert f", {n} of them on fresh" in read_json(done.stages["round2"] / "result.json")["headline"]


def test_what_is_added_counts_as_it_did(here: Path, tmp_path: Path) -> None:
    """Weights of both snapshots; of a rater whom both weigh, that of what is added."""
    with Store(tmp_path / "study.db") as store:
        fill(store).add_judgments(every())
        store.add_judgments([says(BEN, COMPARE, Preference(better=0))])
        store.freeze("v1", weights={"anna": 0.25, "ben": 0.75})
    with Store(tmp_path / "more.db") as store:
        fill(store)
        store.add_judgments([says(BEN, COMPARE, Preference(better=1), at=LATER)])
        store.freeze("v1", weights={"ben": 0.5})
    stages = "  both: {{kind: add, data: study.db@v1, judgments: more.db@v1}}\n"
    done = run(recipe(here, tmp_path, stages), tmp_path / "runs", Heard())
    assert frozen(done.stages["both"]).selection.weights == {"anna": 0.25, "ben": 0.5}


def test_revisions_stand_beside_edits_that_count_as_they_did(here: Path, study: Path) -> None:
    done = run(
        _revise(here, study.parent, "critic: a/critic, prompts: 6"), study.parent / "runs", Heard()
    )
    assert frozen(done.stages["revised"]).selection.weights == {"Ada": 0.25}


# -- answers that were cut off --------------------------------------------------------------------

REVISE = (
    "  revised: {kind: revise, policy: base, data: study.db@v1, rounds: 2, demonstrations: 0, "
    "max_new_tokens: 5, critique_tokens: 4, %s}\n"
)


def _revise(here: Path, folder: Path, keys: str) -> Recipe:
    return recipe(here, folder, (REVISE % keys).replace("{", "{{").replace("}", "}}"))


CUT, BLANK, WHOLE = (
    Response(text="Back within", finish="length"),
    Response(text=" ", finish="stop"),
    Response(text="Back within 30 days.", finish="stop"),
)
TURNS = [(CUT, CUT), (BLANK, WHOLE), (WHOLE, CUT)]  # of a prompt, a revision each round


class Critic:
    """Finds each answer fine, and writes it again by the prompt's turn, known by its first words."""

    def __init__(self) -> None:
        self.turn: dict[str, int] = {}
        self.asked: dict[str, int] = defaultdict(int)

    def __call__(self, prompts: Sequence[Prompt], how: Sampling) -> list[list[Response]]:
        return [[self.reply(p)] for p in prompts]

    def reply(self, prompt: Prompt) -> Response:
        if "Reply with the new answer alone." not in prompt.last:
            return Response(text="It is fine.", finish="stop")
        key = next(m.content for m in prompt.messages if m.role == "user")
        self.turn.setdefault(key, len(self.turn) % len(TURNS))
        self.asked[key] += 1
        return TURNS[self.turn[key]][self.asked[key] - 1]


@pytest.fixture(autouse=True)
def critic(monkeypatch: pytest.MonkeyPatch) -> Critic:
    """Who stands behind `critic: a/critic`."""
    asked = Critic()
    monkeypatch.setattr(reviser, "sampler_of", lambda name: {"a/critic": asked}[name])
    return asked


def test_a_revision_that_was_cut_off_is_none(here: Path, study: Path, critic: Critic) -> None:
    done = run(
        _revise(here, study.parent, "critic: a/critic, prompts: 6"), study.parent / "runs", Heard()
    )
    snapshot = frozen(done.stages["revised"])
    learned, texts = {}, set()
    for j in snapshot.judgments:
        if isinstance(j.answer, Writing) and j.answer.revision_of:
            prompt = snapshot.tables.prompts[snapshot.tables.questions[j.question].prompt]
            learned[next(m.content for m in prompt.messages if m.role == "user")] = j
            texts.add(j.answer.text)
    assert len(critic.turn) == 6
    assert {critic.turn[key] for key in learned} == {1, 2}  # of a cut one, nothing is learned
    assert texts == {WHOLE.text}
    for j in learned.values():  # after a blank too, what was revised is the policy's own
        (before,) = snapshot.tables.questions[j.question].responses
        assert snapshot.tables.responses[before].source == "model:base"
    assert len(read_jsonl(done.stages["revised"] / "revisions.jsonl")) == len(learned) == 4
    notes = read_json(done.stages["revised"] / "result.json")["notes"]
    assert "2 revisions were empty: the answer stayed" in notes
    assert "6 revisions were cut off at 5 tokens: the answer stayed" in notes


def test_an_answer_is_kept_with_what_ended_it(here: Path, study: Path) -> None:
    """Five tokens of random weights are cut off, whoever revises them."""
    done = run(
        _revise(here, study.parent, "critic: a/critic, prompts: 6"), study.parent / "runs", Heard()
    )
    answers = [
        r for r in frozen(done.stages["revised"]).tables.responses.values()
        if r.source == "model:base"
    ]  # fmt: skip
    assert answers
    assert {r.finish for r in answers} == {"length"}


# -- prompts --------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def judged(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store of either database with a snapshot v1."""
    where = str(tmp_path / "some.db") if request.param == "sqlite" else postgres()
    with Store(where) as store:
        fill(store).add_judgments(every())
        store.freeze("v1")
    return where


def test_a_snapshot_is_another_when_its_store_has_more_prompts(
    judged: str, here: Path, tmp_path: Path
) -> None:
    """Judged or not: all of them may be answered. More judgments alone leave it as it is."""

    def key() -> str:
        made = recipe(
            here, tmp_path, f"  data: {{{{kind: open, store: '{judged}', snapshot: v1}}}}\n"
        )
        return plan(made, tmp_path).stages["data"].name

    before = key()
    with Store(judged) as store:
        store.add_judgments([says(BEN, COMPARE, Preference(better=0), at=LATER)])
        assert key() == before
        store.add_prompts([Prompt.user("Is the lamp dim?")])
    assert key() != before


class Meanwhile(Heard):
    """While a recipe runs, another adds to the store that it has opened."""

    def __init__(self, opened: str, add: Callable[[], None]) -> None:
        super().__init__()
        self.opened, self.add = opened, add

    def finished(self, stage: str, headline: str, seconds: float, notes: list[str]) -> None:
        super().finished(stage, headline, seconds, notes)
        if stage == self.opened:
            self.add()


NEW = [Prompt.user(f"What is new, {n}?") for n in range(60)]


def while_it_runs(where: Path) -> Meanwhile:
    def add() -> None:
        with Store(where) as store:
            store.add_prompts(NEW)

    return Meanwhile(f"{where.stem}-db-v1", add)


def test_prompts_that_come_while_a_recipe_runs_are_not_asked(here: Path, study: Path) -> None:
    asked = waiting(here, study.parent, while_it_runs(study), most=200)
    texts = {row["prompt"][-1]["content"] for row in read_jsonl(asked / "questions.jsonl")}
    assert texts
    assert texts.isdisjoint(p.last for p in NEW)
    (opened,) = (study.parent / "runs" / "stages").glob("study-db-v1-*")
    held = held_out_of(opened)
    assert held
    assert {p.id for p in held}.isdisjoint(p.id for p in NEW)


def test_nor_answered_and_revised(here: Path, study: Path) -> None:
    made = _revise(here, study.parent, "critic: a/critic, prompts: 200")
    done = run(made, study.parent / "runs", while_it_runs(study))
    revised = {row["prompt"] for row in read_jsonl(done.stages["revised"] / "revisions.jsonl")}
    assert revised
    assert revised.isdisjoint(p.id for p in NEW)


def test_what_is_added_brings_its_own_prompts_alone(here: Path, tmp_path: Path) -> None:
    own = Prompt.user("Is the lamp dim?")
    shown = tuple(Response(text=t, source="model:m").id_for(own) for t in ("yes", "no"))
    asked = Question(prompt=own.id, responses=shown, kind="compare")
    with Store(tmp_path / "study.db") as store:
        fill(store).add_judgments(every())
        store.freeze("v1")
    with Store(tmp_path / "more.db") as store:
        store.add_prompts([own])
        store.add_responses(own, [Response(text=t, source="model:m") for t in ("yes", "no")])
        store.add_questions([asked])
        store.add_raters([BEN])
        store.add_judgments([says(BEN, asked, Preference(better=1))])
        store.freeze("v1")
    stages = (
        "  opened: {{kind: open, store: study.db, snapshot: v1, test: 0.99}}\n"
        "  both: {{kind: add, data: opened, judgments: more.db@v1}}\n"
    )
    heard = while_it_runs(tmp_path / "study.db")
    heard.opened = "opened"
    done = run(recipe(here, tmp_path, stages), tmp_path / "runs", heard)
    held = [{p.id for p in held_out_of(done.stages[name])} for name in ("opened", "both")]
    assert held == [{TENT.id, BOOT.id}, {TENT.id, BOOT.id, own.id}]
    assert (
        " on 3 prompts (3 held out)" in read_json(done.stages["both"] / "result.json")["headline"]
    )
