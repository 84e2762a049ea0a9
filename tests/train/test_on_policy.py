"""PPO, RLOO and GRPO on a tiny model: what must hold whatever is learned."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accord.core.config import validate
from accord.core.errors import ConfigError, RunError
from accord.core.types import Exchange, Prompt, Response
from accord.lm.model.load import load
from accord.lm.model.lora import Lora
from accord.lm.sampler import Sampling
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from accord.rewards.base import Context, reward
from accord.rewards.learned import load_reward_model
from accord.train.loop.checkpoint import checkpoint_step
from accord.train.online import assembled
from accord.train.online.actors import cast
from accord.train.online.assembled import assemble
from accord.train.online.experience import experience_of
from accord.train.online.methods.best_of_n import BestOfN
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.online_dpo import OnlineDpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.methods.rloo import Rloo
from accord.train.online.policy import PolicyTrained, train_policy
from accord.train.online.rollout import roll_out, sampling
from accord.train.online.scorers import rewards_of
from accord.train.settings import Kl, MissingEos
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.train.small import Killed, fresh, prompt, reward_model, saved_tensors

LORA = Lora(r=4, alpha=8)
VOWELS = [{"name": "pattern", "regex": "[aeiou]"}]
PROMPTS = [prompt(i) for i in range(6)]
SMALL: dict[str, Any] = {
    "steps": 4, "batch_size": 4, "minibatch": 2, "lr": 3e-3, "max_new_tokens": 5, "save_every": 1,
    "tokens": 128,
}  # fmt: skip
SHARED = pytest.param(partial(Ppo, value_trunk="policy"), id="Ppo-shared")
SURROGATE = pytest.mark.parametrize("method", [Ppo, SHARED, Rloo, Grpo])
ALL = pytest.mark.parametrize("method", [Ppo, SHARED, Rloo, Grpo, OnlineDpo, BestOfN])


def settings(method: Any, **more: Any) -> Any:
    several = {} if method is Ppo else {"n": 3}
    return method(**{**SMALL, **several, **more})


def run(
    model: Path, folder: Path, cfg: Any, **more: Any
) -> tuple[PolicyTrained, list[dict[str, float]]]:
    rows: list[dict[str, float]] = []
    keys = {"rewards": VOWELS, "tune": LORA, "seed": 3, **more}
    rewards = keys.pop("rewards")
    own = keys.pop("on_step", None)

    def on_step(done: int, total: int, row: Mapping[str, float]) -> None:
        rows.append(dict(row))
        if own:
            own(done, total, row)

    done = train_policy(
        fresh(model), PROMPTS, rewards, run_dir=folder, settings=cfg, on_step=on_step, **keys
    )
    return done, rows


@SURROGATE
@pytest.mark.parametrize("tune", [LORA, "full"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_ratio_is_one_and_the_sampler_agrees(
    tiny: Path, tmp_path: Path, method: Any, tune: Any, temperature: float
) -> None:
    _, rows = run(tiny, tmp_path, settings(method, temperature=temperature), tune=tune)
    assert len(rows) == 4
    for row in rows:
        assert row["first_ratio_gap"] < 1e-4
        assert row["sampler_gap"] < 1e-3
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-5)  # the reference is the start
    assert abs(rows[-1]["kl_k3"]) > 1e-4  # and the policy has left it


@ALL
@pytest.mark.parametrize("at", [1, 3])
def test_killed_and_resumed_is_bitwise_undisturbed(
    tiny: Path, tmp_path: Path, method: Any, at: int
) -> None:
    cfg = settings(
        method,
        kl={"control": "adaptive", "beta": 0.1, "target": 0.1, "horizon": 20},
        scale_rewards=True, eval_every=2, schedule="linear", save_every=2 if at == 3 else 1,
    )  # fmt: skip
    keys = {"held": PROMPTS[:2]}
    whole, rows = run(tiny, tmp_path / "whole", cfg, **keys)

    def die(done: int, *_: Any) -> None:
        if done == at:
            raise Killed

    with pytest.raises(Killed):
        run(tiny, tmp_path / "cut", cfg, on_step=die, **keys)
    assert checkpoint_step(tmp_path / "cut") == (2 if at == 3 else at)
    cut, _ = run(tiny, tmp_path / "cut", cfg, **keys)
    ours, theirs = saved_tensors(whole.model), saved_tensors(cut.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name in ("metrics.jsonl", "samples/00002.jsonl", "samples/00004.jsonl"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    assert len({row["beta"] for row in rows}) > 1


@ALL
@pytest.mark.parametrize("tune", [LORA, "full"])
def test_the_saved_policy_is_the_trained_one(
    tiny: Path, tmp_path: Path, method: Any, tune: Any
) -> None:
    trees, lm = [Tree((5, 6, 7), ((8, 9), (10,)))], fresh(tiny)
    before = Engine(fresh(tiny).model).logps(trees).tokens_S
    done = train_policy(lm, PROMPTS, VOWELS, run_dir=tmp_path, tune=tune, settings=settings(method))
    now = Engine(lm.model).logps(trees).tokens_S
    saved = Engine(load(done.model, device="cpu").model).logps(trees).tokens_S
    torch.testing.assert_close(saved, now, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(now, before, atol=1e-4)


RELATIVE: dict[str, Any] = {"n": 3, "relative": True}


@reward("by_prompt")
def by_prompt(context: Context, *, offset: float) -> Any:
    """Vowels, and something that every answer to a prompt gets, another for each prompt."""
    own = {p.id: offset * i for i, p in enumerate(PROMPTS)}
    return lambda exchanges: [
        own[e.prompt.id] + any(c in "aeiou" for c in e.response.text) for e in exchanges
    ]


@pytest.mark.parametrize(("method", "more"), [(Rloo, {}), (Grpo, {}), (Ppo, RELATIVE)])
@pytest.mark.parametrize("each", [True, False])
def test_a_constant_added_to_the_reward_changes_nothing(
    tiny: Path, tmp_path: Path, method: Any, more: dict[str, Any], each: bool
) -> None:
    """Nor does one of each prompt's own, which is what scores of a Bradley-Terry model have."""
    shifted = (
        [{"name": "by_prompt", "offset": 2.0}]
        if each
        else [{"name": "pattern", "regex": "[aeiou]", "hit": 4.0, "miss": 3.0}]
    )
    plain = [{"name": "by_prompt", "offset": 0.0}] if each else VOWELS
    a, _ = run(tiny, tmp_path / "a", settings(method, **more), rewards=plain)
    b, _ = run(tiny, tmp_path / "b", settings(method, **more), rewards=shifted)
    for name, value in saved_tensors(a.model).items():
        torch.testing.assert_close(value, saved_tensors(b.model)[name], atol=2e-4, rtol=1e-3)


