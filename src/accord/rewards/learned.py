"""The learned reward: a reward model as something that scores exchanges.

Scores do not move with batch composition or padding side: each is read at its own last token under
the tree mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accord.core.errors import DataError, ModelError, RunError, door
from accord.core.messages import Exchange, Prompt, Response, as_exchanges
from accord.core.rundir import read_json, write_json
from accord.lm.chat import Rendered, render_exchange, render_prompt
from accord.lm.model.load import LanguageModel, load
from accord.lm.model.scalar_head import ScalarHead
from accord.lm.room import positions
from accord.lm.trees.engine import Engine
from accord.lm.trees.score import by_tree, each_tree
from accord.lm.trees.tree import Tree, share_prompts

__all__ = [
    "Playing",
    "RewardModel",
    "Trunk",
    "is_reward_model",
    "load_reward_model",
    "max_read",
    "read",
    "reward_settings",
    "trunk",
]

FILE = "reward_model.json"
Playing = Callable[[], AbstractContextManager[None]]


@dataclass
class RewardModel:
    """Engine and scalar head; call it with exchanges to get their scores."""

    engine: Engine
    head: ScalarHead
    tokenizer: Any
    max_completion: int = 256
    playing: Playing = nullcontext
    """How its adapter comes on, where it shares a base with others."""

    def scores(self, trees: Sequence[Tree]) -> Tensor:
        """Scores [C] of all continuations in order, with gradients."""
        scores_C: Tensor = self.head(self.engine.last_hidden(trees))
        return scores_C

    def tree_scores(
        self,
        trees: Sequence[Tree],
        tokens: int,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[float]]:
        """Scores of each tree's continuations, without gradients, packed to a token budget."""

        def values(some: Sequence[Tree]) -> Sequence[Tensor]:
            return by_tree(self.scores(some), some)

        with self.playing():
            scores = each_tree(self.engine.model, values, trees, tokens, on_progress)
        return [scores_K.tolist() for scores_K in scores]

    def __call__(
        self,
        exchanges: Sequence[Exchange],
        *,
        tokens: int = 1024,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[float]:
        """A score per exchange, in order. Answers to one prompt share its tokens, equal ones their score."""
        trees, places = self._trees(exchanges)
        scores = self.tree_scores(trees, tokens, on_progress)
        return [scores[tree][k] for tree, k in places]

    def states(
        self,
        exchanges: Sequence[Exchange],
        *,
        tokens: int = 1024,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Hidden states of each exchange: their mean [E, H] where its answer's tokens are foretold, and what
        the head reads [E, H], the state at its last token."""
        trees, places = self._trees(exchanges)

        def hidden(some: Sequence[Tree]) -> Sequence[Tensor]:
            states_SH, last_CH, lengths = self.engine.states(some)
            means = [part.mean(0) for part in states_SH.split(list(lengths))]
            mean_CH = torch.stack(
                [m if n else h for m, n, h in zip(means, lengths, last_CH, strict=True)]
            )
            return by_tree(torch.stack([mean_CH, last_CH], 1), some)

        with self.playing():
            states = each_tree(self.engine.model, hidden, trees, tokens, on_progress)
        mean_EH, last_EH = torch.stack([states[tree][k] for tree, k in places]).unbind(1)
        return mean_EH, last_EH

    def _trees(self, exchanges: Sequence[Exchange]) -> tuple[list[Tree], list[tuple[int, int]]]:
        """As it is read, answers to one prompt in one tree; and where each exchange stands."""
        rendered = []
        for exchange in exchanges:
            done = read(self.tokenizer, exchange)
            completion = done.completion[: self.limit(done.prompt)]
            # an answer cut off before its first token is scored where it would have begun
            ids, start = done.prompt + completion, len(done.prompt) - (not completion)
            rendered.append((ids[:start], ids[start:]))
        return share_prompts(rendered)

    @door
    def score(
        self,
        prompts: Sequence[Prompt | str],
        answers: Sequence[Response | str],
        *,
        tokens: int = 1024,
    ) -> list[float]:
        """A score (logits of Bradley-Terry: differences are log-odds) for each prompt and its answer.

        Args:
            prompts: texts, each one user message, or `Prompt`s; repeat one to score several answers to it.
            answers: texts, taken as whole, or `Response`s, one for each prompt.
            tokens: of one packed call, at least those of the longest exchange; time and memory, not scores.

        Raises:
            ConfigError: unequal numbers.
            DataError: a prompt longer than the model reads.
        """
        return self(as_exchanges(prompts, answers), tokens=tokens)

    def limit(self, prompt: Sequence[int]) -> int:
        """How many tokens of an answer are read: as many as in training, where the model has positions."""
        return max_read(self.engine.model, self.max_completion, prompt)

    def cut(self, exchanges: Sequence[Exchange]) -> list[bool]:
        """Of which answers it reads the beginning only."""
        done = [read(self.tokenizer, e) for e in exchanges]
        return [len(d.completion) > self.limit(d.prompt) for d in done]

    def fits(self, prompt: Prompt) -> bool:
        """Whether it has positions for a prompt and a token of an answer."""
        return len(render_prompt(self.tokenizer, prompt)) < positions(self.engine.model)

    def save(self, folder: Path) -> None:
        """Write the head and the limit it was trained with beside the saved language model."""
        self.head.save(folder)
        write_json(folder / FILE, {"max_completion": self.max_completion})


def read(tokenizer: Any, exchange: Exchange) -> Rendered:
    """An exchange as it is read for a score. What a stop string ended is as whole as what ended its turn."""
    prompt, response = exchange.prompt, exchange.response
    if response.finish == "string":
        response = response.model_copy(update={"finish": "stop"})
    return render_exchange(tokenizer, prompt, response, sampled=True)


def max_read(model: Any, max_completion: int, prompt: Sequence[int]) -> int:
    """Tokens of an answer that are read after a prompt; DataError for a prompt without room for any."""
    room = positions(model) - len(prompt)
    if room < 1:
        raise DataError(
            f"a prompt of {len(prompt)} tokens does not fit the reward model's {positions(model):g}",
            mend="leave it out (max_prompt)",
        )
    return int(min(max_completion, room))


@dataclass(frozen=True)
class Trunk:
    """What a head stands on: a model, its engine, and how its adapter comes on."""

    lm: LanguageModel
    engine: Engine
    playing: Playing = nullcontext

    def scored_by(self, head: ScalarHead, max_completion: int) -> RewardModel:
        """The reward model of this trunk and a head."""
        head = head.to(self.lm.device)
        return RewardModel(self.engine, head, self.lm.tokenizer, max_completion, self.playing)


def trunk(folder: Path, device: str | None = None) -> Trunk:
    """The model of a folder for itself."""
    lm = load(folder, device=device)
    lm.model.eval()
    return Trunk(lm, Engine(lm.model))


@door
def load_reward_model(
    folder: str | Path, *, device: str | None = None, on: Trunk | None = None
) -> RewardModel:
    """The reward model that `train_reward` or a `reward` stage saved.

    Args:
        folder: `result.model`, or a finished stage's folder model/.
        device: as of `load`.
        on: its trunk where that is there already, its adapter on a base that others share.

    Raises:
        ModelError: the folder holds no reward model.
    """
    folder = Path(folder)
    head = ScalarHead.load(folder)
    limit = reward_settings(folder)
    return (on or trunk(folder, device)).scored_by(head, limit)


def is_reward_model(folder: Path) -> bool:
    """Whether a `reward` stage saved this folder."""
    return (folder / FILE).is_file()


def reward_settings(folder: Path) -> int:
    """max_completion of the reward model saved in a folder (tokens)."""
    try:
        return int(read_json(folder / FILE)["max_completion"])
    except (RunError, KeyError, TypeError, ValueError):
        raise ModelError(
            f"has no readable {FILE}", where=str(folder), mend="train the reward model again"
        ) from None
