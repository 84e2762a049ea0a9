"""From items to token trees: nothing is lost on the way, and what is left out is counted."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from accord.core.types import Demonstration, Edge, Group, Pair, Prompt, Response
from accord.train.loop.data import (
    Limits,
    best_against_rest,
    best_response,
    demonstration_trees,
    group_by_prompt,
    group_trees,
)
from accord.train.offline.edges import edge_weights, flatten
from tests.lm.tiny import tiny_tokenizer
from tests.train.small import LIMITS, answer, group, pair, pairs, prompt

END = tiny_tokenizer().convert_tokens_to_ids("<|im_end|>")

any_pairs = st.lists(
    st.builds(
        lambda at, sides, p, weight, margin, source: pair(
            at, *sides, p=p, weight=weight, margin=margin, sources=(source,)
        ),
        st.integers(0, 3),
        st.permutations(range(4)).map(lambda order: order[:2]),
        st.floats(0, 1),
        st.floats(0.1, 9),
        st.floats(-2, 2),
        st.text("abc", min_size=1, max_size=3),
    ),
    max_size=12,
)


def by_text(items: list[Pair]) -> list[str]:
    return sorted(item.model_dump_json() for item in items)


@given(any_pairs)
def test_grouping_and_taking_apart_gives_the_same_pairs(items: list[Pair]) -> None:
    groups = group_by_prompt(items)
    assert by_text([p for g in groups for p in g.pairs()]) == by_text(items)
    assert len({g.prompt.id for g in groups}) == len(groups)
    for g in groups:
        assert len({r.text for r in g.responses}) == len(g.responses)
    regrouped = group_by_prompt(groups)
    assert regrouped == groups


def test_grouping_keeps_weights_labels_and_sources() -> None:
    first, second = group_by_prompt(pairs())
    assert [r.text for r in first.responses] == [answer(k).text for k in (0, 1, 2)]
    assert first.edges == (
        Edge(better=0, worse=1, p=0.9, weight=2.0, sources=("j1",)),
        Edge(better=1, worse=2, p=0.6, weight=0.5, sources=("j2",)),
        Edge(better=0, worse=2, weight=1.5, sources=("j3",)),
    )
    assert first.sources == ("j1", "j2", "j3")
    assert second.edges[0].sources == ("j4",)


def test_a_group_and_a_pair_on_one_prompt_become_one_tree() -> None:
    ranked = group([(0, 1), (1, 2)])
    (merged,) = group_by_prompt([ranked, pair(0, 3, 0)])
    assert [(e.better, e.worse) for e in merged.edges] == [(0, 1), (1, 2), (3, 0)]


@given(any_pairs.filter(bool))
def test_by_prompt_a_prompt_counts_once_and_pairs_keep_their_shares(items: list[Pair]) -> None:
    for g in group_by_prompt(items):
        given, shares = edge_weights(g, "pair"), edge_weights(g, "prompt")
        assert given == [e.weight for e in g.edges]
        assert sum(shares) == pytest.approx(1)
        for w, share in zip(given, shares, strict=True):
            assert share * sum(given) == pytest.approx(w)


def test_flat_edges_point_at_their_own_groups_responses() -> None:
    groups = group_by_prompt(pairs())
    edges = flatten(groups, "pair", torch.zeros(()))
    assert edges.better.tolist() == [0, 1, 0, 3]
    assert edges.worse.tolist() == [1, 2, 2, 4]
    assert edges.weight.tolist() == [2.0, 0.5, 1.5, 3.0]
    assert edges.p.tolist() == pytest.approx([0.9, 0.6, 1.0, 0.75])


def test_a_prompt_over_the_limit_is_counted_and_one_at_it_is_kept() -> None:
    tokenizer, groups = tiny_tokenizer(), group_by_prompt(pairs())
    sizes = [len(t.prompt) for t in group_trees(tokenizer, groups, LIMITS).trees]
    assert sizes[0] != sizes[1]
    smaller = sizes.index(min(sizes))
    at = group_trees(tokenizer, groups, Limits(max_prompt=min(sizes)))
    assert at.items == [groups[smaller]]
    assert at.left_out == {f"prompt over {min(sizes)} tokens": 1}
    below = group_trees(tokenizer, groups, Limits(max_prompt=min(sizes) - 1))
    assert below.trees == []
    assert sum(below.left_out.values()) == 2


def test_a_completion_over_the_limit_is_cut_and_does_not_end_its_turn() -> None:
    tokenizer, groups = tiny_tokenizer(), group_by_prompt([pair(0, 1, 2)])
    whole = group_trees(tokenizer, groups, LIMITS)
    short, long = sorted(whole.trees[0].completions, key=len)
    assert whole.truncated == 0
    assert (short[-1], long[-1]) == (END, END)
    cut = group_trees(tokenizer, groups, Limits(max_completion=len(short)))
    assert cut.trees[0].completions[0] == short
    assert cut.trees[0].completions[1] == long[: len(short)]
    assert END not in cut.trees[0].completions[1]
    assert cut.truncated == 1


def test_a_response_that_was_cut_off_does_not_end_its_turn() -> None:
    cut = answer(0).model_copy(update={"finish": "length"})
    item = pair(0, 0, 1).model_copy(update={"chosen": cut})
    done = group_trees(tiny_tokenizer(), group_by_prompt([item]), LIMITS)
    assert END not in done.trees[0].completions[0]
    assert done.trees[0].completions[1][-1] == END
    assert done.truncated == 1


def test_an_empty_response_is_its_end_and_an_empty_cut_one_is_counted() -> None:
    empty, cut = Response(text="", finish="stop"), Response(text="", finish="length")
    base = pair(0, 0, 1)
    items = [base.model_copy(update={"chosen": r}) for r in (empty, cut)]
    kept, gone = (group_trees(tiny_tokenizer(), group_by_prompt([x]), LIMITS) for x in items)
    assert kept.trees[0].completions[0] == (END,)
    assert gone.trees == []
    assert gone.left_out == {"empty response": 1}
    demos = [Demonstration(prompt=prompt(0), response=r) for r in (empty, cut)]
    done = demonstration_trees(tiny_tokenizer(), demos, LIMITS, all_turns=False)
    assert [t.completions for t in done.trees] == [((END,),)]
    assert done.left_out == {"over the token limits, or empty": 1}


def test_the_best_response_wins_most_and_only_its_wins_are_kept() -> None:
    edges = (
        Edge(better=1, worse=0),
        Edge(better=1, worse=2, p=0.8),
        Edge(better=0, worse=2),
        Edge(better=2, worse=1, p=0.55),
    )
    g = Group(prompt=Prompt.user("Why?"), responses=tuple(map(answer, range(3))), edges=edges)
    assert best_response(g) == 1
    assert best_against_rest(g).edges == edges[:2]


def test_groups_and_their_pairs_make_the_same_rows() -> None:
    """Two groups on one prompt that share an answer, and a third: indices move, what was said does not."""
    first = group([(0, 1), (2, 1)], p=0.8, weight=2.0, margin=0.5, agreement=0.9, sources=("a",))
    second = first.model_copy(
        update={"responses": (answer(3), answer(1)), "edges": (Edge(better=1, worse=0, p=0.4),)}
    )
    (merged,) = group_by_prompt([first, second])
    assert merged.responses == (answer(0), answer(1), answer(2), answer(3))
    assert [(e.better, e.worse, e.p, e.weight) for e in merged.edges] == [
        (0, 1, 0.8, 2.0), (2, 1, 0.8, 2.0), (1, 3, 0.4, 1.0)
    ]  # fmt: skip
    assert merged == group_by_prompt([*first.pairs(), *second.pairs()])[0]
