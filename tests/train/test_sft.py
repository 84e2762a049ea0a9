"""SFT scores what the assistant wrote, each token alike; empty data is an error that says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accord.core.errors import DataError
from accord.core.types import Demonstration, Message, Prompt, Response
from accord.lm.trees.engine import Engine
from accord.lm.trees.tree import Tree
from accord.train.loop.data import Limits, demonstration_trees
from accord.train.loop.optimise import Optimise
from accord.train.loop.saved import Trained
from accord.train.offline.preference import train_preference
from accord.train.offline.reward import train_reward
from accord.train.offline.sft import held_out_nll, sft_objective, train_sft
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.train.small import (
    LIMITS,
    LORA,
    NARROW,
    WIDE,
    answer,
    assert_same,
    demonstrations,
    fresh,
    gradients,
    how,
    many_pairs,
    pair,
    prompt,
)

TALK = Prompt(
    messages=(
        Message(role="system", content="You are a helpful assistant."),
        Message(role="user", content="Where is my parcel?"),
        Message(role="assistant", content="On its way."),
        Message(role="user", content="When does it arrive?"),
    )
)
TUESDAY = Demonstration(prompt=TALK, response=Response(text="On Tuesday.", finish="stop"))


def scored_text(tree: Tree) -> list[str]:
    """The runs of scored tokens, decoded."""
    tokenizer, runs, inside = tiny_tokenizer(), [], False
    for token, scored in zip(tree.completions[0], tree.mask(0), strict=True):
        if scored and not inside:
            runs.append([])
        if scored:
            runs[-1].append(token)
        inside = scored
    return [tokenizer.decode(run) for run in runs]


@pytest.mark.parametrize(
    ("all_turns", "expected"),
    [
        (True, ["On its way.<|im_end|>", "On Tuesday.<|im_end|>"]),
        (False, ["On Tuesday.<|im_end|>"]),
    ],
)
def test_only_the_assistants_turns_are_scored(all_turns: bool, expected: list[str]) -> None:
    wide = Limits(max_prompt=200)
    data = demonstration_trees(tiny_tokenizer(), [TUESDAY], wide, all_turns=all_turns)
    (tree,) = data.trees
    assert scored_text(tree) == expected
    whole = tiny_tokenizer().decode(tree.prompt + tree.completions[0])
    assert whole.startswith("<|im_start|>system\nYou are")
    assert whole.endswith("On Tuesday.<|im_end|>")


@pytest.mark.parametrize("all_turns", [True, False])
def test_an_answer_that_was_cut_off_does_not_end_its_turn(all_turns: bool) -> None:
    cut = TUESDAY.model_copy(update={"response": Response(text="On Tues", finish="length")})
    data = demonstration_trees(
        tiny_tokenizer(), [cut, TUESDAY], Limits(max_prompt=200), all_turns=all_turns
    )
    assert scored_text(data.trees[0])[-1] == "On Tues"
    assert scored_text(data.trees[1])[-1] == "On Tuesday.<|im_end|>"
    assert data.truncated == 1


def naive_nll(model: Any, tree: Tree) -> Tensor:
    """Negative log-likelihood of each scored token from the model's own logits."""
    ids, start = tree.prompt + tree.completions[0], len(tree.prompt)
    logps_TV = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    nll_T = -logps_TV[start - 1 : -1].gather(-1, torch.tensor(ids[start:])[:, None])[:, 0]
    return nll_T[torch.tensor(tree.mask(0))]


@pytest.mark.parametrize("all_turns", [True, False])
def test_loss_and_gradient_are_the_weighted_mean_over_tokens(all_turns: bool) -> None:
    model = tiny_model("llama")
    data = demonstration_trees(tiny_tokenizer(), demonstrations(), LIMITS, all_turns=all_turns)
    assert len(data.trees) == 6
    engine = Engine(model)
    objective = sft_objective(engine, data)
    loss, sums = objective.loss(range(6))
    ours = gradients(model, loss / sum(objective.counts))
    each = [naive_nll(model, tree) for tree in data.trees]
    weights = [d.weight for d in data.items]
    assert len(set(weights)) == 2
    assert len({len(x) for x in each}) > 2
    total = sum(w * x.sum() for w, x in zip(weights, each, strict=True))
    count = sum(w * len(x) for w, x in zip(weights, each, strict=True))
    assert sum(objective.counts) == pytest.approx(count)
    torch.testing.assert_close(loss, total, atol=1e-3, rtol=1e-5)
    plain = torch.cat(each).detach()
    assert sums["token_logp"] == (pytest.approx(-float(plain.sum()), rel=1e-5), len(plain))
    assert_same(ours, gradients(model, total / count), atol=1e-4, rtol=1e-3)
    for tokens in (WIDE, NARROW):
        nll = held_out_nll(engine, data, tokens)
        assert (nll.value, nll.n) == (pytest.approx(float(plain.mean()), rel=1e-5), len(plain))


