"""Conversations become token ids, and the assistant's tokens are found by rendering.

Nothing is searched for in text. The prompt with the generation prompt, P, must be a prefix of the
same conversation with the answer, J; the completion is J without P. What the template writes around
an answer (`before`, `after`) is found once per tokenizer, by rendering an answer and looking at
what surrounds it, and is checked in every rendering. The completion ends with the first stop token
of `after`; the rest of it (the newline after `<|im_end|>`) the model never writes. A template
without a stop token gets the tokenizer's eos there, once.

Tokens. At generation time the model reads tokens(P), so training must read exactly those. They
nearly always are a prefix of tokens(J), and then tokens(J) is used. Where a token would span the
boundary, P and the completion are tokenised apart, provided that this decodes to the same text
(`Rendered.repaired` says so); otherwise TemplateError shows the tokens at the boundary.

A template may trim white space around an answer: the trimmed answer is what is scored, and what
`answer_text` gives for sampled tokens. Any other change of the answer, a system or user turn that
does not appear, or a refused role is a TemplateError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from accord.core.errors import DataError, TemplateError
from accord.core.types import Message, Prompt, Response
from accord.lm.template import (
    Turn,
    decode,
    encode,
    find_turn,
    not_a_prefix,
    render_text,
    stop_ids,
)

__all__ = [
    "Rendered",
    "answer_text",
    "render_conversation",
    "render_exchange",
    "render_prompt",
    "stop_ids",
]

CACHED_PROMPTS = 4096


@dataclass(frozen=True)
class Rendered:
    """One exchange as tokens. `completion` ends with the end-of-turn token unless `truncated`."""

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    truncated: bool
    repaired: bool = False  # tokenised apart, because a token would span the boundary


def render_prompt(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> tuple[int, ...]:
    """The tokens of a prompt with the generation prompt: what the model continues."""
    return _prompt(tokenizer, find_turn(tokenizer), prompt)[1]


def render_exchange(
    tokenizer: PreTrainedTokenizerBase,
    prompt: Prompt,
    response: Response,
    *,
    max_prompt: int | None = None,
    max_completion: int | None = None,
    sampled: bool = False,
) -> Rendered:
    """The tokens of a prompt and a response to it.

    A response that was cut off, or ended by a stop string, gets no end-of-turn token. A completion longer
    than `max_completion` is cut and marked; a prompt longer than `max_prompt` is a DataError. The text
    `sampled` from a model has no special tokens: where it names one ("<|im_end|>"), the model wrote that
    name letter by letter, and so it is read. In data the name of one that ends a turn is a DataError.
    """
    turn = find_turn(tokenizer)
    head, prompt_ids = _prompt(tokenizer, turn, prompt)
    if max_prompt is not None and len(prompt_ids) > max_prompt:
        raise DataError(
            f"{len(prompt_ids)} tokens, longer than max_prompt={max_prompt}",
            where=f"prompt {prompt.id}",
            mend="raise max_prompt or drop this prompt",
        )
    answer = Message(role="assistant", content=response.text)
    whole = render_text(tokenizer, (*prompt.messages, answer), generation=False)
    body = _answer_text(turn, head, whole, response.text, where=f"prompt {prompt.id}")
    truncated = not response.ends_turn
    text = body if truncated else body + turn.closing
    letters = _letters(tokenizer, turn, body, ended=not truncated) if sampled else None
    if letters:
        parts, repaired = [prompt_ids, letters], True
    else:
        parts, repaired = _tokens_apart(tokenizer, [head, text], known=prompt_ids)
    completion = _completion(
        tokenizer, turn, parts[1], ended=not truncated, where=f"the response to prompt {prompt.id}"
    )
    if max_completion is not None and len(completion) > max_completion:
        completion, truncated = completion[:max_completion], True
    return Rendered(parts[0], completion, truncated, repaired)


def render_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Tokens of a conversation and a mask that is True on what the assistant writes, every turn.

    The stop token of each turn is scored. A template without one gets eos after the last turn only:
    inside the conversation another turn follows there.
    """
    turn = find_turn(tokenizer)
    messages = tuple(messages)
    if not messages or messages[-1].role != "assistant":
        raise DataError("a conversation to learn from must end with the assistant's turn")
    whole = render_text(tokenizer, messages, generation=False)
    pieces: list[str] = []  # context, completion, context, completion ...
    done = 0
    for at, message in enumerate(messages):
        if message.role != "assistant":
            continue
        where = f"turn {at + 1} (assistant)"
        if at == 0:
            raise TemplateError("nothing to answer: the conversation starts here", where=where)
        head = render_text(tokenizer, messages[:at], generation=True)
        so_far = render_text(tokenizer, messages[: at + 1], generation=False)
        if not whole.startswith(so_far):
            raise TemplateError(
                "the template renders this turn otherwise once other turns follow",
                where=where,
                mend="train on exchanges instead: one per assistant turn",
            )
        body = _answer_text(turn, head, so_far, message.content, where=where)
        end = len(head) + len(body + turn.closing)
        pieces += [whole[done : len(head)], whole[len(head) : end]]
        done = end
    _check_all_shown(messages, whole)
    parts, _ = _tokens_apart(tokenizer, pieces)
    ids: list[int] = []
    mask: list[bool] = []
    for i in range(0, len(parts), 2):
        ended = turn.has_stop or i + 2 == len(parts)
        completion = _completion(
            tokenizer, turn, parts[i + 1], ended=ended, where=f"assistant turn {i // 2 + 1}"
        )
        ids += [*parts[i], *completion]
        mask += [False] * len(parts[i]) + [True] * len(completion)
    return tuple(ids), tuple(mask)


