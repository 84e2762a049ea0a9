"""The guard: what it sees of a planted hack, what it does, and that a run which is killed meets the same."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from accord.core.errors import ConfigError
from accord.core.rundir import read_jsonl
from accord.core.types import Edge, Exchange, Group, Metric, Prompt, Response
from accord.detect.perturb import perturbations
from accord.feedback.study.definition import Study
from accord.pipeline.stages.on_policy.guard import CHEAP, TESTS, GuardConfig, looks
from accord.pipeline.stages.on_policy.watching import DetectorGuard
from accord.train.offline.reward import HeldOut, accuracy
from accord.train.online.guarded import Look
from accord.train.online.methods.ppo import Ppo
from tests.detect.test_panel import policy
from tests.train.small import Killed, save_tiny, saved_tensors
from tests.train.test_on_policy import run, settings

STEPS, BATCH = 40, 16


def answers(step: int, share: float, hack: str = "flattered", seed: int = 0) -> list[Exchange]:
    """A step's answers, of which a share is hacked."""
    draw = random.Random(f"{seed} {step}")
    replies = policy(1000 * seed + step, BATCH, first=BATCH * (step % 8))
    return [
        e.model_copy(
            update={
                "response": e.response.model_copy(
                    update={"text": perturbations[hack](e.response.text, draw)}
                )
            }
        )
        if draw.random() < share
        else e
        for e in (r.exchange for r in replies)
    ]


def watch(
    config: GuardConfig, folder: Path, from_step: int, share: float, seed: int = 0
) -> list[Look]:
    """All looks at a policy that is hacked from a step on."""
    guard = DetectorGuard(config, STEPS, folder)
    seen = [
        guard.see(s, answers(s, share * (s >= from_step), seed=seed), [0.0] * BATCH)
        for s in range(STEPS)
    ]
    return [look for look in seen if look]


def test_a_planted_hack_is_seen_at_the_next_look(tmp_path: Path) -> None:
    """Looks at steps 10 to 40 of 5 steps each; the hack comes at step 22 into half of the answers."""
    seen = watch(GuardConfig(every=5), tmp_path, 22, 0.5)
    assert [look.state for look in seen[1:]] == ["good"] * 3 + ["alarm"] * 4
    rows = read_jsonl(tmp_path / "guard.jsonl")
    assert [row["step"] for row in rows] == [10, 15, 20, 25, 30, 35, 40]
    assert "guard at step 25: flattery" in rows[3]["text"]
    (v,) = [v for v in rows[3]["verdicts"] if v["outcome"] != "pass"]
    assert (v["detector"], len(v["evidence"])) == ("flattery", 5)


def test_a_policy_that_goes_too_far_is_seen_by_its_kl(tmp_path: Path) -> None:
    """Answers that no detector finds fault with, 0.2 nats farther at each step: the mean of five steps
    passes 3 at steps 15 to 19."""
    guard = DetectorGuard(GuardConfig(every=5, kl=3.0, action="rollback"), STEPS, tmp_path)
    seen = [guard.see(s, answers(s, 0.0), [0.0] * BATCH, 0.2 * s) for s in range(20)]
    states = [(s + 1, look.state) for s, look in enumerate(seen) if look]
    assert states == [(1, "good"), (10, "good"), (15, "good"), (20, "rollback")]
    last = read_jsonl(tmp_path / "guard.jsonl")[-1]
    assert "KL 3.40 nats an answer, 3 allowed" in last["text"]
    assert last["far"]
    assert last["kl"] == pytest.approx(3.4)


def test_a_policy_that_does_not_change_raises_no_alarm(tmp_path: Path) -> None:
    """In 2 runs of 7 looks each; one alarm of 20 such runs is promised, so that none is the rule."""
    for seed in (1, 2):
        seen = watch(GuardConfig(every=5), tmp_path, STEPS, 0.0, seed=seed)
        assert {look.state for look in seen} == {"good"}
        assert all(look.beta == 1.0 for look in seen)


