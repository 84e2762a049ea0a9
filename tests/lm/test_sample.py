"""Sampling: the same tokens as transformers' generate, whatever else is in the batch."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from accord.core.errors import DataError, ModelError
from accord.core.seeds import rng
from accord.core.types import Prompt
from accord.lm import sample
from accord.lm.chat import render_exchange, render_prompt
from accord.lm.model.load import LanguageModel, load
from accord.lm.sample import LocalSampler, _choose
from accord.lm.sampler import Sampling
from tests.lm.tiny import ARCHITECTURES, gpt_neo, tiny_model, tiny_tokenizer

TEXTS = [
    "Hi",
    "How long do I have to return my boots?",
    "What does shipping to Norway cost, and how many days does it take to arrive there?",
    "The tent leaks.",
    "Where is order 4512?",
]
PROMPTS = [Prompt.user(text) for text in TEXTS]


def language_model(arch: str = "llama", **overrides: Any) -> LanguageModel:
    model = tiny_model(arch, **overrides)
    return LanguageModel(model, tiny_tokenizer(), f"tiny-{arch}", Path(), "hash")


def hf_greedy(lm: LanguageModel, prompt: Prompt, new: int) -> list[int]:
    """One unpadded prompt through generate: no batch to go wrong."""
    ids = torch.tensor([render_prompt(lm.tokenizer, prompt)])
    out = lm.model.generate(ids, max_new_tokens=new, do_sample=False)
    return out[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_greedy_equals_generate(arch: str) -> None:
    lm = language_model(arch)
    found = LocalSampler(lm).tokens(PROMPTS, Sampling(temperature=0, max_new_tokens=16))
    assert [rows[0].ids for rows in found] == [hf_greedy(lm, p, 16) for p in PROMPTS]


def test_greedy_equals_generate_where_windows_are_counted_along_the_row() -> None:
    lm = LanguageModel(gpt_neo(window=24), tiny_tokenizer(), "tiny-neo", Path(), "hash")
    found = LocalSampler(lm).tokens(PROMPTS, Sampling(temperature=0, max_new_tokens=16))
    assert [rows[0].ids for rows in found] == [hf_greedy(lm, p, 16) for p in PROMPTS]


def test_a_model_without_a_key_value_cache_is_refused() -> None:
    config = transformers.MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=2)
    lm = LanguageModel(transformers.MambaForCausalLM(config), tiny_tokenizer(), "m", Path(), "h")
    with pytest.raises(ModelError, match="keeps no key-value cache"):
        LocalSampler(lm)(PROMPTS, Sampling(max_new_tokens=2))


@pytest.mark.parametrize("arch", ["llama", "gemma3_text"])
def test_greedy_equals_generate_when_rows_leave_early(arch: str) -> None:
    lm = language_model(arch)
    sampler = LocalSampler(lm)
    free = sampler.tokens(PROMPTS, Sampling(temperature=0, max_new_tokens=12))
    # make the third token of one row a stop token: that row leaves the batch first
    stop = free[1][0].ids[2]
    lm.model.generation_config.eos_token_id = [2, stop]
    lm = LanguageModel(lm.model, lm.tokenizer, "tiny", Path(), "hash")
    found = LocalSampler(lm).tokens(PROMPTS, Sampling(temperature=0, max_new_tokens=12))
    assert [rows[0].ids for rows in found] == [hf_greedy(lm, p, 12) for p in PROMPTS]
    assert found[1][0].finish == "stop"
    assert len({len(rows[0].ids) for rows in found}) > 1


@pytest.mark.parametrize("arch", ["llama", "gemma2", "gpt_neox"])
def test_a_sample_does_not_depend_on_its_batch(arch: str) -> None:
    lm = language_model(arch)
    sampling = Sampling(n=3, max_new_tokens=10, temperature=0.9)
    together = LocalSampler(lm, batch_size=32)(PROMPTS, sampling)
    small = LocalSampler(lm, batch_size=2)(PROMPTS[::-1], sampling)[::-1]
    alone = [LocalSampler(lm)([p], sampling)[0] for p in PROMPTS]
    assert together == small == alone
    first = LocalSampler(lm)(PROMPTS, sampling.model_copy(update={"n": 1}))
    assert [rows[0] for rows in together] == [rows[0] for rows in first]


def test_samples_differ_between_indices_and_seeds() -> None:
    sampler = LocalSampler(language_model())
    one = sampler(PROMPTS[:1], Sampling(n=8, max_new_tokens=8))[0]
    other = sampler(PROMPTS[:1], Sampling(n=8, max_new_tokens=8, seed=18))[0]
    assert len({r.text for r in one}) == 8
    assert {r.text for r in one}.isdisjoint(r.text for r in other)
    assert one[3].sampling is not None
    assert (one[3].sampling["sample"], one[3].sampling["seed"]) == (3, 17)


def test_stop_strings_cut_the_text() -> None:
    sampler = LocalSampler(language_model())
    sampling = Sampling(temperature=0, max_new_tokens=24)
    for prompt in PROMPTS:
        whole = sampler([prompt], sampling)[0][0].text
        mark = whole[5:8]
        cut = sampler([prompt], sampling.model_copy(update={"stop": [mark]}))[0][0]
        assert cut.finish == "string"
        assert cut.text == whole[: whole.index(mark)]
        tokens = sampler.tokens([prompt], sampling.model_copy(update={"stop": [mark]}))[0][0]
        assert len(tokens.ids) < 24  # it did stop decoding


def test_length_is_recorded_and_no_stop_token_is_invented() -> None:
    lm = language_model()
    rows = LocalSampler(lm).tokens(PROMPTS, Sampling(n=4, max_new_tokens=5))
    flat = list(itertools.chain(*rows))
    for row in flat:
        assert (row.finish == "stop") == (row.ids[-1] in lm.eos_ids)
        assert len(row.ids) == 5 or row.finish == "stop"
    assert any(row.finish == "length" for row in flat)


def test_progress_training_mode_and_source() -> None:
    lm = language_model()
    lm.model.train()
    seen: list[tuple[int, int]] = []
    sampler = LocalSampler(lm, batch_size=4, source="model:mine")
    out = sampler(PROMPTS, Sampling(n=2, max_new_tokens=4), lambda d, t: seen.append((d, t)))
    assert seen[-1] == (10, 10)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)
    assert lm.model.training
    assert out[0][0].source == "model:mine"
    assert sampler([], Sampling()) == []


def test_no_room_is_an_error() -> None:
    with pytest.raises(DataError, match="512 positions"):
        LocalSampler(language_model())(PROMPTS, Sampling(max_new_tokens=500))


class Scripted:
    def __init__(self, *numbers: float) -> None:
        self.numbers = iter(numbers)

    def random(self) -> float:
        return next(self.numbers)


def draw(probs: list[float], uniform: float, **settings: Any) -> int:
    logits_BV = torch.tensor([probs]).log()
    return _choose(logits_BV, Sampling(**settings), [Scripted(uniform)])[0][0]  # type: ignore[list-item]


def test_inverse_cdf_closed_form() -> None:
    probs = [0.1, 0.5, 0.0, 0.4]
    assert [draw(probs, u) for u in (0.0, 0.05, 0.15, 0.59, 0.61, 1 - 2**-53)] == [0, 0, 1, 1, 3, 3]
    assert draw([0.2, 0.8, 0.0], 1 - 2**-53) == 1  # never a token of probability 0


def test_top_k_and_top_p_closed_form() -> None:
    probs = [0.1, 0.5, 0.15, 0.25]
    # top-2 keeps tokens 1 and 3, renormalised to 2/3 and 1/3
    assert [draw(probs, u, top_k=2) for u in (0.0, 0.66, 0.67, 0.99)] == [1, 1, 3, 3]
    # the smallest set with mass 0.7 is {1, 3}; a token that starts below p is kept
    assert [draw(probs, u, top_p=0.7) for u in (0.0, 0.66, 0.67, 0.99)] == [1, 1, 3, 3]
    assert {draw(probs, u / 50, top_p=0.76) for u in range(50)} == {1, 3, 2}
    assert {draw(probs, u / 50, top_p=0.01) for u in range(50)} == {1}
    # top-k first, then top-p over what is left: 2/3 >= 0.6
    assert {draw(probs, u / 50, top_k=2, top_p=0.6) for u in range(50)} == {1}


def test_logits_that_are_not_finite_are_an_error() -> None:
    for temperature in (0.0, 1.0):
        with pytest.raises(ModelError, match="not finite"):
            draw([float("nan"), 0.5], 0.5, temperature=temperature)


def test_temperature_closed_form() -> None:
    # odds 4 at temperature 2 become odds 2
    probs = [0.2, 0.8]
    assert [draw(probs, u, temperature=2.0) for u in (0.33, 0.34)] == [0, 1]
    assert {draw(probs, u / 20, temperature=1e-8) for u in range(20)} == {1}


def test_wide_nucleus_takes_all_it_needs() -> None:
    logits_BV = torch.zeros(1, 1000)
    seen = {
        _choose(logits_BV, Sampling(top_p=0.9), [Scripted(u / 2000)])[0][0]  # type: ignore[list-item]
        for u in range(2000)
    }
    assert abs(len(seen) - 900) <= 1


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.9}, {"top_k": 3}, {"temperature": 0}])
def test_rows_drawn_in_parts_are_those_drawn_together(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logits_BV = torch.randn(7, 11, generator=torch.Generator().manual_seed(1))
    streams = [[rng(1, n) for n in range(7)] for _ in range(3)]
    together = _choose(logits_BV, Sampling(**settings), streams[0])  # type: ignore[arg-type]
    for at_once, mine in zip((1, 25), streams[1:], strict=True):  # one row, two rows at a time
        monkeypatch.setattr(sample, "AT_ONCE", at_once)
        assert _choose(logits_BV, Sampling(**settings), mine) == together  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_packaged_model_answers_and_the_round_trip_holds() -> None:
    lm = load("packaged/SmolLM2-135M-Instruct")
    prompts = [Prompt.user("What is the capital of France?"), Prompt.user("Name three fruits.")]
    sampling = Sampling(temperature=0, max_new_tokens=24)
    sampler = LocalSampler(lm)
    for prompt, [tokens], [response] in zip(
        prompts, sampler.tokens(prompts, sampling), sampler(prompts, sampling), strict=True
    ):
        assert tokens.ids == hf_greedy(lm, prompt, 24)
        rendered = render_exchange(lm.tokenizer, prompt, response)
        assert list(rendered.completion) == tokens.ids


@pytest.mark.parametrize("size", [2, 6, 7])
def test_parts_give_what_one_call_gives_to_the_last_bit(size: int) -> None:
    prompts = [Prompt.user(f"{text} {k}") for k in range(9) for text in TEXTS]
    sampling = Sampling(n=3, temperature=1.0, max_new_tokens=6, seed=5)
    sampler = LocalSampler(language_model(), batch_size=size)
    parts = sampler.parts(prompts, 3)
    assert len(parts) > 1
    whole = {
        p.id: [(r.ids, r.logps) for r in rows]
        for p, rows in zip(prompts, sampler.tokens(prompts, sampling), strict=True)
    }
    in_parts = {
        p.id: [(r.ids, r.logps) for r in rows]
        for part in parts
        for p, rows in zip(part, sampler.tokens(part, sampling), strict=True)
    }
    assert in_parts == whole
