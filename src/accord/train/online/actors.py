"""Who takes part in RLHF: policy, reference and value model, on one base or each on its own.

In adapter mode all stand on one frozen base (`lm.roles`): the reference is no adapter, the value model an
adapter and a scalar head. In full mode each is a model of its own.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from accord.core.errors import ConfigError
from accord.lm.model.load import LanguageModel, load
from accord.lm.model.lora import Lora
from accord.lm.model.roles import Roles, adapter_on
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.room import positions
from accord.lm.trees.engine import Engine, Precision
from accord.lm.trees.score import each_tree
from accord.lm.trees.tree import Tree
from accord.lm.trees.vocab_head import find_head
from accord.rewards.learned import Playing, Trunk
from accord.train.loop.trainee import Tune, check_trainable

__all__ = ["FRESH", "Actor", "Actors", "cast", "on_the_base"]

FRESH = "the value model starts fresh: {}"


@dataclass
class Actor:
    """One role: its engine, how it comes on, what of it trains, and a scalar head where it has one. `shares`:
    the head reads the policy's own states, and moves nothing of them."""

    engine: Engine
    playing: Playing = contextlib.nullcontext
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)
    head: ScalarHead | None = None
    shares: bool = False

    def states(self, trees: Sequence[Tree]) -> tuple[Tensor, Tensor]:
        """Hidden states [S, H] that each token is predicted from and [C, H] at the last ones."""
        before_SH, after_CH, _ = self.engine.states(trees)
        return before_SH, after_CH

    def values(self, trees: Sequence[Tree]) -> tuple[Tensor, Tensor]:
        """Values [S] before each token and [C] after the last, with gradients."""
        assert self.head is not None
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.shares):
            before_SH, after_CH = self.states(trees)
        return self.head(before_SH), self.head(after_CH)

    def values_at_rest(self, trees: Sequence[Tree], tokens: int) -> tuple[Tensor, Tensor]:
        """The same over any number of trees, without gradients, on the CPU."""
        return self._at_rest(self.values, trees, tokens)

    def logps_at_rest(
        self, head: ScalarHead | None, trees: Sequence[Tree], tokens: int
    ) -> tuple[Tensor, Tensor]:
        """Log-probs and, with a `head`, its values and the states it reads by one pass: [S, 1] or [S, 2 + H];
        the same at the last ones [C, …], whose log-prob is 0. fp32, without gradients, on the CPU."""

        def read(some: Sequence[Tree]) -> tuple[Tensor, Tensor]:
            before_SH, after_CH = self.states(some)
            answer_S = torch.tensor([i for t in some for c in t.completions for i in c])
            logps_S = self.engine.head.logps(before_SH, answer_S.to(before_SH.device))
            parts = []
            for at_H, logps in ((before_SH, logps_S), (after_CH, logps_S.new_zeros(len(after_CH)))):
                own = [head(at_H)[:, None], at_H.float()] if head else []
                parts.append(torch.cat([logps[:, None], *own], 1))
            return parts[0], parts[1]

        return self._at_rest(read, trees, tokens)

    def _at_rest(
        self, read: Callable[[Sequence[Tree]], tuple[Tensor, Tensor]], trees: Sequence[Tree], tokens: int
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        def in_turn(some: Sequence[Tree]) -> Sequence[Tensor]:
            """One continuation after the other, so that the pieces of a tree that was split can be joined."""
            before_S, after_C = read(some)
            sizes = [len(c) for tree in some for c in tree.completions]
            both = zip(before_S.split(sizes), after_C.split(1), strict=True)
            whole = torch.cat([part for pair in both for part in pair])
            lengths = [sum(map(len, t.completions)) + len(t.completions) for t in some]
            by_tree: tuple[Tensor, ...] = whole.split(lengths)
            return by_tree

        with self.playing():
            values = torch.cat(each_tree(self.engine.model, in_turn, trees, tokens))
        rows = values.split([len(c) + 1 for tree in trees for c in tree.completions])
        return torch.cat([row[:-1] for row in rows]), torch.cat([row[-1:] for row in rows])


@dataclass
class Actors:
    """The cast. `lm` is the policy's model, `save` writes the policy so that `load` gives it back."""

    lm: LanguageModel
    policy: Actor
    reference: Actor
    value: Actor | None
    roles: Roles | None
    notes: list[str] = field(default_factory=list)

    def positions(self) -> float:
        """The most tokens that all of them read: a value model may have fewer than the policy."""
        cast = [self.policy, self.reference, *([self.value] if self.value else [])]
        return min(positions(actor.engine.model) for actor in cast)

    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that trains, by name."""
        parameters = {f"policy.{n}": p for n, p in self.policy.parameters.items()}
        if self.value:
            parameters |= {f"value.{n}": p for n, p in self.value.parameters.items()}
        return parameters


def cast(
    lm: LanguageModel,
    tune: Tune,
    seed: int,
    *,
    value: bool,
    shares: bool = False,
    reward_model: Path | None = None,
    temperature: float = 1.0,
    precision: Precision = "fp32",
) -> Actors:
    """The actors for a policy that starts from `lm`. The value model starts from `reward_model` where
    it can (its adapter where it stands on the policy's weights; in full mode all of it where it reads the
    policy's tokens), else from the policy with a head of zeros. With `shares` it is such a head alone, on
    the policy's states."""
    check_trainable(lm, tune)
    if tune != "full" and tune.dropout:
        raise ConfigError(
            "dropout makes every ratio of new to old probability noise",
            where="tune.dropout",
            allowed="0",
        )
    if tune == "full":
        actors = _separate(lm, value and not shares, reward_model, precision)
    else:
        actors = _on_one_base(lm, tune, seed, value and not shares, reward_model, precision)
    if value and shares:
        head, policy = _head(None, lm), actors.policy
        own = {"head.weight": head.weight}
        actors.value = Actor(policy.engine, policy.playing, own, head, shares=True)
    lm.model.accord_trained = True
    if actors.policy.engine.device.type != "cpu":
        actors.policy.engine.check_gradients()
    for actor in (actors.policy, actors.reference):
        actor.engine.at_temperature(temperature)
    return actors


def _on_one_base(
    lm: LanguageModel, lora: Lora, seed: int, value: bool, reward_model: Path | None,
    precision: Precision,
) -> Actors:  # fmt: skip
    weights, roles, notes = lm.weights, Roles(lm), []
    lm.model.requires_grad_(False)
    roles.add("policy", lora, seed)
    head = None
    if value:
        adapter = reward_model and adapter_on(reward_model, weights)
        if adapter:
            roles.take("value", adapter, trained=True)
        else:
            roles.add("value", lora, seed + 1)
            if reward_model:
                notes.append(FRESH.format("the reward model stands on other weights"))
        head = _head(reward_model if adapter else None, lm)
    engine = Engine(roles.module, precision=precision)
    policy = Actor(engine, lambda: roles.playing("policy"), roles.parameters("policy"))
    reference = Actor(engine, lambda: roles.playing(None))
    valuer = None
    if head is not None:
        own = roles.parameters("value") | {"head.weight": head.weight}
        valuer = Actor(engine, lambda: roles.playing("value"), own, head)
    return Actors(lm, policy, reference, valuer, roles, notes)


def _separate(
    lm: LanguageModel, value: bool, reward_model: Path | None, precision: Precision
) -> Actors:
    """Each actor a model of its own: the reference a copy of the policy as it is now."""
    frozen = copy.deepcopy(lm.model).requires_grad_(False)
    valuer, notes = None, []
    if value:
        start = load(reward_model, device=str(lm.device)) if reward_model else None
        if start and start.tokenizer.get_vocab() != lm.tokenizer.get_vocab():
            start, reward_model = None, None
            notes.append(FRESH.format("the reward model has another tokenizer"))
        other = start.model if start else copy.deepcopy(frozen)
        other.requires_grad_(True)
        head = _head(reward_model, lm)
        own = dict(sorted(other.named_parameters())) | {"head.weight": head.weight}
        valuer = Actor(Engine(other, precision=precision), parameters=own, head=head)
    lm.model.requires_grad_(True)
    policy = Actor(
        Engine(lm.model, precision=precision),
        parameters=dict(sorted(lm.model.named_parameters())),
    )
    return Actors(lm, policy, Actor(Engine(frozen, precision=precision)), valuer, None, notes)


def _head(reward_model: Path | None, lm: LanguageModel) -> ScalarHead:
    """The reward model's head, or one of zeros: every value is then 0."""
    if reward_model:
        return ScalarHead.load(reward_model).to(lm.device)
    head = ScalarHead(find_head(lm.model).width, 0).to(lm.device)
    nn.init.zeros_(head.weight)
    return head


def on_the_base(actors: Actors, weights: str, folder: Path) -> Trunk | None:
    """The adapter of a reward model's folder as one more role on the policy's base; None where it stands on
    other weights, or there is no shared base."""
    roles = actors.roles
    adapter = roles and adapter_on(folder, weights)
    if not adapter or not roles:
        return None
    name = f"reward{len(roles.names)}"
    roles.take(name, adapter, trained=False)
    return Trunk(actors.lm, actors.policy.engine, lambda: roles.playing(name))