def test_siblings_are_needed_and_a_value_model_starts_from_nothing(
    tiny: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="relative compares a prompt's answers; allowed: n: 2"):
        validate(Ppo, {"relative": True})
    cfg = settings(Ppo, steps=1, **RELATIVE)
    rewards = [{"name": "learned", "model": str(reward_model(tiny, tmp_path / "rm"))}]
    _, rows = run(tiny, tmp_path / "ppo", cfg, rewards=rewards)
    assert rows[0]["value"] == 0.0
    assert 0.0 <= rows[0]["silent_groups"] <= 1.0


@ALL
def test_micro_batches_change_nothing(tiny: Path, tmp_path: Path, method: Any) -> None:
    found = [
        saved_tensors(run(tiny, tmp_path / str(n), settings(method, steps=1, tokens=n))[0].model)
        for n in (16, 4096)
    ]
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], atol=2e-4, rtol=1e-3)


def test_values_do_not_depend_on_how_the_answers_to_a_prompt_are_packed(tiny: Path) -> None:
    trees = [
        Tree((5, 6, 7), ((8, 9, 10, 11, 12), (13,), (14, 15, 16), (17, 18))),
        Tree((5, 6), ((8,), (9, 10))),
    ]
    value = cast(fresh(tiny), LORA, 1, value=True).value
    assert value
    assert value.head
    torch.nn.init.normal_(value.head.weight, generator=torch.Generator().manual_seed(1))
    with torch.no_grad(), value.playing():
        alone = [
            value.values([Tree(tree.prompt, (c,))]) for tree in trees for c in tree.completions
        ]
    before_S, after_C = (torch.cat(parts) for parts in zip(*alone, strict=True))
    for tokens in (9, 12, 4096):  # of the first tree's four answers, 3 to 1 go together
        torch.testing.assert_close(value.values_at_rest(trees, tokens), (before_S, after_C))


