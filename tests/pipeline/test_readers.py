"""Has a reward model read what the policy that follows it writes: counted, told, named by the doctor."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from accord.core.rundir import read_json, read_jsonl, write_json, write_jsonl
from accord.core.types import Group, Prompt, Response
from accord.pipeline.doctor.base import StageRecord, examined
from accord.pipeline.doctor.reading import of_run
from accord.pipeline.readers import read_of, strangers
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
from accord.pipeline.stage import kinds
from accord.store import Store
from tests.pipeline.test_rounds import recipe as with_round
from tests.pipeline.test_runner import Heard

PPO = """
  again: {kind: sft, init: sft, data: study, tune: {r: 2}, max_steps: 1}
  ppo_%(n)s: {kind: ppo, init: %(init)s, data: study, rewards: [{name: learned, model: %(rm)s}], steps: 1,
    n: 2, batch_size: 2, max_new_tokens: 4, limit: 2, eval_limit: 2}
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("readers")
    path = with_round(folder, "beside: 2, raters: [{name: Ada, skill: 16}]")
    ppo = PPO % {"n": "a", "init": "sft", "rm": "rm"} + (
        PPO % {"n": "b", "init": "again", "rm": "rm2"}
    ).replace("  again: {kind: sft, init: sft, data: study, tune: {r: 2}, max_steps: 1}\n", "")
    path.write_text(path.read_text() + ppo)
    return run(read_recipe(path), folder / "runs", Heard()).path


def stages(run_folder: Path) -> dict[str, Path]:
    return {place.name: place for place in run_folder.iterdir() if place.is_dir()}


def test_answers_of_the_policy_and_of_what_it_started_from_are_its_own(both: Path) -> None:
    places = stages(both)
    rows = read_jsonl(places["rm2"] / "trained_on.jsonl")
    taught = {(r["prompt"], r[side]) for r in rows for side in ("better", "worse")}
    with Store(places["round2"] / "study.db") as store:
        tables = store.snapshot("round2").tables
        fresh = {r.text for r in tables.responses.values() if r.source == "model:sft"}
        written = {r.text for r in tables.responses.values() if r.source != "model:sft"}
    for policy in ("sft", "again"):
        counts = read_of(policy, "rm2", places)
        assert counts is not None
        own, n = counts
        assert 0 < own < n
        assert own >= sum(text in fresh - written for _, text in taught)
        assert n - own >= sum(text in written - fresh for _, text in taught)
        none = read_of(policy, "rm", places)
        assert none is not None
        assert none[0] == 0 < none[1]
    assert read_of("sft", "nobody", places) is None
    assert read_of("sft", "./elsewhere", places) is None


@pytest.mark.parametrize(
    ("policy", "source", "counts"),
    [
        ("base", "model:base", (2, 2)),
        ("sft", "model:base", (0, 2)),  # where it began, and not what it writes now
        ("sft", "model:sft", (2, 2)),
        ("sft", "person:author-right", (0, 2)),
        ("sft", "import:pairs.jsonl", None),
        ("sft", "unknown", None),
    ],
)
def test_whose_the_answers_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, source: str, counts: Any
) -> None:
    prompt = Prompt(messages=[{"role": "user", "content": "Hello?"}])  # type: ignore[list-item]
    yes, no = (Response(text=text, source=source) for text in ("Yes.", "No."))
    group = Group(prompt=prompt, responses=(yes, no))
    (tmp_path / "rm").mkdir()
    (tmp_path / "sft").mkdir()
    write_json(tmp_path / "sft/config.json", {"init": "base"})
    write_json(tmp_path / "rm/config.json", {"data": "study"})
    row = {"prompt": prompt.id, "better": "Yes.", "worse": "No."}
    write_jsonl(tmp_path / "rm/trained_on.jsonl", [row])
    snapshot = SimpleNamespace(groups=lambda even: [group])
    store = SimpleNamespace(snapshot=lambda name: snapshot)
    opened = (contextlib.nullcontext(store), {"snapshot": "v1"})
    monkeypatch.setattr("accord.pipeline.readers.data_store", lambda folder: opened)
    places = {name: tmp_path / name for name in ("rm", "sft", "study")}
    assert read_of(policy, "rm", places) == counts


def test_a_model_that_is_only_watched_is_not_judged() -> None:
    rewards = [
        {"name": "learned", "model": "rm"},
        {"name": "learned", "model": "other", "weight": 0, "label": "watched"},
        {"name": "learned", "model": "third", "weight": 0, "at_least": 1.0, "label": "held"},
    ]
    config = kinds()["ppo"].config(kind="ppo", init="sft", data="study", rewards=rewards, steps=1)
    assert config.models() == ["rm", "other", "third"]
    assert config.models(paid=True) == ["rm", "third"]


def test_it_is_told_before_the_first_step_and_stands_in_the_report(both: Path) -> None:
    facts = {n: read_json(both / n / "result.json") for n in ("ppo_a", "ppo_b")}
    assert facts["ppo_a"]["facts"]["read"]["rm"][0] == 0
    assert "learned from is sft's" in " ".join(facts["ppo_a"]["notes"])
    assert "learned from is" not in " ".join(facts["ppo_b"]["notes"])
    counts, texts = strangers("sft", ["rm", "rm2"], stages(both))
    assert list(counts) == ["rm", "rm2"]
    assert len(texts) == 1
    assert "rm learned from is sft's" in texts[0]


def test_the_doctor_names_it(both: Path) -> None:
    causes = {(f.stage, f.check): f for f in examined(of_run(both)).findings}
    counts = read_of("again", "rm2", stages(both))
    assert counts is not None
    assert (("ppo_b", "unread_policy") in causes) is (counts[0] <= 0.05 * counts[1])
    one = causes["ppo_a", "unread_policy"]
    assert one.strength == 0.5
    assert one.number.startswith("0 of the ")
    assert "reward probe" in one.test
    some = ((0, 100, True), (4, 100, True), (6, 100, False), (90, 9000, True), (110, 9000, False))
    for own, n, there in some:
        case = StageRecord("ppo", "online", {"init": "sft"}, facts={"read": {"rm": [own, n]}})
        assert any(f.check == "unread_policy" for f in examined([case]).findings) is there
