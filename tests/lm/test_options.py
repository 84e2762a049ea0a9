"""Prompts as trees: which stand together. Options that begin alike."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path

import pytest
import torch

from accord.core.types import Prompt, Response
from accord.judges.ask import Judge, judge_items
from accord.judges.backends import SamplerBackend
from accord.judges.cache import Cache
from accord.judges.run import answer_of
from accord.judges.templates import JudgedItem, ask_of
from accord.lm.chat import render_prompt
from accord.lm.model.load import LanguageModel
from accord.lm.options import ScoringSampler, _apart, _Read, _together
from tests.lm.tiny import tiny_model, tiny_tokenizer


def reads(*prompts: tuple[int, ...]) -> list[_Read]:
    return [_Read(at, prompt, ((1,),)) for at, prompt in enumerate(prompts)]


def tokens(trees: list[tuple[list[_Read], int]], root: int) -> int:
    """What is read where the first `root` tokens of all are read once for all trees."""
    each = [s + sum(len(r.prompt) - s for r in group) for group, s in trees]
    return sum(each) - root * (len(trees) - 1)


def shared(group: list[_Read]) -> int:
    columns = itertools.takewhile(
        lambda c: len(set(c)) == 1, zip(*(r.prompt for r in group), strict=False)
    )
    return min(sum(1 for _ in columns), min(len(r.prompt) for r in group) - 1)


def test_two_orders_are_a_tree_however_little_of_them_is_shared() -> None:
    """An instruction of all, a question of each pair, answers much longer than both."""
    instruction = tuple(range(100))
    pairs = [
        (*instruction, *[1000 + k] * 30, *[2000 + 2 * k + side] * 300)
        for k in range(4)
        for side in (0, 1)
    ]
    trees = list(_together(reads(*pairs)))
    assert [[r.at for r in group] for group, _ in trees] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert {s for _, s in trees} == {130}


def test_nothing_shared_is_no_tree() -> None:
    trees = list(_together(reads((1,) * 40, (2,) * 40, (3,) * 40)))
    assert [(len(group), s) for group, s in trees] == [(1, 39)] * 3
    assert list(_together([])) == []


@pytest.mark.parametrize("seed", range(20))
def test_fewest_tokens_of_all_ways_to_cut(seed: int) -> None:
    draw = random.Random(seed)
    head = tuple(range(20))
    prompts, stem = [], head
    for _ in range(7):
        stem = (*stem[: draw.randint(20, len(stem))], *(draw.randint(50, 99) for _ in range(30)))
        prompts.append((*stem, *(draw.randint(100, 999) for _ in range(draw.randint(1, 40)))))
    every = reads(*prompts)
    root = shared(every)
    ways = []
    for n in range(7):
        for cuts in itertools.combinations(range(1, 7), n):
            parts = [every[a:b] for a, b in itertools.pairwise((0, *cuts, 7))]
            ways.append(tokens([(part, shared(part)) for part in parts], root))
    trees = list(_together(every))
    assert all(s == shared(group) for group, s in trees if len(group) > 1)
    assert [r.at for group, _ in trees for r in group] == list(range(7))
    assert tokens(trees, root) == min(ways)


TEN = tuple(map(str, range(1, 11)))
ITEM = JudgedItem(Prompt.user("Does the tent leak?"), (Response(text="no"),))


def tiny() -> LanguageModel:
    """Its tokenizer has no token of two digits."""
    return LanguageModel(tiny_model("llama"), tiny_tokenizer(), "tiny", Path("."), "", ())


def test_a_number_is_not_what_a_longer_one_begins_with() -> None:
    """P(1) = P("1") - P("10") - P("12") - P("123" ...) by hand; numbers that begin no other stay as read."""
    ids = [(1,), (1, 0), (1, 2), (1, 2, 3), (2,)]
    read = [0.9, 0.5, 0.3, 0.1, 0.05]
    logps = _apart(ids, [math.log(p) for p in read])
    assert [math.exp(x) for x in logps] == pytest.approx([0.1, 0.5, 0.2, 0.1, 0.05])
    assert logps[1] == math.log(0.5)
    assert _apart([(1,), (1, 0)], [-1.0, -1.0]) == (-math.inf, -1.0)  # always 10
    assert _apart([(1,), (1, 0)], [-math.inf] * 2) == (-math.inf,) * 2
    assert _apart([(1,), (1, 0)], [-2000.0, -2001.0])[0] == pytest.approx(
        -2000 + math.log1p(-math.exp(-1))
    )


def test_numbers_are_told_apart_and_texts_are_summed() -> None:
    lm, prompts = tiny(), [Prompt.user("Hi"), Prompt.user("How good?")]
    sampler = ScoringSampler(lm)
    assert len(lm.tokenizer.encode("10", add_special_tokens=False)) == 2
    plain = [
        {o: sampler.option_logps([p], [(o,)])[0][0][0] for o in (*TEN, "Yes", "Yes, always")}
        for p in prompts
    ]
    for by_option, (logps, _) in zip(plain, sampler.option_logps(prompts, [TEN] * 2), strict=True):
        one = math.log(math.exp(by_option["1"]) - math.exp(by_option["10"]))
        assert logps == pytest.approx([one, *(by_option[o] for o in TEN[1:])], abs=1e-4)
    texts = ("Yes", "Yes, always")  # of choices, as MC1 and MC2 are published
    for by_option, (logps, _) in zip(
        plain, sampler.option_logps(prompts, [texts] * 2), strict=True
    ):
        assert logps == pytest.approx([by_option[o] for o in texts], abs=1e-4)


def test_a_local_judge_that_is_sure_of_10_reads_10() -> None:
    """Taught to answer 10 and end: half way to 5.5 where "1" is read as its own beginning."""
    lm, judge = tiny(), Judge(template="rating10", least=0.0)
    ids = list(render_prompt(lm.tokenizer, ask_of("rating10", ITEM, (0,)).prompt))
    ten = lm.tokenizer.encode("10<|im_end|>", add_special_tokens=False)
    labels = torch.tensor([[-100] * len(ids) + ten])
    lm.model.train()
    optimiser = torch.optim.Adam(lm.model.parameters(), lr=0.01)
    for _ in range(40):
        optimiser.zero_grad()
        lm.model(torch.tensor([ids + ten]), labels=labels).loss.backward()
        optimiser.step()
    lm.model.eval()
    with Cache(":memory:") as cache:
        backend = SamplerBackend(ScoringSampler(lm), "tiny")
        (verdict,), _ = judge_items(judge, backend, [ITEM], cache)
    assert verdict.probs
    assert verdict.probs[9] > 0.9
    assert answer_of(judge, ITEM, verdict).scores["overall"] > 9  # type: ignore[union-attr]
