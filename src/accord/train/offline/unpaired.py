"""Losses of answers judged one by one (KTO, BCO): mismatched partners, the whole batch's mean.

Legend: B answers of a batch.

KTO's reference point is a mean over *mismatched* answers: x_i with another prompt's answer. Each item
has one fixed partner, so those log-probs have cached references like any others, and reshuffling a batch
can pair nothing with itself. What is a mean over the batch is computed once, before the batch is cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from accord.core.errors import DataError
from accord.core.seeds import rng
from accord.core.types import Group, LabelledResponse, Metric, Pair
from accord.lm.chat import render_exchange, render_prompt
from accord.lm.room import positions
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import token_logps
from accord.lm.trees.tree import Tree
from accord.losses import LabelledLogps, reference_point
from accord.train.loop.data import Limits, Trees, comparisons, understood
from accord.train.loop.optimise import Objective, Sums
from accord.train.offline.scored import at_rest, mean_by_prompt, score, totals

__all__ = [
    "labelled_trees",
    "measure_unpaired",
    "mismatched",
    "one_by_one",
    "unpaired_objective",
]


def one_by_one(items: Iterable[Pair | Group | LabelledResponse]) -> list[LabelledResponse]:
    """Labelled responses as they are; a comparison gives its better answer as desirable and its worse
    one as undesirable, weighing what the label leaves of it, weight·|2p - 1| (an even one nothing)."""
    labelled: list[LabelledResponse] = []
    for item in items:
        if isinstance(item, LabelledResponse):
            labelled.append(item)
            continue
        for better, worse, edge in comparisons(item):
            sides = (better, worse) if edge.p > 0.5 else (worse, better)
            weight = edge.weight * abs(2 * edge.p - 1)
            labelled += [
                LabelledResponse(
                    prompt=item.prompt, response=response, desirable=desirable, weight=weight,
                    sources=edge.sources,
                )
                for response, desirable in zip(sides, (True, False), strict=True)
                if edge.p != 0.5
            ]  # fmt: skip
    return labelled


def labelled_trees(tokenizer: Any, items: Iterable[LabelledResponse], limits: Limits) -> Trees:
    """One tree with one continuation per labelled response."""
    out = Trees()
    for item in items:
        with understood(out, item.prompt, limits):
            if len(render_prompt(tokenizer, item.prompt)) > limits.max_prompt:
                out.left_out[f"prompt over {limits.max_prompt} tokens"] += 1
                continue
            done = render_exchange(
                tokenizer, item.prompt, item.response, max_completion=limits.max_completion
            )
            if not done.completion:
                out.left_out["empty response"] += 1
                continue
            out.truncated += done.truncated
            out.trees.append(Tree(done.prompt, (done.completion,)))
            out.items.append(item)
    return out


def mismatched(prompts: Sequence[Any], seed: int = 17) -> list[int]:
    """For each item a partner with another prompt, drawn by a seeded shuffle over all items: whatever order
    the items come in, desirable and undesirable answers are partners as often as they are there. Nearly every
    item is a partner once. The seed is no run's: runs then share cached references.

    DataError when all prompts are the same: then no answer is mismatched.
    """
    n = len(prompts)
    if all(prompt == prompts[0] for prompt in prompts):
        raise DataError(
            "every answer is to the same prompt, so none is mismatched",
            mend="give at least two prompts, or use a loss on pairs",
        )
    drawn = list(range(n))
    rng(seed, "mismatched").shuffle(drawn)
    ahead = (itertools.chain(drawn[i:], drawn[:i]) for i in range(n))
    return [next(j for j in at if prompts[j] != prompts[i]) for i, at in enumerate(ahead)]


def _crossed(data: Trees, partners: Sequence[int], most: float) -> list[Tree]:
    """Each item's prompt with its partner's answer, as much of it as `most` positions leave room for."""
    crossed = []
    for tree, j in zip(data.trees, partners, strict=True):
        (answer,) = data.trees[j].completions
        crossed.append(
            Tree(tree.prompt, (answer[: int(min(len(answer), most - len(tree.prompt)))],))
        )
    return crossed


def unpaired_objective(
    engine: Engine,
    data: Trees,
    references: Callable[[Sequence[Tree]], Sequence[Tensor]],
    loss_B: Callable[[LabelledLogps], Tensor],
    *,
    reads: Literal["mismatched", "batch"],
    tokens: int,
    partners: Sequence[int] | None = None,
) -> Objective:
    """Weighted sum of losses, counted in weight. `references` gives token log-probs of trees under the
    starting weights; `reads` says what the loss takes its mean of (see losses.unpaired).
    """
    prompts = [tree.prompt for tree in data.trees]
    kl_reads, most = reads == "mismatched", positions(engine.model)
    crossed = _crossed(data, partners or mismatched(prompts), most) if kl_reads else data.trees
    own = references(data.trees)
    crossed_reference = references(crossed) if kl_reads else own
    labels = [item.desirable for item in data.items]

    def whole(items: Sequence[int]) -> LabelledLogps:
        logps = token_logps(engine, [crossed[i] for i in items], tokens)
        policy_B, ref_B = (
            torch.stack([x.sum() for x in part]).to(engine.device)
            for part in (logps, [crossed_reference[i] for i in items])
        )
        label_B = torch.tensor([labels[i] for i in items], device=engine.device)
        return LabelledLogps(policy_B, ref_B, policy_B, ref_B, label_B)

    def loss(items: Sequence[int], batch: LabelledLogps) -> tuple[Tensor, Sums]:
        scored = score(engine, [data.trees[i] for i in items], [own[i] for i in items])
        device = scored.policy_S.device
        label_B = torch.tensor([labels[i] for i in items], device=device)
        weights = [data.items[i].weight for i in items]
        weight_B = torch.tensor(weights, device=device, dtype=scored.policy_S.dtype)
        policy_B, ref_B = scored.policy_C(), scored.reference_C()
        lp = LabelledLogps(policy_B, ref_B, batch.kl_policy, batch.kl_ref, label_B, batch)
        k3_B, point = scored.k3_C(), reference_point(lp, reads)
        assert k3_B is not None
        columns = {
            "kl": k3_B,
            **_apart(policy_B - ref_B - point, label_B),
            **_split(policy_B, ref_B, scored.tokens_C(), label_B),
        }
        metrics = {name: value for name, value in totals(columns).items() if value[1]}
        metrics["baseline"] = (float(point) * len(items), float(len(items)))
        return (weight_B * loss_B(lp)).sum(), metrics

    counts = [float(item.weight) for item in data.items]
    return Objective([tree.tokens for tree in data.trees], counts, loss, whole)


def _apart(gap_B: Tensor, label_B: Tensor) -> dict[str, Tensor]:
    """How far log-ratios lie on the right side of what they are compared with, and whether they do."""
    margin_B = torch.where(label_B, gap_B, -gap_B).detach()
    return {"margin": margin_B, "accuracy": (margin_B.sign() + 1) / 2}


def _split(policy_B: Tensor, ref_B: Tensor, tokens_B: Tensor, label_B: Tensor) -> dict[str, Tensor]:
    """Shifts, log-probs and lengths of desirable ("chosen") and undesirable ("rejected") answers."""
    columns = {}
    for side, mask_B in (("chosen", label_B), ("rejected", ~label_B)):
        columns[f"{side}_shift"] = (policy_B - ref_B)[mask_B]
        columns[f"{side}_logp"] = (policy_B / tokens_B)[mask_B]
        columns[f"{side}_tokens"] = tokens_B[mask_B]
    return columns


def measure_unpaired(
    engine: Engine, data: Trees, before: Sequence[Tensor], tokens: int
) -> dict[str, Metric]:
    """Held-out labelled answers. accuracy: the share on the right side of the point halfway between the mean
    log-ratios of the two labels; margin: by how much. Undefined where all have one label: half of them would
    lie on the right side of their own mean."""
    scored = at_rest(engine, data.trees, before, tokens)
    policy_B, ref_B = scored.policy_C(), scored.reference_C()
    label_B = torch.tensor([item.desirable for item in data.items])
    prompts = [item.prompt.id for item in data.items]
    ratio_B = policy_B - ref_B
    means = [ratio_B[side].mean() for side in (label_B, ~label_B) if bool(side.any())]
    apart = _apart(ratio_B - torch.stack(means).mean(), label_B)
    known = slice(None) if len(means) == 2 else slice(0)
    metrics = mean_by_prompt({k: v[known] for k, v in apart.items()}, prompts[known])
    columns = _split(policy_B, ref_B, scored.tokens_C(), label_B)
    for side, mask in (("chosen", label_B), ("rejected", ~label_B)):
        at = [p for p, kept in zip(prompts, mask.tolist(), strict=True) if kept]
        metrics |= mean_by_prompt({k: v for k, v in columns.items() if k.startswith(side)}, at)
    k3_B = scored.k3_C()
    assert k3_B is not None
    return metrics | mean_by_prompt({"kl": k3_B}, prompts)
