"""What is known of a rollout before the update: log-probs, values, rewards, as they were.

Legend: C continuations, S their tokens, contiguous; T the longest continuation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from accord.core.errors import RunError
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.trees.score import token_logps
from accord.lm.trees.tree import Tree
from accord.losses import NOISE, AdaptiveKL, FixedKL, kl_estimate
from accord.losses.kl import KLEstimator
from accord.rewards.compose import Rewards, ScoredExchanges
from accord.train.loop import dist
from accord.train.online.actors import Actors
from accord.train.online.rollout import Rollout
from accord.train.settings import Kl, MissingEos

__all__ = [
    "APART",
    "Experience",
    "Moments",
    "centred",
    "cut_notes",
    "cut_off",
    "experience_of",
    "kl_control",
    "padded",
    "sampler_notes",
    "unpadded",
]

EPS = torch.finfo(torch.float32).eps
APART = 0.1
"""Mean gap (nats per token) above which a server is taken to serve other weights than the policy's. The same
weights in bf16 are 0.03 off (SmolLM2-135M)."""
UNKNOWN = {
    "untold": "the server told no log-probs",
    "unmatched": "the server's tokens are not the policy's",
}
LEFT_OUT = (
    "of the server's answers can't be trained on and are left out: empty, longer than the model's positions, "
    "or ended by a filter, a tool call or an abort"
)


def kl_control(kl: Kl) -> FixedKL | AdaptiveKL:
    """What moves β."""
    if kl.control == "fixed":
        return FixedKL(kl.beta)
    return AdaptiveKL(kl.beta, kl.target, kl.horizon)


def cut_off(score_C: Tensor, ended_C: Tensor, how: MissingEos) -> Tensor:
    """Scores with what answers that did not end by themselves pay for it; 0 where they are paid none."""
    cut_C = {
        "leave": score_C, "penalty": score_C - how.value, "score": 0 * score_C + how.value,
        "bootstrap": 0 * score_C,
    }[how.treatment]  # fmt: skip
    return torch.where(ended_C, score_C, cut_C)


@dataclass
class Moments:
    """Running mean and variance (Welford), kept over a run and in its checkpoints."""

    n: float = 0.0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: Sequence[float]) -> None:
        for x in values:
            self.n += 1.0
            before = x - self.mean
            self.mean += before / self.n
            self.squares += before * (x - self.mean)

    @property
    def std(self) -> float:
        """Standard deviation; 1 while it is unknown or nothing varies but a reward model's own noise."""
        std = math.sqrt(self.squares / self.n) if self.n > 1 else 0.0
        return std if std > max(1e-8, NOISE * EPS * abs(self.mean)) else 1.0


@dataclass(frozen=True)
class Experience:
    """score_C: what the update is paid (the rewards' total after missing-EOS treatment and scaling), NaN
    where left out.
    old_S, reference_S: log-probs; values_S, after_C: V before each token, and after the last.
    states_SH: the policy's states that values_S were read from, where its head stands on them.
    bootstrap: cut-off answers are paid no score, the value after them stands for it.
    size_C: the sizes of the terms of a score, added up (its own where nothing is told)."""

    rollout: Rollout
    scored: ScoredExchanges
    score_C: Tensor
    old_S: Tensor
    reference_S: Tensor
    values_S: Tensor | None = None
    after_C: Tensor | None = None
    states_SH: Tensor | None = None
    facts: dict[str, float] = field(default_factory=dict)
    bootstrap: bool = False
    size_C: Tensor | None = None

    @property
    def lengths(self) -> tuple[int, ...]:
        return self.rollout.lengths

    @property
    def kept_C(self) -> Tensor:
        """Which continuations have a score."""
        return ~self.score_C.isnan()

    @property
    def kept_S(self) -> Tensor:
        """Which tokens are of a continuation that has a score."""
        return self.kept_C.repeat_interleave(torch.tensor(self.lengths))

    @property
    def paid_C(self) -> Tensor:
        """Whose episode is over: every answer's but those that the value after them is to continue."""
        return self.rollout.ended_C | (not self.bootstrap)

    @property
    def noise_C(self) -> Tensor:
        """What of a score may be its terms' own noise."""
        size_C = self.score_C if self.size_C is None else self.size_C
        return NOISE * EPS * size_C.abs().nan_to_num(0.0)

    def scored_by_all(self) -> ScoredExchanges:
        """The scores of all processes' answers."""
        parts = {
            label: [x for some in dist.everyone_s(list(values)) for x in some]
            for label, values in self.scored.parts.items()
        }
        return replace(self.scored, parts=parts)

    def kl_C(self, estimator: KLEstimator = "k1") -> Tensor:
        """KL of each continuation (nats, summed over tokens)."""
        return self.summed_C(kl_estimate(self.old_S, self.reference_S, estimator=estimator))

    def summed_C(self, values_S: Tensor) -> Tensor:
        """Values of tokens, summed over each continuation."""
        return torch.stack([x.sum() for x in torch.split(values_S, list(self.lengths))])


