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
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.core.rundir import MetricsLog, write_jsonl
from accord.core.seeds import derive_seed, rng
from accord.core.types import Prompt
from accord.lm.sampler import Sampler
from accord.lm.trees.engine import ContinuationLogps
from accord.losses import clipped, kl_estimate, rounding, sequence_ratio
from accord.rewards.compose import Rewards
from accord.train.actors import Actors
from accord.train.checkpoint import load_checkpoint, save_checkpoint
from accord.train.experience import Experience, Moments, centred, experience, kl_control
from accord.train.optimise import (
    Objective,
    Optimise,
    Progress,
    Sums,
    adamw,
    batch_items,
    check_finite,
    lr_scale,
    one_step,
)  # fmt: skip
from accord.train.rollout import Rollout, roll_out, roll_out_through, sampling
from accord.train.settings import OnPolicy, Ratio, TokenAverage
from accord.train.trackers import tracking

__all__ = ["Advantages", "Method", "Surrogate", "on_policy"]


def optimiser_settings(cfg: OnPolicy, lr: float | None = None) -> Optimise:
    """The settings of one optimiser."""
    return Optimise(
        lr=lr or cfg.lr, schedule=cfg.schedule, warmup=cfg.warmup, batch_size=cfg.batch_size,
        tokens=cfg.tokens, weight_decay=cfg.weight_decay, max_grad_norm=cfg.max_grad_norm,
    )  # fmt: skip


@dataclass(frozen=True)
class Advantages:
    """What each token was worth [S]; returns_S are the value model's targets."""

    advantages_S: Tensor
    returns_S: Tensor | None = None
    facts: Mapping[str, float] = field(default_factory=dict)


Surrogate = Callable[[Tensor, Tensor, Tensor], Tensor]  # new, old, A -> loss_S


@dataclass(frozen=True)
class Method:
    """advantages: experience and β -> what tokens were worth. surrogate: the policy loss [S].
    average: over what a loss is a mean. token: all tokens. sequence: answers, each the mean of its tokens.
    sum: answers, each the sum of its tokens. constant: the same divided by max_new_tokens.
    ratio: of new to old probability, of each token or of its whole answer (GSPO).
    kl_loss: β times k2 is part of the loss instead of the reward.
    value_loss: (values, old values, returns) -> loss [S], for a method with a value model.
    objective: in place of the surrogate, for a method that learns from whole answers: what is optimised
    over the rollout's trees, given actors and experience."""

    name: str
    advantages: Callable[[Experience, float], Advantages]
    surrogate: Surrogate | None = None
    average: TokenAverage = "token"
    ratio: Ratio = "token"
    kl_loss: bool = False
    value_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    value_lr: float | None = None
    objective: Callable[[Actors, Experience], Objective] | None = None


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
    cfg: OnPolicy,
    method: Method,
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
    folder.mkdir(parents=True, exist_ok=True)
    made = _Loop(actors, prompts, rewards, cfg, method, seed, folder, sampler, publish)
    parameters = actors.parameters()
    more: dict[str, Any] = {}
    start = load_checkpoint(folder, parameters, made.policy_optimiser, run, more)
    made.restore(more)
    log = MetricsLog(folder / "metrics.jsonl", start)

    def due(done: int) -> bool:
        last = done == cfg.steps or bool(made.state.ended)
        return bool(held) and (last or bool(cfg.eval_every and done % cfg.eval_every == 0))

    def save(done: int) -> None:
        save_checkpoint(folder, parameters, made.policy_optimiser, done, run, made.saved())

    for owed in log.rows()[-1:] if due(start) else ():  # what measuring ran into is over
        if not any(name.startswith("eval/") for name in owed):
            owed |= made.evaluate(owed.pop("step"), held, evaluate)
            log = MetricsLog(folder / "metrics.jsonl", start - 1)
            log.add(start, owed)
    with tracking(trackers, folder.name, folder) as track:
        for step in range(start, cfg.steps):
            if made.state.ended:
                break
            row = made.step(step)
            done = step + 1
            last = done == cfg.steps or bool(made.state.ended)
            if due(done):
                try:
                    row |= made.evaluate(done, held, evaluate)
                except BaseException:  # what was trained is kept, whatever measuring runs into
                    log.add(done, row)
                    save(done)
                    raise
            check_finite(row, f"{folder} step {done}", "lower lr; the last checkpoint is kept")
            log.add(done, row)
            track(done, row)
            if done % cfg.save_every == 0 or last:
                save(done)
            if on_step:
                on_step(done, cfg.steps, row)
    return made.state.ended


