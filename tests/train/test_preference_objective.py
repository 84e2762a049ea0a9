"""One tree per prompt gives the loss and gradient of the separate pairs, and of plain transformers.

Legend: B pairs.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_logps, tree_logps
from accord.losses import PairLogps, choose_loss
from accord.train.loop.data import Trees
from accord.train.offline.pairs import margin as margin_of
from tests.lm.test_engine import exact_norms
from tests.lm.tiny import tiny_model
from tests.train.small import (
    WIDE,
    assert_same,
    gradients,
    objective_of,
    pairs,
    trees_of,
)

ARCHITECTURES = ("llama", "gemma2", "gpt_neox")  # plain rotary, sliding window, parallel residual


def moved(arch: str) -> tuple[Engine, Engine]:
    """A policy and the reference it has moved away from."""
    return Engine(tiny_model(arch, seed=1)), Engine(tiny_model(arch, seed=0))


def whole_loss(
    policy: Engine, reference: Engine, trees: Trees, average: str = "pair", **loss: Any
) -> tuple[Tensor, float]:
    """Summed loss of all items and what they count."""
    ref = token_logps(reference, trees.trees, WIDE)
    objective = objective_of(policy, trees, ref, average, **loss)  # type: ignore[arg-type]
    return objective.loss(range(len(trees.items)))[0], sum(objective.counts)


@pytest.mark.parametrize("loss", [{"beta": 0.3}, {"beta": 0.3, "label_smoothing": 0.1}])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_pairs_in_one_tree_are_the_separate_pairs(arch: str, loss: dict[str, float]) -> None:
    policy, reference = moved(arch)
    assert policy.mode == "tree"
    shared, apart = trees_of(pairs()), trees_of(pairs(), alone=True)
    assert [len(t.completions) for t in shared.trees] == [3, 2]
    assert [len(t.completions) for t in apart.trees] == [2, 2, 2, 2]
    together, count = whole_loss(policy, reference, shared, **loss)
    ours = gradients(policy.model, together)
    alone = torch.zeros(())
    for k in range(4):
        one = Trees(apart.trees[k : k + 1], apart.items[k : k + 1])
        alone = alone + whole_loss(policy, reference, one, **loss)[0]
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert_same(ours, gradients(policy.model, alone), atol=1e-5, rtol=1e-4)
    assert count == pytest.approx(2.0 + 0.5 + 1.5 + 3.0)


def naive_logp(model: Any, ids: tuple[int, ...], start: int) -> Tensor:
    """log p(ids[start:] | ids[:start]) from the model's own logits, one unpadded sequence."""
    logps_TV = model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
    wanted_S = torch.tensor(ids[start:])
    return logps_TV[start - 1 : -1].gather(-1, wanted_S[:, None]).sum()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_loss_and_gradient_are_those_of_plain_transformers(arch: str) -> None:
    policy, reference = moved(arch)
    beta, apart = 0.3, trees_of(pairs(), alone=True)
    naive = torch.zeros(())
    for tree, group in zip(apart.trees, apart.items, strict=True):
        shift = []
        for completion in tree.completions:
            ids, start = tree.prompt + completion, len(tree.prompt)
            with torch.no_grad():
                old = naive_logp(reference.model, ids, start)
            shift.append(naive_logp(policy.model, ids, start) - old)
        edge = group.edges[0]
        h = beta * (shift[edge.better] - shift[edge.worse])
        soft = -edge.p * F.logsigmoid(h) - (1 - edge.p) * F.logsigmoid(-h)
        naive = naive + edge.weight * soft
    expected = gradients(policy.model, naive)
    ours, _ = whole_loss(policy, reference, trees_of(pairs()), beta=beta)
    torch.testing.assert_close(ours, naive, atol=1e-4, rtol=1e-5)
    assert_same(gradients(policy.model, ours), expected, atol=1e-4, rtol=1e-3)


def test_average_by_prompt_counts_a_prompt_once_whatever_its_pairs_weigh() -> None:
    policy, reference = moved("llama")
    each = []
    for k in range(4):
        apart = trees_of(pairs()[k : k + 1], alone=True)
        each.append(whole_loss(policy, reference, apart)[0] / pairs()[k].weight)
    by_hand = (2.0 * each[0] + 0.5 * each[1] + 1.5 * each[2]) / 4.0 + each[3]
    loss, count = whole_loss(policy, reference, trees_of(pairs()), "prompt")
    torch.testing.assert_close(loss, by_hand, atol=1e-5, rtol=1e-5)
    assert count == pytest.approx(2.0)


