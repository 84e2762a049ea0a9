"""The KL between two models along sampled answers: against plain forward passes, and its definition."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from accord.core.types import Prompt
from accord.lm.model.load import LanguageModel
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.lm.trees import vocab_head
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_kl
from accord.lm.trees.tree import Tree, scored_tokens, share_prompts
from tests.lm.tiny import tiny_model, tiny_tokenizer

PROMPTS = [Prompt.user("The tent leaks."), Prompt.user("Where is order 4512, and when is it here?")]


def two(temperature: float = 1.0, **overrides: object) -> list[Engine]:
    engines = [Engine(tiny_model(seed=seed, **overrides)) for seed in (0, 1)]
    for engine in engines:
        engine.at_temperature(temperature)
    return engines


def sampled(n: int, temperature: float) -> tuple[list[Tree], list[tuple[int, int]]]:
    lm = LanguageModel(tiny_model(seed=0), tiny_tokenizer(), "tiny", Path(), "hash")
    how = Sampling(n=n, max_new_tokens=5, temperature=temperature)
    rows = LocalSampler(lm, batch_size=128).tokens(PROMPTS, how)
    return share_prompts([(row.prompt, tuple(row.ids)) for some in rows for row in some])


def plain(engine: Engine, prompt: tuple[int, ...], answer: tuple[int, ...], t: float) -> Tensor:
    """Log-probs [T, V] at each token of an answer, by one forward pass."""
    with torch.no_grad():
        logits_TV = engine.model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return (logits_TV / t).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 1.7])
def test_it_is_the_sum_over_the_vocabulary(
    temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocab_head, "chunk_bytes", lambda device: 4 * 400 * 3)  # three positions
    trees, _ = sampled(3, temperature)
    policy, reference = two(temperature)
    for tree, got_S2 in zip(trees, token_kl(policy, reference, trees, 64), strict=True):
        want = []
        for answer in tree.completions:
            p_TV, q_TV = (plain(e, tree.prompt, answer, temperature) for e in (policy, reference))
            ids_T1 = torch.tensor(answer)[:, None]
            kl_T = (p_TV.exp() * (p_TV - q_TV)).sum(-1)
            want.append(torch.stack([kl_T, (p_TV - q_TV).gather(1, ids_T1)[:, 0]], 1))
        torch.testing.assert_close(got_S2, torch.cat(want), atol=2e-5, rtol=1e-4)


def test_a_policy_is_no_way_from_itself() -> None:
    trees, _ = sampled(3, 1.0)
    policy, same = (Engine(tiny_model(seed=0)) for _ in range(2))
    for kl_S2 in token_kl(policy, same, trees, 64):
        assert torch.equal(kl_S2, torch.zeros_like(kl_S2))


def test_both_are_the_kl_on_average_and_the_sum_has_less_noise() -> None:
    """Over 512 answers: the means agree within three standard errors of their difference."""
    trees, places = sampled(256, 1.0)
    by_token = token_kl(*two(), trees, 2048)
    sums = [
        [part.sum(0) for part in kl_S2.split(scored_tokens(tree))]
        for kl_S2, tree in zip(by_token, trees, strict=True)
    ]
    each_C2 = torch.stack([sums[tree][k] for tree, k in places]).double()
    apart_C = each_C2[:, 0] - each_C2[:, 1]
    assert abs(apart_C.mean()) < 3 * apart_C.std() / len(apart_C) ** 0.5
    assert each_C2[:, 0].var() < 0.5 * each_C2[:, 1].var()
    assert float(each_C2[:, 0].min()) >= 0
