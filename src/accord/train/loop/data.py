"""From what the store yields to what the engine runs: rendering, limits, token trees.

Items that don't fit the limits are left out and counted by reason; nothing is dropped silently.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

from accord.core.config import Strict
from accord.core.errors import DataError, TemplateError
from accord.core.types import Demonstration, Edge, Group, Message, Pair, Prompt, Response
from accord.lm.chat import Rewritten, render_conversation, render_exchange, render_prompt
from accord.lm.model.check import check_token, embedded, room
from accord.lm.model.load import LanguageModel
from accord.lm.trees.tree import Tree

__all__ = [
    "Limits",
    "Trees",
    "best_against_rest",
    "best_response",
    "check_room",
    "comparisons",
    "demonstration_trees",
    "group_by_prompt",
    "group_of",
    "group_trees",
    "understood",
]

TokenCount = Annotated[int, Field(ge=1)]


class Limits(Strict):
    """Longest prompt and completion in tokens. A prompt over the limit leaves its item out; a
    completion over it is cut and, being truncated, gets no end-of-turn token. A conversation whose
    every turn is scored (SFT) must fit the sum of both."""

    max_prompt: TokenCount = 512
    max_completion: TokenCount = 256
    skip_bad: bool = False
    """Leave out and count what the chat template can't say, instead of refusing it by its prompt."""


@dataclass
class Trees:
    """Token trees and the items they came from; `left_out` counts items by reason."""

    trees: list[Tree] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    truncated: int = 0

    @property
    def tokens(self) -> int:
        return sum(tree.tokens for tree in self.trees)

    def for_training(self) -> Trees:
        """These trees; DataError with the reasons when every item was left out."""
        if self.trees:
            return self
        reasons = ", ".join(f"{reason} ({n})" for reason, n in sorted(self.left_out.items()))
        raise DataError(
            f"nothing is left to train on; left out: {reasons}"
            if reasons
            else "there is nothing to train on: no item was given, or none with a comparison",
            mend="raise max_prompt and max_completion" if "token" in reasons else "check the data",
        )


def check_room(lm: LanguageModel, *parts: Trees) -> None:
    """DataError when a sequence is longer than the positions the model has, or holds a token it has not."""
    positions, limit = room(lm.model.config)
    trees = [tree for part in parts for tree in part.trees]
    if not trees:  # nothing is held out, or reported
        return
    longest = max(len(tree.prompt) + max(map(len, tree.completions)) for tree in trees)
    if positions is not None and longest > positions:
        raise DataError(
            f"a sequence of {longest} tokens does not fit the model's {limit}",
            where=lm.name,
            mend="lower max_prompt or max_completion",
        )
    texts = (text for tree in trees for text in (tree.prompt, *tree.completions))
    check_token(max(map(max, texts), default=0), embedded(lm.model), lm.name)


@contextlib.contextmanager
def understood(out: Trees, prompt: Prompt, limits: Limits) -> Iterator[None]:
    """What can't be rendered names its prompt or, with `skip_bad`, is left out and counted by the reason."""
    try:
        yield
    except (TemplateError, DataError) as error:
        place = error.where.removeprefix(f"prompt {prompt.id}").strip()
        if limits.skip_bad:
            out.left_out[f"{place}: {error.what}" if place else error.what] += 1
            return
        where = f"prompt {prompt.id} ({prompt.last[:40]!r}) {place}".rstrip()
        mend = ", or ".join(filter(None, [error.mend, "leave such rows out with skip_bad: true"]))
        fault = type(error)(error.what, where=where, allowed=error.allowed, mend=mend)
        fault.prompt = prompt.id
        raise fault from None


JudgedPair = tuple[Response, Response, Edge]  # better, worse, and what was said of them


def comparisons(item: Pair | Group) -> Iterator[JudgedPair]:
    """What a judgment compares, as it stands in it."""
    if isinstance(item, Group):
        yield from ((item.responses[e.better], item.responses[e.worse], e) for e in item.edges)
        return
    facts = {"p": item.p, "weight": item.weight, "margin": item.margin, "agreement": item.agreement}
    yield item.chosen, item.rejected, Edge(better=0, worse=1, **facts, sources=item.sources)


def group_of(prompt: Prompt, compared: Iterable[JudgedPair]) -> Group:
    """Comparisons of a prompt as one group: distinct responses in the order they come in, an edge each."""
    known: list[Response] = []
    edges = []
    for better, worse, edge in compared:
        known += [r for r in (better, worse) if r not in known]
        ends = {"better": known.index(better), "worse": known.index(worse)}
        edges.append(edge.model_copy(update=ends))
    return Group(prompt=prompt, responses=tuple(known), edges=tuple(edges))


