"""What is far from all that was learned, what is paid more than it: planted in states of a known kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from accord.core.errors import DataError
from accord.core.types import Exchange, Prompt, Response
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.trees.engine import Engine
from accord.rewards.learned import RewardModel, read
from accord.rewards.neighbours import K, Neighbours
from tests.lm.tiny import tiny_model, tiny_tokenizer
from tests.train.small import answer, prompt

H = 16


@dataclass
class Planted:
    """A reward model whose states are given: text number k has the k-th."""

    states_NH: Tensor

    def __post_init__(self) -> None:
        self.head = ScalarHead(H, 0)

    def states(
        self,
        exchanges: Sequence[Exchange],
        *,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        own = [int(e.response.text) for e in exchanges]
        return self.states_NH[own], self.states_NH[own]


def exchanges(numbers: range) -> list[Exchange]:
    return [Exchange(prompt=Prompt.user(f"q {k}"), response=Response(text=str(k))) for k in numbers]


def drawn(seed: int, n: int) -> Tensor:
    """n states around one direction."""
    generator = torch.Generator().manual_seed(seed)
    return torch.eye(H)[0] + 0.2 * torch.randn(n, H, generator=generator)


def test_distance_and_pay_by_hand() -> None:
    states_NH = drawn(1, 80)
    model: Any = Planted(states_NH)
    known = Neighbours(model, exchanges(range(40)), exchanges(range(40, 60)))
    readings = known(exchanges(range(60, 80)))
    unit = (states_NH / states_NH.norm(dim=1, keepdim=True)).double().numpy()
    score = model.head(states_NH).detach().numpy()
    held = [np.sort(np.linalg.norm(unit[:40] - unit[k], axis=1))[K - 1] for k in range(40, 60)]
    usual = max(held)  # of twenty the largest is what one in forty exceeds at most
    for k, reading in enumerate(readings, start=60):
        apart = np.linalg.norm(unit[:40] - unit[k], axis=1)
        order = np.argsort(apart)[:K]
        assert reading.distance == pytest.approx(apart[order[-1]] / usual, abs=1e-6)
        assert reading.reward == pytest.approx(float(score[k]), abs=1e-6)
        assert reading.above == pytest.approx(float(score[k] - score[order].mean()), abs=1e-5)
        assert [n["response"] for n in reading.near] == [str(t) for t in order]
        assert reading.near[0]["reward"] == pytest.approx(float(score[order[0]]), abs=1e-3)


def test_answers_like_those_held_out_are_unusual_once_in_twenty() -> None:
    shares = []
    for seed in range(60):
        model: Any = Planted(drawn(seed, 400))
        known = Neighbours(model, exchanges(range(100)), exchanges(range(100, 250)))
        readings = known(exchanges(range(250, 400)))
        shares.append([np.mean([r.far for r in readings]), np.mean([r.overpaid for r in readings])])
    assert np.mean(shares, 0) == pytest.approx([0.05, 0.05], abs=0.012)


def test_another_direction_is_far_and_the_head_s_own_is_paid_for_it() -> None:
    states_NH = drawn(3, 300)
    way = ScalarHead(H, 0).weight.detach()
    states_NH[250:275] = torch.eye(H)[1] + 0.2 * drawn(4, 25)
    states_NH[275:] += 3 * way / way.norm()
    model: Any = Planted(states_NH)
    known = Neighbours(model, exchanges(range(150)), exchanges(range(150, 250)))
    elsewhere, paid = known(exchanges(range(250, 275))), known(exchanges(range(275, 300)))
    assert all(r.far for r in elsewhere)
    assert all(r.overpaid for r in paid)
    assert known([]) == []


def test_what_was_learned_itself_lies_near() -> None:
    states_NH = drawn(5, 60)
    states_NH[:10] = states_NH[0]
    model: Any = Planted(states_NH)
    known = Neighbours(model, exchanges(range(40)), exchanges(range(40, 60)))
    (reading,) = known(exchanges(range(3, 4)))
    assert reading.distance == pytest.approx(0, abs=1e-6)
    assert not reading.far
    assert reading.above == pytest.approx(0, abs=1e-5)


def test_too_few_to_know_what_is_usual() -> None:
    model: Any = Planted(drawn(1, 60))
    with pytest.raises(DataError, match="19 held-out answers"):
        Neighbours(model, exchanges(range(40)), exchanges(range(40, 59)))
    with pytest.raises(DataError, match="5 training answers"):
        Neighbours(model, exchanges(range(5)), exchanges(range(40, 60)))


def test_states_are_what_the_head_reads() -> None:
    model = RewardModel(Engine(tiny_model("llama")), ScalarHead(32, 0), tiny_tokenizer())
    given = [Exchange(prompt=prompt(p), response=answer(a)) for p in range(3) for a in range(3)]
    mean_EH, last_EH = model.states(given)
    assert mean_EH.shape == last_EH.shape == (9, 32)
    assert not last_EH.requires_grad
    assert model.head(last_EH).tolist() == pytest.approx(model(given), abs=1e-6)
    done = read(model.tokenizer, given[0])
    with torch.no_grad():
        ids_1T = torch.tensor([done.prompt + done.completion])
        hidden_TH = model.engine.model.base_model(input_ids=ids_1T).last_hidden_state[0]
    own_TH = hidden_TH[len(done.prompt) - 1 : -1]
    assert mean_EH[0].tolist() == pytest.approx(own_TH.mean(0).tolist(), abs=1e-5)
