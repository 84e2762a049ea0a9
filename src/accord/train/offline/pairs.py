"""Preference losses over comparisons: which log-probs a pair needs, what to watch, the objective.

Legend: B comparisons, C continuations of the batch's trees, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from accord.core.types import Metric
from accord.lm.trees.engine import Engine
from accord.losses import PairLogps, soft
from accord.stats.intervals import cluster_mean
from accord.train.loop.data import Trees
from accord.train.loop.optimise import Objective, Sums
from accord.train.offline.edges import Average, Edges, edge_weights, flatten
from accord.train.offline.scored import Scored, at_rest, mean_by_prompt, score, totals

__all__ = ["measure_pairs", "pair_logps", "preference_objective", "watched"]

DPO = {"needs_reference": True, "per_token": False, "collision": False}


def pair_logps(scored: Scored, e: Edges) -> PairLogps:
    """The log-probs of the edges' two sides; tails and collisions only for those who ask."""
    policy_C, reference_C, tokens_C = scored.policy_C(), scored.reference_C(), scored.tokens_C()
    better, worse = e.better.tolist(), e.worse.tolist()

    def tail() -> PairLogps:
        after = [
            min(scored.lengths[b], scored.lengths[w]) for b, w in zip(better, worse, strict=True)
        ]
        zeros = scored.policy_S.detach() * 0
        kept = zeros if scored.reference_S is None else scored.reference_S
        sums = partial(scored.tail_sums, after=after)
        return PairLogps(
            policy_chosen=sums(scored.policy_S, better), policy_rejected=sums(scored.policy_S, worse),
            ref_chosen=sums(kept, better), ref_rejected=sums(kept, worse),
            chosen_tokens=sums(zeros + 1, better), rejected_tokens=sums(zeros + 1, worse),
        )  # fmt: skip

    def of(values_C: Tensor, side: Tensor) -> Tensor:
        return values_C.index_select(0, side)

    collision_C = None
    if scored.collision_S is not None:
        collision_C = Scored(scored.collision_S, None, scored.lengths).policy_C()
    return PairLogps(
        policy_chosen=of(policy_C, e.better), policy_rejected=of(policy_C, e.worse),
        ref_chosen=of(reference_C, e.better), ref_rejected=of(reference_C, e.worse),
        chosen_tokens=of(tokens_C, e.better), rejected_tokens=of(tokens_C, e.worse),
        tail=tail,
        collision_chosen=None if collision_C is None else of(collision_C, e.better),
        collision_rejected=None if collision_C is None else of(collision_C, e.worse),
    )  # fmt: skip


def _columns(scored: Scored, lp: PairLogps, e: Edges) -> dict[str, Tensor]:
    """What to watch, a value per comparison (train.words says what each means)."""
    columns = {
        "chosen_logp": lp.mean_chosen_B(),
        "rejected_logp": lp.mean_rejected_B(),
        "chosen_tokens": lp.chosen_tokens,
        "rejected_tokens": lp.rejected_tokens,
    }
    k3_C = scored.k3_C()
    if k3_C is not None:
        columns["chosen_shift"] = lp.chosen_ratio_B()
        columns["rejected_shift"] = lp.rejected_ratio_B()
        columns["kl"] = (k3_C.index_select(0, e.better) + k3_C.index_select(0, e.worse)) / 2
    return columns


def margin(lp: PairLogps, facts: Mapping[str, Any] = DPO) -> Tensor:
    """By how much the policy prefers the better answer [B], as the loss compares: log-ratios where it has a
    reference, else log-probs; sums (nats), or means (nats per token) where it takes means."""
    if facts["needs_reference"]:
        return lp.mean_margin_B() if facts["per_token"] else lp.margin_B()
    if facts["per_token"]:
        return lp.mean_chosen_B() - lp.mean_rejected_B()
    return lp.policy_chosen - lp.policy_rejected


def watched(
    scored: Scored, edges: Edges, lp: PairLogps | None = None, facts: Mapping[str, Any] = DPO
) -> Sums:
    """The metrics of a training batch's comparisons."""
    lp = lp or pair_logps(scored, edges)
    margin_B = margin(lp, facts).detach()
    hits = edges.hits(margin_B)
    columns = {"margin": margin_B, **_columns(scored, lp, edges)}
    return {"accuracy": (sum(hits), float(len(hits))), **totals(columns)}


def preference_objective(
    engine: Engine,
    data: Trees,
    reference: Sequence[Tensor] | None,
    loss_B: Callable[[PairLogps], Tensor],
    average: Average,
    facts: Mapping[str, Any] = DPO,
) -> Objective:
    """Weighted sum of pair losses, counted in pair weight ("pair") or prompts ("prompt")."""

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        kept = None if reference is None else [reference[i] for i in items]
        scored = score(engine, [data.trees[i] for i in items], kept, collision=facts["collision"])
        edges = flatten([data.items[i] for i in items], average, scored.policy_S)
        lp = pair_logps(scored, edges)
        total = (edges.weight * soft(loss_B, lp, edges.p)).sum()
        return total, watched(scored, edges, lp, facts)

    counts = [sum(edge_weights(group, average)) for group in data.items]
    return Objective([tree.tokens for tree in data.trees], counts, loss)


def measure_pairs(
    engine: Engine,
    data: Trees,
    before: Sequence[Tensor],
    tokens: int,
    facts: Mapping[str, Any] = DPO,
) -> dict[str, Metric]:
    """Held-out comparisons: the share whose margin has the right sign, and how far everything moved
    from `before` (the starting weights)."""
    scored = at_rest(engine, data.trees, before, tokens)
    edges = flatten(data.items, "pair", scored.policy_S)
    lp = pair_logps(scored, edges)
    margin_B = margin(lp, facts)
    prompts = [group.prompt.id for group in data.items for _ in group.edges]
    ordered = [(p, at) for p, at in zip(edges.p.tolist(), prompts, strict=True) if p != 0.5]
    columns = {"margin": margin_B, **_columns(scored, lp, edges)}
    accuracy = cluster_mean(edges.hits(margin_B), [at for _, at in ordered])
    return {"accuracy": accuracy, **mean_by_prompt(columns, prompts)}
