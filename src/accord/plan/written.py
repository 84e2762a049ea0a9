"""What a policy will write, which is not known before it does: as long as what it was taught.

An untrained one goes on to the limit, an on-policy one is on the way there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from accord.core.types import Prompt
from accord.lm.chat import render_prompt
from accord.lm.load import LanguageModel
from accord.lm.tree import Tree
from accord.pipeline.context import StageContext
from accord.pipeline.kinds import PreferenceStage, RlhfStage, Sft, StageConfig, Training
from accord.pipeline.model_stages import read_demonstrations
from accord.train.data import Limits, demonstration_trees

__all__ = ["Known", "answered", "limits_of", "together"]

GROWN = 0.5  # of the way to the limit, in equal factors


@dataclass(frozen=True)
class Known:
    """What is known beside a stage: all stages' configs by name; a model lends tokenizer and config. What a
    policy was taught is read once."""

    configs: dict[str, StageConfig]
    lm: LanguageModel
    taught: dict[str, list[int]] = field(default_factory=dict)

    def written(self, ctx: StageContext, policy: str, most: int) -> Sequence[int]:
        """Lengths of a policy's answers, cut at `most` tokens: those of the demonstrations that it or what
        it started from was taught. One that saw none goes on to the limit."""
        config = self.configs.get(policy)
        if isinstance(config, RlhfStage):
            return [min(n, most) for n in self.while_trained(ctx, config)]
        if isinstance(config, PreferenceStage):
            return self.written(ctx, config.init, most)
        if not isinstance(config, Sft):
            return [most]
        if policy not in self.taught:
            train, _ = read_demonstrations(ctx, config)
            shown = demonstration_trees(
                self.lm.tokenizer, train, limits_of(config), all_turns=False
            )
            self.taught[policy] = [len(c) for tree in shown.trees for c in tree.completions]
        return [min(n, most) for n in self.taught[policy]] or [most]

    def while_trained(self, ctx: StageContext, config: RlhfStage) -> Sequence[int]:
        """The same while a policy trains on its own answers: on the way from where it starts to the limit.
        Most grow, for many rewards pay for length; how far is not known before."""
        most = config.settings().max_new_tokens
        start = self.written(ctx, config.init, most)
        return [max(1, round(n * (most / n) ** GROWN)) for n in start]


def limits_of(config: Training) -> Limits:
    return Limits(
        max_prompt=config.max_prompt,
        max_completion=config.max_completion,
        skip_bad=bool(config.skip_bad),
    )


def answered(
    lm: LanguageModel, prompts: Sequence[Prompt], n: int, lengths: Sequence[int]
) -> list[Tree]:
    """The prompts with n answers of these lengths in turn, whatever they say."""
    turn = itertools.cycle(lengths)
    return [
        Tree(tuple(render_prompt(lm.tokenizer, p)), tuple((1,) * next(turn) for _ in range(n)))
        for p in prompts
    ]


def together(sides: Sequence[Sequence[Tree]]) -> list[Tree]:
    """The same prompts' trees, each prompt once with the answers of all sides."""
    return [
        Tree(same[0].prompt, tuple(c for tree in same for c in tree.completions))
        for same in zip(*sides, strict=True)
    ]
