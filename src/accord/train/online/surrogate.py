"""What a policy's and a value model's updates optimise, over a rollout's trees.

Legend: C continuations, S their tokens, contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accord.lm.trees.engine import ContinuationLogps
from accord.losses import clipped, kl_estimate, rounding, sequence_ratio
from accord.train.loop.optimise import Objective, Sums
from accord.train.online.actors import Actors
from accord.train.online.experience import Experience
from accord.train.online.method import Advantages, Method, Surrogate

__all__ = ["policy_objective", "value_objective"]


def policy_objective(
    actors: Actors, experience: Experience, worth: Advantages, cfg: Method, how: Surrogate, beta: float,
    gaps: list[float],
) -> Objective:  # fmt: skip
    """The surrogate over the rollout's trees. Answers without a score weigh nothing and count nothing.
    `gaps` is told the largest |ratio - 1| of each micro-batch."""
    trees, lengths = experience.rollout.trees, experience.lengths
    noise = float(
        rounding(experience.old_S, experience.reference_S)
    )  # no KL: Adam would make a step of it
    kept_C = experience.kept_C.float()
    one_C = torch.ones(len(lengths))
    per_C = {"token": one_C, "sum": one_C, "sequence": 1.0 / torch.tensor(lengths),
             "constant": torch.full((len(lengths),), 1.0 / cfg.max_new_tokens)}[how.average]  # fmt: skip
    weight_S = (kept_C * per_C).repeat_interleave(torch.tensor(lengths))
    counts_S = kept_C.repeat_interleave(torch.tensor(lengths))
    columns = torch.stack(
        [experience.old_S, experience.reference_S, worth.advantages_S, weight_S, counts_S]
    )
    answers = [len(tree.completions) for tree in trees]
    sizes = [sum(map(len, tree.completions)) for tree in trees]
    by_tree = columns.split(sizes, dim=1)
    sequences = [float(x.sum()) for x in kept_C.split(answers)]
    tokens = [float(x[4].sum()) for x in by_tree]

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        some = [trees[i] for i in items]
        with actors.policy.playing():
            out = actors.policy.engine.logps(some, entropy="trained" if cfg.entropy else "watched")
        device = out.tokens_S.device
        old_S, ref_S, a_S, w_S, count_S = torch.cat([by_tree[i] for i in items], 1).to(device)
        new_S = out.tokens_S
        if how.ratio == "sequence":
            new_S = sequence_ratio(new_S, old_S, out.lengths)
        loss_S = how.loss(new_S, old_S, a_S)
        if how.kl and beta:
            k2_S = kl_estimate(out.tokens_S, ref_S, estimator="k2")
            loss_S = loss_S + beta * k2_S.where((out.tokens_S - ref_S).abs() > noise, 0.0)
        if cfg.entropy:
            assert out.entropy_S is not None
            loss_S = loss_S - cfg.entropy * out.entropy_S
        held_S = clipped(new_S, old_S, a_S, clip=cfg.clip_ratio, clip_high=cfg.clip_ratio_high)
        return (loss_S * w_S).sum(), _watched(out, old_S, held_S, count_S, gaps)

    counts = tokens if how.average == "token" else sequences
    return Objective([tree.tokens for tree in trees], counts, loss, own=True)


def _watched(
    now: ContinuationLogps, old_S: Tensor, held_S: Tensor, count_S: Tensor, gaps: list[float]
) -> Sums:
    """Means over the kept tokens: how far the policy has moved within the step."""
    gap_S = (now.tokens_S - old_S).detach()
    ratio_S = gap_S.clamp(-20.0, 20.0).exp()
    gaps.append(float(((ratio_S - 1).abs() * count_S).max()))
    assert now.entropy_S is not None
    columns = {"approx_kl": ratio_S - 1 - gap_S, "clip_fraction": held_S,
               "entropy": now.entropy_S.detach()}  # fmt: skip
    n = float(count_S.sum())
    return {name: (float((x * count_S).sum()), n) for name, x in columns.items()}


def value_objective(
    actors: Actors, experience: Experience, worth: Advantages, method: Method
) -> Objective:
    """The value model's loss over the same trees, a mean over tokens. A value that is off by no more than
    rounding and the rewards' own noise is right: Adam would make a step of it."""
    assert actors.value
    assert experience.values_S is not None
    assert worth.returns_S is not None
    noise = float(rounding(experience.values_S, worth.returns_S) + experience.noise_C.amax())
    value, value_loss, trees = actors.value, method.value_loss, experience.rollout.trees
    sizes = [sum(map(len, tree.completions)) for tree in trees]
    kept_S = experience.kept_C.float().repeat_interleave(torch.tensor(experience.lengths))
    by_tree = torch.stack([experience.values_S, worth.returns_S, kept_S]).split(sizes, dim=1)
    states = () if experience.states_SH is None else experience.states_SH.split(sizes)

    def values(items: Sequence[int]) -> Tensor:
        if value.head and states:
            states_SH = torch.cat([states[i] for i in items]).to(value.head.weight.device)
            now_S: Tensor = value.head(states_SH)
            return now_S
        with value.playing():
            return value.values([trees[i] for i in items])[0]

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        now_S = values(items)
        old_S, returns_S, kept = torch.cat([by_tree[i] for i in items], 1).to(now_S.device)
        now_S = now_S.where((now_S - returns_S).abs() > noise, returns_S)
        return (value_loss(now_S, old_S, returns_S) * kept).sum(), {}

    counts = [float(x[2].sum()) for x in by_tree]
    return Objective([tree.tokens for tree in trees], counts, loss, own=True)
