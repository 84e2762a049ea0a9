"""The outer loop of RLHF: sample, score, update, again; what PPO, RLOO and GRPO share.

Legend: C continuations, S their tokens, contiguous.

A method says what an answer's tokens were worth (`advantages`) and how the surrogate is formed; the loop
owns rollouts, roles, minibatches, KL control, logging, samples, checkpoints and resume. Everything random
is derived from (seed, step), so a run that was killed goes on to the same bits on one machine's CPU. On CUDA
(`accord.train.optimise`) it goes on as one of the same distribution: rounding may draw another token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from accord.core.rundir import write_jsonl
from accord.core.seeds import derive_seed, rng
from accord.core.types import Prompt
from accord.lm.sample import Sampler
from accord.rewards.compose import Rewards
from accord.train.actors import Actors
from accord.train.experience import Experience, Moments, centred, experience, kl_control
from accord.train.loop import Loop, Progress
from accord.train.method import Advantages, Method
from accord.train.optimise import (
    Optimise,
    adamw,
    batch_items,
    lr_scale,
    one_step,
)  # fmt: skip
from accord.train.rollout import Rollout, roll_out, roll_out_through, sampling

__all__ = ["on_policy"]


def optimiser_settings(cfg: Method, lr: float | None = None) -> Optimise:
    """The settings of one optimiser."""
    return Optimise(
        lr=lr or cfg.lr, schedule=cfg.schedule, warmup=cfg.warmup, batch_size=cfg.batch_size,
        tokens=cfg.tokens, weight_decay=cfg.weight_decay, max_grad_norm=cfg.max_grad_norm,
    )  # fmt: skip


@dataclass
class _State:
    """What moves from step to step beside the weights."""

    beta: float
    moments: Moments
    weights: dict[str, float]  # of the rewards: those of constraints move
    ended: str = ""
    centre: float | None = None  # of the value model's head: set by the first step's scores


def on_policy(
    actors: Actors,
    prompts: Sequence[Prompt],
    rewards: Rewards,
    cfg: Method,
    *,
    seed: int,
    folder: Path,
    run: str = "",
    sampler: Sampler | None = None,
    publish: Callable[[], None] = lambda: None,
    evaluate: Callable[[Rollout], Mapping[str, float]] | None = None,
    held: Sequence[Prompt] = (),
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
) -> str:
    """Train the policy (and value model) of `actors` in place; why it ended before `steps`, or "".

    `sampler` answers instead of the policy's own model (a server that serves the same weights); `publish`
    gives it the weights before each step. `held` prompts are answered every `eval_every` steps and at the
    end; the answers are kept in folder/samples, and `evaluate` says what else is measured on them.
    """
    made = _Run(actors, prompts, rewards, cfg, seed, folder, sampler, publish)
    Loop(folder, cfg.steps, cfg.save_every, cfg.eval_every, run, trackers, on_step).go(
        actors.parameters(), made.policy_optimiser, made.step,
        (lambda done: made.evaluate(done, held, evaluate)) if held else None, made,
    )  # fmt: skip
    return made.ended


class _Run:
    """One run's parts; each step is rollout, experience, update, control."""

    def __init__(
        self, actors: Actors, prompts: Sequence[Prompt], rewards: Rewards, cfg: Method,
        seed: int, folder: Path, sampler: Sampler | None,
        publish: Callable[[], None],
    ) -> None:  # fmt: skip
        self.actors, self.prompts, self.rewards, self.cfg = actors, prompts, rewards, cfg
        self.seed, self.folder, self.sampler = seed, folder, sampler
        self.publish = publish
        self.control = kl_control(cfg.kl)
        self.state = _State(cfg.kl.beta, Moments(), rewards.weights)
        self.policy = optimiser_settings(cfg)
        self.policy_optimiser = adamw(actors.policy.parameters, self.policy)
        self.value = self.value_optimiser = None
        if actors.value:
            self.value = optimiser_settings(cfg, cfg.value_rate())
            self.value_optimiser = adamw(actors.value.parameters, self.value)

    @property
    def ended(self) -> str:
        return self.state.ended

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights and the policy's optimiser."""
        value = self.value_optimiser.state_dict() if self.value_optimiser else None
        return {"state": asdict(self.state), "value_optimiser": value}

    def restore(self, more: Mapping[str, Any]) -> None:
        if not more:
            return
        state = more["state"]
        self.rewards.weights.update(state["weights"])
        self.state = _State(**{
            **state, "moments": Moments(**state["moments"]), "weights": self.rewards.weights,
        })  # fmt: skip
        self.control.beta = self.state.beta
        if self.actors.value and self.actors.value.head and self.state.centre is not None:
            self.actors.value.head.centre.fill_(self.state.centre)
        if self.value_optimiser:
            self.value_optimiser.load_state_dict(more["value_optimiser"])

    def step(self, step: int) -> dict[str, float]:
        """One step: what it measured."""
        cfg = self.cfg
        torch.manual_seed(derive_seed(self.seed, "step", step))  # dropout
        both = (self.policy, self.policy_optimiser), (self.value, self.value_optimiser)
        for made, optimiser in both:
            for group in optimiser.param_groups if optimiser and made else ():
                group["lr"] = made.lr * lr_scale(step, cfg.steps, made)
        chosen = batch_items(len(self.prompts), step, self.policy, self.seed)
        rollout = self._rollout([self.prompts[i] for i in chosen], step)
        moments = self.state.moments if cfg.scale_rewards else None
        found = experience(
            self.actors, rollout, self.rewards, tokens=cfg.tokens, missing_eos=cfg.missing_eos,
            moments=moments,
        )  # fmt: skip
        if self.state.centre is None and self.actors.value:
            found, self.state.centre = centred(found, self.actors.value.head)
        row = {**found.facts, "beta": self.state.beta}
        if cfg.kl.budget is not None and found.facts["kl"] >= cfg.kl.budget:
            reached = f"the KL budget of {cfg.kl.budget:g} nats per sequence was reached"
            self.state.ended = f"{reached} at step {step + 1}, which made no update"
            return row  # what is saved is the policy that was measured
        worth = cfg.advantages(found, self.state.beta)
        row |= {**worth.facts, **self._update(found, worth, step)}
        row |= {f"weight/{k}": w for k, w in self.rewards.adapt(found.scored).items()}
        self.state.beta = self.control.update(found.facts["kl"], len(found.lengths))
        return row

    def _rollout(self, prompts: Sequence[Prompt], step: int) -> Rollout:
        how = sampling(self.cfg, derive_seed(self.seed, "rollout", step))
        if self.sampler:
            self.publish()
            tokenizer, room = self.actors.lm.tokenizer, self.actors.positions()
            return roll_out_through(self.sampler, tokenizer, prompts, how, positions=room)
        with self.actors.policy.playing():
            return roll_out(self.actors.lm, prompts, how, batch_size=self.cfg.rollout_batch)

    def _update(self, found: Experience, worth: Advantages, step: int) -> dict[str, float]:
        """Minibatches over the rollout's trees; the mean of what each measured."""
        cfg, rows = self.cfg, []
        gaps: list[float] = []  # the largest |ratio - 1| of each micro-batch
        first: dict[str, float] = {}
        policy = cfg.objective(self.actors, found, worth, self.state.beta, gaps)
        objectives = [(policy, self.actors.policy, self.policy_optimiser, self.policy)]
        if self.actors.value and self.value_optimiser and self.value:
            value = cfg.value_objective(self.actors, found, worth)
            objectives.append((value, self.actors.value, self.value_optimiser, self.value))
        for part in self._minibatches(len(found.rollout.trees), step):
            row: dict[str, float] = {}
            for objective, actor, optimiser, settings in objectives:
                items = [i for i in part if objective.counts[i]]  # the rest has nothing to teach
                if not items:
                    continue
                told = one_step(
                    actor.parameters, objective, optimiser, items, settings, self.folder
                )
                prefix = "" if actor is self.actors.policy else "value_"
                row |= {f"{prefix}{name}": x for name, x in told.items()}
            if row:
                rows.append(row)
            if gaps and not first:
                first = {"first_ratio_gap": max(gaps)}
            if cfg.stop_kl is not None and row.get("approx_kl", 0.0) > cfg.stop_kl:
                break
        names = {name for row in rows for name in row}
        means = {n: _mean([row[n] for row in rows if n in row]) for n in sorted(names)}
        return means | first | {"minibatches": float(len(rows))}

    def _minibatches(self, n: int, step: int) -> list[list[int]]:
        found = []
        for epoch in range(self.cfg.epochs):
            order = list(range(n))
            rng(self.seed, "minibatch", step, epoch).shuffle(order)
            size = self.cfg.minibatch
            found += [order[at : at + size] for at in range(0, n, size)]
        return found

    def evaluate(
        self, done: int, held: Sequence[Prompt],
        measure: Callable[[Rollout], Mapping[str, float]] | None,
    ) -> dict[str, float]:  # fmt: skip
        """Answers to the held-out prompts: their rewards, and what `measure` says of them."""
        how = sampling(self.cfg, derive_seed(self.seed, "eval"), n=1)
        with self.actors.policy.playing():
            made = roll_out(self.actors.lm, held, how, batch_size=self.cfg.rollout_batch)
        scored = self.rewards(made.exchanges)
        rows = [
            {
                "step": done, "prompt": e.prompt.last, "response": e.response.text,
                "finish": e.response.finish, "reward": None if math.isnan(total) else total,
                "parts": {k: None if math.isnan(x[i]) else x[i] for k, x in scored.parts.items()},
            }
            for i, (e, total) in enumerate(zip(made.exchanges, scored.total, strict=True))
        ]  # fmt: skip
        (self.folder / "samples").mkdir(exist_ok=True)
        write_jsonl(self.folder / "samples" / f"{done:05d}.jsonl", rows)
        told = {f"dropped/{label}": float(n) for label, n in scored.dropped.items()}
        told |= {f"cut/{label}": share for label, share in scored.cut.items()}
        known = [x for x in scored.total if not math.isnan(x)]
        told |= {"reward": _mean(known)} if known else {}
        return told | dict(measure(made) if measure else {})


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
