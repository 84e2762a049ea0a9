"""What PPO, RLOO and GRPO optimise, put together again by plain loops in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from accord.core.types import Prompt, Response
from accord.lm.trees.engine import ContinuationLogps
from accord.lm.trees.tree import Tree
from accord.rewards.base import Context
from accord.rewards.compose import ScoredExchanges, build_rewards
from accord.stats.best_of_n import best_of_n_kl
from accord.train.online.actors import Actor, Actors
from accord.train.online.experience import Experience, Moments, cut_off, experience_of
from accord.train.online.groups import ranked
from accord.train.online.method import Method
from accord.train.online.methods.best_of_n import BestOfN
from accord.train.online.methods.grpo import Grpo
from accord.train.online.methods.ppo import Ppo, token_rewards
from accord.train.online.methods.rloo import Rloo
from accord.train.online.rollout import Rollout
from accord.train.settings import Kl, MissingEos

F64 = torch.float64
SIZES = ((3, 1, 4), (2, 5))  # tokens of each answer to two prompts
LENGTHS = [n for sizes in SIZES for n in sizes]
STARTS = [sum(LENGTHS[:c]) for c in range(len(LENGTHS))]
ENDED = (True, True, False, True, False)  # the third and the last were cut off
SCORES = (1.5, -0.5, 0.25, 2.0, 1.0)
TREES = tuple(
    Tree((5, g), tuple(tuple(range(6, 6 + n)) for n in sizes)) for g, sizes in enumerate(SIZES)
)
S, V = sum(LENGTHS), 7
BETA = 0.3


def random(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


class Stand:
    """In place of a model: free logits [S, V] give each token of `TREES` its log-prob and entropy."""

    def __init__(self, shift: float = 0.5) -> None:
        self.logits_SV = random(S, V, seed=1).requires_grad_(True)
        self.old_S = (self.all_S() + random(S, seed=8, scale=shift)).detach()
        self.values_S = random(S, seed=3).requires_grad_(True)

    def all_S(self) -> Tensor:
        return self.logits_SV.log_softmax(-1)[:, 0]

    def rows(self, trees: Sequence[Tree]) -> list[int]:
        sizes = [sum(n) for n in SIZES]
        return [i for tree in trees for g in [TREES.index(tree)]
                for i in range(sum(sizes[:g]), sum(sizes[: g + 1]))]  # fmt: skip

    def logps(
        self, trees: Sequence[Tree], *, entropy: Literal["watched", "trained"]
    ) -> ContinuationLogps:
        logits_SV = self.logits_SV[self.rows(trees)]
        logp_SV = logits_SV.log_softmax(-1)
        entropy_S = -(logp_SV.exp() * logp_SV).sum(-1)
        lengths = tuple(len(c) for tree in trees for c in tree.completions)
        told_S = entropy_S if entropy == "trained" else entropy_S.detach()
        return ContinuationLogps(logp_SV[:, 0], lengths, entropy_S=told_S)

    def values(self, trees: Sequence[Tree]) -> tuple[Tensor, Tensor]:
        return self.values_S[self.rows(trees)], torch.zeros(0)

    def actors(self) -> Actors:
        value = Actor(self)  # type: ignore[arg-type]
        value.values = self.values  # type: ignore[method-assign]
        return Actors(None, Actor(self), Actor(self), value, None)  # type: ignore[arg-type]


def rollout() -> Rollout:
    ends = iter(ENDED)
    answers = tuple(
        tuple(Response(text=f"{g}", finish="stop" if next(ends) else "length") for _ in sizes)
        for g, sizes in enumerate(SIZES)
    )
    return Rollout(tuple(Prompt.user(str(g)) for g in range(len(SIZES))), answers, TREES)


def seen(stand: Stand, scores: Sequence[float] = SCORES) -> Experience:
    return Experience(
        rollout(), ScoredExchanges(list(scores), {}, {}), torch.tensor(scores, dtype=F64), stand.old_S,
        random(S, seed=4) - 1.5, random(S, seed=5), random(len(LENGTHS), seed=6),
    )  # fmt: skip


def trained(stand: Stand, found: Experience, cfg: Method) -> tuple[Tensor, dict[str, float]]:
    """The loss of the whole batch as one_step divides it, tree by tree, and what was watched."""
    worth = cfg.advantages(found, BETA)
    gaps: list[float] = []
    made = cfg.objective(stand.actors(), found, worth, BETA, gaps)
    parts = [made.loss([i]) for i in range(len(TREES))]
    watched = {
        k: sum(w[k][0] for _, w in parts) / sum(w[k][1] for _, w in parts) for k in parts[0][1]
    }
    loss = sum((loss for loss, _ in parts), torch.zeros((), dtype=F64))
    return loss / sum(made.counts), {**watched, "gap": max(gaps)}


def kl(estimator: str, policy: float, ref: float) -> float:
    k1 = policy - ref
    return {"k1": k1, "k2": k1 * k1 / 2, "k3": math.exp(-k1) - 1 + k1}[estimator]


def surrogate(ratio: Tensor, a: float, low: float, high: float) -> Tensor:
    return torch.maximum(-a * ratio, -a * ratio.clamp(1 - low, 1 + high))


DROPPED = (*SCORES[:1], math.nan, *SCORES[2:])
LOOPS = pytest.mark.parametrize("scores", [SCORES, DROPPED], ids=["all", "one dropped"])


@LOOPS
@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
@pytest.mark.parametrize("whiten", [True, False])
@pytest.mark.parametrize("bootstrap", [True, False])
def test_ppo_by_plain_loops(
    estimator: Any, whiten: bool, bootstrap: bool, scores: tuple[float, ...]
) -> None:
    cfg = Ppo(
        kl=Kl(estimator=estimator), gamma=0.9, lam=0.8, whiten=whiten, clip_ratio=0.15, clip_ratio_high=0.3,
        entropy=0.05, clip_value=0.4,
    )  # fmt: skip
    stand = Stand()
    how = MissingEos(treatment="bootstrap" if bootstrap else "leave")
    paid = cut_off(torch.tensor(scores, dtype=F64), torch.tensor(ENDED), how)
    found = replace(seen(stand, scores), score_C=paid, bootstrap=bootstrap)
    assert found.values_S is not None
    assert found.after_C is not None
    old, ref = found.old_S.tolist(), found.reference_S.tolist()
    value, after = found.values_S.tolist(), found.after_C.tolist()
    rewards, worth, returns, kept = [0.0] * S, [0.0] * S, [0.0] * S, [False] * S
    for start, n, ended, score, beyond in zip(STARTS, LENGTHS, ENDED, scores, after, strict=True):
        unpaid = bootstrap and not ended  # what is paid its score has nothing after it
        following, running = beyond if unpaid else 0.0, 0.0
        for i in reversed(range(start, start + n)):
            rewards[i] = -BETA * kl(estimator, old[i], ref[i])
            if i == start + n - 1 and score == score and not unpaid:
                rewards[i] += score
            running = rewards[i] + 0.9 * following - value[i] + 0.9 * 0.8 * running
            worth[i], returns[i], kept[i] = running, running + value[i], score == score
            following = value[i]
    counted = [i for i in range(S) if kept[i]]
    if whiten:
        mean, std = np.mean([worth[i] for i in counted]), np.std([worth[i] for i in counted])
        worth = [(x - mean) / math.sqrt(std**2 + 1e-8) for x in worth]
    logp_SV = stand.logits_SV.log_softmax(-1)
    loss, value_loss = torch.zeros((), dtype=F64), torch.zeros((), dtype=F64)
    for i in counted:
        entropy = -(logp_SV[i].exp() * logp_SV[i]).sum()
        token = surrogate((logp_SV[i, 0] - old[i]).exp(), worth[i], 0.15, 0.3) - 0.05 * entropy
        loss = loss + token / len(counted)
        now = stand.values_S[i]
        held = value[i] + (now - value[i]).clamp(-0.4, 0.4)
        worse = torch.maximum((now - returns[i]) ** 2, (held - returns[i]) ** 2)
        value_loss = value_loss + worse / 2 / len(counted)

    torch.testing.assert_close(
        token_rewards(found, BETA, estimator), torch.tensor(rewards, dtype=F64)
    )
    ours, _ = trained(stand, found, cfg)
    values = cfg.value_objective(stand.actors(), found, cfg.advantages(found, BETA))
    theirs = values.loss(range(len(TREES)))[0] / sum(values.counts)
    for made, naive, leaf in ((ours, loss, stand.logits_SV), (theirs, value_loss, stand.values_S)):
        torch.testing.assert_close(made, naive)
        (a,), (b,) = torch.autograd.grad(made, leaf), torch.autograd.grad(naive, leaf)
        torch.testing.assert_close(a, b)


def group_advantages(scores: Sequence[float], baseline: str) -> list[float]:
    """Leave-one-out, or centred and scaled, of each answer in its group; NaN where it has no score."""
    found: list[float] = []
    for g, sizes in enumerate(SIZES):
        at = sum(map(len, SIZES[:g]))
        own = scores[at : at + len(sizes)]
        known = [x for x in own if x == x]
        for x in own:
            if baseline == "grpo":
                found.append((x - np.mean(known)) / np.std(known, ddof=1))
            else:
                found.append(x - (sum(known) - x) / (len(known) - 1))
    return found


@LOOPS
@pytest.mark.parametrize("ratio", ["token", "sequence"])
@pytest.mark.parametrize("average", ["token", "sequence", "sum", "constant"])
@pytest.mark.parametrize("kind", [Rloo, Grpo])
def test_groups_by_plain_loops(
    kind: Callable[..., Rloo | Grpo], average: str, ratio: str, scores: tuple[float, ...]
) -> None:
    cfg = kind(average=average, ratio=ratio, clip_ratio=0.1, clip_ratio_high=0.4, max_new_tokens=9)
    stand = Stand()
    found = seen(stand, scores)
    new_S, old, ref = stand.all_S(), found.old_S, found.reference_S
    spans = [range(a, a + n) for a, n in zip(STARTS, LENGTHS, strict=True)]
    if isinstance(cfg, Rloo):
        paid = [x - BETA * sum(float(old[i] - ref[i]) for i in span)
                for x, span in zip(scores, spans, strict=True)]  # fmt: skip
        worth = group_advantages(paid, "rloo")
    else:
        worth = group_advantages(scores, "grpo")
    answers, outside, counted = [], 0, 0
    for span, a in zip(spans, worth, strict=True):
        if a != a:
            continue
        whole = sum(new_S[i] - old[i] for i in span) / len(span)  # type: ignore[arg-type]
        tokens = []
        for i in span:
            rho = (whole if ratio == "sequence" else new_S[i] - old[i]).exp()  # type: ignore[union-attr]
            outside += int(rho > 1.4) if a > 0 else int(rho < 0.9)
            counted += 1
            tokens.append(surrogate(rho, a, 0.1, 0.4))
            if isinstance(cfg, Grpo):
                tokens[-1] = tokens[-1] + BETA * (new_S[i] - ref[i]) ** 2 / 2
        answers.append(torch.stack(tokens))
    naive = {
        "token": lambda: torch.cat(answers).mean(),
        "sequence": lambda: torch.stack([x.mean() for x in answers]).mean(),
        "sum": lambda: torch.stack([x.sum() for x in answers]).mean(),
        "constant": lambda: torch.stack([x.sum() / 9 for x in answers]).mean(),
    }[average]()

    made, watched = trained(stand, found, cfg)
    torch.testing.assert_close(made, naive)
    (a_SV,) = torch.autograd.grad(made, stand.logits_SV)
    (b_SV,) = torch.autograd.grad(naive, stand.logits_SV)
    torch.testing.assert_close(a_SV, b_SV)
    assert 0 < outside < counted
    assert watched["clip_fraction"] == pytest.approx(outside / counted)
    kept = [i for span, a in zip(spans, worth, strict=True) if a == a for i in span]
    assert watched["gap"] == pytest.approx(
        float(((new_S - old).detach().exp() - 1).abs()[kept].max())
    )


def test_one_wrong_ratio_is_seen_among_many() -> None:
    stand = Stand(shift=0.0)
    stand.old_S[7] += 1e-3
    _, watched = trained(stand, seen(stand), Grpo())
    assert watched["gap"] == pytest.approx(1e-3, rel=1e-2)


def test_cut_off_answers_by_hand() -> None:
    scores, ended = torch.tensor([2.0, 2.0, math.nan]), torch.tensor([True, False, False])
    for how, paid in (("leave", 2.0), ("penalty", 1.25), ("score", 0.75), ("bootstrap", 0.0)):
        got = cut_off(scores, ended, MissingEos(treatment=how, value=0.75))  # type: ignore[arg-type]
        torch.testing.assert_close(got, torch.tensor([2.0, paid, math.nan]), equal_nan=True)


def test_scores_are_scaled_by_the_spread_of_all_seen_and_logged_as_they_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("accord.train.online.experience.token_logps", lambda *_: [torch.zeros(S)])
    actors, moments, all_seen = replace(Stand().actors(), value=None), Moments(), []
    given = random(3, len(LENGTHS), seed=7, scale=3.0).tolist()
    given[1][2] = math.nan
    for scores in given:
        made = build_rewards(
            [{"name": "pattern", "regex": "x", "on_failure": "drop"}], Context(), ""
        )
        made.parts[0].function = lambda _, scores=scores: scores  # type: ignore[misc]
        how = MissingEos(treatment="penalty", value=0.5)
        got = experience_of(actors, rollout(), made, tokens=64, missing_eos=how, moments=moments)
        paid = [x - 0.5 * (not ended) for x, ended in zip(scores, ENDED, strict=True)]
        all_seen += [x for x in paid if x == x]
        expected = torch.tensor(paid) / float(np.std(all_seen))
        torch.testing.assert_close(got.score_C, expected, equal_nan=True)
        assert got.facts["paid"] == pytest.approx(float(expected.nanmean()))
        assert got.facts["score"] == pytest.approx(float(np.nanmean(scores)))
    plain = experience_of(actors, rollout(), made, tokens=64, missing_eos=MissingEos())
    assert "paid" not in plain.facts  # it is the score


def test_moments_are_numpys() -> None:
    moments = Moments()
    assert moments.std == 1.0
    moments.add([4.0])
    assert moments.std == 1.0  # unknown yet
    moments.add([4.0, 4.0])
    assert moments.std == 1.0  # nothing varies
    moments.add([1e4 + x for x in (1.0, 2.0, 5.0)])
    everything = [4.0, 4.0, 4.0, 10001.0, 10002.0, 10005.0]
    assert moments.std == pytest.approx(np.std(everything), rel=1e-12)
    assert moments.mean == pytest.approx(np.mean(everything), rel=1e-12)


def test_the_entropy_bonus_has_the_gradient_of_the_entropy() -> None:
    """The mean entropy of the kept tokens, times the weight, is what the bonus takes off the loss."""
    grads = []
    for entropy in (0.0, 0.7):
        stand, cfg = Stand(), Ppo(entropy=entropy)
        loss, _ = trained(stand, seen(stand, DROPPED), cfg)
        grads.append(torch.autograd.grad(loss, stand.logits_SV)[0])
    stand = Stand()
    p_SV = stand.logits_SV.softmax(-1)
    entropy_S = -(p_SV * p_SV.log()).sum(-1)
    kept_S = torch.arange(S) != STARTS[1]  # the dropped answer has one token
    (expected,) = torch.autograd.grad(-0.7 * entropy_S[kept_S].mean(), stand.logits_SV)
    torch.testing.assert_close(grads[1] - grads[0], expected)


def test_the_best_and_the_worst_are_the_first_of_equals_and_rounding_is_no_difference() -> None:
    stand = Stand()
    assert ranked(seen(stand, (1.0, 2.0, 1.0, 0.1 + 0.2, 0.3))) == [(1, 0), None]
    assert ranked(seen(stand, (math.nan, 2.0, 1.0, math.nan, 0.3))) == [(1, 2), None]
    facts = BestOfN(n=3).advantages(seen(stand, (1.0, 2.0, 1.0, 0.3, 0.3)), BETA).facts
    assert facts["silent_groups"] == 0.5


def test_what_best_of_n_itself_would_earn_and_cost() -> None:
    stand = Stand()
    paid = replace(
        seen(stand, DROPPED), scored=ScoredExchanges([3.0, math.nan, 9.0, 5.0, 4.0], {}, {})
    )
    facts = BestOfN(n=3).advantages(paid, BETA).facts
    assert facts["expected_best"] == (3.0 + 5.0) / 2  # of the answers that are picked
    assert facts["best_of_n_kl"] == best_of_n_kl(3)
