"""A prompt's answers beside each other: what the baselines of RLOO and GRPO are taken from, best and worst.

Legend: C continuations, S their tokens, G prompts, K answers to each, padded with NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from accord.losses import alike
from accord.train.loop import dist
from accord.train.online.experience import Experience
from accord.train.online.method import Advantages

__all__ = ["by_answer", "by_prompt", "gaps", "groups", "noises", "ranked"]


def by_prompt(values_C: Tensor, experience: Experience) -> tuple[Tensor, ...]:
    """Values of answers, cut into one tensor a prompt."""
    parts: tuple[Tensor, ...] = values_C.split(
        [len(t.completions) for t in experience.rollout.trees]
    )
    return parts


def groups(values_C: Tensor, experience: Experience) -> tuple[Tensor, Tensor]:
    """Values [G, K] by prompt, NaN where a group is smaller, and the mask of what is there."""
    parts = by_prompt(values_C, experience)
    out_GK = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True, padding_value=torch.nan)
    sizes = torch.tensor([len(part) for part in parts])
    return out_GK, torch.arange(out_GK.shape[1])[None] < sizes[:, None]


def noises(experience: Experience) -> Tensor:
    """What of the differences within each group [G] may be the rewards' own noise."""
    return groups(experience.noise_C, experience)[0].nan_to_num(0.0).amax(-1)


def by_answer(a_C: Tensor, score_GK: Tensor, experience: Experience, noise: Tensor) -> Advantages:
    """Advantages of whole answers: each token has its answer's. `noise`: what of a score is none of it."""
    alike_G, all_C = (
        dist.values_of_all(x) for x in (alike(score_GK, within=noise).float(), a_C.abs())
    )
    facts = {"silent_groups": float(alike_G.mean()), "advantage_abs": float(all_C.mean())}
    return Advantages(a_C.repeat_interleave(torch.tensor(experience.lengths)), facts=facts)


def ranked(experience: Experience) -> list[tuple[int, int] | None]:
    """(best, worst) answer of each prompt, the first of equals; None where the scores are `alike`."""
    score_GK, _ = groups(experience.score_C, experience)
    return [
        None if silent else (int(best), int(worst))
        for silent, best, worst in zip(
            alike(score_GK, within=noises(experience)),
            score_GK.nan_to_num(-torch.inf).argmax(-1),
            score_GK.nan_to_num(torch.inf).argmin(-1),
            strict=True,
        )
    ]


def gaps(experience: Experience) -> Advantages:
    """How far best and worst are apart; no token has an advantage."""
    places = ranked(experience)
    mine = [
        float(x[p[0]] - x[p[1]])
        for x, p in zip(by_prompt(experience.score_C, experience), places, strict=True)
        if p
    ]
    apart = [x for part in dist.everyone_s(mine) for x in part]
    prompts = dist.total(len(places))
    facts = {"silent_groups": (prompts - len(apart)) / prompts}
    if apart:
        facts["score_gap"] = sum(apart) / len(apart)
    return Advantages(torch.zeros_like(experience.old_S), facts=facts)
