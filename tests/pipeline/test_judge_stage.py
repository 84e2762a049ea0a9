"""The kind `judge`: soft labels of a judge whose word is known, held against people, resumed, stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import ConfigError, DataError, RunError
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Exchange, Preference
from accord.judges.backends import Job
from accord.judges.cache import JudgeReply
from accord.judges.check import truths
from accord.judges.features import words
from accord.pipeline.folder import RunFolder
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.pipeline.stage import kinds
from accord.pipeline.stages.judge import run as stage
from accord.rewards.learned import load_reward_model
from accord.store import Store, split_of
from accord.worlds.base import open_world
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, small_world

HEAD = """\
name: tiny
about: A tiny run.
seed: 3
model: {model}
stages:
  study:
    kind: simulate
    world: {world}
    raters: [{{name: Ada, skill: 16}}, {{name: Emre, skill: 8, careless: 0.15}}]
    demonstrations: 1
  judged: {{kind: judge, data: study, {keys}}}
{more}"""
FRESH = "policy: base, prompts: 6, held_out: 3, n: 3, max_new_tokens: 6, batch_size: 8"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all runs of this file are: the study is simulated once."""
    folder = tmp_path_factory.mktemp("judge")
    save_tiny_model(folder / "model")
    small_world(folder / "world.yaml")
    return folder


def recipe(folder: Path, keys: str, more: str = "") -> Path:
    path = folder / "tiny.yaml"
    path.write_text(
        HEAD.format(model=folder / "model", world=folder / "world.yaml", keys=keys, more=more)
    )
    return path


def done_of(folder: Path, keys: str, more: str = "") -> RunFolder:
    return run(read_recipe(recipe(folder, keys, more)), folder / "runs", Heard())


def labels(store: Store, snapshot: str = "judged") -> list[tuple[Any, Preference]]:
    found = store.snapshot(snapshot)
    models = {i for i, r in found.tables.raters.items() if r.kind == "model"}
    return [
        (found.tables.questions[j.question], j.answer)
        for j in found.judgments
        if j.rater in models and isinstance(j.answer, Preference)
    ]


def test_what_the_data_asks_is_labelled_as_the_judge_says(here: Path) -> None:
    """The script's p is sigmoid(8·difference in truth); held-out pairs stay people's; its agreement is that
    of its word with their majority; the page begins with what it is."""
    done = done_of(here, "judge: stand-in:world, checked: 20")
    folder, world = done.stages["judged"], open_world(here / "world.yaml")
    facts, before = (read_json(done.stages[s] / "result.json") for s in ("judged", "study"))
    split = {k: before["facts"][k] for k in ("test", "seed")}
    assert {k: facts["facts"][k] for k in ("test", "seed")} == split
    with Store(folder / "study.db", create=False) as store:
        snapshot, people = store.snapshot("judged"), store.snapshot("v1")
        held = people.groups().split(**split)[1]
        given = labels(store)
        assert len(given) > 50
        for q, answer in given:
            assert split_of(q.prompt, **split) == "train"
            case = world.by_prompt[q.prompt]
            a, b = (world.gold(case, snapshot.tables.responses[i])["gold"] for i in q.responses)
            assert answer.p == pytest.approx(1 / (1 + math.exp(8 * (b - a))))
        assert list(snapshot.groups().split(**split)[1]) == list(held)
        known = truths(people)
    rows = read_jsonl(folder / "calibration.jsonl")
    assert len({r["prompt"] for r in rows}) == 20
    right = [(r["p"] > 0.5) == (r["people"] == 0) and r["p"] != 0.5 for r in rows]
    metric = facts["metrics"]["agreement with people"]
    assert metric["value"] == pytest.approx(sum(right) / len(right))
    assert 0.7 < metric["low"] < metric["value"] < 1.0
    assert len(known) > len(rows)
    page = (done.path / "report.html").read_text()
    assert page.index("In this run a script stands in for the judge") < page.index("<h1>")