def answer_text(
    tokenizer: PreTrainedTokenizerBase, completion: Sequence[int], stop: Sequence[str] = ()
) -> tuple[str, bool]:
    """(the answer in sampled tokens, whether a stop string ended it).

    Decoded without special tokens, cut before the first stop string, and without what the template
    writes or trims around an answer: rendering the answer again writes that again.
    """
    turn = find_turn(tokenizer)
    text = str(
        tokenizer.decode(
            list(completion), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
    ).removeprefix(turn.before)
    cuts = [at for s in stop if (at := text.find(s)) >= 0]
    text = text[: min(cuts)] if cuts else text.removesuffix(turn.unspoken)
    return (text.strip() if turn.trims else text), bool(cuts)


def _prompt(
    tokenizer: PreTrainedTokenizerBase, turn: Turn, prompt: Prompt
) -> tuple[str, tuple[int, ...]]:
    """Text and tokens of a prompt; the K responses to it share one rendering."""
    if (known := turn.prompts.get(prompt.id)) is not None:
        return known
    text = render_text(tokenizer, prompt.messages, generation=True)
    _check_all_shown(prompt.messages, text)
    if len(turn.prompts) >= CACHED_PROMPTS:
        turn.prompts.clear()
    turn.prompts[prompt.id] = found = (text, encode(tokenizer, text))
    return found


def _check_all_shown(messages: Sequence[Message], text: str) -> None:
    """A system or user message that the template silently leaves out is an error."""
    for at, message in enumerate(messages):
        if message.role in ("system", "user") and message.content.strip() not in text:
            raise TemplateError(
                "the template drops or rewrites this message",
                where=f"turn {at + 1} ({message.role})",
                mend="leave the message out or use another template",
            )


def _answer_text(turn: Turn, head: str, whole: str, answer: str, *, where: str) -> str:
    """The part of `whole` between the prompt and `turn.after`, which must be the answer."""
    if turn.problem:
        raise turn.problem
    if not whole.startswith(head):
        raise not_a_prefix(head, whole, where=where)
    rest = whole[len(head) :]
    body = rest.removesuffix(turn.after)

    def faithful(written: str) -> bool:
        return written in answer and written.strip() == answer.strip()

    # thinking templates write an empty block before an answer that brings none: either is faithful
    faithful_body = faithful(body.removeprefix(turn.before)) or faithful(body)
    if not (rest.endswith(turn.after) and faithful_body):
        raise TemplateError(
            f"the template rewrites the answer {answer[:40]!r} to {rest[:60]!r}",
            where=where,
            mend="change the answer or the template: what is scored must be what was answered",
        )
    return body


def _letters(
    tokenizer: PreTrainedTokenizerBase, turn: Turn, body: str, *, ended: bool
) -> tuple[int, ...] | None:
    """The completion in tokens of an answer that names special tokens, none of them read as such; None for
    an answer that names none."""
    written = turn.before if body.startswith(turn.before) else ""
    answer = body.removeprefix(written)
    text = answer + turn.unspoken if ended else answer
    letters = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    if tuple(letters) == encode(tokenizer, text):
        return None
    end = (turn.ending,) if ended and turn.has_stop else ()
    return (*encode(tokenizer, written), *letters, *end)


def _completion(
    tokenizer: PreTrainedTokenizerBase,
    turn: Turn,
    tokens: tuple[int, ...],
    *,
    ended: bool,
    where: str,
) -> tuple[int, ...]:
    """`tokens` with exactly one stop token, at the end, or with none where the turn goes on."""
    if ended and not turn.has_stop:
        tokens += (turn.ending,)
    if ended and tokens[-1:] != (turn.ending,):
        raise TemplateError("the turn's stop token merges with the text before it", where=where)
    for token in tokens[:-1] if ended else tokens:
        if token in turn.stops:
            name = tokenizer.convert_ids_to_tokens(token)
            raise DataError(
                f"the text contains {name!r}, which ends a turn",
                where=where,
                mend="remove it from the text: the template adds it",
            )
    return tokens


def _tokens_apart(
    tokenizer: PreTrainedTokenizerBase,
    pieces: list[str],
    *,
    known: tuple[int, ...] | None = None,
) -> tuple[list[tuple[int, ...]], bool]:
    """Tokens of each piece such that tokens up to each context's end are those of its text alone.

    Pieces alternate context, completion. `known` are the tokens of the first piece.
    """
    text = "".join(pieces)
    joint = encode(tokenizer, text)
    cuts = [0]
    for i in range(1, len(pieces)):
        head = known if i == 1 and known is not None else encode(tokenizer, "".join(pieces[:i]))
        if joint[: len(head)] != head:
            break
        cuts.append(len(head))
    else:
        cuts.append(len(joint))
        return [joint[a:b] for a, b in pairwise(cuts)], False
    apart = [encode(tokenizer, piece) for piece in pieces]
    flat = [token for part in apart for token in part]
    if decode(tokenizer, flat) != decode(tokenizer, joint):
        at = cuts[-1]
        shown = [
            str(t) for t in tokenizer.convert_ids_to_tokens(list(joint[max(0, at - 3) : at + 3]))
        ]
        raise TemplateError(
            f"a token spans the boundary between prompt and answer, near {shown}",
            where="chat template",
            mend="end the generation prompt with a special token or a newline",
        )
    return apart, True