def group_by_prompt(items: Iterable[Pair | Group]) -> list[Group]:
    """All comparisons of one prompt as one group."""
    prompts: dict[str, Prompt] = {}
    by_prompt: dict[str, list[JudgedPair]] = {}
    for item in items:
        for comparison in comparisons(item):
            prompts.setdefault(item.prompt.id, item.prompt)
            by_prompt.setdefault(item.prompt.id, []).append(comparison)
    return [group_of(prompts[key], compared) for key, compared in by_prompt.items()]


def best_response(group: Group) -> int:
    """Index of the response that wins most of its comparisons (net soft wins)."""
    net = [0.0] * len(group.responses)
    for e in group.edges:
        net[e.better] += e.p - 0.5
        net[e.worse] -= e.p - 0.5
    return max(range(len(net)), key=lambda k: net[k])


def best_against_rest(group: Group) -> Group:
    """The group with only the comparisons its best response won. With a likelihood term on the chosen
    side (`sft` in a `mix`), a policy then learns no second-best answer."""
    best = best_response(group)
    return group.model_copy(update={"edges": tuple(e for e in group.edges if e.better == best)})


def group_trees(tokenizer: Any, groups: Iterable[Group], limits: Limits) -> Trees:
    """One tree per group: the prompt and all its responses."""
    out = Trees()
    for group in groups:
        with understood(out, group.prompt, limits):
            if len(render_prompt(tokenizer, group.prompt)) > limits.max_prompt:
                out.left_out[f"prompt over {limits.max_prompt} tokens"] += 1
                continue
            rendered = [
                render_exchange(tokenizer, group.prompt, r, max_completion=limits.max_completion)
                for r in group.responses
            ]
            if not all(r.completion for r in rendered):
                out.left_out["empty response"] += 1
                continue
            out.truncated += sum(r.truncated for r in rendered)
            out.trees.append(Tree(rendered[0].prompt, tuple(r.completion for r in rendered)))
            out.items.append(group)
    return out


def demonstration_trees(
    tokenizer: Any, demonstrations: Sequence[Demonstration], limits: Limits, *, all_turns: bool
) -> Trees:
    """One tree per demonstration, its response scored; with `all_turns` every assistant turn of the
    conversation is, and where the template writes a turn otherwise once others follow, each turn is a tree
    and an item of its own: as the model will read it when it answers there."""
    out = Trees()
    for item in demonstrations:
        with understood(out, item.prompt, limits):
            several = all_turns and any(m.role == "assistant" for m in item.prompt.messages[1:])
            turns = (
                _conversation_trees(tokenizer, item, limits)
                if several
                else [(item, *_exchange_tree(tokenizer, item, limits))]
            )
            for each, tree, truncated in turns:
                if tree is None:
                    out.left_out["over the token limits, or empty"] += 1
                    continue
                out.truncated += truncated
                out.trees.append(tree)
                out.items.append(each)
    return out


def _exchange_tree(tokenizer: Any, item: Demonstration, limits: Limits) -> tuple[Tree | None, bool]:
    if len(render_prompt(tokenizer, item.prompt)) > limits.max_prompt:
        return None, False
    done = render_exchange(
        tokenizer, item.prompt, item.response, max_completion=limits.max_completion
    )
    tree = Tree(done.prompt, (done.completion,)) if done.completion else None
    return tree, done.truncated


Turns = list[tuple[Demonstration, Tree | None, bool]]


def _conversation_trees(tokenizer: Any, item: Demonstration, limits: Limits) -> Turns:
    """The conversation as one tree, or as one a turn."""
    answer = Message(
        role="assistant", content=item.response.text, tool_calls=item.response.tool_calls
    )
    messages = (*item.prompt.messages, answer)
    try:
        if item.response.tokens:
            raise Rewritten("the last turn is read as it was sampled")
        ids, mask = render_conversation(tokenizer, messages, item.prompt.tools)
    except Rewritten:
        turns = [
            _turn(item, at) for at, m in enumerate(messages[:-1]) if m.role == "assistant" and at
        ]
        return [(x, *_exchange_tree(tokenizer, x, limits)) for x in (*turns, item)]
    cut = not item.response.ends_turn
    if cut:
        ids, mask = ids[:-1], mask[:-1]
    if len(ids) > limits.max_prompt + limits.max_completion or True not in mask:
        return [(item, None, False)]
    first = mask.index(True)
    return [(item, Tree(ids[:first], (ids[first:],), (mask[first:],)), cut)]


def _turn(item: Demonstration, at: int) -> Demonstration:
    """An earlier turn of the assistant as a demonstration of its own."""
    message, prompt = item.prompt.messages[at], item.prompt
    response = item.response.model_copy(
        update={
            "text": message.content,
            "tool_calls": message.tool_calls,
            "tokens": None,
            "finish": "stop",
        }
    )
    asked = prompt.model_copy(update={"messages": prompt.messages[:at]})
    return item.model_copy(update={"prompt": asked, "response": response})
