"""What a notebook user calls: sampling, scoring, evaluating, running a recipe, and what results hold."""

from __future__ import annotations

import ast
import json
import math
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import accord
from accord.core import keys
from accord.core.errors import ConfigError, RunError
from accord.lm.model.lora import Lora
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.train.loop.data import Limits
from accord.train.loop.optimise import Optimise
from accord.train.online.methods.best_of_n import BestOfN
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.online_dpo import OnlineDpo
from accord.train.online.methods.ppo import Ppo
from accord.train.online.methods.rloo import Rloo
from accord.train.settings import Kl, MissingEos
from tests.train.small import fresh, many_pairs, prompt, save_tiny

TEXTS = ["Where is my parcel?", "Is it open today?"]
FEW = {"steps": 1, "batch_size": 2, "minibatch": 2, "max_new_tokens": 3}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def policy(tiny: Path) -> accord.LanguageModel:
    return fresh(tiny)


def test_answers_are_the_sampler_s(policy: accord.LanguageModel) -> None:
    prompts = [accord.Prompt.user(text) for text in TEXTS]
    how = Sampling(max_new_tokens=5, temperature=0.7, top_k=9, seed=3, n=2)
    expected = [[r.text for r in rows] for rows in LocalSampler(policy)(prompts, how)]
    many = policy.answers(TEXTS, 2, max_new_tokens=5, temperature=0.7, top_k=9, seed=3)
    assert [[r.text for r in rows] for rows in many] == expected
    one = policy.answer(prompts, batch_size=1, max_new_tokens=5, temperature=0.7, top_k=9, seed=3)
    assert [r.text for r in one] == [rows[0] for rows in expected]


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda p: p.answer("Where?"), "give a list"),
        (lambda p: p.answer(["?"], temperatur=1.0), "unknown key 'temperatur'.*temperature"),
        (lambda p: p.answer(["?"], top_p=0.0), "top_p.*> 0"),
        (lambda p: p.answers(["?"], 0), "n: .*>= 1"),
        (lambda p: p.answer(["?"], batch_size=0), "batch_size.*>= 1"),
        (lambda p: accord.evaluate(p, ["?"], [{"name": "brevitee"}]), "unknown reward 'brevitee'"),
        (lambda p: accord.run({"name": "x", "model": "m", "stages": {}}, {"sft.lr": 1}), "sft"),
    ],
)
def test_wrong_calls_say_what_is_allowed(
    call: Any, told: str, policy: accord.LanguageModel
) -> None:
    with pytest.raises(ConfigError, match=told):
        call(policy)


def test_a_reward_model_scores_texts(tiny: Path, tmp_path: Path) -> None:
    done = accord.train_reward(fresh(tiny), many_pairs(4), run_dir=tmp_path, max_steps=1)
    model = accord.load_reward_model(done.model)
    said = ["It arrives on Tuesday.", "No."]
    exchanges = [
        accord.Exchange(prompt=accord.Prompt.user(p), response=accord.Response(text=a))
        for p, a in zip(TEXTS, said, strict=True)
    ]
    assert model.score(TEXTS, said) == model(exchanges)
    with pytest.raises(ConfigError, match="2 prompts and 1 answers"):
        model.score(TEXTS, said[:1])
    scored = accord.score(exchanges, [{"name": "learned", "model": str(done.model), "weight": 2.0}])
    assert scored.parts["learned"] == pytest.approx(model(exchanges), abs=1e-6)
    assert scored.total == pytest.approx([2 * x for x in model(exchanges)], abs=1e-6)


def test_lengths_are_counted_in_the_policy_s_tokens(policy: accord.LanguageModel) -> None:
    e = accord.Exchange(prompt=prompt(0), response=accord.Response(text="unaffordable things"))
    cost = [{"name": "length_penalty", "per_token": 1.0, "budget": 0}]
    tokens = len(policy.tokenizer("unaffordable things", add_special_tokens=False)["input_ids"])
    assert accord.score([e], cost, policy=policy).total == [-tokens]
    assert accord.score([e], cost).total == [-2.0]


def test_evaluation_is_the_mean_over_answers(policy: accord.LanguageModel) -> None:
    found = accord.evaluate(
        policy, TEXTS, [{"name": "pattern", "regex": "e"}], n=3, max_new_tokens=4, seed=1
    )
    texts = [e.response.text for e in found.exchanges]
    assert texts == [
        r.text for rows in policy.answers(TEXTS, 3, max_new_tokens=4, seed=1) for r in rows
    ]
    assert found.scored
    assert found.metrics["reward"].value == pytest.approx(math.fsum(found.scored.total) / 6)
    assert found.metrics["pattern"].n == 6
    assert set(found.metrics) == {"reward", "pattern", "words", "cut off"}
    assert set(accord.evaluate(policy, TEXTS, max_new_tokens=2).metrics) == {"words", "cut off"}


