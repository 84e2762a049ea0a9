"""A second round: fresh answers judged, the reward model trained again, both measured, lineage kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from accord.core.errors import ConfigError, DataError, RunError
from accord.core.rundir import read_jsonl
from accord.core.types import Judgment, Preference, Prompt, Question, Rater
from accord.feedback.study.definition import read_items, read_study
from accord.lm.sample import LocalSampler
from accord.pipeline.folder import RunFolder
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.store import Snapshot, Store
from tests.pipeline.test_runner import Heard
from tests.pipeline.tiny_recipe import save_tiny_model, write_recipe

RATERS = "raters: [{name: Ada, skill: 16}, {name: Bo, skill: 9}]"
ASK = "round2: {kind: ask, policy: sft, data: study, prompts: 6, held_out: 6, n: 3, max_new_tokens: 6, %s}"
MORE = """
  %s
  rm2: {kind: reward, init: sft, data: round2, tune: {r: 2}, max_steps: 2}
  check: {kind: rm_check, models: [rm, rm2], data: round2}
"""


def recipe(folder: Path, ask: str) -> Path:
    path = write_recipe(folder, save_tiny_model(folder / "model"), facts=8)
    path.write_text(path.read_text() + MORE % (ASK % ask))
    return path


def test_a_second_round_stands_on_the_first(tmp_path: Path) -> None:
    done = run(read_recipe(recipe(tmp_path, RATERS)), tmp_path / "runs", Heard())
    with (
        Store(done.stages["study"] / "study.db") as old,
        Store(done.stages["round2"] / "study.db") as new,
    ):
        first, both = old.snapshot("v1"), new.snapshot("round2")
        assert {j.id for j in first.judgments} < {j.id for j in both.judgments}
        assert new.verify() is None or new.verify()
        fresh = set(json.loads((done.stages["round2"] / "fresh.json").read_text())["responses"])
        added = both.judgments[len(first) :]
        asked = [both.tables.questions[j.question] for j in added]
        assert {i for q in asked for i in q.responses} <= fresh
        assert {both.tables.responses[i].source for q in asked for i in q.responses} == {
            "model:sft"
        }
        split = {"test": 0.2, "seed": 3}
        for a, b in zip(first.pairs().split(**split), both.pairs().split(**split), strict=True):
            assert {p.prompt.id for p in a} <= {p.prompt.id for p in b}
        facts = json.loads((done.stages["round2"] / "result.json").read_text())["facts"]
        assert (facts["test"], facts["seed"]) == (0.2, 3)  # what was held out stays so
        shown = [q.responses[0] < q.responses[1] for q in asked]
        assert 0 < sum(shown) < len(shown)  # either side comes first
    rows = (done.stages["rm2"] / "trained_on.jsonl").read_text()
    assert any(j.id in rows for j in added)  # and the new judgments are behind the new reward model
    result = json.loads((done.stages["check"] / "result.json").read_text())
    assert {"rm", "rm2", "rm, against the true order"} <= result["metrics"].keys()
    assert result["metrics"]["rm"]["n"] > 0
    page = (done.path / "report.html").read_text()
    assert "answers of sft" in page


PPO = """
  ppo:
    kind: ppo
    init: %s
    data: study
    rewards: [{name: learned, model: %s}]
    steps: 2
    batch_size: 2
    max_new_tokens: 4
    eval_limit: 2
    guard: {action: rollback, every: 1, rm_check: %s}
