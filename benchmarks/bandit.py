"""On a finite set of answers everything is known: do PPO, RLOO, GRPO and DPO reach π_ref·exp(r/β)/Z?

    python -m benchmarks.bandit --seeds 0 1 2

A policy is a table of logits over prompts × answers, trained by accord's own losses and baselines on sampled
answers (DPO: on all pairs, weighted by their true probabilities). Printed: total variation from the closed
form, a mean over prompts. GRPO without the division by the group's standard deviation: with it the optimum
is that of β·std, another one. Exits with 1 when a distance is above 0.02.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from accord.losses import (
    PairLogps,
    gae,
    get_preference_loss,
    group_normalised,
    kl_estimate,
    leave_one_out,
    ppo_clip,
    soft,
    value_clip,
    whiten,
)
from benchmarks.quiet import alone

PROMPTS, ANSWERS, BETA = 4, 12, 0.5
SAMPLES, STEPS, LR = 256, 400, 0.1  # answers to each prompt a step
LIMIT = 0.02


def world(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Reference log-probs, rewards and the optimum's probabilities, each [prompts, answers]."""
    generator = torch.Generator().manual_seed(seed)
    ref = torch.randn(PROMPTS, ANSWERS, generator=generator).log_softmax(-1)
    reward = torch.randn(PROMPTS, ANSWERS, generator=generator)
    return ref, reward, (ref + reward / BETA).softmax(-1)


def on_samples(
    seed: int,
    advantages: Callable[..., Tensor],
    *,
    kl_loss: bool,
    epochs: int,
    valued: bool = False,
) -> Tensor:
    """A policy after STEPS of sampling and updating; its probabilities."""
    ref, reward, _ = world(seed)
    logits = ref.clone().requires_grad_(True)
    values = torch.zeros(PROMPTS, requires_grad=True)
    optimiser = torch.optim.Adam([logits, values], lr=LR)
    generator = torch.Generator().manual_seed(seed + 1000)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LR * (1 - step / STEPS)
        with torch.no_grad():
            old_all = logits.log_softmax(-1)
            taken = torch.multinomial(old_all.exp(), SAMPLES, True, generator=generator)
            old, at_ref, r = (x.gather(1, taken) for x in (old_all, ref, reward))
            v_old = values.detach().clone()[:, None].expand_as(r)
            worth, returns = advantages(r, kl_estimate(old, at_ref), v_old)
        for _ in range(epochs):
            new = logits.log_softmax(-1).gather(1, taken)
            loss = ppo_clip(new, old, worth, clip=0.2)
            if kl_loss:
                loss = loss + BETA * kl_estimate(new, at_ref, estimator="k2")
            total = loss.mean()
            if valued:
                v = values[:, None].expand_as(r)
                total = total + value_clip(v, v_old, returns, clip=None).mean()
            optimiser.zero_grad()
            total.backward()
            optimiser.step()
    return logits.detach().softmax(-1)


def ppo_worth(r: Tensor, kl: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    a = gae((r - BETA * kl)[..., None], v[..., None], gamma=1.0, lam=0.95)[..., 0]
    return whiten(a), a + v


def rloo_worth(r: Tensor, kl: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return leave_one_out(r - BETA * kl), v


def grpo_worth(r: Tensor, kl: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return group_normalised(r, scale=False), v


def dpo(seed: int) -> Tensor:
    """DPO on all pairs of answers, each weighted by P(better) under Bradley-Terry."""
    ref, reward, _ = world(seed)
    logits = ref.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([logits], lr=LR)
    i, j = torch.triu_indices(ANSWERS, ANSWERS, 1)
    p = torch.sigmoid(reward[:, i] - reward[:, j]).flatten()
    loss = get_preference_loss("dpo", beta=BETA)
    for step in range(STEPS):
        for group in optimiser.param_groups:
            group["lr"] = LR * (1 - step / STEPS)
        logp = logits.log_softmax(-1)
        sides = [x[:, k].flatten() for x in (logp, ref) for k in (i, j)]
        pairs = PairLogps(*sides, torch.ones_like(p), torch.ones_like(p))
        optimiser.zero_grad()
        soft(loss, pairs, p).mean().backward()
        optimiser.step()
    return logits.detach().softmax(-1)


METHODS: dict[str, Callable[[int], Tensor]] = {
    "PPO": lambda s: on_samples(s, ppo_worth, kl_loss=False, epochs=4, valued=True),
    "RLOO": lambda s: on_samples(s, rloo_worth, kl_loss=False, epochs=1),
    "GRPO": lambda s: on_samples(s, grpo_worth, kl_loss=True, epochs=2),
    "DPO": dpo,
}


def distance(seed: int, found: Tensor) -> float:
    """Total variation from the optimum, a mean over prompts."""
    return float((found - world(seed)[2]).abs().sum(-1).mean() / 2)


def main() -> None:
    """Print every method's distance for every seed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    print(f"{alone()}\n")
    print("| method | " + " | ".join(f"seed {s}" for s in args.seeds) + " |")
    print("|---|" + "---|" * len(args.seeds))
    print(
        "| reference | "
        + " | ".join(f"{distance(s, world(s)[0].exp()):.3f}" for s in args.seeds)
        + " |"
    )
    worst = 0.0
    for name, train in METHODS.items():
        found = [distance(s, train(s)) for s in args.seeds]
        worst = max(worst, *found)
        print(f"| {name} | " + " | ".join(f"{x:.4f}" for x in found) + " |", flush=True)
    sys.exit(int(worst > LIMIT))


if __name__ == "__main__":
    main()