def experience_of(
    actors: Actors,
    rollout: Rollout,
    rewards: Rewards,
    *,
    tokens: int,
    missing_eos: MissingEos,
    moments: Moments | None = None,
) -> Experience:
    """Score a rollout under every role, without gradients, in micro-batches of `tokens`."""
    scored = rewards(rollout.exchanges)
    score_C = cut_off(torch.tensor(scored.total), rollout.ended_C, missing_eos)
    if not dist.total(int((~score_C.isnan()).sum())):
        raise RunError("no answer of this step has a reward", where="rewards", mend="look at them")
    bootstrap = missing_eos.treatment == "bootstrap"
    size_C = torch.tensor(scored.sizes)
    if moments is not None:
        paid_C = score_C[rollout.ended_C] if bootstrap else score_C
        paid = dist.values_of_all(paid_C).tolist()
        moments.add([x for x in paid if not math.isnan(x)])
        score_C, size_C = score_C / moments.std, size_C / moments.std
    read = _read_by_models(actors, rollout.trees, tokens)
    experience = Experience(rollout, scored, score_C, **read, bootstrap=bootstrap, size_C=size_C)
    seen = _sampler_facts(actors, rollout, experience.old_S, tokens)
    experience.facts.update(_facts(experience) | seen)
    if moments is not None or missing_eos.treatment != "leave":
        experience.facts["paid"] = _mean(score_C[experience.kept_C])
    return experience


def _read_by_models(actors: Actors, trees: Sequence[Tree], tokens: int) -> dict[str, Any]:
    """Log-probs of policy and reference, and values where there are any: of a head on the policy's states by
    the same pass. Both pack alike, so that a policy that has not moved has a KL of 0."""
    policy, reference, value = actors.policy, actors.reference, actors.value
    if value and value.shares:
        columns_S, last_C = policy.logps_at_rest(value.head, trees, tokens)
        with reference.playing():
            reference_S, _ = reference.logps_at_rest(None, trees, tokens)
        return {
            "old_S": columns_S[:, 0], "reference_S": reference_S[:, 0], "values_S": columns_S[:, 1],
            "after_C": last_C[:, 1], "states_SH": columns_S[:, 2:],
        }  # fmt: skip
    parts = {}
    for name, actor in (("old_S", policy), ("reference_S", reference)):
        with actor.playing():
            parts[name] = torch.cat(token_logps(actor.engine, trees, tokens))
    if value:
        parts["values_S"], parts["after_C"] = value.values_at_rest(trees, tokens)
    return parts


def centred(experience: Experience, head: ScalarHead | None) -> tuple[Experience, float | None]:
    """Values about the scores of the first step that has any, and the head's centre, None without a score.
    From 0 they would have to climb there, and until then GAE with λ < 1 takes what comes sooner for better:
    policies learn to end, or not to."""
    scored_C = experience.kept_C & experience.paid_C
    if head is None or experience.values_S is None or experience.after_C is None:
        return experience, None
    if not dist.total(int(scored_C.sum())):
        return experience, None
    lengths = torch.tensor(experience.lengths)
    gap_S = experience.score_C.repeat_interleave(lengths) - experience.values_S
    shift = dist.values_of_all(gap_S[scored_C.repeat_interleave(lengths)]).mean()
    head.centre -= shift.to(head.centre.device)
    moved = replace(
        experience, values_S=experience.values_S + shift, after_C=experience.after_C + shift
    )
    return moved, float(head.centre)


def _mean(values: Tensor) -> float:
    """Over all processes."""
    return float(dist.values_of_all(values).mean())