@pytest.mark.parametrize("tune", [LORA, "full"])
def test_a_shared_values_head_learns_by_what_the_policy_saw_and_moves_nothing_of_it(
    tiny: Path, tune: Any
) -> None:
    actors = cast(fresh(tiny), tune, 1, value=True, shares=True)
    assert actors.value
    assert actors.value.head
    assert list(actors.value.parameters) == ["head.weight"]
    head, policy = actors.value.head, actors.policy
    torch.nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))
    cfg = Ppo(**SMALL, n=3, value_trunk="policy", clip_value=None)
    with policy.playing():
        rollout = roll_out(actors.lm, PROMPTS, sampling(cfg, 1), batch_size=64)
    rewards = rewards_of(VOWELS, actors, actors.lm.weights, Path)
    seen = [
        experience_of(actors, rollout, rewards, tokens=n, missing_eos=MissingEos())
        for n in (16, 4096)
    ]
    for one in seen:
        assert one.values_S is not None
        assert one.after_C is not None
        with policy.playing(), torch.no_grad():
            before_S, after_C = actors.value.values(rollout.trees)
            own_S = policy.engine.logps(rollout.trees).tokens_S
        torch.testing.assert_close(one.values_S, before_S)
        torch.testing.assert_close(one.after_C, after_C)
        torch.testing.assert_close(one.old_S, own_S)

    assert torch.equal(seen[1].old_S, seen[1].reference_S)  # nothing has moved yet
    with policy.playing():
        actors.value.values(rollout.trees)[0].sum().backward()
    assert all(p.grad is None for p in policy.parameters.values())
    worth = cfg.advantages(seen[1], beta=0.0)
    objective = cfg.value_objective(actors, seen[1], worth)
    optimiser = torch.optim.LBFGS([head.weight], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        found, _ = objective.loss(range(len(rollout.trees)))
        found.backward()
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in policy.parameters.values())
    assert seen[1].states_SH is not None
    assert worth.returns_S is not None
    states_SH, returns_S = seen[1].states_SH.double(), worth.returns_S.double()
    best_H = torch.linalg.lstsq(states_SH, returns_S[:, None], driver="gelsd").solution
    least = float((states_SH @ best_H - returns_S[:, None]).square().sum()) / 2
    assert float(loss().detach()) == pytest.approx(least, rel=0.02, abs=0.02)


def test_a_reward_is_learned_and_the_kl_penalty_holds_it_back(tiny: Path, tmp_path: Path) -> None:
    found = {}
    for beta in (0.0, 3.0):
        cfg = Rloo(
            steps=30, batch_size=6, minibatch=6, n=8, lr=1e-2, max_new_tokens=2, kl={"beta": beta}
        )
        rewards = [{"name": "pattern", "regex": "e"}]
        _, rows = run(tiny, tmp_path / str(beta), cfg, rewards=rewards)
        found[beta] = [sum(r[k] for r in rows[-5:]) / 5 for k in ("score", "kl")]
        first = rows[0]["score"]
    assert found[0.0][0] > first + 0.3
    assert found[3.0][1] < 0.25 * found[0.0][1]


@reward("no_score_for")
def no_score_for(_: Context, *, letter: str, how: str) -> Any:
    def score(exchanges: Sequence[Exchange]) -> list[float]:
        wrong = [letter in e.response.text for e in exchanges]
        if how == "raises" and any(wrong):
            raise ZeroDivisionError("division by zero")
        return [math.nan if bad else 1.0 for bad in wrong]

    return score


