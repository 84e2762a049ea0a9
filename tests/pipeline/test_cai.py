"""Constitutional AI: revisions and labels that know their principle; opposite principles cancel; what a
principle prefers is what is learned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml

from accord.core.errors import ConfigError
from accord.core.rundir import read_json, read_jsonl
from accord.core.types import Exchange, Preference, Response, Writing
from accord.judges.backends import Job
from accord.judges.cache import JudgeReply
from accord.judges.principles import ablated, principle_rows
from accord.pipeline.folder import RunFolder
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.pipeline.stages.judge import run as judging
from accord.rewards.learned import load_reward_model
from accord.store import Store
from accord.worlds.base import open_world, truth
from tests.constitution.test_principles import principle
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, small_world

HEAD = """\
name: tiny
about: A tiny run.
seed: 3
model: {here}/model
stages:
  study:
    kind: simulate
    world: {here}/world.yaml
    raters: [{{name: Ada, skill: 16}}]
    demonstrations: 1
{more}"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cai")
    save_tiny_model(folder / "model")
    small_world(folder / "world.yaml")
    principles = [principle("long", category="length"), principle("short", category="brevity")]
    plain = {"name": "sizes", "version": 3, "principles": [p.model_dump() for p in principles]}
    (folder / "sizes.yaml").write_text(yaml.safe_dump(plain))
    return folder


def done_of(here: Path, more: str) -> RunFolder:
    path = here / "tiny.yaml"
    path.write_text(HEAD.format(here=here, more=more))
    return run(read_recipe(path), here / "runs", Heard())


def test_every_revision_is_kept_and_the_last_is_learned(here: Path) -> None:
    done = done_of(
        here,
        "  revised: {kind: revise, policy: base, data: study, critic: stand-in:world, rounds: 2, prompts: 8, "
        "demonstrations: 3, max_new_tokens: 6, critique_tokens: 6}\n"
        "  sft: {kind: sft, data: revised, eval_limit: 2, batch_size: 4}\n",
    )
    world, folder = open_world(here / "world.yaml"), done.stages["revised"]
    with Store(folder / "study.db", create=False) as store:
        snapshot = store.snapshot("revised")
        everything = {j.id: j for j in store.judgments() if isinstance(j.answer, Writing)}
        questions = {q.id: q for q in store.questions()}
        prompts = {p.id: p for p in store.prompts()}
        raters = {r.id: r for r in store.raters()}
    steps = {i: j for i, j in everything.items() if j.answer.revision_of}
    assert len(steps) == 8 * 2
    last = {j.id for j in snapshot.judgments} & set(steps)
    assert len(last) == 8
    for j in (steps[i] for i in last):
        q = questions[j.question]
        case = world.by_prompt[q.prompt]
        (first,) = [
            s for s in steps.values() if questions[s.question].prompt == q.prompt and s.id != j.id
        ]
        source = f"model:{raters[j.rater].name}"
        texts = [Response(text=s.answer.text, source=source, finish="stop") for s in (first, j)]
        assert j.answer.revision_of == texts[0].id_for(prompts[q.prompt])  # the chain
        assert f" {j.answer.principle}@1" in q.guideline  # and its principle
        assert j.rationale
        assert truth(world, case, texts[1]) == pytest.approx(
            max(truth(world, case, Response(text=c.text, finish="stop")) for c in case.candidates), abs=0.35
        )  # fmt: skip
    rows = read_jsonl(done.stages["sft"] / "trained_on.jsonl")
    assert len(rows) == 8 + 3  # demonstrations are mixed in
    assert {s for r in rows for s in r["sources"]} >= last
    told = read_json(folder / "result.json")
    assert told["metrics"]["change in truth"]["low"] > 0
    assert sum(row[2] for row in told["facts"]["by_principle"]) == 16
    page = (done.path / "report.html").read_text()
    assert page.index("a script stands in for the critic") < page.index("<h1>")


def test_the_policy_criticises_itself(here: Path) -> None:
    """By default nobody else is asked; no vote is cast for a revision over what it revises."""
    done = done_of(
        here,
        "  self: {kind: revise, policy: base, data: study, rounds: 1, prompts: 3, without: [respect], "
        "max_new_tokens: 5, critique_tokens: 5, demonstrations: 0}\n",
    )
    with Store(done.stages["self"] / "study.db", create=False) as store:
        snapshot = store.snapshot("self")
        assert all(isinstance(j.answer, Writing) for j in snapshot.judgments)
        assert list(snapshot.pairs()) == []
        facts = [r.facts for r in store.raters() if r.facts.get("constitution")]
    assert facts == [{"model": "base", "constitution": "default@1"}]
    rows = read_json(done.stages["self"] / "result.json")["facts"]["by_principle"]
    assert "respect" not in {row[0] for row in rows}