def _facts(experience: Experience) -> dict[str, float]:
    """What is logged of every rollout, over its own tokens only, those of all processes."""
    scored, ended_C = experience.scored, experience.rollout.ended_C.float()
    ended = _mean(ended_C)
    facts = {
        "score": _mean(torch.tensor(scored.total)[experience.kept_C]),  # as the evaluation's
        "kl": _mean(experience.kl_C("k1")),
        "kl_k3": _mean(experience.kl_C("k3")),
        "length": _mean(torch.tensor(experience.lengths, dtype=torch.float32)),
        "eos_rate": ended,
        "truncation_rate": 1.0 - ended,
    }
    for label, values in experience.scored_by_all().parts.items():
        finite = [x for x in values if not math.isnan(x)]
        if finite:
            facts[f"reward/{label}"] = sum(finite) / len(finite)
    for label, n in scored.dropped.items():
        facts[f"dropped/{label}"] = dist.total(float(n))
    cut = {k: dist.average(share, len(ended_C)) for k, share in scored.cut.items()}
    return facts | {f"cut/{label}": share for label, share in cut.items()}


def _sampler_facts(
    actors: Actors, rollout: Rollout, old_S: Tensor, tokens: int
) -> dict[str, float]:
    """How far sampler and trainer are apart (nats): what answered should be the policy."""
    answers = dist.total(len(rollout.lengths))
    facts = {"sampler/untold": rollout.untold, "sampler/unmatched": rollout.unmatched}
    shares = {name: n / answers for name, own in facts.items() if (n := dist.total(own))}
    if left_out := dist.total(rollout.left_out):
        shares["sampler/left_out"] = left_out / (left_out + answers)
    sampled_S = (
        rollout.sampled_S if rollout.sampled_S is not None else torch.full_like(old_S, math.nan)
    )
    if not dist.total(int((~sampled_S.isnan()).sum())):
        return shares
    if not rollout.tempered:
        old_S = _untempered(actors, rollout, old_S, tokens)
    gap_S = (sampled_S - old_S).abs()
    gap_S = dist.values_of_all(gap_S[~gap_S.isnan()])
    gap = {"sampler_gap": float(gap_S.max()), "sampler_gap_mean": float(gap_S.mean())}
    return shares | gap


def _untempered(actors: Actors, rollout: Rollout, old_S: Tensor, tokens: int) -> Tensor:
    """The policy's log-probs at temperature 1, which are what a server tells."""
    engine = actors.policy.engine
    temperature = engine.head.temperature
    if temperature == 1.0:
        return old_S
    engine.at_temperature(1.0)
    with actors.policy.playing():
        logps_S = torch.cat(token_logps(engine, rollout.trees, tokens))
    engine.at_temperature(temperature)
    return logps_S


def sampler_notes(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """What a run's log says of the server that answered in the policy's place."""
    notes = []
    gaps = [(r["sampler_gap_mean"], int(r["step"])) for r in rows if "sampler_gap_mean" in r]
    gap, step = max(gaps, default=(0.0, 0))
    if gap > APART:
        notes.append(
            f"the server did not answer with the policy's weights: its log-probs were {gap:.2g} nats per "
            f"token off the trainer's at step {step} (sampler_gap_mean; allowed: {APART:g}): have it serve "
            "what was just trained (reload)"
        )
    shares = {
        name: sum(r.get(f"sampler/{name}", 0.0) for r in rows) / max(1, len(rows))
        for name in (*UNKNOWN, "left_out")
    }
    for name, why in UNKNOWN.items():
        if share := shares[name]:
            notes.append(f"{why} of {share:.0%} of the answers: sampler_gap leaves these out")
    if share := shares["left_out"]:
        notes.append(f"{share:.0%} {LEFT_OUT} (sampler/left_out)")
    return notes


def cut_notes(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """What a run's log says of reward models that did not read answers to their end."""
    most = {
        k: max(r.get(k, 0.0) for r in rows) for row in rows[:1] for k in row if k.startswith("cut/")
    }
    return [
        f"reward {name[4:]} read only the beginning of up to {share:.0%} of a step's answers ({name})"
        for name, share in most.items()
        if share
    ]


def padded(values_S: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Values [C, T] right-padded with zeros, and the mask of what is there."""
    parts = torch.split(values_S, list(lengths))
    out_CT = torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    mask_CT = torch.arange(out_CT.shape[1])[None] < torch.tensor(lengths)[:, None]
    return out_CT, mask_CT


def unpadded(values_CT: Tensor, mask_CT: Tensor) -> Tensor:
    """The values [S] that the mask keeps, continuation after continuation."""
    return values_CT[mask_CT]
