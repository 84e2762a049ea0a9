"""Has a reward model read what the policy that follows it writes: counted, told, named by the doctor."""

from __future__ import annotations

from pathlib import Path

import pytest

from accord.core.rundir import read_json
from accord.pipeline.doctor.base import StageRecord, examined
from accord.pipeline.doctor.reading import of_run
from accord.pipeline.readers import read_of, strangers
from accord.pipeline.recipe import read_recipe
from accord.pipeline.runner import run
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
    with Store(places["round2"] / "study.db") as store:
        sources = [
            r.source
            for group in store.snapshot("round2").groups(even="keep")
            for r in group.responses
        ]
    own = sum(s == "model:sft" for s in sources)
    assert 0 < own < len(sources)
    for policy in ("sft", "again"):
        assert read_of(policy, "rm2", places) == (own, len(sources))
        none = read_of(policy, "rm", places)
        assert none is not None
        assert none[0] == 0 < none[1]
    assert read_of("sft", "nobody", places) is None
    assert read_of("sft", "./elsewhere", places) is None


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
    assert ("ppo_b", "unread_policy") not in causes
    one = causes["ppo_a", "unread_policy"]
    assert one.strength == 1.0
    assert one.number.startswith("0 of the ")
    assert "reward probe" in one.test
    for own, there in ((0, True), (4, True), (6, False), (60, False)):
        case = StageRecord("ppo", "online", {"init": "sft"}, facts={"read": {"rm": [own, 100]}})
        assert any(f.check == "unread_policy" for f in examined([case]).findings) is there
