"""The reward objective against values worked out from scores, and what a saved model gives back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accord.core.types import Demonstration, Edge, Exchange, Group
from accord.lm.model.load import load
from accord.lm.trees.tree import Tree
from accord.losses import reward_losses
from accord.rewards.learned import RewardModel, load_reward_model
from accord.train.loop.data import Limits, Trees
from accord.train.offline.edges import Average, flatten
from accord.train.offline.reward import (
    CENTRED,
    HeldOut,
    accuracy,
    reward_objective,
    some,
    train_reward,
)
from tests.train.small import (
    LIMITS,
    LORA,
    answer,
    demonstrations,
    fresh,
    group,
    how,
    many_pairs,
    prompt,
    reward,
    sft,
)

SCORES = (1.0, 0.25, -0.5)
RANKED = [(0, 1), (0, 2), (1, 2)]
EXCHANGES = [Exchange(prompt=prompt(p), response=answer(a)) for p in range(4) for a in range(4)]


class Fixed(RewardModel):
    """A reward model whose scores are given: K trees of three responses score SCORES each."""

    def __init__(self) -> None:
        self.leaf = torch.tensor(SCORES, requires_grad=True)

    def scores(self, trees: Sequence[Tree]) -> Tensor:
        return torch.cat([self.leaf[: len(tree.completions)] for tree in trees])


def loss_of(groups: list[Group], average: Average = "pair", **loss: Any) -> tuple[float, float]:
    """(summed loss, what it counts) of groups whose responses score SCORES."""
    trees = [Tree((5,), tuple((6 + k,) for k in range(len(g.responses)))) for g in groups]
    loss_B = reward_losses.make("bradley_terry", **loss)
    objective = reward_objective(Fixed(), Trees(trees, groups), loss_B, average)  # type: ignore[arg-type]
    value, _ = objective.loss(range(len(groups)))
    return float(value.detach()), sum(objective.counts)


def nll(gap: float) -> float:
    """-log σ(gap)."""
    return math.log1p(math.exp(-gap))


def test_a_ranking_of_three_counts_once_by_prompt_and_thrice_by_pair() -> None:
    each = [nll(0.75), nll(1.5), nll(0.75)]
    assert loss_of([group(RANKED)], "pair") == (pytest.approx(sum(each)), 3)
    assert loss_of([group(RANKED)], "prompt") == (pytest.approx(sum(each) / 3), pytest.approx(1))
    two = [group(RANKED), group([(1, 0)])]
    assert loss_of(two, "prompt") == (pytest.approx(sum(each) / 3 + nll(-0.75)), pytest.approx(2))
    assert loss_of(two, "pair") == (pytest.approx(sum(each) + nll(-0.75)), 4)


def test_weights_count_within_the_prompt() -> None:
    edges = (Edge(better=0, worse=1, weight=3.0), Edge(better=2, worse=1, weight=1.0))
    weighed = group(RANKED).model_copy(update={"edges": edges})
    by_pair = 3 * nll(0.75) + nll(-0.75)
    assert loss_of([weighed], "pair") == (pytest.approx(by_pair), 4)
    assert loss_of([weighed], "prompt") == (pytest.approx(by_pair / 4), pytest.approx(1))


def test_soft_labels_margins_and_smoothing_reach_the_loss() -> None:
    soft = 0.7 * nll(1.5) + 0.3 * nll(-1.5)
    assert loss_of([group([(0, 2)], p=0.7)])[0] == pytest.approx(soft)
    assert loss_of([group([(0, 2)], margin=0.4)])[0] == pytest.approx(nll(1.1))
    smooth = 0.9 * nll(1.5) + 0.1 * nll(-1.5)
    assert loss_of([group([(0, 2)])], label_smoothing=0.1)[0] == pytest.approx(smooth)
    both = 0.7 * nll(1.1) + 0.3 * nll(-1.1)
    assert loss_of([group([(0, 2)], p=0.7, margin=0.4)])[0] == pytest.approx(both)
    assert loss_of([group([(0, 2)])], centering=0.01)[0] == pytest.approx(nll(1.5) + 0.01 * 0.25)


def test_metrics_count_ties_half() -> None:
    trees = [Tree((5,), ((6,), (7,), (8,)))]
    model = Fixed()
    model.leaf = torch.tensor([1.0, 1.0, 2.0])
    data = Trees(trees, [group(RANKED)])
    _, sums = reward_objective(
        model, data, reward_losses.make("bradley_terry"), "pair"
    ).loss([0])  # fmt: skip
    assert sums == {"accuracy": (0.5, 3), "margin": (-2.0, 3)}


def test_a_comparison_split_evenly_has_no_order() -> None:
    """And one labelled below one half counts for its other side."""
    even = HeldOut(group([(0, 1)], p=0.5), (1.0, 0.0, 0.0))
    assert accuracy([even]).value is None
    turned = HeldOut(group([(0, 1)], p=0.2), (1.0, 0.0, 0.0))
    assert (accuracy([even, turned]).value, accuracy([even, turned]).n) == (0.0, 1)
    three = group([(0, 1), (1, 2), (0, 2)], p=0.3)
    edges = flatten([three, even.group], "pair", torch.zeros(()))
    assert edges.hits(torch.tensor([-1.0, 1.0, 0.0, 1.0])) == [1.0, 0.0, 0.5]


def test_held_out_accuracy_by_hand() -> None:
    held = [HeldOut(group(RANKED), (1.0, 1.0, 2.0)), HeldOut(group([(0, 1)]), (1.0, 0.0, 0.0))]
    metric = accuracy(held)
    assert (metric.value, metric.n) == (pytest.approx((0.5 + 0 + 0 + 1) / 4), 4)


@pytest.fixture(scope="module")
def sft_model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sft(tiny, tmp_path_factory.mktemp("sft"), how()).model


@pytest.mark.parametrize("tune", [LORA, "full"])
@pytest.mark.parametrize("start", ["base", "sft"])
def test_a_saved_model_scores_as_it_did(
    tiny: Path, sft_model: Path, tmp_path: Path, tune: Any, start: str
) -> None:
    """Also when it stands on an SFT adapter: base, SFT adapter, reward adapter, head."""
    init = tiny if start == "base" else sft_model
    done = reward(init, tmp_path, how(), tune, eval_on=many_pairs())
    saved = load_reward_model(done.model, device="cpu")
    for held in done.held_out:  # scored in memory, before the centre was set
        exchanges = [Exchange(prompt=held.group.prompt, response=r) for r in held.group.responses]
        gaps = [a - b for a, b in zip(saved(exchanges), held.scores, strict=True)]
        assert gaps == pytest.approx([-float(saved.head.centre)] * len(gaps), abs=1e-5)
    again = load_reward_model(done.model, device="cpu")
    assert again(EXCHANGES) == pytest.approx(saved(EXCHANGES), abs=1e-6)
    assert torch.tensor(saved(EXCHANGES)).std() > 0.02


def test_the_saved_model_stands_on_the_sft_weights(
    tiny: Path, sft_model: Path, tmp_path: Path
) -> None:
    done = reward(sft_model, tmp_path, how(lr=1e-9, max_steps=1))  # the adapter does nothing
    saved = load_reward_model(done.model, device="cpu").engine.model
    for name, expected in load(sft_model, device="cpu").model.named_parameters():
        torch.testing.assert_close(saved.get_parameter(name), expected, atol=1e-6, rtol=1e-6)
    base = load(tiny, device="cpu").model
    gaps = [(p - base.get_parameter(n)).abs().max() for n, p in saved.named_parameters()]
    assert max(gaps) > 1e-3


@pytest.mark.parametrize("many", [False, True])
def test_reference_answers_score_zero_on_average(tiny: Path, tmp_path: Path, many: bool) -> None:
    reference = demonstrations(6) + demonstrations(1) * (94 if many else 0)  # unevenly spread
    done = reward(tiny, tmp_path, how(), centre_on=reference)
    saved = load_reward_model(done.model, device="cpu")
    exchanges = [Exchange(prompt=d.prompt, response=d.response) for d in reference]
    assert sum(saved(exchanges)) / len(exchanges) == pytest.approx(0, abs=1e-5)
    assert abs(float(saved.head.centre)) > 1e-2


def test_without_reference_answers_the_training_responses_score_zero(
    tiny: Path, tmp_path: Path
) -> None:
    done = reward(tiny, tmp_path, how())
    answers = {(p.prompt.id, r.text): Exchange(prompt=p.prompt, response=r)
               for p in many_pairs() for r in (p.chosen, p.rejected)}  # fmt: skip
    scores = load_reward_model(done.model, device="cpu")(list(answers.values()))
    assert sum(scores) / len(scores) == pytest.approx(0, abs=1e-5)


def test_training_learns_the_order(tiny: Path, tmp_path: Path) -> None:
    hard = [p.model_copy(update={"p": 1.0}) for p in many_pairs(4)]
    done = train_reward(
        fresh(tiny), hard, run_dir=tmp_path, tune=LORA, limits=LIMITS,
        optimise_with=how(batch_size=4, max_steps=30, epochs=30, lr=5e-3),
        eval_on=hard,
    )  # fmt: skip
    assert done.metrics["accuracy"].value == 1.0


def test_the_token_limit_is_saved_with_the_model(tiny: Path, tmp_path: Path) -> None:
    short = Limits(max_prompt=60, max_completion=4)
    demo = Demonstration(prompt=prompt(0), response=answer(2))
    done = train_reward(
        fresh(tiny), many_pairs(), run_dir=tmp_path, tune=LORA, limits=short,
        optimise_with=how(max_steps=2), centre_on=[demo],
    )  # fmt: skip
    saved = load_reward_model(done.model, device="cpu")
    assert saved.max_completion == 4
    assert saved([Exchange(prompt=demo.prompt, response=demo.response)]) == pytest.approx(
        [0], abs=1e-5
    )


@pytest.mark.parametrize("n", [0, 1, 255, 256, 257, 511, 513, 5000])
def test_a_centre_reads_some_answers_of_all_parts(n: int) -> None:
    taken = list(some(range(n)))
    assert min(n, CENTRED // 2) <= len(taken) <= CENTRED
    assert {b - a for a, b in itertools.pairwise(taken)} <= {max(1, -(-n // CENTRED))}
    assert not taken or n - taken[-1] <= max(1, -(-n // CENTRED))