class _Loop:
    """One run's parts; each step is rollout, experience, update, control."""

    def __init__(
        self, actors: Actors, prompts: Sequence[Prompt], rewards: Rewards, cfg: OnPolicy,
        method: Method, seed: int, folder: Path, sampler: Sampler | None,
        publish: Callable[[], None],
    ) -> None:  # fmt: skip
        self.actors, self.prompts, self.rewards, self.cfg = actors, prompts, rewards, cfg
        self.method, self.seed, self.folder, self.sampler = method, seed, folder, sampler
        self.publish = publish
        self.control = kl_control(cfg.kl)
        self.state = _State(cfg.kl.beta, Moments(), rewards.weights)
        self.policy = optimiser_settings(cfg)
        self.policy_optimiser = adamw(actors.policy.parameters, self.policy)
        self.value = self.value_optimiser = None
        if actors.value:
            self.value = optimiser_settings(cfg, method.value_lr)
            self.value_optimiser = adamw(actors.value.parameters, self.value)

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
        worth = self.method.advantages(found, self.state.beta)
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
        if self.method.objective:
            policy = self.method.objective(self.actors, found)
        else:
            policy = policy_objective(
                self.actors, found, worth, cfg, self.method, self.state.beta, gaps
            )
        objectives = [(policy, self.actors.policy, self.policy_optimiser, self.policy)]
        if self.actors.value and self.value_optimiser and self.value:
            value = value_objective(self.actors, found, worth, self.method)
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
        told = {f"eval/dropped/{label}": float(n) for label, n in scored.dropped.items()}
        told |= {f"eval/cut/{label}": share for label, share in scored.cut.items()}
        known = [x for x in scored.total if not math.isnan(x)]
        told |= {"eval/reward": _mean(known)} if known else {}
        return told | {f"eval/{k}": x for k, x in (measure(made) if measure else {}).items()}


def policy_objective(
    actors: Actors, found: Experience, worth: Advantages, cfg: OnPolicy, method: Method, beta: float,
    gaps: list[float],
) -> Objective:  # fmt: skip
    """The surrogate over the rollout's trees. Answers without a score weigh nothing and count nothing.
    `gaps` is told the largest |ratio - 1| of each micro-batch."""
    trees, lengths = found.rollout.trees, found.lengths
    noise = float(rounding(found.old_S, found.reference_S))  # no KL: Adam would make a step of it
    kept_C = found.kept_C.float()
    one_C = torch.ones(len(lengths))
    per_C = {"token": one_C, "sum": one_C, "sequence": 1.0 / torch.tensor(lengths),
             "constant": torch.full((len(lengths),), 1.0 / cfg.max_new_tokens)}[method.average]  # fmt: skip
    weight_S = (kept_C * per_C).repeat_interleave(torch.tensor(lengths))
    counts_S = kept_C.repeat_interleave(torch.tensor(lengths))
    columns = torch.stack([found.old_S, found.reference_S, worth.advantages_S, weight_S, counts_S])
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
        assert method.surrogate
        new_S = out.tokens_S
        if method.ratio == "sequence":
            new_S = sequence_ratio(new_S, old_S, out.lengths)
        loss_S = method.surrogate(new_S, old_S, a_S)
        if method.kl_loss and beta:
            k2_S = kl_estimate(out.tokens_S, ref_S, estimator="k2")
            loss_S = loss_S + beta * k2_S.where((out.tokens_S - ref_S).abs() > noise, 0.0)
        if cfg.entropy:
            assert out.entropy_S is not None
            loss_S = loss_S - cfg.entropy * out.entropy_S
        held_S = clipped(new_S, old_S, a_S, clip=cfg.clip_ratio, clip_high=cfg.clip_ratio_high)
        return (loss_S * w_S).sum(), _watched(out, old_S, held_S, count_S, gaps)

    counts = tokens if method.average == "token" else sequences
    return Objective([tree.tokens for tree in trees], counts, loss)


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
    actors: Actors, found: Experience, worth: Advantages, method: Method
) -> Objective:
    """The value model's loss over the same trees, a mean over tokens."""
    assert actors.value
    assert found.values_S is not None
    assert worth.returns_S is not None
    assert method.value_loss is not None
    value, value_loss, trees = actors.value, method.value_loss, found.rollout.trees
    sizes = [sum(map(len, tree.completions)) for tree in trees]
    kept_S = found.kept_C.float().repeat_interleave(torch.tensor(found.lengths))
    by_tree = torch.stack([found.values_S, worth.returns_S, kept_S]).split(sizes, dim=1)

    def loss(items: Sequence[int]) -> tuple[Tensor, Sums]:
        with value.playing():
            now_S, _ = value.values([trees[i] for i in items])
        old_S, returns_S, kept = torch.cat([by_tree[i] for i in items], 1).to(now_S.device)
        return (value_loss(now_S, old_S, returns_S) * kept).sum(), {}

    counts = [float(x[2].sum()) for x in by_tree]
    return Objective([tree.tokens for tree in trees], counts, loss)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