@ALL
@pytest.mark.parametrize("how", ["nan", "raises"])
def test_a_failing_reward_stops_with_the_exchange_or_is_counted(
    tiny: Path, tmp_path: Path, method: Any, how: str
) -> None:
    bad = {"name": "no_score_for", "letter": "e", "how": how}
    with pytest.raises(RunError, match=r"reward no_score_for: no score .*e.* on_failure: drop"):
        run(tiny, tmp_path / "stop", settings(method, batch_size=6), rewards=[*VOWELS, bad])
    _, rows = run(
        tiny, tmp_path / "drop", settings(method, batch_size=6),
        rewards=[*VOWELS, {**bad, "on_failure": "drop"}],
    )  # fmt: skip
    assert sum(row.get("dropped/no_score_for", 0.0) for row in rows) > 0
    assert all(math.isfinite(x) for row in rows for x in row.values())


def test_an_evaluation_without_any_reward_is_counted_and_the_run_goes_on(
    tiny: Path, tmp_path: Path
) -> None:
    held = [p.model_copy(update={"tags": {}}) for p in PROMPTS[:3]]
    known = [p.model_copy(update={"tags": {"answer": "7"}}) for p in PROMPTS]
    rewards = [{"name": "exact_answer", "on_failure": "drop"}]
    rows: list[Mapping[str, float]] = []
    train_policy(
        fresh(tiny), known, rewards, run_dir=tmp_path, tune=LORA, settings=settings(Rloo, eval_every=2),
        held=held, on_step=lambda done, total, row: rows.append(dict(row)),
    )  # fmt: skip
    assert [row.get("eval/dropped/exact_answer") for row in rows] == [None, 3.0, None, 3.0]
    assert not any("eval/reward" in row for row in rows)


def test_a_resumed_run_remembers_the_weights_of_constraints(tiny: Path, tmp_path: Path) -> None:
    rewards = [
        *VOWELS,
        {"name": "length_penalty", "at_least": 0.0, "weight": 0.5, "dual_step": 0.5},
    ]

    def die(done: int, *_: Any) -> None:
        if done == 2:
            raise Killed

    _, rows = run(tiny, tmp_path / "whole", settings(Rloo), rewards=rewards)
    with pytest.raises(Killed):
        run(tiny, tmp_path / "cut", settings(Rloo), rewards=rewards, on_step=die)
    run(tiny, tmp_path / "cut", settings(Rloo), rewards=rewards)
    whole, cut = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("whole", "cut"))
    assert whole == cut
    weights = [row["weight/length_penalty"] for row in rows]
    assert sorted(set(weights)) == weights  # it rises at every step
    assert weights[0] > 0.5


def test_dropout_is_refused(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tune.dropout.*allowed: 0"):
        run(tiny, tmp_path, settings(Ppo), tune=Lora(r=4, alpha=8, dropout=0.1))


def test_the_kl_budget_ends_the_run_and_says_so(tiny: Path, tmp_path: Path) -> None:
    cfg = Rloo(**{**SMALL, "steps": 50, "n": 3, "lr": 2e-2}, kl={"beta": 0.0, "budget": 0.5})
    done, rows = run(tiny, tmp_path, cfg)
    assert len(rows) < 50
    assert rows[-1]["kl"] >= 0.5
    assert "KL budget of 0.5 nats per sequence was reached" in done.ended
    short = cfg.model_copy(update={"steps": len(rows) - 1, "kl": Kl(beta=0.0)})
    before, _ = run(
        tiny, tmp_path / "before", short
    )  # the saved policy is the one whose KL was measured
    ours, theirs = saved_tensors(done.model), saved_tensors(before.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    again, more = run(tiny, tmp_path, cfg)  # a finished run stays finished
    assert more == []
    assert again.ended == done.ended


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (
            {"horizon": 3.2},
            r"rloo: kl.horizon 3.2 lets beta turn negative: with 16 answers .* above 3.2",
        ),
        ({"beta": 0.0}, r"rloo.kl: beta: 0 never moves"),
    ],
)
def test_an_adaptive_control_that_can_not_work_is_refused(keys: dict[str, Any], match: str) -> None:
    def checked(**kl: float) -> None:
        config = {"batch_size": 4, "n": 4, "kl": {"control": "adaptive", **kl}}
        validate(Rloo, config, where="rloo")

    checked(horizon=3.3)
    with pytest.raises(ConfigError, match=match):
        checked(**keys)


