"""How likely each of some options is as the beginning of a model's answer, over token trees.

Prompts that stand next to each other and begin alike (the two orders of a pair) are one tree: what they share
is read once. What all begin with (the instruction) is read once for all trees of a row. Where every option is
one token, a prompt is read once for all of them. Options that are numbers are told apart: P(1) is not that of
10, which begins with it. Other texts are summed over their tokens, as MC1 and MC2 are published.

Legend: S (and T) scored positions, H hidden size, O options.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile

import torch
from torch import Tensor

from accord.core.errors import DataError
from accord.core.types import Prompt
from accord.lm.chat import render_prompt
from accord.lm.model.load import LanguageModel
from accord.lm.sample import LocalSampler
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import by_tree, each_tree
from accord.lm.trees.tree import Tree

__all__ = ["ScoringSampler", "option_logps"]

Ids = tuple[int, ...]
TOKENS = 4096  # of a packed row
SOME = 64  # positions whose logits exist together
WORTH = 16  # tokens shared, from which prompts are one tree
MOST = 32  # prompts of a tree


class ScoringSampler(LocalSampler):
    """A local model that is an `OptionScorer` too."""

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self.lm.model)

    def option_logps(
        self, prompts: Sequence[Prompt], options: Sequence[Sequence[str]]
    ) -> list[tuple[tuple[float, ...], int]]:
        """See `OptionScorer`."""
        return option_logps(self.lm, self._engine, prompts, options)


@dataclass(frozen=True)
class _Read:
    """A prompt as tokens, its options as tokens, its number in the call."""

    at: int
    prompt: Ids
    options: tuple[Ids, ...]


def option_logps(
    lm: LanguageModel,
    engine: Engine,
    prompts: Sequence[Prompt],
    options: Sequence[Sequence[str]],
    tokens: int = TOKENS,
) -> list[tuple[tuple[float, ...], int]]:
    """For each prompt the log-probs (nats) of its options, and how many tokens it and they have."""
    reads = [
        _Read(at, render_prompt(lm.tokenizer, prompt), tuple(_ids(lm, o) for o in some))
        for at, (prompt, some) in enumerate(zip(prompts, options, strict=True))
    ]
    logps_of: dict[int, tuple[float, ...]] = {}
    for asked in dict.fromkeys(r.options for r in reads):
        groups = list(_together([r for r in reads if r.options == asked]))
        single = all(len(o) == 1 for o in asked)
        trees = [_tree(group, shared, single) for group, shared in groups]
        values = _at_once(engine, asked) if single else _summed(engine)
        scored = each_tree(engine.model, values, trees, tokens)
        for (group, _), flat in zip(groups, scored, strict=True):
            for read, logps_O in zip(
                group, flat.view(len(group), len(asked)).tolist(), strict=True
            ):
                logps_of[read.at] = tuple(logps_O)
    return [
        (
            _apart(r.options, logps_of[r.at]) if all(map(str.isdecimal, some)) else logps_of[r.at],
            len(r.prompt) + sum(map(len, r.options)),
        )
        for r, some in zip(reads, options, strict=True)
    ]


def _apart(options: Sequence[Ids], logps_O: Sequence[float]) -> tuple[float, ...]:
    """Log-probs of options as events of which at most one happens, though no end of an answer is scored: each
    without the longer ones that begin with it."""
    own: dict[Ids, float] = {}
    for ids, logp in sorted(zip(options, logps_O, strict=True), key=lambda x: -len(x[0])):
        longer = (x for o, x in own.items() if o != ids and o[: len(ids)] == ids and x > -math.inf)
        left = 1 - sum(math.exp(x - logp) for x in longer)
        own[ids] = logp + math.log(left) if left > 0 else -math.inf
    return tuple(own[ids] for ids in options)


def _ids(lm: LanguageModel, option: str) -> Ids:
    ids = tuple(lm.tokenizer.encode(option, add_special_tokens=False))
    if not ids:
        raise DataError("has no token", where=f"option {option!r}", mend="name another")
    return ids


def _together(reads: Sequence[_Read]) -> Iterator[tuple[list[_Read], int]]:
    """Neighbours as trees, and how many tokens the prompts of each share: cut where fewest tokens are read.
    What all begin with is read once a row whatever the trees are, so only what is shared beyond it counts:
    (n - 1)(shared - root) tokens of a tree of n. Trees that save nothing are cut too, but for two alone."""
    same = [
        min(_same(a.prompt, b.prompt), len(a.prompt) - 1, len(b.prompt) - 1)
        for a, b in itertools.pairwise(reads)
    ]
    root = min(same, default=0) if len(reads) > 2 else 0
    saved, cut = [0], [0]  # of the first k reads: most tokens, and where their last tree begins
    for end in range(1, len(reads) + 1):
        best, start = saved[end - 1], end - 1
        shared = len(reads[end - 1].prompt) - 1
        for begin in range(end - 2, max(-1, end - 1 - MOST), -1):
            shared = min(shared, same[begin])
            worth = saved[begin] + (end - begin - 1) * (shared - root)
            if shared >= WORTH and worth > best:
                best, start = worth, begin
        saved.append(best)
        cut.append(start)
    yield from reversed(list(_trees_of(reads, same, cut)))


def _trees_of(
    reads: Sequence[_Read], same: Sequence[int], cut: Sequence[int]
) -> Iterator[tuple[list[_Read], int]]:
    """The trees from the last to the first."""
    end = len(reads)
    while end:
        begin = cut[end]
        yield list(reads[begin:end]), min([len(reads[begin].prompt) - 1, *same[begin : end - 1]])
        end = begin


def _same(a: Ids, b: Ids) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))


def _tree(group: Sequence[_Read], shared: int, single: bool) -> Tree:
    """What the prompts share, then the rest of each with its options behind it; only options are scored."""
    rests = [
        (r.prompt[shared:], option)
        for r in group
        for option in (r.options[:1] if single else r.options)
    ]
    return Tree(
        prompt=group[0].prompt[:shared],
        completions=tuple(rest + option for rest, option in rests),
        scored=tuple((False,) * len(rest) + (True,) * len(option) for rest, option in rests),
    )


Values = Callable[[Sequence[Tree]], Sequence[Tensor]]


def _at_once(engine: Engine, options: tuple[Ids, ...]) -> Values:
    """Options of one token each: one position a prompt, and the whole distribution there."""
    first_O = torch.tensor([o[0] for o in options], device=engine.device)

    def values(trees: Sequence[Tree]) -> Sequence[Tensor]:
        hidden_SH = engine.scored(trees)[0]
        logps_SO = torch.cat(
            [
                engine.head.logits(part_TH).log_softmax(-1)[:, first_O]
                for part_TH in hidden_SH.split(SOME)
            ]
        )
        return by_tree(logps_SO, trees)

    return values


def _summed(engine: Engine) -> Values:
    """Options of several tokens: the sum of each."""

    def values(trees: Sequence[Tree]) -> Sequence[Tensor]:
        return by_tree(engine.logps(trees).sums_C(), trees)

    return values
