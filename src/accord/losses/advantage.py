"""How much better than expected an action was: GAE, group baselines, whitening.

Legend: B sequences, T tokens (the last axis), G prompts, K answers to each.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["NOISE", "alike", "gae", "group_normalised", "leave_one_out", "rounding", "whiten"]

SAME = 8  # units in the last place: equal sums of several terms differ by no more
NOISE = (
    128  # units in the last place: what a reward model says of one answer twice differs by up to 90
)
SHARE = 1e-4  # of the spread of all rewards: a reward model's own noise is about a tenth of this


def gae(
    rewards: Tensor,
    values: Tensor,
    *,
    gamma: float,
    lam: float,
    terminated: bool | Tensor = True,
    bootstrap_value: float | Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Generalised advantage estimates [..., T] (Schulman et al. 2016, eq. 16):
    A_t = δ_t + γλ A_{t+1}, δ_t = r_t + γ V_{t+1} - V_t.

    After the last token V is 0 where the sequence `terminated`, else `bootstrap_value` (required), which
    stands for rewards still to come: an answer that was paid its score has none. Tokens outside `mask` get 0
    and are stepped over without decay, wherever they stand. Returns for the value model are A + V,
    *unwhitened*.
    """
    ended = torch.as_tensor(terminated, device=rewards.device).expand(rewards.shape[:-1])
    if bootstrap_value is None:
        if not bool(ended.all()):
            raise ValueError("a sequence that did not terminate needs a bootstrap_value")
        bootstrap_value = 0.0
    after = torch.as_tensor(bootstrap_value, dtype=values.dtype, device=values.device)
    next_value = torch.where(ended, torch.zeros_like(after), after).expand(rewards.shape[:-1])
    running = torch.zeros_like(next_value)
    out = torch.zeros_like(values)
    for t in reversed(range(rewards.shape[-1])):
        delta = rewards[..., t] + gamma * next_value - values[..., t]
        advantage = delta + gamma * lam * running
        if mask is None:
            out[..., t], running, next_value = advantage, advantage, values[..., t]
            continue
        here = mask[..., t].bool()
        out[..., t] = torch.where(here, advantage, torch.zeros_like(advantage))
        running = torch.where(here, advantage, running)
        next_value = torch.where(here, values[..., t], next_value)
    return out


def whiten(x: Tensor, mask: Tensor | None = None, *, shift_mean: bool = True) -> Tensor:
    """(x - mean)/√(var + 1e-8) over the masked-in values of all axes, biased variance; masked-out
    positions give 0. `shift_mean=False` puts the mean back (for rewards: their sign means something)."""
    kept = torch.ones_like(x, dtype=torch.bool) if mask is None else mask.bool()
    mean, var = x[kept].mean(), x[kept].var(correction=0)
    out = (x - mean) * torch.rsqrt(var + 1e-8)
    return torch.where(kept, out if shift_mean else out + mean, torch.zeros_like(x))


def rounding(*terms: Tensor) -> Tensor:
    """What rounding may leave of a difference of equal sums of these terms: `SAME` units in the last place of
    their largest magnitudes. NaN counts as 0."""
    largest = torch.stack([x.nan_to_num(0.0).abs().amax() for x in terms])
    return SAME * torch.finfo(largest.dtype).eps * largest.sum()


def leave_one_out(rewards_GK: Tensor, *, within: Tensor | float = 0.0) -> Tensor:
    """RLOO (Ahmadian et al. 2024, eq. 8): each reward minus the mean of the *others* of its group; 0 in a
    group whose rewards are `alike`, which an optimiser that divides by a gradient's size would blow up.

    NaN marks an answer without a reward: it gets 0 and counts in no baseline; so does one that is alone.
    """
    there_GK = ~rewards_GK.isnan()
    known_GK = torch.where(there_GK, rewards_GK, torch.zeros_like(rewards_GK))
    others_GK = there_GK.sum(-1, keepdim=True) - 1
    baseline_GK = (known_GK.sum(-1, keepdim=True) - known_GK) / others_GK.clamp(min=1)
    tells_GK = there_GK & (others_GK > 0) & ~alike(rewards_GK, within=within).unsqueeze(-1)
    return torch.where(tells_GK, known_GK - baseline_GK, torch.zeros_like(known_GK))


def alike(rewards_GK: Tensor, *, within: Tensor | float = 0.0) -> Tensor:
    """Groups [G] whose rewards differ by nothing that counts: by less than `SHARE` of the mean distance of
    all rewards here from their median, by no more than `NOISE` of their own size, or by `within`, where they
    come from larger terms than themselves. A constant added to all rewards changes nothing but the noise. NaN
    as in `leave_one_out`; a group without any reward is alike."""
    there_GK = ~rewards_GK.isnan()
    most_G = torch.where(there_GK, rewards_GK, -torch.inf).amax(-1)
    least_G = torch.where(there_GK, rewards_GK, torch.inf).amin(-1)
    rounded_G = torch.finfo(rewards_GK.dtype).eps * torch.maximum(most_G.abs(), least_G.abs())
    known = rewards_GK[there_GK]
    spread = (known - known.median()).abs().mean() if len(known) else known.sum()
    return ~(most_G - least_G > NOISE * rounded_G + SHARE * spread + within)


def group_normalised(
    rewards_GK: Tensor, *, scale: bool = True, within: Tensor | float = 0.0
) -> Tensor:
    """GRPO (Shao et al. 2024, section 4.1.2): (r - mean)/std of the group; without `scale` r - mean
    (Dr. GRPO, Liu et al. 2025). A group whose rewards are `alike` gives 0 with either; std is
    unbiased. NaN as in `leave_one_out`."""
    there_GK = ~rewards_GK.isnan()
    known_GK = torch.where(there_GK, rewards_GK, torch.zeros_like(rewards_GK))
    n_G1 = there_GK.sum(-1, keepdim=True)
    mean_G1 = known_GK.sum(-1, keepdim=True) / n_G1.clamp(min=1)
    tells_GK = there_GK & ~alike(rewards_GK, within=within).unsqueeze(-1)
    centred_GK = torch.where(tells_GK, known_GK - mean_G1, torch.zeros_like(known_GK))
    if not scale:
        return centred_GK
    std_G1 = (centred_GK.square().sum(-1, keepdim=True) / (n_G1 - 1).clamp(min=1)).sqrt()
    return torch.where(tells_GK, centred_GK / std_G1, torch.zeros_like(centred_GK))