def test_no_further_minibatch_once_the_policy_has_moved(tiny: Path, tmp_path: Path) -> None:
    cfg = settings(Ppo, lr=0.1, stop_kl=1e-6, steps=1)
    _, rows = run(tiny, tmp_path, cfg)
    assert (
        1 < rows[0]["minibatches"] < 8
    )  # the first is on-policy, so it can't be the one that stops


def test_roles_on_one_base_do_not_touch_each_other(tiny: Path, tmp_path: Path) -> None:
    trees = [Tree((5, 6, 7), ((8, 9), (10,)))]
    lm = fresh(tiny)
    at_start = Engine(fresh(tiny).model).logps(trees).tokens_S.detach()
    actors = cast(lm, LORA, 1, value=True)
    assert actors.value

    def reading() -> tuple[Tensor, Tensor, Tensor]:
        with torch.no_grad():
            with actors.policy.playing():
                policy = actors.policy.engine.logps(trees).tokens_S
            with actors.reference.playing():
                reference = actors.reference.engine.logps(trees).tokens_S
            with actors.value.playing():  # type: ignore[union-attr]
                value = actors.value.values(trees)[0]  # type: ignore[union-attr]
        return policy, reference, value

    before = reading()
    torch.testing.assert_close(before[0], at_start)
    assert not before[2].any()  # a fresh value model says 0
    with actors.value.playing():
        values_S, _ = actors.value.values(trees)
    with actors.policy.playing():
        logps_S = actors.policy.engine.logps(trees).tokens_S
    (values_S.sum() + logps_S.sum()).backward()  # one backward pass, after both have played
    for actor in (actors.policy, actors.value):
        grads = [p.grad for p in actor.parameters.values()]
        assert all(g is not None for g in grads)
    with torch.no_grad():
        for name, p in actors.policy.parameters.items():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))))
    after = reading()
    assert not torch.allclose(after[0], before[0])
    assert torch.equal(after[1], before[1])
    assert torch.equal(after[2], before[2])


@pytest.mark.parametrize("tune", [LORA, "full"])
def test_the_value_model_starts_from_the_reward_model_on_the_same_base(
    tiny: Path, tmp_path: Path, tune: Any
) -> None:
    trained = reward_model(tiny, tmp_path / "rm")
    rewards = [{"name": "learned", "model": str(trained)}]
    done, rows = run(tiny, tmp_path / "ppo", settings(Ppo), rewards=rewards, tune=tune)
    assert rows[0]["value"] != 0.0
    assert not any("fresh" in note for note in done.notes)
    assert rows[0]["reward/learned"] == pytest.approx(rows[0]["score"], abs=1e-5)


def test_samples_are_kept_with_their_rewards(tiny: Path, tmp_path: Path) -> None:
    run(tiny, tmp_path, settings(Ppo, eval_every=2), held=PROMPTS[:3])
    lines = (tmp_path / "samples" / "00002.jsonl").read_text().splitlines()
    assert len(lines) == 3
    assert set(json.loads(lines[0])) == {"step", "prompt", "response", "finish", "reward", "parts"}


@pytest.mark.parametrize("tune", [LORA, "full"])
def test_a_reward_model_of_another_architecture_and_tokenizer_reads_the_words(
    tiny: Path, tmp_path: Path, tune: Any
) -> None:
    other = tmp_path / "other"
    tiny_model("gpt_neox", vocab_size=300).save_pretrained(other)
    tiny_tokenizer(vocab_size=300).save_pretrained(other)
    judge = reward_model(other, tmp_path / "rm")
    done, rows = run(tiny, tmp_path / "ppo", settings(Ppo, steps=2, n=2, eval_every=2), tune=tune,
                     rewards=[{"name": "learned", "model": str(judge)}], held=PROMPTS[:3])  # fmt: skip
    assert any("the value model starts fresh" in note for note in done.notes)
    assert rows[0]["value"] == pytest.approx(
        rows[0]["score"], abs=0.2
    )  # about the scores, as any fresh one
    kept = [json.loads(x) for x in (tmp_path / "ppo/samples/00002.jsonl").read_text().splitlines()]
    words = {p.last: p for p in PROMPTS}
    exchanges = [
        Exchange(prompt=words[r["prompt"]],
                 response=Response(text=r["response"], finish=r["finish"]))
        for r in kept
    ]  # fmt: skip
    alone = load_reward_model(judge, device="cpu")(exchanges)
    assert [r["reward"] for r in kept] == pytest.approx(alone, abs=1e-4)
    assert len(rows) == 2