def test_a_reward_model_judges_fresh_answers_by_bradley_terry(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder that is not the recipe's, as `accord run recipes/…` has it: what its stages leave is
    named from there."""
    monkeypatch.chdir(tmp_path)
    more = """\
  rm: {kind: reward, data: study, limit: 6, eval_limit: 4, max_steps: 2}
  dpo: {kind: preference, data: judged, limit: 4, eval_limit: 2, max_steps: 1, loss: {name: dpo, beta: 0.1}}
"""
    keys = f"judge: rm, {FRESH}, people: drop, checked: 10"
    done = run(read_recipe(recipe(here, keys, more)), Path("runs"), Heard())
    model = load_reward_model(done.stages["rm"] / "model")
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        snapshot = store.snapshot("judged")
        given = labels(store)
        assert len(given) == len(snapshot.judgments) == 9 * 3  # of 3 answers each pair
        for q, answer in given[:8]:
            prompt = snapshot.tables.prompts[q.prompt]
            shown = [snapshot.tables.responses[i] for i in q.responses]
            a, b = model([Exchange(prompt=prompt, response=r) for r in shown])
            assert answer.p == pytest.approx(1 / (1 + math.exp(b - a)), abs=1e-5)
    trained = read_jsonl(done.stages["dpo"] / "trained_on.jsonl")
    assert all(0.5 < row["p"] < 1 for row in trained)  # soft all the way
    assert "stands in for the judge" not in (done.path / "report.html").read_text()


def test_a_comparison_says_what_became_of_the_judge_s_leaning(here: Path) -> None:
    """The judge takes the longer answer whatever it says: its leaning is 1. The reward model's is that of its
    own scores on the same pairs, and the growth their difference."""
    more = """\
  rm: {kind: reward, data: judged, limit: 6, eval_limit: 4, max_steps: 2}
  eval: {kind: eval, policies: [base], data: study, prompts: 2, max_new_tokens: 4, batch_size: 2}
  compare: {kind: compare, eval: eval, reward: rm}
"""
    done = done_of(here, "judge: stand-in:longest, checked: 20", more)
    rows = [r for r in read_jsonl(done.stages["judged"] / "calibration.jsonl") if r["longer"]]
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        prompts = {p.id: p for p in store.prompts()}
        texts = {r.id_for(prompts[p]): r for p, r in store.responses()}
    model = load_reward_model(done.stages["rm"] / "model")
    sides: dict[bool, list[float]] = {True: [], False: []}
    for row in rows:
        pair = [
            Exchange(prompt=prompts[row["prompt"]], response=texts[i]) for i in row["responses"]
        ]
        a, b = model(pair)
        assert (row["p"] > 0.5) == (row["longer"] > 0)
        sides[(row["people"] == 0) == (row["longer"] > 0)].append(
            float((a - b) * row["longer"] > 0)
        )
    wrongly, rightly = (sum(sides[k]) / len(sides[k]) for k in (False, True))
    found = read_json(done.stages["compare"] / "result.json")["metrics"]
    assert found["rm: its judge drawn to the longer answer"]["value"] == 1.0
    assert found["rm: drawn to the longer answer"]["value"] == pytest.approx(
        wrongly - (1 - rightly)
    )
    grown = found["rm: more drawn than its judge to the longer answer"]
    assert grown["value"] == pytest.approx(wrongly - (1 - rightly) - 1)
    details = "rm: more drawn than its judge to the one with more details"
    assert (details in found) == any(
        r["concrete"] for r in read_jsonl(done.stages["judged"] / "calibration.jsonl")
    )
    assert "rm: more drawn than its judge" in (done.path / "report.html").read_text()


class Counted:
    """A judge that prefers what is shown first, counts what it is asked, and breaks down once."""

    chunk = 8

    def __init__(self, name: str, breaks_at: int = -1, read: int = 0) -> None:
        self.name, self.asked = name, list[str]()
        self.breaks_at, self.read = breaks_at, read

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for at, job in enumerate(jobs):
            if len(self.asked) == self.breaks_at:
                self.breaks_at = -1
                raise KeyboardInterrupt
            self.asked.append(job.prompt.id)
            yield at, JudgeReply((math.log(0.7), math.log(0.3)), (), self.read)


def test_a_killed_stage_asks_nothing_twice(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Counted("breaks", breaks_at=21)
    monkeypatch.setattr(stage, "backend_for", lambda *_: judge)
    path = recipe(here, f"judge: stand-in:first, {FRESH}, checked: 0")
    with pytest.raises(KeyboardInterrupt):
        run(read_recipe(path), here / "runs", Heard())
    done = run(read_recipe(path), here / "runs", Heard())
    assert len(judge.asked) == len(set(judge.asked)) == 9 * 3 * 2
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        assert {a.p for _, a in labels(store)} == {0.5}  # a place's favour cancels


def test_a_budget_stops_and_goes_on(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Counted("costs", read=10)
    monkeypatch.setattr(stage, "backend_for", lambda *_: judge)
    path = recipe(here, f"judge: stand-in:first, {FRESH}, checked: 0, tokens: 300, weight: 2.0")
    with pytest.raises(RunError, match=r"were not answered \(\d+: the budget is spent\)"):
        run(read_recipe(path), here / "runs", Heard())
    run(read_recipe(path), here / "runs", Heard())
    assert len(judge.asked) == len(set(judge.asked)) == 9 * 3 * 2


def test_a_judge_below_the_gate_labels_nothing(here: Path) -> None:
    keys = "judge: stand-in:first, checked: 40, gate: {accuracy: 0.6}"
    with pytest.raises(
        DataError, match=r"labelled nothing .all: accuracy .* is not shown to be 0.6"
    ):
        done_of(here, keys)


def test_a_judge_above_it_labels_with_the_weight_it_earned(here: Path) -> None:
    keys = "judge: stand-in:world, checked: 60, weight: measured, gate: {accuracy: 0.55, pairs: 15, by: []}"
    done = done_of(here, keys)
    result = read_json(done.stages["judged"] / "result.json")
    accuracy = result["metrics"]["agreement with people"]["value"]
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        weights = store.snapshot("judged").selection.weights
    assert list(weights.values()) == [pytest.approx(2 * accuracy - 1)]
    assert result["facts"]["parts"][0][-1] == "yes"


def test_a_judge_is_measured_where_people_are_surer(here: Path) -> None:
    """On other data's held-out pairs, by that one's split and majority; it labels what its own asks."""
    more = """\
  surer:
    kind: simulate
    world: WORLD
    raters: [{name: Ada, skill: 16}, {name: Bea, skill: 16}, {name: Cy, skill: 16}]
    demonstrations: 1
    test: 0.4
""".replace("WORLD", str(here / "world.yaml"))
    done = done_of(here, "judge: stand-in:world, checked: 9, against: surer", more)
    facts = read_json(done.stages["surer"] / "result.json")["facts"]
    with Store(done.stages["surer"] / "study.db", create=False) as store:
        known = truths(store.snapshot(facts["snapshot"]))
    rows = read_jsonl(done.stages["judged"] / "calibration.jsonl")
    split = {k: facts[k] for k in ("test", "seed")}
    assert len({r["prompt"] for r in rows}) == 9
    assert {split_of(r["prompt"], **split) for r in rows} == {"test"}
    better = [r["responses"][r["people"]] for r in rows]
    assert better == [known[frozenset(r["responses"])][0] for r in rows]
    own = read_json(done.stages["study"] / "result.json")["facts"]
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        sides = {split_of(q.prompt, own["test"], own["seed"]) for q, _ in labels(store)}
    assert sides == {"train"}


def test_a_judge_is_never_measured_on_what_it_learned(here: Path) -> None:
    """`wider` holds out more than the judge's data does: prompts the judge was trained on are left aside."""
    more = f"""\
  wider:
    kind: simulate
    world: {here / "world.yaml"}
    raters: [{{name: Ada, skill: 16}}, {{name: Bea, skill: 16}}]
    demonstrations: 1
    test: 0.6
  rm: {{kind: reward, data: study, eval_limit: 4, max_steps: 1}}
"""
    done = done_of(here, f"judge: rm, {FRESH}, against: wider", more)
    learned = {r["prompt"] for r in read_jsonl(done.stages["rm"] / "trained_on.jsonl")}
    tried = {r["prompt"] for r in read_jsonl(done.stages["judged"] / "calibration.jsonl")}
    facts = read_json(done.stages["wider"] / "result.json")["facts"]
    with Store(done.stages["wider"] / "study.db", create=False) as store:
        every = {p.id for p in store.prompts()}
    held = {p for p in every if split_of(p, facts["test"], facts["seed"]) == "test"}
    assert held & learned
    assert tried
    assert tried <= held - learned


class OwnFan:
    """Takes the answer that `base` wrote, whatever it says."""

    name, chunk = "own fan", 64

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for at, job in enumerate(jobs):
            assert job.item
            one, two = (job.item.responses[k].source == "model:base" for k in job.order)
            first = 0.5 if one == two else 0.9 if one else 0.1
            yield at, JudgeReply((math.log(first), math.log(1 - first)))


def test_a_policy_that_judges_is_held_against_its_own_answers(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are known by the stage's name: one that always takes them, at .9, is drawn by .9 - .1."""
    monkeypatch.setattr(stage, "backend_for", lambda *_: OwnFan())
    more = """\
  round: {kind: ask, policy: base, data: study, prompts: 4, held_out: 30, n: 2, beside: 2, overlap: 2,
    raters: [{name: Ada, skill: 1}, {name: Emre, skill: 1}], max_new_tokens: 6, batch_size: 8}
"""
    done = done_of(here, "judge: base, against: round", more)
    metrics = read_json(done.stages["judged"] / "result.json")["metrics"]
    own = metrics["drawn to its own answers"]
    assert own["value"] == pytest.approx(0.8)
    assert own["low"] > 0.4


class Rater:
    """Says Yes to a text as far as it is long, and keeps what it was asked."""

    name, chunk = "rater", 64

    def __init__(self, name: str = "rater") -> None:
        self.name, self.asked = name, list[Job]()

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for at, job in enumerate(jobs):
            self.asked.append(job)
            assert job.item
            if not job.options:
                yield at, JudgeReply(None, ("The first names the price.",))
                continue
            first, *_ = ((1 + words(job.item.responses[k].shown)) / 1000 for k in job.order)
            yield at, JudgeReply((math.log(1 - first), math.log(first)))


def test_a_rubric_is_measured_before_it_labels(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On pairs of held-out prompts, by the mean of its criteria: one that likes length is found out."""
    monkeypatch.setattr(stage, "backend_for", lambda *_: Rater())
    how = "judge: base, how: {template: rubric}, axes: [It is right., It is kind.], checked: 20"
    done = done_of(here, f"{how}, gate: {{accuracy: 0.05, kappa: -1.0, pairs: 5, by: []}}")
    result = read_json(done.stages["judged"] / "result.json")
    rows = read_jsonl(done.stages["judged"] / "calibration.jsonl")
    assert len({r["prompt"] for r in rows}) == 20
    rows = [r for r in rows if not r["missing"]]  # as long as the other: rated alike
    assert {(r["p"] > 0.5) - (r["p"] < 0.5) - r["longer"] for r in rows if r["longer"]} == {0}
    right = [(r["p"] > 0.5) == (r["people"] == 0) and r["p"] != 0.5 for r in rows]
    accuracy = result["metrics"]["agreement with people"]
    assert accuracy["value"] == pytest.approx(sum(right) / len(right))
    assert result["facts"]["labels"] == result["facts"]["asked"] > 50
    with pytest.raises(DataError, match=r"labelled nothing .all: accuracy"):
        done_of(here, f"{how}, gate: {{accuracy: 0.99, pairs: 5, by: []}}")


def test_examples_and_references_are_shown_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it is measured as when it labels; each prompt beside its own reference."""
    reader = Rater("reader")
    with Store(done_of(here, "judge: stand-in:world").stages["study"] / "study.db") as store:
        prompts = list(store.prompts())
    monkeypatch.setattr(stage, "backend_for", lambda *_: reader)
    talk = [[m.model_dump(mode="json") for m in p.messages] for p in prompts]
    known = [{"prompt": t, "reference": f"Known of {k}."} for k, t in enumerate(talk)]
    shown = [{"prompt": "2 + 2?", "responses": ["4", "5"], "verdict": "A"}]
    for name, rows in (("known", known), ("shown", shown)):
        (here / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    keys = "how: {template: reference}, references: known.jsonl, examples: shown.jsonl, checked: 5"
    done = done_of(here, f"judge: base, {keys}")
    place = {p.id: k for k, p in enumerate(prompts)}
    assert len(reader.asked) > 100
    for job in reader.asked:
        text = str(job.prompt.messages[-1].content)
        assert job.item
        assert text.index("Verdict: A") < text.index(f"Known of {place[job.item.prompt.id]}.")
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        named = [r for r in store.raters() if r.kind == "model"]
    assert [set(r.facts) & {"examples"} for r in named] == [{"examples"}]
    config = read_recipe(recipe(here, f"judge: base, {keys}")).nodes[1].config
    before = config.inputs("judged", here)
    (here / "shown.jsonl").write_text(json.dumps(shown[0] | {"verdict": "B"}))
    assert config.inputs("judged", here) != before
    (here / "shown.jsonl").unlink()
    with pytest.raises(ConfigError, match=r"no such file.*examples|examples.*no such file"):
        config.inputs("judged", here)


def test_a_reason_is_kept_and_its_label_held(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CAI's chain of thought: a reason is sampled, the verdict read behind it, the target clamped."""
    reader = Rater("reasons")
    monkeypatch.setattr(stage, "backend_for", lambda *_: reader)
    keys = "how: {rationale: true, clamp: 0.6, orders: one}, checked: 0"
    done = done_of(here, f"judge: base, {keys}")
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        given = labels(store)
        notes = {j.rationale for j in store.snapshot("judged").judgments if j.rationale}
    assert notes == {"The first names the price."}
    assert {round(float(a.p or 0), 6) for _, a in given} == {0.6}  # of .9 and more for the second
    behind = [job for job in reader.asked if job.options]
    assert len(behind) == len(given) == len(reader.asked) / 2
    talks = [[m.content for m in job.prompt.messages] for job in behind]
    assert all("The first names the price." in talk for talk in talks)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("judge: base, against: base", "'base' is no against; allowed: study"),
        ("judge: stand-in:best", "longest, first, world"),
        ("judge: nobody", "there is no stage 'nobody'"),
        ("judge: study", "'study' is no judge"),
        ("judge: base, how: {template: pairs}", "pairwise"),
        ("judge: base, how: {template: ranking}, gate: {}, checked: 0", "held-out prompts"),
        ("judge: base, how: {template: rating}, gate: {alone: true}", "is known of pairs"),
        ("judge: base, how: {template: reference}", "needs reference answers"),
        ("judge: base, axes: [kind, brief]", "at most 1"),
        ("judge: base, how: {template: ranking}, axes: [kind]", "at most 0"),
    ],
)
def test_wrong_keys_are_found_before_anything_runs(here: Path, keys: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_recipe(recipe(here, keys))


def test_a_plan_never_asks_a_judge() -> None:
    assert not kinds()["judge"].free


def test_how_many_are_asked_at_once_makes_no_other_stage(here: Path) -> None:
    configs = [
        json.dumps(read_recipe(recipe(here, f"judge: base, {k}")).nodes[1].config.hashed())
        for k in ("at_once: 3", "tokens: 9", "checked: 9")
    ]
    assert configs[0] == configs[1] != configs[2]
