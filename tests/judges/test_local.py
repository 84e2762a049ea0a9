"""Verdicts of a local model over token trees: the same as the plain computation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from accord.core.types import Prompt, Response
from accord.judges.ask import Judge, judge_items
from accord.judges.backends import SamplerBackend
from accord.judges.cache import Cache
from accord.judges.templates import JudgedItem, ask_of
from accord.lm.chat import render_prompt
from accord.lm.model.load import LanguageModel
from accord.lm.options import ScoringSampler
from tests.lm.tiny import tiny_model, tiny_tokenizer


def lm_of(architecture: str) -> LanguageModel:
    return LanguageModel(tiny_model(architecture), tiny_tokenizer(), "tiny", Path("."), "", ())


def plain(lm: LanguageModel, prompt: Prompt, option: str) -> float:
    """log P(option | prompt) by one sequence."""
    ids = list(render_prompt(lm.tokenizer, prompt))
    tail = lm.tokenizer.encode(option, add_special_tokens=False)
    with torch.no_grad():
        logps = lm.model(torch.tensor([ids + tail])).logits[0].log_softmax(-1)
    return sum(float(logps[len(ids) + k - 1, t]) for k, t in enumerate(tail))


@pytest.mark.parametrize("architecture", ["llama", "gemma2"])
def test_options_over_trees_are_those_of_single_sequences(architecture: str) -> None:
    """Single tokens, several tokens, prompts that share much and nothing, in one call."""
    lm = lm_of(architecture)
    items = [
        JudgedItem(Prompt.user("How do I return a jacket?"), tuple(Response(text=t) for t in pair))
        for pair in [("Within 45 days.", "You can't."), ("x", "y " * 30)]
    ]
    prompts = [ask_of("pairwise", i, order).prompt for i in items for order in ((0, 1), (1, 0))]
    prompts.append(Prompt.user("Hi"))
    options = [("A", "B"), ("A", "B"), ("A", "refund", "B"), ("A", "B"), ("A", "B")]
    found = ScoringSampler(lm).option_logps(prompts, options)
    for prompt, some, (logps, _) in zip(prompts, options, found, strict=True):
        assert logps == pytest.approx([plain(lm, prompt, o) for o in some], abs=2e-4)


def test_a_local_judge_averages_its_orders() -> None:
    lm = lm_of("llama")
    pair = (Response(text="Within 45 days."), Response(text="You can't return it at all."))
    with Cache(":memory:") as cache:
        judge = Judge(least=0.0)
        (one, two), _ = judge_items(
            judge, SamplerBackend(ScoringSampler(lm), "tiny"),
            [JudgedItem(Prompt.user("q"), pair), JudgedItem(Prompt.user("q"), pair[::-1])], cache,
        )  # fmt: skip
    assert one.probs
    assert two.probs
    assert one.probs[0] == pytest.approx(1 - two.probs[0])
