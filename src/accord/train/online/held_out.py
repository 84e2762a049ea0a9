"""Held-out prompts answered by a policy in training: their rewards, and the answers kept as samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from accord.core.rundir import write_jsonl
from accord.core.seeds import derive_seed
from accord.core.types import Prompt
from accord.rewards.compose import Rewards
from accord.train.loop import dist
from accord.train.online.actors import Actors
from accord.train.online.method import Method
from accord.train.online.rollout import Rollout, roll_out, sampling

__all__ = ["answer_held"]


def answer_held(
    actors: Actors,
    rewards: Rewards,
    cfg: Method,
    seed: int,
    folder: Path,
    held: Sequence[Prompt],
    measure: Callable[[Rollout], Mapping[str, float]] | None,
) -> Callable[[int], dict[str, float]]:
    """What measures a policy after so many steps; `measure` says what else is told of the answers."""
    how = sampling(cfg, derive_seed(seed, "eval"), n=1)

    def evaluate(done: int) -> dict[str, float]:
        with actors.policy.playing():
            rollout = roll_out(actors.lm, held, how, batch_size=cfg.rollout_batch)
        scored = rewards(rollout.exchanges)
        rows = [
            {
                "step": done, "prompt": e.prompt.last, "response": e.response.text,
                "finish": e.response.finish, "reward": None if math.isnan(total) else total,
                "parts": {k: None if math.isnan(x[i]) else x[i] for k, x in scored.parts.items()},
            }
            for i, (e, total) in enumerate(zip(rollout.exchanges, scored.total, strict=True))
        ]  # fmt: skip
        if dist.first():
            (folder / "samples").mkdir(exist_ok=True)
            write_jsonl(folder / "samples" / f"{done:05d}.jsonl", rows)
        metrics = {f"dropped/{label}": float(n) for label, n in scored.dropped.items()}
        metrics |= {f"cut/{label}": share for label, share in scored.cut.items()}
        known = [x for x in scored.total if not math.isnan(x)]
        metrics |= {"reward": sum(known) / len(known)} if known else {}
        return metrics | dict(measure(rollout) if measure else {})

    return evaluate
