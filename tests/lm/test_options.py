"""Prompts as trees: which stand together."""

from __future__ import annotations

import itertools
import random

import pytest

from accord.lm.options import _Read, _together


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
