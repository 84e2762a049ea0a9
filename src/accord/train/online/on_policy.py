"""The outer loop of RLHF: sample, score, update, again; what PPO, RLOO and GRPO share.

Legend: C continuations, S their tokens, contiguous.

A method says what an answer's tokens were worth (`advantages`) and how the surrogate is formed; the loop
owns rollouts, roles, minibatches, KL control, logging, samples, checkpoints and resume. Everything random
is derived from (seed, step), so a run that was killed goes on to the same bits on one machine's CPU. On CUDA
(`accord.train.loop.optimise`) it goes on as one of the same distribution: rounding may draw another token.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from accord.core.seeds import rng
from accord.core.types import Prompt
from accord.lm.sampler import Sampler
from accord.rewards.compose import Rewards
from accord.train.loop import dist
from accord.train.loop.loop import Evaluate, Loop, Progress
from accord.train.loop.optimise import (
    Optimise,
    adamw,
    batch_items,
    lr_scale,
    one_step,
)  # fmt: skip
from accord.train.online.actors import Actor, Actors
from accord.train.online.experience import Experience, Moments, centred, experience_of, kl_control
from accord.train.online.guarded import Guard, keep_weights, put_back
from accord.train.online.method import Advantages, Method
from accord.train.online.rollout import Rollout, roll_out, roll_out_through, sampling

__all__ = ["on_policy"]


@dataclass
class _State:
    """What moves from step to step beside the weights."""

    beta: float
    moments: Moments
    weights: dict[str, float]  # of the rewards: those of constraints move
    ended: str = ""
    centre: float | None = None  # of the value model's head: set by the first step's scores


@dataclass(frozen=True)
class _Learner:
    """A network that trains, and what its metrics begin with."""

    actor: Actor
    settings: Optimise
    optimiser: torch.optim.AdamW
    prefix: str = ""


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
    measured: Evaluate | None = None,
    guard: Guard | None = None,
    trackers: Sequence[str] = (),
    on_step: Progress | None = None,
) -> str:
    """Train the policy (and value model) of `actors` in place; why it ended before `steps`, or "".

    `sampler` answers instead of the policy's own model (a server that serves the same weights); `publish`
    gives it the weights before each step. `measured` is asked every `eval_every` steps and at the end,
    `guard` is shown every step's answers.
    """
    training = _Run(actors, prompts, rewards, cfg, seed, folder, sampler, publish, guard)
    optimiser = training.learners[0].optimiser
    loop = Loop(folder, cfg.steps, cfg.save_every, cfg.eval_every, run, trackers, on_step)
    loop.go(actors.parameters(), optimiser, training.step, measured, training)
    return training.ended


class _Run:
    """One run's parts; each step is rollout, experience, update, control."""

    def __init__(
        self, actors: Actors, prompts: Sequence[Prompt], rewards: Rewards, cfg: Method,
        seed: int, folder: Path, sampler: Sampler | None, publish: Callable[[], None],
        guard: Guard | None = None,
    ) -> None:  # fmt: skip
        self.actors, self.prompts, self.rewards, self.cfg = actors, prompts, rewards, cfg
        self.seed, self.folder, self.sampler, self.publish = seed, folder, sampler, publish
        self.guard, self.control = guard, kl_control(cfg.kl)
        self.state = _State(cfg.kl.beta, Moments(), rewards.weights)
        self.learners = [_learner(actors.policy, cfg, cfg.lr)]
        if actors.value:
            self.learners.append(_learner(actors.value, cfg, cfg.value_rate(), "value_"))

    @property
    def ended(self) -> str:
        return self.state.ended

    def saved(self) -> dict[str, Any]:
        """What a checkpoint holds beside weights and the policy's optimiser."""
        value = self.learners[1].optimiser.state_dict() if self.actors.value else None
        guard = {"guard": self.guard.saved()} if self.guard else {}
        return {"state": asdict(self.state), "value_optimiser": value, **guard}

    def restore(self, saved: Mapping[str, Any]) -> None:
        if not saved:
            return
        state = saved["state"]
        self.rewards.weights.update(state["weights"])
        self.state = _State(**{
            **state, "moments": Moments(**state["moments"]), "weights": self.rewards.weights,
        })  # fmt: skip
        self.control.beta = self.state.beta
        if self.guard:
            self.guard.restore(saved.get("guard", {}))
        value = self.actors.value
        if value and value.head and self.state.centre is not None:
            value.head.centre.fill_(self.state.centre)
        if value:
            self.learners[1].optimiser.load_state_dict(saved["value_optimiser"])

    def step(self, step: int) -> dict[str, float]:
        """One step: what it measured."""
        cfg = self.cfg
        torch.manual_seed(dist.seed(self.seed, "step", step))  # dropout
        for one in self.learners:
            for group in one.optimiser.param_groups:
                group["lr"] = one.settings.lr * lr_scale(step, cfg.steps, one.settings)
        rollout = self._rollout(step)
        moments = self.state.moments if cfg.scale_rewards else None
        experience = experience_of(
            self.actors, rollout, self.rewards, tokens=cfg.tokens, missing_eos=cfg.missing_eos,
            moments=moments,
        )  # fmt: skip
        if self.state.centre is None and self.actors.value and cfg.values_are_scores():
            experience, self.state.centre = centred(experience, self.actors.value.head)
        row = {**experience.facts, "beta": self.state.beta}
        if cfg.kl.budget is not None and experience.facts["kl"] >= cfg.kl.budget:
            reached = f"the KL budget of {cfg.kl.budget:g} nats per sequence was reached"
            self.state.ended = f"{reached} at step {step + 1}, which made no update"
            return row  # what is saved is the policy that was measured
        row |= self._looked(experience, step)
        if self.state.ended:
            return row
        worth = cfg.advantages(experience, self.state.beta)
        row |= {**worth.facts, **self._update(experience, worth, step)}
        row |= {f"weight/{k}": w for k, w in self._adapted(experience).items()}
        answers = sum(dist.everyone_s(len(experience.lengths)))
        self.state.beta = self.control.update(experience.facts["kl"], answers)
        return row

    def _looked(self, experience: Experience, step: int) -> dict[str, float]:
        """Show the guard this step's answers, and do as it says; what it tells the log."""
        if not self.guard:
            return {}
        shown = dist.everyone_s((experience.rollout.exchanges, experience.score_C.tolist()))
        exchanges = [e for answers, _ in shown for e in answers]
        scores = [x for _, own in shown for x in own]
        look = self.guard.see(step, exchanges, scores, experience.facts["kl"])
        if look is None:
            return {}
        if self.guard.rolls_back and (look.state == "good" or step == 0):
            keep_weights(self.folder, self.actors.parameters(), step)
        if look.state == "rollback":
            back = put_back(self.folder, self.actors.parameters())
            self.state.ended = f"{look.text}; the policy is that after step {back}"
        self.state.beta *= look.beta
        self.control.beta = self.state.beta
        return dict(look.facts)

    def _adapted(self, experience: Experience) -> dict[str, float]:
        """Move the weights of constraints, and the values with them: a value model that lags behind calls
        every answer better, or worse, than it is (see `centred`)."""
        before = dict(self.rewards.weights)
        moved = self.rewards.adapt(experience.scored_by_all())
        value = self.actors.value
        if moved and value and value.head and self.state.centre is not None:
            rise = sum((w - before[k]) * experience.facts[f"reward/{k}"] for k, w in moved.items())
            value.head.centre -= rise / (self.state.moments.std if self.cfg.scale_rewards else 1.0)
            self.state.centre = float(value.head.centre)
        return moved

    def _rollout(self, step: int) -> Rollout:
        """This process's share of the step's prompts, answered."""
        batch = batch_items(len(self.prompts), step, self.learners[0].settings, self.seed)
        prompts = [self.prompts[i] for i in dist.share(batch)]
        how = sampling(self.cfg, dist.seed(self.seed, "rollout", step))
        if self.sampler:
            self.publish()
            tokenizer, room = self.actors.lm.tokenizer, self.actors.positions()
            return roll_out_through(self.sampler, tokenizer, prompts, how, positions=room)
        with self.actors.policy.playing():
            return roll_out(self.actors.lm, prompts, how, batch_size=self.cfg.rollout_batch)

    def _update(self, experience: Experience, worth: Advantages, step: int) -> dict[str, float]:
        """Minibatches over the rollout's trees; the mean of what each measured."""
        cfg, rows = self.cfg, []
        gaps: list[float] = []  # the largest |ratio - 1| of each micro-batch
        first: dict[str, float] = {}
        objectives = [cfg.objective(self.actors, experience, worth, self.state.beta, gaps)]
        if self.actors.value:
            objectives.append(cfg.value_objective(self.actors, experience, worth))
        for part in self._minibatches(len(experience.rollout.trees), step):
            row: dict[str, float] = {}
            for objective, one in zip(objectives, self.learners, strict=True):
                items = [i for i in part if objective.counts[i]]  # the rest has nothing to teach
                if not any(dist.everyone_s(bool(items))):
                    continue
                logged = one_step(
                    one.actor.parameters, objective, one.optimiser, items, one.settings, self.folder
                )
                row |= {f"{one.prefix}{name}": x for name, x in logged.items()}
            if row:
                rows.append(row)
            if not first and (seen := [x for some in dist.everyone_s(gaps) for x in some]):
                first = {"first_ratio_gap": max(seen)}
            if cfg.stop_kl is not None and row.get("approx_kl", 0.0) > cfg.stop_kl:
                break
        names = {name for row in rows for name in row}
        means = {n: _mean([row[n] for row in rows if n in row]) for n in sorted(names)}
        return means | first | {"minibatches": float(len(rows))}

    def _minibatches(self, n: int, step: int) -> list[list[int]]:
        """This process's trees, minibatch by minibatch; all processes have equally many, the last may be
        empty."""
        batches, size = [], -(-self.cfg.minibatch // dist.size())
        most = dist.most(-(-n // size))
        for epoch in range(self.cfg.epochs):
            order = list(range(n))
            rng(self.seed, "minibatch", step, epoch).shuffle(order)
            batches += [order[at * size : (at + 1) * size] for at in range(most)]
        return batches


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _learner(actor: Actor, cfg: Method, lr: float, prefix: str = "") -> _Learner:
    settings = Optimise(
        lr=lr, schedule=cfg.schedule, warmup=cfg.warmup, batch_size=cfg.batch_size,
        tokens=cfg.tokens, weight_decay=cfg.weight_decay, max_grad_norm=cfg.max_grad_norm,
    )  # fmt: skip
    return _Learner(actor, settings, adamw(actor.parameters, settings), prefix)
