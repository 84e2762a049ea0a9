"""What a model pass tells of pairs, planted on the tiny model."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from accord.core.types import Edge, Group, Prompt, Response
from accord.lm.chat import render_prompt
from accord.lm.model.load import LanguageModel
from accord.lm.sample import LocalSampler
from accord.lm.sampler import Sampling
from accord.pipeline.doctor.base import StageRecord, examined
from accord.pipeline.doctor.deep import ches, looked_at
from tests.lm.tiny import CHATML
from tests.pipeline.test_doctor import log
from tests.train.small import fresh, save_tiny

N = 24


@functools.cache
def folder() -> Path:
    return save_tiny(Path(tempfile.mkdtemp()) / "tiny")


@pytest.fixture(scope="module")
def sharp() -> LanguageModel:
    """The tiny model with its logits a hundred times as wide: as sure of its own answers as a trained one."""
    lm = fresh(folder())
    with torch.no_grad():
        lm.model.get_output_embeddings().weight.mul_(100.0)
    return lm


def prompts() -> list[Prompt]:
    return [Prompt.user(f"What is number {k}?") for k in range(N)]


def own(lm: LanguageModel, seed: int) -> list[Response]:
    """Answers it samples, as the tokens they were sampled as."""
    answers = LocalSampler(lm)(prompts(), Sampling(max_new_tokens=12, seed=seed))
    return [rows[0] for rows in answers]


def written(k: int) -> Response:
    return Response(text=f"Item {k} ships on Monday.", finish="stop")


def named(
    lm: LanguageModel,
    chosen: Callable[[int], Response],
    rejected: Callable[[int], Response],
    fall: float = 0.0,
) -> list[str]:
    groups = [
        Group(prompt=p, responses=(chosen(k), rejected(k)), edges=(Edge(better=0, worse=1),))
        for k, p in enumerate(prompts())
    ]
    pairs = [p for g in groups for p in g.pairs()]
    rows = log(chosen_shift=(0.0, -fall * 10), chosen_tokens=(10, 10))
    case = StageRecord("dpo", "deep", log=rows, facts={"looked": looked_at(lm, pairs, most=32)})
    return [f.check for f in examined([case]).findings]


def test_ches_is_1_of_one_answer_and_0_of_answers_that_share_nothing() -> None:
    states_SH = torch.tensor([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0]])
    assert ches(states_SH, (2, 1)) == 1.0  # means 2 and 2
    assert ches(torch.tensor([[1.0, 0.0], [0.0, 5.0]]), (1, 1)) == 0.0
    assert ches(torch.tensor([[2.0, 0.0], [1.0, 9.0]]), (1, 1)) == 0.5


def test_pairs_of_its_own_are_near_the_reference_and_written_ones_are_not(
    sharp: LanguageModel,
) -> None:
    one, two = own(sharp, 1), own(sharp, 2)
    assert "far_from_reference" not in named(sharp, one.__getitem__, two.__getitem__)
    assert "far_from_reference" in named(sharp, written, lambda k: written(k + 1))


def test_a_chosen_answer_that_only_another_would_give(sharp: LanguageModel) -> None:
    one, two = own(sharp, 1), own(sharp, 2)
    assert "chosen_unlikely" in named(sharp, written, one.__getitem__)
    assert "chosen_unlikely" not in named(sharp, one.__getitem__, written)
    assert "chosen_unlikely" not in named(sharp, one.__getitem__, two.__getitem__)


def test_pairs_that_differ_by_a_mark_are_alike_where_chosen_ones_fell(sharp: LanguageModel) -> None:
    def marked(k: int) -> Response:
        return Response(text=f"Item {k} ships on Monday!", finish="stop")

    assert "alike_pairs" in named(sharp, written, marked, fall=1.0)
    assert "alike_pairs" not in named(sharp, written, marked, fall=0.0)


def test_ends_and_beginnings_are_read_as_tokens() -> None:
    lm = fresh(folder())

    def other(k: int) -> Response:
        return Response(text=f"No {k}.", finish="stop")

    def cut(k: int) -> Response:
        return Response(text=f"No {k}", finish="length")

    assert "ends_and_beginnings" not in named(lm, written, other)
    assert "ends_and_beginnings" in named(lm, written, cut)
    lm.tokenizer.bos_token = "<bos>"
    lm.tokenizer.chat_template = "{{ bos_token }}{{ bos_token }}" + CHATML
    assert render_prompt(lm.tokenizer, prompts()[0])[:2] == (lm.tokenizer.bos_token_id,) * 2
    assert "ends_and_beginnings" in named(lm, written, other)