def test_metrics_are_those_of_the_margins() -> None:
    policy, reference = moved("llama")
    trees = trees_of(pairs())
    new, old = (tree_logps(e, trees.trees, WIDE) for e in (policy, reference))
    objective = objective_of(policy, trees, token_logps(reference, trees.trees, WIDE))
    _, sums = objective.loss([0, 1])
    margins, chosen = [], []
    for group, a, b in zip(trees.items, new, old, strict=True):
        shift = (a - b).tolist()
        margins += [shift[e.better] - shift[e.worse] for e in group.edges]
        chosen += [shift[e.better] for e in group.edges]
    assert sums["margin"] == (pytest.approx(sum(margins), abs=1e-4), 4)
    assert sums["accuracy"] == (sum(m > 0 for m in margins), 4)
    assert sums["chosen_shift"] == (pytest.approx(sum(chosen), abs=1e-4), 4)


def test_a_mix_is_dpo_plus_its_share_of_the_mean_nll() -> None:
    policy, reference = moved("llama")
    trees = trees_of(pairs())
    plain, _ = whole_loss(policy, reference, trees, beta=0.3)
    parts = [{"name": "dpo", "beta": 0.3}, {"name": "sft", "weight": 0.7}]
    some, _ = whole_loss(policy, reference, trees, name="mix", parts=parts)
    logps = tree_logps(policy, trees.trees, WIDE)
    nll = 0.0
    for tree, group, logp_K in zip(trees.trees, trees.items, logps, strict=True):
        for e in group.edges:  # under a soft label either side may be the better one
            mean = [-float(x) / len(c) for x, c in zip(logp_K, tree.completions, strict=True)]
            nll += e.weight * (e.p * mean[e.better] + (1 - e.p) * mean[e.worse])
    assert float((some - plain).detach()) == pytest.approx(0.7 * nll, rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "margin", "chosen_wins"),
    [  # of answers of 10 and 2 tokens with log-probs -10 and -4, reference -14 and -5
        ({"name": "dpo"}, 3.0, True),
        ({"name": "dpo", "length_normalized": True}, 0.4 - 0.5, False),
        ({"name": "ipo"}, 0.4 - 0.5, False),
        ({"name": "ipo", "average": False}, 3.0, True),
        ({"name": "simpo"}, -1.0 + 2.0, True),
        ({"name": "cpo"}, -6.0, False),
        ({"name": "mix", "parts": [{"name": "cpo"}, {"name": "dpo"}]}, 3.0, True),
        ({"name": "mix", "parts": [{"name": "cpo"}, {"name": "sft"}]}, -6.0, False),
    ],
)
def test_margin_and_accuracy_are_of_what_the_loss_compares(
    loss: dict[str, Any], margin: float, chosen_wins: bool
) -> None:
    lp = PairLogps(*(torch.tensor([x]) for x in (-10.0, -4.0, -14.0, -5.0, 10.0, 2.0)))
    (got,) = margin_of(lp, choose_loss(loss).facts)
    assert float(got) == pytest.approx(margin)
    assert (float(got) > 0) == chosen_wins


@pytest.mark.parametrize("average", ["pair", "prompt"])
def test_soft_labels_and_weights_are_exact_in_fp64(average: str) -> None:
    """Labels, weights and margins of Python's floats are not rounded to fp32 on their way."""
    trees = trees_of(pairs())
    policy, reference = (Engine(exact_norms(tiny_model("llama", seed=s))) for s in (1, 0))
    old = token_logps(reference, trees.trees, WIDE)
    objective = objective_of(policy, trees, old, average, beta=0.3)  # type: ignore[arg-type]
    loss, _ = objective.loss([0, 1])
    new = policy.logps(trees.trees).tokens_S
    naive, at = torch.zeros((), dtype=torch.float64), 0
    for tree, group, kept in zip(trees.trees, trees.items, old, strict=True):
        sizes = [len(c) for c in tree.completions]
        part = new[at : at + sum(sizes)]
        at += sum(sizes)
        shift = [
            (a.sum() - b.sum()) for a, b in zip(part.split(sizes), kept.split(sizes), strict=True)
        ]
        total = sum(e.weight for e in group.edges) if average == "prompt" else 1.0
        for e in group.edges:
            h = 0.3 * (shift[e.better] - shift[e.worse])
            soft = -e.p * F.logsigmoid(h) - (1 - e.p) * F.logsigmoid(-h)
            naive = naive + e.weight / total * soft
    ours, theirs = gradients(policy.model, loss), gradients(policy.model, naive)
    assert all(g.dtype == torch.float64 for g in ours.values())
    assert_same(ours, theirs, atol=1e-12, rtol=1e-10)