def test_results_hold_metrics_and_the_policy(tiny: Path, tmp_path: Path) -> None:
    pairs = many_pairs(6)
    dpo = accord.train_preference(
        fresh(tiny), pairs[:4], eval_on=pairs[4:], run_dir=tmp_path / "dpo", max_steps=1
    )
    rl = accord.train_policy(
        fresh(tiny), [prompt(0), prompt(1)], [{"name": "pattern", "regex": "e"}],
        eval_on=[prompt(2)], run_dir=tmp_path / "ppo", **FEW,  # type: ignore[typeddict-item]
    )  # fmt: skip
    assert dpo.metrics["accuracy"].n > 0
    assert rl.metrics["reward"].n == rl.metrics["pattern"].n == 1
    assert rl.metrics["reward"].value == rl.log[-1]["eval/reward"]
    for done in (dpo, rl):
        assert done.policy is done.policy
        assert done.policy.weights == accord.load(done.model).weights
        assert len(done.policy.answer(TEXTS, max_new_tokens=2)) == 2


def test_a_recipe_runs_from_a_dict(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"Question {i}?", "completion": "On Tuesday."} for i in range(20)]
    Path("demos.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "name": "small", "model": str(tiny),
        "stages": {"sft": {"kind": "sft", "data": "demos.jsonl"}},
    }  # fmt: skip
    before = json.dumps(recipe)
    done = accord.run(recipe, {"sft.max_steps": 1, "sft.lr": 1e-5}, runs="kept")
    assert json.dumps(recipe) == before
    assert done["sft"].metrics["nll"].value is not None
    assert done.metrics["sft"] == done["sft"].metrics
    assert done.report.is_file()
    assert done.policy.weights == accord.load(done["sft"].folder / "model").weights
    again = accord.run(recipe, ["sft.max_steps=1", "sft.lr=1e-5"], runs="kept")
    assert again.folder == done.folder
    with pytest.raises(RunError, match=r"no finished stage 'dpo'; allowed: .*sft"):
        _ = done["dpo"]
    data = next(s for s in done.stages.values() if s.name != "sft")
    with pytest.raises(RunError, match="trains no model"):
        _ = data.policy


METHODS = (Ppo, Rloo, Grpo, OnlineDpo, BestOfN)
TYPED: dict[Any, tuple[type[BaseModel], ...]] = {
    keys.OptimiseKeys: (Optimise, Limits), keys.LoraKeys: (Lora,), keys.SamplingKeys: (Sampling,),
    keys.KlKeys: (Kl,), keys.MissingEosKeys: (MissingEos,), keys.OnPolicyKeys: METHODS,
}  # fmt: skip
SPELLED = {Kl: keys.KlKeys, MissingEos: keys.MissingEosKeys, dict[str, Any]: None}


@pytest.mark.parametrize("typed", TYPED, ids=lambda t: t.__name__)
def test_every_key_is_in_the_signature(typed: Any) -> None:
    """Names and types that editors see are those that the settings check."""
    found = typing.get_type_hints(typed)
    told: dict[str, Any] = {}
    for settings in TYPED[typed]:
        hints = typing.get_type_hints(settings)
        told |= {name: hints[name] for name in settings.model_fields}
    if typed is keys.SamplingKeys:
        del told["n"]  # an argument of its own
    assert set(found) == set(told)
    for name, kind in told.items():
        if name == "loss":
            continue
        assert _spelled(found[name]) == _spelled(SPELLED.get(kind, kind)), name


def _spelled(kind: Any) -> Any:
    """A type with unions as sets, whichever way they are written."""
    union = typing.get_origin(kind) in (typing.Union, types.UnionType)
    return frozenset(typing.get_args(kind)) if union else kind


def test_public_names_are_the_same_for_python_and_for_editors() -> None:
    tree = ast.parse(Path(accord.__file__).read_text())
    (block,) = (n for n in tree.body if isinstance(n, ast.If))
    imported = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == accord._MODULES
    assert sorted(accord.__all__) == sorted(["__version__", *accord._MODULES])
    assert (Path(accord.__file__).parent / "py.typed").is_file()