@pytest.mark.parametrize("all_turns", [True, False])
def test_training_on_one_turn_or_all(tiny: Path, tmp_path: Path, all_turns: bool) -> None:
    """The switch reaches the objective: the first loss is that of the turns it scores."""
    rows: list[Any] = []
    train_sft(
        fresh(tiny), [TUESDAY], run_dir=tmp_path, tune=LORA, limits=Limits(max_prompt=200),
        optimise_with=Optimise(max_steps=1), all_turns=all_turns, on_step=lambda *a: rows.append(a[2]),
    )  # fmt: skip
    data = demonstration_trees(
        tiny_tokenizer(), [TUESDAY], Limits(max_prompt=200), all_turns=all_turns
    )
    expected = naive_nll(tiny_model("llama"), data.trees[0]).mean().detach()
    assert rows[0]["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_training_lowers_the_loss(tiny: Path, tmp_path: Path) -> None:
    done = train_sft(
        fresh(tiny), demonstrations(), run_dir=tmp_path, tune=LORA, limits=LIMITS,
        optimise_with=how(batch_size=6, max_steps=15, epochs=15), eval_on=demonstrations(),
    )  # fmt: skip
    data = demonstration_trees(tiny_tokenizer(), demonstrations(), LIMITS, all_turns=True)
    before = held_out_nll(Engine(tiny_model("llama")), data, WIDE)
    assert done.metrics["nll"].value < before.value - 0.5  # type: ignore[operator]


def run(method: str, tiny: Path, folder: Path, items: list[Any], limits: Limits) -> Trained:
    train: Any = {"sft": train_sft, "reward": train_reward, "preference": train_preference}[method]
    return train(
        fresh(tiny), items, run_dir=folder, tune=LORA, optimise_with=how(), limits=limits
    )  # fmt: skip


@pytest.mark.parametrize("method", ["sft", "reward", "preference"])
def test_nothing_left_to_train_on_says_why(tiny: Path, tmp_path: Path, method: str) -> None:
    short = Limits(max_prompt=3, max_completion=4)
    items: list[Any] = demonstrations(4) if method == "sft" else many_pairs(4)
    reason = "over the token limits, or empty" if method == "sft" else "prompt over 3 tokens"
    with pytest.raises(DataError, match=rf"to train on; left out: {reason} \(4\).*raise max_") as e:
        run(method, tiny, tmp_path, items, short)
    assert "\n" not in str(e.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["sft", "reward", "preference"])
def test_no_items_at_all_is_said(tiny: Path, tmp_path: Path, method: str) -> None:
    with pytest.raises(DataError, match="no item was given"):
        run(method, tiny, tmp_path, [], LIMITS)


@pytest.mark.parametrize("method", ["reward", "preference"])
def test_every_reason_is_named(tiny: Path, tmp_path: Path, method: str) -> None:
    cut = Response(text="", finish="length")
    empty = pair(0, 0, 1).model_copy(update={"chosen": cut})
    long = pair(1, 0, 1).model_copy(update={"prompt": Prompt.user("Where? " * 60)})
    with pytest.raises(DataError, match=r"empty response \(1\), prompt over 60 tokens \(1\)"):
        run(method, tiny, tmp_path, [empty, long], LIMITS)


def test_a_conversation_must_fit_the_sum_of_the_limits() -> None:
    def kept(**limits: int) -> int:
        found = demonstration_trees(tiny_tokenizer(), [TUESDAY], Limits(**limits), all_turns=True)
        assert len(found.trees) + sum(found.left_out.values()) == 1
        return len(found.trees)

    (tree,) = demonstration_trees(
        tiny_tokenizer(), [TUESDAY], Limits(max_prompt=200), all_turns=True
    ).trees
    assert kept(max_prompt=tree.tokens - 9, max_completion=9) == 1
    assert kept(max_prompt=tree.tokens - 10, max_completion=9) == 0


def test_a_model_whose_data_was_refused_can_still_be_trained(tiny: Path, tmp_path: Path) -> None:
    lm, keys = fresh(tiny), {"tune": LORA, "optimise_with": how(max_steps=1)}
    with pytest.raises(DataError):
        train_sft(lm, [], run_dir=tmp_path, **keys)  # type: ignore[arg-type]
    assert train_sft(lm, [TUESDAY], run_dir=tmp_path, **keys).model.exists()  # type: ignore[arg-type]


def test_what_was_left_out_is_counted_in_the_result(tiny: Path, tmp_path: Path) -> None:
    long = Demonstration(prompt=Prompt.user("Where? " * 60), response=answer(0))
    kept = Demonstration(prompt=prompt(0), response=answer(0))
    done = run("sft", tiny, tmp_path, [long, kept, long], LIMITS)
    assert done.left_out == {"over the token limits, or empty": 2}
