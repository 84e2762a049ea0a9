"""Learning from whole answers of one's own: online DPO and rejection sampling (best-of-n, then imitate).

Both rank a prompt's answers by their score. Online DPO (Guo et al. 2024; here with rewards in place of a
judge) sets the best against the worst in any preference loss, with the reference log-probs of the rollout.
Rejection sampling (RAFT, Dong et al. 2023) raises the likelihood of the best. A prompt whose answers all
have the same score teaches nothing and counts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from accord.core.types import Edge, Group
from accord.lm.trees.tree import Tree
from accord.losses import alike, choose_loss
from accord.stats.best_of_n import best_of_n_kl, expected_best
from accord.train.actors import Actors
from accord.train.data import Trees
from accord.train.experience import Experience
from accord.train.group import groups, noises
from accord.train.on_policy import Advantages, Method
from accord.train.optimise import Objective, Sums
from accord.train.pairs import preference_objective
from accord.train.settings import BestOfN, OnlineDpo

__all__ = ["best_of_n", "online_dpo", "ranked"]


def online_dpo(cfg: OnlineDpo) -> Method:
    """Online preference optimisation with these settings."""
    return Method("online_dpo", _gaps, objective=partial(_pairs, cfg=cfg))


def best_of_n(cfg: BestOfN) -> Method:
    """Rejection sampling with these settings."""
    return Method("best_of_n", partial(_best, n=cfg.n), objective=_imitate)


def ranked(found: Experience) -> list[tuple[int, int] | None]:
    """(best, worst) answer of each prompt, the first of equals; None where the scores are `alike`."""
    score_GK, _ = groups(found.score_C, found)
    return [
        None if silent else (int(best), int(worst))
        for silent, best, worst in zip(
            alike(score_GK, within=noises(found)),
            score_GK.nan_to_num(-torch.inf).argmax(-1),
            score_GK.nan_to_num(torch.inf).argmin(-1),
            strict=True,
        )
    ]


def _gaps(found: Experience, beta: float) -> Advantages:
    counts = [len(tree.completions) for tree in found.rollout.trees]
    parts, places = found.score_C.split(counts), ranked(found)
    gaps = [float(x[p[0]] - x[p[1]]) for x, p in zip(parts, places, strict=True) if p]
    facts = {"silent_groups": places.count(None) / len(places)}
    if gaps:
        facts["score_gap"] = sum(gaps) / len(gaps)
    return Advantages(torch.zeros_like(found.old_S), facts=facts)


def _best(found: Experience, beta: float, *, n: int) -> Advantages:
    """Beside the gaps, what best-of-n would itself earn on the policy as it is, and cost from it (nats)."""
    counts, worth = [len(tree.completions) for tree in found.rollout.trees], _gaps(found, beta)
    parts = found.score_C.split(counts), torch.tensor(found.scored.total).split(counts)
    best = [
        expected_best(by[there].tolist(), min(n, int(there.sum())), told[there].tolist())
        for by, told in zip(*parts, strict=True)
        if bool((there := ~by.isnan()).any())
    ]
    more = {"best_of_n_kl": best_of_n_kl(n), "expected_best": sum(best) / len(best)}
    return replace(worth, facts={**worth.facts, **more})


def _reference(found: Experience) -> list[list[Tensor]]:
    """Reference log-probs of each answer of each prompt."""
    parts = iter(found.reference_S.split(list(found.lengths)))
    return [[next(parts) for _ in tree.completions] for tree in found.rollout.trees]


def _pairs(actors: Actors, found: Experience, *, cfg: OnlineDpo) -> Objective:
    """The preference loss over (best, worst); a prompt without one keeps a tree and no comparison."""
    chosen, data, reference = choose_loss(cfg.loss), Trees(), []
    rows = zip(
        found.rollout.prompts, found.rollout.responses, found.rollout.trees, _reference(found),
        ranked(found), strict=True,
    )  # fmt: skip
    for prompt, responses, tree, kept, place in rows:
        at = list(place or (0,))
        edges = (Edge(better=0, worse=1),) if place else ()
        data.trees.append(Tree(tree.prompt, tuple(tree.completions[k] for k in at)))
        data.items.append(
            Group(prompt=prompt, responses=tuple(responses[k] for k in at), edges=edges)
        )
        reference.append(torch.cat([kept[k] for k in at]))
    made = preference_objective(
        actors.policy.engine, data, reference if chosen.facts["needs_reference"] else None,
        chosen.function, "pair", chosen.facts,
    )  # fmt: skip

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        with actors.policy.playing():
            result: tuple[Tensor, Sums] = made.loss(items)
        return result

    return Objective(made.sizes, made.counts, loss)


def _imitate(actors: Actors, found: Experience) -> Objective:
    """Negative log-likelihood of each prompt's best answer, a mean over tokens."""
    places = ranked(found)
    trees = [
        Tree(tree.prompt, (tree.completions[place[0] if place else 0],))
        for tree, place in zip(found.rollout.trees, places, strict=True)
    ]
    counts = [
        float(len(tree.completions[0])) if place else 0.0
        for tree, place in zip(trees, places, strict=True)
    ]

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        with actors.policy.playing():
            tokens_S = actors.policy.engine.logps([trees[i] for i in items]).tokens_S
        return -tokens_S.sum(), {}

    return Objective([tree.tokens for tree in trees], counts, loss)
