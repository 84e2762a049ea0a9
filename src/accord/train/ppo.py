"""Proximal policy optimisation under a KL constraint (Schulman et al. 2017; Ziegler et al. 2019).

Reward of a token: -β·(log π - log π_ref); the score is added to the *last action* of the answer (TRL puts it
on the slot after it: with λ < 1 that discounts it once more). Where a score is paid the episode is over,
cut off or not: a value after it would pay for the same answer again. It stands for the rest only where
`missing_eos: bootstrap` leaves the score of a cut-off answer out.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from accord.losses import gae, kl_estimate, ppo_clip, rounding, value_clip, whiten
from accord.train.experience import Experience, padded, unpadded
from accord.train.on_policy import Advantages, Method
from accord.train.settings import Ppo

__all__ = ["ppo", "token_rewards"]


def ppo(cfg: Ppo) -> Method:
    """The method with these settings."""
    return Method(
        "ppo",
        partial(_advantages, cfg=cfg),
        partial(
            ppo_clip, clip=cfg.clip_ratio, clip_high=cfg.clip_ratio_high, dual_clip=cfg.dual_clip
        ),
        value_loss=partial(value_clip, clip=cfg.clip_value),
        value_lr=cfg.value_lr,
    )


def token_rewards(found: Experience, beta: float, estimator: str) -> Tensor:
    """Rewards [S]: the KL penalty at every token, the score at the last of each answer."""
    kl_S = kl_estimate(found.old_S, found.reference_S, estimator=estimator)  # type: ignore[arg-type]
    last_C = torch.tensor(found.lengths).cumsum(0) - 1
    return (-beta * kl_S).index_add(0, last_C, found.score_C.nan_to_num(0.0))


def _advantages(found: Experience, beta: float, *, cfg: Ppo) -> Advantages:
    """GAE of each answer, whitened over all tokens that count; returns are unwhitened A + V. An advantage
    that rounding or the rewards' own noise explains is none: whitening and Adam would make a step of it."""
    assert found.values_S is not None
    assert found.after_C is not None
    rewards_CT, mask_CT = padded(token_rewards(found, beta, cfg.kl.estimator), found.lengths)
    values_CT, _ = padded(found.values_S, found.lengths)
    a_CT = gae(
        rewards_CT, values_CT, gamma=cfg.gamma, lam=cfg.lam, mask=mask_CT,
        terminated=found.paid_C, bootstrap_value=found.after_C,
    )  # fmt: skip
    a_S = unpadded(a_CT, mask_CT)
    noise = rounding(found.score_C, found.values_S, beta * found.old_S, beta * found.reference_S)
    a_S = torch.where(a_S.abs() > noise + found.noise_C.amax(), a_S, 0.0)
    returns_S = a_S + found.values_S
    kept_S = found.kept_C.repeat_interleave(torch.tensor(found.lengths))
    unexplained = (returns_S - found.values_S)[kept_S].var(correction=0)
    spread = returns_S[kept_S].var(correction=0)
    facts = {
        "explained_variance": float(1 - unexplained / spread.clamp(min=1e-12)),
        "value": float(found.values_S[kept_S].mean()),
        "returns": float(returns_S[kept_S].mean()),
    }
    return Advantages(whiten(a_S, kept_S) if cfg.whiten else a_S, returns_S, facts)
