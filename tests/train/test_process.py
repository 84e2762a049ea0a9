"""Process rewards: steps found in tokens, states read where steps end, labels learned."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from accord.core.errors import DataError, ModelError
from accord.core.types import Exchange, LabelledSteps, Prompt, Response
from accord.lm.model.lora import Lora
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from accord.rewards.base import Context
from accord.rewards.compose import build_rewards
from accord.rewards.process_model import (
    ProcessModel,
    aggregated,
    load_process_model,
    step_ends,
    step_tree,
)
from accord.train.loop.data import Limits
from accord.train.loop.optimise import Optimise
from accord.train.offline.process import process_objective, step_trees, train_process
from accord.train.online.actors import cast, on_the_base
from tests.lm.tiny import tiny_tokenizer
from tests.train.small import fresh, save_tiny

GOOD, BAD = "the boots are dry", "my parcel is lost"


def item(number: int, *good: bool) -> LabelledSteps:
    text = "\n".join(GOOD if g else BAD for g in good)
    return LabelledSteps(
        prompt=Prompt.user(f"question {number}"),
        response=Response(text=text, finish="stop"),
        labels=tuple(1.0 if g else -1.0 for g in good),
    )


ITEMS = [item(n, n % 2 == 0, n % 3 == 0, n % 5 < 2) for n in range(24)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    return save_tiny(tmp_path / "base")


@pytest.mark.parametrize(
    ("text", "steps"),
    [("one", 1), ("one\ntwo", 2), ("one\n\n two \n", 2), ("\n\none", 1), (" \n ", 0), ("", 0)],
)
def test_there_are_as_many_ends_as_steps(text: str, steps: int) -> None:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ends = step_ends(tokenizer, ids)
    assert len(ends) == steps
    for number, end in enumerate(ends):  # all of a step has been read at its end, none of the next
        read = tokenizer.decode(ids[: end + 1])
        assert len([x for x in read.split("\n") if x.strip()]) == number + 1


def test_a_step_is_scored_by_the_state_after_its_last_token(base: Path) -> None:
    lm = fresh(base)
    model = ProcessModel(Engine(lm.model), ScalarHead(lm.model.config.hidden_size, 3), lm, 64)
    exchange = Exchange(prompt=Prompt.user("why?"), response=Response(text=f"{GOOD}\n{BAD}"))
    (found,) = model([exchange])
    tree = step_tree(lm.tokenizer, exchange, lm.eos_ids, 64)
    assert tree is not None
    ends = step_ends(lm.tokenizer, tree.completions[0][:-1])
    for p, end in zip(found, ends, strict=True):
        alone = Tree(tree.prompt, (tree.completions[0][: end + 1],))
        with torch.no_grad():
            logit = model.head(model.engine.last_hidden([alone]))[0]
        assert p == pytest.approx(1 / (1 + math.exp(-float(logit))), abs=1e-5)


def test_the_loss_is_the_mean_log_loss_of_the_steps(base: Path) -> None:
    lm = fresh(base)
    model = ProcessModel(Engine(lm.model), ScalarHead(lm.model.config.hidden_size, 3), lm, 64)
    neutral = item(1, True, False).model_copy(update={"labels": (0.0, -1.0), "weight": 2.0})
    data = step_trees(lm, [neutral], Limits(max_prompt=60, max_completion=64))
    (p, q) = model.step_scores(data.trees, 512)[0]
    value, sums = process_objective(model, data).loss([0])
    expected = 2.0 * (-(math.log(p) + math.log(1 - p)) / 2 - math.log(1 - q)) / 2
    assert float(value.detach()) == pytest.approx(expected, rel=1e-4)
    assert sums["accuracy"] == (float(q < 0.5), 1.0)  # a neutral step is neither


def test_it_learns_which_steps_are_right_and_rewards_them(base: Path, tmp_path: Path) -> None:
    trained = train_process(
        fresh(base), ITEMS, run_dir=tmp_path / "prm", tune=Lora(r=4, alpha=8), eval_on=ITEMS,
        optimise_with=Optimise(lr=2e-2, epochs=6, batch_size=8, tokens=512),
        limits=Limits(max_prompt=60, max_completion=64),
    )  # fmt: skip
    assert trained.metrics["accuracy"].value == pytest.approx(1.0)
    assert trained.metrics["accuracy of wrong steps"].value == pytest.approx(1.0)
    model = load_process_model(trained.model)
    context = Context(process_model=lambda name: model)
    rewards = build_rewards([{"name": "process", "model": "prm"}], context, "rewards")
    texts = [f"{GOOD}\n{GOOD}", f"{GOOD}\n{BAD}"]
    told = rewards(
        [Exchange(prompt=Prompt.user("new"), response=Response(text=t)) for t in texts]
    ).total
    assert told[0] > 0.5 > told[1]
    actors = cast(fresh(base), Lora(r=4, alpha=8), 1, value=False)
    shared = load_process_model(
        trained.model, on=on_the_base(actors, fresh(base).weights, trained.model)
    )
    assert shared.engine is actors.policy.engine
    exchange = Exchange(prompt=Prompt.user("new"), response=Response(text=texts[1]))
    assert shared([exchange])[0] == pytest.approx(model([exchange])[0], abs=1e-4)


def test_answers_without_steps_have_no_score_and_others_no_step_lost(base: Path) -> None:
    lm = fresh(base)
    model = ProcessModel(Engine(lm.model), ScalarHead(lm.model.config.hidden_size, 3), lm, 64)
    texts = ["", "a", "a\nb"]
    found = model([Exchange(prompt=Prompt.user("x"), response=Response(text=t)) for t in texts])
    assert [len(x) for x in found] == [0, 1, 2]


def test_labels_of_another_number_are_left_out_and_said(base: Path, tmp_path: Path) -> None:
    wrong = item(1, True, False).model_copy(update={"labels": (1.0,)})
    with pytest.raises(DataError, match="differ in number"):
        train_process(
            fresh(base), [wrong], run_dir=tmp_path / "prm", tune=Lora(),
            optimise_with=Optimise(),
        )  # fmt: skip


def test_a_reward_model_is_no_process_model(base: Path) -> None:
    with pytest.raises(ModelError, match="no process reward model"):
        load_process_model(base)


def test_ways_to_make_one_number_of_many() -> None:
    steps = [0.9, 0.5, 0.8]
    assert aggregated(steps, "min") == 0.5
    assert aggregated(steps, "product") == pytest.approx(0.36)
    assert aggregated(steps, "last") == 0.8
    assert aggregated(steps, "mean") == pytest.approx(2.2 / 3)