def test_a_server_answers_instead_of_the_policy(tiny: Path, tmp_path: Path) -> None:
    def server(prompts: Sequence[Prompt], how: Sampling, _: Any = None) -> list[list[Response]]:
        ends = ("stop", "length")
        return [
            [Response(text=f"yes {k}", finish=ends[k % 2]) for k in range(how.n)]
            for _ in prompts  # type: ignore[arg-type]
        ]

    _, rows = run(tiny, tmp_path, settings(Grpo, n=4), sampler=server)
    assert all(row["eos_rate"] == 0.5 for row in rows)
    assert all(row["first_ratio_gap"] < 1e-4 for row in rows)  # the log-probs are the trainer's
    assert "sampler_gap" not in rows[0]  # a server tells none
    assert rows[0]["reward/pattern"] == 1.0


def test_what_was_trained_is_kept_when_measuring_fails(tiny: Path, tmp_path: Path) -> None:
    """An evaluation fails (a judge that is down): no step is done again, what is owed is measured."""
    cfg = settings(Rloo, save_every=100, eval_every=3)

    def train(folder: Path, fails_at: int, steps: list[int]) -> Any:
        asked: list[int] = []

        def measure(rollout: Any) -> dict[str, float]:
            asked.append(1)
            if len(asked) == fails_at:
                raise RunError("the judge is down")
            return {"length": float(sum(rollout.lengths))}

        keys = {"held": PROMPTS[:2], "evaluate": measure}
        return run(tiny, folder, cfg, on_step=lambda done, *_: steps.append(done), **keys)

    whole, _ = train(tmp_path / "whole", 0, [])
    for fails_at, at in ((1, 3), (2, 4)):
        folder, steps = tmp_path / str(at), list[int]()
        with pytest.raises(RunError, match="the judge is down"):
            train(folder, fails_at, steps)
        assert checkpoint_step(folder) == at
        done, _ = train(folder, 0, steps)
        assert steps == [n for n in (1, 2, 3, 4) if n != at]
        for file in ("metrics.jsonl", f"samples/{at:05d}.jsonl"):
            assert (folder / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
        before, after = saved_tensors(whole.model), saved_tensors(done.model)
        assert all(torch.equal(before[name], after[name]) for name in before)


class Later(Rloo):
    """Rloo of a version that knows one key more."""

    later = (*Rloo.later, "fresh")
    fresh: bool | None = None


def test_a_key_that_came_later_leaves_a_killed_run_its_checkpoint(tiny: Path) -> None:
    def fingerprint(cfg: Any) -> str:
        return assemble(fresh(tiny), PROMPTS, VOWELS, [], cfg, LORA, 3, Path).run

    before = fingerprint(settings(Rloo))
    assert fingerprint(settings(Later)) == before
    assert fingerprint(settings(Later, fresh=True)) != before


def test_keys_that_were_part_of_it_stay_part_of_it(tiny: Path, monkeypatch: Any) -> None:
    """Else a run that the version before began would be refused."""
    parts: list[Any] = []
    monkeypatch.setattr(assembled, "content_hash", lambda x: parts.append(x) or "known")
    assemble(fresh(tiny), PROMPTS, VOWELS, [], settings(Ppo), LORA, 3, Path)
    hashed = next(x for x in parts[-1] if isinstance(x, dict) and "steps" in x)
    assert {"precision", "relative"} <= hashed.keys()
    assert "value_trunk" not in hashed