class BySize:
    """P(.9) for the longer answer by the principle `long`, for the shorter by `short`."""

    name, chunk = "by size", 500

    def __call__(self, jobs: Sequence[Job]) -> Iterator[tuple[int, JudgeReply | str]]:
        for at, job in enumerate(jobs):
            assert job.item
            assert f"Which answer keeps {job.item.principle}?" in job.prompt.last
            one, two = (len(job.item.responses[k].text.split()) for k in job.order)
            first = (
                0.5 if one == two else 0.9 if (one > two) == (job.item.principle == "long") else 0.1
            )
            yield at, JudgeReply((math.log(first), math.log(1 - first)))


LABELS = (
    "  judged: {{kind: judge, data: study, judge: stand-in:first, people: drop, checked: {checked}, "
    "constitution: {here}/sizes.yaml, {keys}}}\n{more}"
)


def labelled(here: Path, keys: str, more: str = "", checked: int = 0) -> RunFolder:
    return done_of(here, LABELS.format(here=here, keys=keys, more=more, checked=checked))


def test_opposite_principles_cancel_and_an_ablation_says_whose_label_is_whose(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "backend_for", lambda *_: BySize())
    done = labelled(here, "principles: 2", checked=12)
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        snapshot = store.snapshot("judged")
        assert list(snapshot.pairs()) == []  # .9 and .1 of each pair: split evenly
        rows = {r.principle: r for r in principle_rows(snapshot)}
        left = ablated(snapshot, ["short"])
        said_by_long: list[float] = []
        for j in snapshot.judgments:
            q, rater = snapshot.tables.questions[j.question], snapshot.tables.raters[j.rater]
            assert q.guideline == f"principle@2 sizes@3 {rater.facts['principle']}@1"
            a, b = (len(snapshot.tables.responses[i].text.split()) for i in q.responses)
            said = (
                {0.5}
                if a == b
                else {0.9 if (a > b) == (rater.facts["principle"] == "long") else 0.1}
            )
            assert isinstance(j.answer, Preference)
            assert {round(j.answer.p or 0, 9)} == said
            said_by_long += [j.answer.p or 0.0] if rater.facts["principle"] == "long" else []
        with pytest.raises(ConfigError, match="'kind' labelled nothing there"):
            ablated(snapshot, ["kind"])
    assert rows["long"].disagrees.value == rows["short"].disagrees.value == 1.0
    assert rows["long"].share.value == 1.0
    assert (left.lost, left.turned > 0) == (0, True)
    unequal = sum(abs(p - 0.5) > 0.1 for p in said_by_long) / len(said_by_long)
    assert left.moved.value == pytest.approx(
        0.4 * unequal
    )  # pairs as long as each other stay at .5
    parts = read_json(done.stages["judged"] / "result.json")["facts"]["parts"]
    assert {"principle=long", "principle=short"} <= {part[0] for part in parts}


def test_labels_are_held_between_bounds(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "backend_for", lambda *_: BySize())
    done = labelled(here, "without: [short], how: {clamp: 0.6}")
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        pairs = store.snapshot("judged").pairs()
        assert {round(p.p, 9) for p in pairs} == {0.6}
        assert all(len(p.chosen.text.split()) > len(p.rejected.text.split()) for p in pairs)


@pytest.mark.slow
@pytest.mark.parametrize("id", ["long", "short"])
def test_what_a_principle_prefers_is_learned(
    here: Path, monkeypatch: pytest.MonkeyPatch, id: str
) -> None:
    """A reward model on labels by `long` scores longer held-out answers higher, by `short` shorter."""
    monkeypatch.setattr(judging, "backend_for", lambda *_: BySize())
    other = {"long": "short", "short": "long"}[id]
    more = (
        "  rm: {kind: reward, data: judged, tune: full, lr: 3e-3, batch_size: 4, max_steps: 40, "
        "eval_limit: 20}\n"
    )
    done = labelled(here, f"without: [{other}]", more)
    model = load_reward_model(done.stages["rm"] / "model")
    facts = read_json(done.stages["judged"] / "result.json")["facts"]
    with Store(done.stages["judged"] / "study.db", create=False) as store:
        held = store.snapshot("judged").pairs().split(test=facts["test"], seed=facts["seed"])[1]
    gaps = []
    for pair in held:
        good, bad = model(
            [Exchange(prompt=pair.prompt, response=r) for r in (pair.chosen, pair.rejected)]
        )
        gaps.append(good > bad)
        size = len(pair.chosen.text.split()) - len(pair.rejected.text.split())
        assert (size > 0) == (id == "long")
    assert len(gaps) > 20
    assert sum(gaps) / len(gaps) > 0.7


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("constitution: default, how: {template: rating}", "principles ask by their own"),
        ("without: [respect]", "needs a constitution"),
        ("constitution: default, without: [kind]", "no principle 'kind'"),
    ],
)
def test_wrong_keys_are_found_before_anything_runs(here: Path, keys: str, words: str) -> None:
    path = here / "wrong.yaml"
    more = f"  judged: {{kind: judge, data: study, judge: base, {keys}}}\n"
    path.write_text(HEAD.format(here=here, more=more))
    with pytest.raises(ConfigError, match=words):
        read_recipe(path)