"""


STANDING = ("study", "sft", "rm", "round2", "rm2", "check", "ppo")


def test_the_guard_knows_whether_the_reward_model_knows_the_answers(tmp_path: Path) -> None:
    """Two steps of random weights order answers no better than a coin, which six prompts would not show if
    they did: PPO ends before its first update, and says why; of other models or answers it is not begun."""
    path = recipe(tmp_path, RATERS)
    plain = path.read_text()
    path.write_text(plain + PPO % ("sft", "rm", "check"))
    done = run(read_recipe(path), tmp_path / "runs", Heard(), only=list(STANDING))
    (row,) = read_jsonl(done.stages["ppo"] / "guard.jsonl")
    assert row["text"].startswith(
        "guard at step 0: rm orders the policy's own answers as people do in"
    )
    assert row["text"].endswith("stopped")
    page = (done.path / "report.html").read_text()
    assert "own answers, as rm orders them" in page
    assert "have some judged" in page
    path.write_text(plain + PPO % ("base", "rm", "check"))
    with pytest.raises(RunError, match=r"it asked rm, rm2 about answers of sft"):
        run(read_recipe(path), tmp_path / "runs", Heard(), only=["ppo"])
    scored = PPO.replace("{name: learned, model: %s}", "{name: length_penalty%.0s}")
    path.write_text(plain + scored % ("sft", "rm", "check"))
    with pytest.raises(ConfigError, match=r"ppo.guard.rm_check: no reward model is paid here"):
        read_recipe(path)
    path.write_text(plain + PPO % ("sft", "rm", "sft"))
    with pytest.raises(ConfigError, match=r"stages.ppo.guard.*'sft' is no guard.*check"):
        read_recipe(path)


def one_round(folder: Path, keys: str) -> RunFolder:
    """All judging left to the round of fresh answers."""
    path = recipe(folder, f"{keys}, {RATERS}")
    only = ["study", "sft", "round2"]
    return run(read_recipe(path, ["study.compared=0"]), folder / "runs", Heard(), only=only)


def comparisons(snapshot: Snapshot) -> list[Question]:
    asked = (snapshot.tables.questions[j.question] for j in snapshot.judgments)
    return [q for q in asked if q.responses]


def test_fresh_answers_are_judged_beside_written_ones(tmp_path: Path) -> None:
    """`compared: 0` leaves all judging to the round; what is fresh is still told apart from what is not."""
    done = one_round(tmp_path, "beside: 2")
    with Store(done.stages["round2"] / "study.db") as store:
        snapshot = store.snapshot("round2")
        asked = comparisons(snapshot)
        assert len(asked) < len(snapshot)  # the rest are demonstrations
        sides = [
            tuple(snapshot.tables.responses[i].source.partition(":")[0] for i in q.responses)
            for q in asked
        ]
        assert {frozenset(s) for s in sides} == {
            frozenset({"model"}), frozenset({"person"}), frozenset({"model", "person"})
        }  # fmt: skip
        fresh = set(json.loads((done.stages["round2"] / "fresh.json").read_text())["responses"])
        assert {snapshot.tables.responses[i].source for i in fresh} == {"model:sft"}
        assert {
            i for q in asked for i in q.responses
            if snapshot.tables.responses[i].source == "model:sft"
        } == fresh  # fmt: skip


def test_only_prompts_of_the_tags_asked_for_are_answered(tmp_path: Path) -> None:
    done = one_round(tmp_path, "tagged: {kind: [plain]}")
    with Store(done.stages["round2"] / "study.db") as store:
        snapshot = store.snapshot("round2")
        prompts = [snapshot.tables.prompts[q.prompt] for q in comparisons(snapshot)]
    assert {p.tags["kind"] for p in prompts} == {"plain"}
    with pytest.raises(DataError, match=r"no prompt has .*odd.*allowed: kind: .*plain"):
        one_round(tmp_path / "none", "tagged: {kind: [odd]}")


def test_without_raters_the_questions_wait_and_go_on_with_peoples_answers(tmp_path: Path) -> None:
    path = recipe(tmp_path, "batch_size: 8")
    with pytest.raises(RunError, match=r"questions wait for people in .*round2\.answers"):
        run(read_recipe(path), tmp_path / "runs", Heard())
    folder = next((tmp_path / "runs" / "stages").glob("round2-*"))
    study = read_study(folder / "study.yaml")
    waiting = tmp_path / "people.db"
    person = Rater(name="Chiara", kind="human")
    with Store(waiting) as store:
        fresh = []
        for block in study.questions:
            for _, item in read_items(block, folder):
                prompt, responses = item.prompt_(), item.responses_()
                store.add_prompts([prompt])
                store.add_responses(prompt, responses)
                ids = tuple(r.id_for(prompt) for r in reversed(responses))
                fresh.append(Question(prompt=prompt.id, responses=ids, kind="compare"))
        store.add_questions(fresh)
        store.add_raters([person])
        at = "2026-02-01T10:00:00+00:00"
        store.add_judgments(
            Judgment(question=q.id, rater=person.id, answer=Preference(better=0), at=at)
            for q in fresh
        )
        store.freeze("people")
    sets = [f"round2.answers={waiting}@people"]
    done = run(read_recipe(path, sets), tmp_path / "runs", Heard())
    with Store(done.stages["round2"] / "study.db") as store:
        told = [j for j in store.snapshot("round2").judgments if j.rater == person.id]
    assert len(told) == len(fresh) > 0


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (f"{RATERS}, answers: a.db@v", "has raters too"),
        ("answers: a.db", "is no STORE@SNAPSHOT"),
        ("n: 1", "n"),
    ],
)
def test_a_wrong_key_is_found_before_anything_runs(tmp_path: Path, keys: str, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        read_recipe(recipe(tmp_path, keys).resolve())


def test_a_round_that_is_killed_asks_no_part_twice_and_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # batches of one prompt, parts of four
    path, whole = recipe(tmp_path, f"batch_size: 3, {RATERS}"), tmp_path / "whole"
    answer, asked = LocalSampler.__call__, []
    only = ["study", "sft", "round2"]

    def fresh(folder: Path) -> str:
        return (next((folder / "stages").glob("round2-*")) / "fresh.json").read_text()

    def watched(sampler: LocalSampler, prompts: Sequence[Prompt], *rest: Any) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append([p.id for p in prompts])
        return answer(sampler, prompts, *rest)

    run(read_recipe(path), whole, Heard(), only=only)
    monkeypatch.setattr(LocalSampler, "__call__", watched)
    with pytest.raises(KeyboardInterrupt):
        run(read_recipe(path), tmp_path / "runs", Heard(), only=only)
    before = list(asked)
    asked[:] = []
    run(read_recipe(path), tmp_path / "runs", Heard(), only=only)
    assert [len(part) for part in before] == [4, 4]
    assert not {p for part in before for p in part} & {p for part in asked for p in part}
    assert fresh(tmp_path / "runs") == fresh(whole)
