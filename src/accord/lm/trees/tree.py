"""The token tree: one prompt and its K continuations as one sequence; trees packed without padding.

Legend: T tokens in a packed row, S scored tokens, C continuations.

Layout of a tree: the prompt's tokens once, then each continuation. Positions of every continuation
restart after the prompt, and a continuation sees the prompt and itself only, so each token's hidden
state is what it would be in the plain sequence prompt + continuation. What the prompts of all trees
in a row begin with is computed once for the row.
"""

from __future__ import annotations

import bisect
import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "PackedTrees",
    "Tree",
    "bins",
    "hash_trees",
    "pack",
    "scored_tokens",
    "share_prompts",
    "split_tree",
]

ROOT = -1


@dataclass(frozen=True)
class Tree:
    """Token ids of a prompt and its continuations. `scored`, when given, marks per continuation
    which of its tokens count (multi-turn SFT); otherwise all do."""

    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    scored: tuple[tuple[bool, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not self.prompt or not all(self.completions):
            raise ValueError("a tree needs a prompt token and no empty completion")

    @property
    def tokens(self) -> int:
        """Length of the tree in tokens."""
        return len(self.prompt) + sum(map(len, self.completions))

    def mask(self, k: int) -> tuple[bool, ...]:
        """Which tokens of continuation k are scored."""
        return self.scored[k] if self.scored else (True,) * len(self.completions[k])


def scored_tokens(tree: Tree) -> list[int]:
    """How many tokens of each continuation are scored."""
    return [sum(tree.mask(k)) for k in range(len(tree.completions))]


@dataclass(frozen=True)
class PackedTrees:
    """Trees laid end to end in one row, and where to read what.

    ids_T, positions_T: inputs. tree_T, branch_T: tree index (ROOT for the prefix all trees share),
    and 0 for its prompt or k+1 for continuation k.
    at_S: row index of the token that predicts the scored token target_S.
    lengths: scored tokens per continuation, in order (they are contiguous in S).
    last_C: row index of each continuation's last token.
    root: length of the prefix all trees share. ends: where each tree stops.
    """

    ids_T: Tensor
    positions_T: Tensor
    tree_T: Tensor
    branch_T: Tensor
    at_S: Tensor
    target_S: Tensor
    lengths: tuple[int, ...]
    last_C: Tensor
    root: int
    ends: tuple[int, ...]

    def spans(self) -> list[tuple[int, int]]:
        """Rows (start, stop) of the root, where there is one, and of each tree."""
        stops = [self.root, *self.ends] if self.root else list(self.ends)
        return list(zip([0, *stops], stops, strict=False))

    def allowed_TT(self, rows: slice | None = None, window: int | None = None) -> Tensor:
        """Boolean mask [T, T]: may the row's token (query) see the column's (key)?

        With `rows` of one tree: [t, root + t], its tokens against the root and themselves.
        `window` limits sight to the last `window` positions, by position and not by row index.
        """
        query_T = torch.arange(len(self.ids_T))[rows or slice(None)]
        key_T = query_T
        if rows is not None and rows.start >= self.root:
            key_T = torch.cat([torch.arange(self.root), query_T])
        tree_Q, tree_K = self.tree_T[query_T][:, None], self.tree_T[key_T][None]
        branch_Q, branch_K = self.branch_T[query_T][:, None], self.branch_T[key_T][None]
        allowed_TT = (query_T[:, None] >= key_T[None]) & ((tree_Q == tree_K) | (tree_K == ROOT))
        allowed_TT &= (branch_K == 0) | (branch_Q == branch_K)
        if window is not None:
            allowed_TT &= self.positions_T[query_T][:, None] - self.positions_T[key_T] < window
        return allowed_TT


def _shared(trees: Sequence[Tree]) -> int:
    """Length of what all prompts begin with (a system message), leaving each a token of its own."""
    if len(trees) == 1:
        return 0
    limit = min(len(tree.prompt) for tree in trees) - 1
    first = trees[0].prompt
    same = (i for i in range(limit) if any(t.prompt[i] != first[i] for t in trees))
    return next(same, limit)


def pack(trees: Sequence[Tree], *, keep_last: bool = False) -> PackedTrees:
    """Lay trees end to end. What all prompts begin with stands once, at the row's start. A
    continuation's last token predicts nothing, so it is left out unless `keep_last` (a scalar head
    reads it)."""
    root = _shared(trees)
    ids: list[int] = list(trees[0].prompt[:root])
    positions: list[int] = list(range(root))
    tree_of: list[int] = [ROOT] * root
    branch: list[int] = [0] * root
    at: list[int] = []
    target: list[int] = []
    lengths: list[int] = []
    last: list[int] = []
    ends: list[int] = []
    for number, tree in enumerate(trees):
        start, prompt = len(ids), len(tree.prompt)
        ids += tree.prompt[root:]
        positions += range(root, prompt)
        branch += [0] * (prompt - root)
        end = len(ids) - 1  # the prompt's last token
        for k, completion in enumerate(tree.completions):
            before = len(ids)
            body = completion if keep_last else completion[:-1]
            ids += body
            positions += range(prompt, prompt + len(body))
            branch += [k + 1] * len(body)
            # token j is predicted by token j-1; the first by the prompt's last
            predictors = [end, *range(before, before + len(completion) - 1)]
            mask = tree.mask(k)
            at += [p for p, scored in zip(predictors, mask, strict=True) if scored]
            target += [t for t, scored in zip(completion, mask, strict=True) if scored]
            lengths.append(sum(mask))
            last.append(len(ids) - 1)
        tree_of += [number] * (len(ids) - start)
        ends.append(len(ids))
    return PackedTrees(
        ids_T=torch.tensor(ids),
        positions_T=torch.tensor(positions),
        tree_T=torch.tensor(tree_of),
        branch_T=torch.tensor(branch),
        at_S=torch.tensor(at),
        target_S=torch.tensor(target),
        lengths=tuple(lengths),
        last_C=torch.tensor(last),
        root=root,
        ends=tuple(ends),
    )


def share_prompts(
    exchanges: Sequence[tuple[tuple[int, ...], tuple[int, ...]]],
) -> tuple[list[Tree], list[tuple[int, int]]]:
    """One tree per distinct prompt of (prompt, completion) pairs, and each pair's (tree, branch). Equal pairs
    share a branch: at another place of a row they would come out with other last bits."""
    branches: dict[tuple[int, ...], dict[tuple[int, ...], int]] = {}
    numbers: dict[tuple[int, ...], int] = {}
    places = []
    for prompt, completion in exchanges:
        held = branches.setdefault(prompt, {})
        number = numbers.setdefault(prompt, len(numbers))
        places.append((number, held.setdefault(completion, len(held))))
    return [Tree(prompt, tuple(held)) for prompt, held in branches.items()], places


def split_tree(tree: Tree, budget: int) -> list[Tree]:
    """The tree's continuations, in order, as trees of at most `budget` tokens each (one continuation
    that is longer stays whole)."""
    if tree.tokens <= budget:
        return [tree]
    parts: list[list[int]] = [[]]
    size = len(tree.prompt)
    for k, completion in enumerate(tree.completions):
        if parts[-1] and size + len(completion) > budget:
            parts.append([])
            size = len(tree.prompt)
        parts[-1].append(k)
        size += len(completion)
    return [
        Tree(
            tree.prompt,
            tuple(tree.completions[k] for k in part),
            tuple(tree.scored[k] for k in part) if tree.scored else None,
        )
        for part in parts
    ]


def hash_trees(trees: Sequence[Tree]) -> str:
    """sha256 (hex) of the trees' tokens and of which of them are scored."""
    digest = hashlib.sha256()
    for tree in trees:
        parts = [tree.prompt, *tree.completions, *(tree.scored or ())]
        for part in (array("q", map(len, parts)), *(array("q", part) for part in parts)):
            digest.update(part.tobytes())
        digest.update(b"|")
    return digest.hexdigest()


def bins(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of items in bins of at most `budget` tokens each, best fit by decreasing size: an item
    goes where it leaves the least room.

    Deterministic; an item larger than the budget gets a bin of its own. Bins and their contents
    are in the items' order.
    """
    room: list[tuple[int, int]] = []  # (tokens left, bin), sorted
    held: list[list[int]] = []
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        size = sizes[index]
        at = bisect.bisect_left(room, (size, -1))
        left, place = room.pop(at) if at < len(room) else (budget, len(held))
        if place == len(held):
            held.append([])
        held[place].append(index)
        if left > size:
            bisect.insort(room, (left - size, place))
    return sorted(sorted(b) for b in held)
