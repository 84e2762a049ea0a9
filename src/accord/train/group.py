"""Baselines from an answer's siblings instead of a value model: RLOO and GRPO.

RLOO (Ahmadian et al. 2024): the advantage is the score less the mean of the others'; KL is in the reward.
GRPO (Shao et al. 2024): the score centred and scaled within its group; KL is in the loss, as k2: the k3 of
the paper has the gradient of the other KL. Named variants of the mean: `sequence` (GRPO's paper), `token`
(DAPO), `constant` with `scale: false` (Dr. GRPO); `ratio: sequence` is GSPO.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from accord.losses import alike, group_normalised, leave_one_out, ppo_clip, rounding
from accord.train.experience import Experience
from accord.train.on_policy import Advantages, Method, Surrogate
from accord.train.settings import Grpo, Rloo

__all__ = ["grpo", "rloo"]


def rloo(cfg: Rloo) -> Method:
    """RLOO with these settings."""
    return Method("rloo", partial(_rloo, cfg=cfg), _surrogate(cfg), cfg.average, cfg.ratio)


def grpo(cfg: Grpo) -> Method:
    """GRPO with these settings."""
    advantages = partial(_grpo, cfg=cfg)
    return Method("grpo", advantages, _surrogate(cfg), cfg.average, cfg.ratio, kl_loss=True)


def _surrogate(cfg: Rloo | Grpo) -> Surrogate:
    return partial(ppo_clip, clip=cfg.clip_ratio, clip_high=cfg.clip_ratio_high)


def groups(values_C: Tensor, found: Experience) -> tuple[Tensor, Tensor]:
    """Values [G, K] by prompt, NaN where a group is smaller, and the mask of what is there."""
    parts = values_C.split([len(tree.completions) for tree in found.rollout.trees])
    out_GK = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=torch.nan)
    sizes = torch.tensor([len(part) for part in parts])
    return out_GK, torch.arange(out_GK.shape[1])[None] < sizes[:, None]


def noises(found: Experience) -> Tensor:
    """What of the differences within each group [G] may be the rewards' own noise."""
    return groups(found.noise_C, found)[0].nan_to_num(0.0).amax(-1)


def _spread(a_C: Tensor, found: Experience) -> Tensor:
    return a_C.repeat_interleave(torch.tensor(found.lengths))


def _rloo(found: Experience, beta: float, *, cfg: Rloo) -> Advantages:
    score_GK, there = groups(found.score_C - beta * found.kl_C(cfg.kl.estimator), found)
    sums = [found.summed_C(beta * x) for x in (found.old_S, found.reference_S)]
    noise = rounding(found.score_C, *sums) + noises(found)  # the KL is a small difference of sums
    a_C = leave_one_out(score_GK, within=noise)[there]
    return Advantages(_spread(a_C, found), facts=_facts(a_C, score_GK, noise))


def _grpo(found: Experience, beta: float, *, cfg: Grpo) -> Advantages:
    score_GK, there = groups(found.score_C, found)
    noise_G = noises(found)
    a_C = group_normalised(score_GK, scale=cfg.scale, within=noise_G)[there]
    return Advantages(_spread(a_C, found), facts=_facts(a_C, score_GK, noise_G))


def _facts(a_C: Tensor, score_GK: Tensor, noise: Tensor) -> dict[str, float]:
    silent = float(alike(score_GK, within=noise).float().mean())
    return {"silent_groups": silent, "advantage_abs": float(a_C.abs().mean())}