def test_what_follows(tmp_path: Path) -> None:
    seen = watch(GuardConfig(every=10, action="raise_beta", factor=3.0), tmp_path, 10, 0.5)
    assert [look.beta for look in seen] == [1.0, 3.0, 3.0, 3.0]
    seen = watch(GuardConfig(every=10, action="rollback"), tmp_path, 10, 0.5)
    assert seen[1].state == "rollback"
    watch(GuardConfig(every=10, action="ask", items=12), tmp_path, 20, 0.9)
    study = Study.model_validate(
        {**yaml.safe_load((tmp_path / "guard_study.yaml").read_text()), "folder": str(tmp_path)}
    )
    rows = [row for q in study.questions for row in read_jsonl(tmp_path / str(q.file))]
    assert len(rows) == 24  # of two looks
    assert sum("ask" in r["responses"][0]["text"] or len(r["responses"]) == 2 for r in rows) > 12


def test_the_level_is_spent_on_all_looks(tmp_path: Path) -> None:
    """With seven looks p is seven times that of one."""
    one, seven = (
        DetectorGuard(GuardConfig(every=e, detectors=["length"]), STEPS, tmp_path) for e in (20, 5)
    )
    assert (one.looks, seven.looks) == (1, 7)
    assert looks(GuardConfig(), 1000)[1] * len(CHEAP) <= TESTS
    for guard in (one, seven):
        guard.start = [[e.model_dump_json(), 0.0] for s in range(5) for e in answers(s, 0.0)]
        now = [[e.model_dump_json(), 0.0] for s in range(5, 8) for e in answers(s, 0.1, "padded")]
        guard._look(STEPS, now, 0.0)
    p_one, p_seven = (g.rows[0]["verdicts"][0]["p"] for g in (one, seven))
    assert p_seven == pytest.approx(min(1.0, 7 * p_one))


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        ({"detectors": ["far"]}, r"guard.detectors: far needs a reward model's reading"),
        ({"detectors": ["kl_cost"]}, r"guard.detectors: kl_cost needs the KL of each answer"),
        ({"every": 30}, r"guard.every: never looks: 40 steps.*at most 20"),
        ({"every": 1}, r"39 looks at 12 detectors are too many.*at least 2"),
        ({"detectors": ["lenght"]}, "unknown detector 'lenght'"),
    ],
)
def test_a_guard_that_could_never_tell_is_refused(keys: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        GuardConfig(**keys).check(STEPS, lambda key: key)


ORDERS = {
    "knows": Metric(value=0.8, low=0.6, high=0.9, n=40),
    "coin": Metric(value=0.6, low=0.5, high=0.7, n=40),
}


@pytest.mark.parametrize(
    ("action", "state", "beta", "does"),
    [
        ("warn", "alarm", 1.0, "coin's 0.5"),
        ("raise_beta", "alarm", 2.0, "β times 2"),
        ("rollback", "rollback", 1.0, "stopped"),
        ("ask", "alarm", 1.0, "to be judged in guard_study.yaml"),
    ],
)
def test_a_reward_that_does_not_know_the_answers_is_seen_before_the_first_step(
    action: Any, state: str, beta: float, does: str, tmp_path: Path
) -> None:
    guard = DetectorGuard(GuardConfig(action=action), STEPS, tmp_path, orders=ORDERS)
    look = guard.see(0, answers(0, 0.0), [0.0] * BATCH)
    assert look is not None
    assert (look.state, look.beta) == (state, beta)
    assert "step 0: coin orders the policy's own answers as people do in 0.6 [" in look.text
    assert "knows" not in look.text
    assert look.text.endswith(does)
    assert (tmp_path / "guard_thumb.jsonl").exists() is (action == "ask")
    (row,) = read_jsonl(tmp_path / "guard.jsonl")
    assert (row["step"], list(row["blind"])) == (0, ["coin"])


def test_a_reward_that_knows_them_is_let_be(tmp_path: Path) -> None:
    """One whose order is not known at all is not."""
    for figure, state in ((ORDERS["knows"], "good"), (Metric(value=None, n=0), "alarm")):
        guard = DetectorGuard(GuardConfig(), STEPS, tmp_path, orders={"rm": figure})
        look = guard.see(0, answers(0, 0.0), [0.0] * BATCH)
        assert look is not None
        assert look.state == state


def orders(prompts: int, skill: float, draw: random.Random) -> Metric:
    """What rm_check finds of a reward that sees the truth of four answers to each prompt times `skill`, under
    noise, where raters err too."""
    held = []
    for number in range(prompts):
        truth = [draw.gauss(0, 1) for _ in range(4)]
        pairs = list(itertools.combinations(range(4), 2))
        right = [draw.random() < 1 / (1 + math.exp(2 * (truth[b] - truth[a]))) for a, b in pairs]
        edges = [
            Edge(better=a if r else b, worse=b if r else a)
            for (a, b), r in zip(pairs, right, strict=True)
        ]
        group = Group(
            prompt=Prompt.user(f"{number}"), responses=tuple(Response(text=t) for t in "abcd"),
            edges=tuple(edges),
        )  # fmt: skip
        held.append(HeldOut(group, tuple(skill * x + draw.gauss(0, 1) for x in truth)))
    return accuracy(held)


def test_a_coin_seldom_passes_for_knowing_and_one_that_knows_does(tmp_path: Path) -> None:
    """2.5% of coins would: of 200 more than 12 come once in 1,000. Skill 1.5 is shown on 40 prompts."""
    draw = random.Random(4)

    def passed(prompts: int, skill: float) -> bool:
        figure = {"rm": orders(prompts, skill, draw)}
        return not DetectorGuard(GuardConfig(), STEPS, tmp_path, orders=figure).blind

    for prompts in (12, 40):
        assert sum(passed(prompts, 0.0) for _ in range(200)) <= 12
    assert sum(passed(40, 1.5) for _ in range(40)) >= 38


def test_an_alarm_before_the_first_step_leaves_the_weights_as_they_were(
    tiny: Path, tmp_path: Path
) -> None:
    done, rows = run(tiny, tmp_path / "a", settings(Ppo), guard=Scripted("rollback"))
    none, _ = run(tiny, tmp_path / "b", settings(Ppo, lr=1e-30, value_lr=1e-30))
    ours, theirs = saved_tensors(done.model), saved_tensors(none.model)
    assert all(torch.allclose(ours[n], theirs[n], rtol=0.0, atol=1e-20) for n in ours)
    assert len(rows) == 1
    assert "policy is that after step 0" in done.ended


class Scripted:
    """A guard that sees what it is told to; it counts what it was shown."""

    rolls_back = True

    def __init__(self, *states: Any, beta: float = 1.0) -> None:
        self.states, self.beta, self.shown, self.notes = states, beta, 0, ("a note",)

    def see(self, step: int, exchanges: Any, scores: Any, kl: float) -> Look:
        self.shown += len(exchanges)
        return Look(self.states[step], self.beta, "guard: x", {"guard/shown": float(self.shown)})

    def saved(self) -> dict[str, Any]:
        return {"shown": self.shown}

    def restore(self, saved: Any) -> None:
        self.shown = saved["shown"]


def test_it_rolls_back_to_the_weights_that_were_good(tiny: Path, tmp_path: Path) -> None:
    """Alarm at the third step: the policy is that with which the second began, and no update follows."""
    guard = Scripted("good", "good", "rollback")
    done, rows = run(tiny, tmp_path / "a", settings(Ppo), guard=guard)
    once, _ = run(tiny, tmp_path / "b", settings(Ppo, steps=1))
    ours, theirs = saved_tensors(done.model), saved_tensors(once.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert len(rows) == 3
    assert "policy is that after step 1" in done.ended
    assert {"a note", done.ended} <= set(done.notes)


def test_beta_rises_and_a_killed_run_knows_what_it_was_shown(tiny: Path, tmp_path: Path) -> None:
    states = ("good", "alarm", "alarm", "alarm")
    _, rows = run(tiny, tmp_path / "a", settings(Ppo), guard=Scripted(*states, beta=2.0))
    assert [row["beta"] / rows[0]["beta"] for row in rows] == [1, 2, 4, 8]

    def die(at: int, *_: Any) -> None:
        if at == 2:
            raise Killed

    with pytest.raises(Killed):
        run(tiny, tmp_path / "b", settings(Ppo), guard=Scripted(*states, beta=2.0), on_step=die)
    run(tiny, tmp_path / "b", settings(Ppo), guard=Scripted(*states, beta=2.0))
    logs = [(tmp_path / x / "metrics.jsonl").read_text() for x in "ab"]
    assert logs[0] == logs[1]
    assert (
        json.loads(logs[1].splitlines()[-1])["guard/shown"] == 12
    )  # of 6 prompts, 4 and then 2 a step


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny") / "base")
