"""Conversations become token ids, and the assistant's tokens are found by rendering.

Nothing is searched for in text. The prompt with the generation prompt, P, is a prefix of the same
conversation with the answer, J, and the completion is J without P; where a template writes earlier turns
otherwise once they are answered, J must end as any answer does. What the template writes around
an answer (`before`, `after`) is found once per tokenizer, by rendering an answer and looking at
what surrounds it, and is checked in every rendering. The completion ends with the first stop token
of `after`; the rest of it (the newline after `<|im_end|>`) the model never writes. A template
without a stop token gets the tokenizer's eos there, once.

Tokens. At generation time the model reads tokens(P), so training must read exactly those. They
nearly always are a prefix of tokens(J), and then tokens(J) is used. Where a token would span the
boundary, P and the completion are tokenised apart, provided that this decodes to the same text
(`Rendered.repaired` says so); otherwise TemplateError shows the tokens at the boundary.

A template may trim white space around an answer: the trimmed answer is what is scored, and what
`answer_text` gives for sampled tokens. It may drop an answer's thinking, which is scored all the same
(lm/thought.py). Any other change of the answer, a turn, tool call or tool that does not appear, or a refused
role is a TemplateError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from accord.core.errors import DataError, TemplateError
from accord.core.types import Message, Prompt, Response, Tools
from accord.lm.shown import check_all_shown
from accord.lm.template import (
    Turn,
    decode,
    encode,
    find_turn,
    not_a_prefix,
    read_by,
    render_text,
    special_ids,
    stop_ids,
)
from accord.lm.thought import answered, begun, thinks

__all__ = [
    "Rendered",
    "Rewritten",
    "answer_text",
    "render_conversation",
    "render_exchange",
    "render_prompt",
    "stop_ids",
]

CACHED_PROMPTS = 4096
EARLIER = "the template renders this turn otherwise once other turns follow"


class Rewritten(TemplateError):
    """A conversation whose earlier turns read otherwise than they were answered: not one sequence."""


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

    A response that holds the tokens it was sampled as is read as those. A response that was cut off, or ended
    by a stop string, gets no end-of-turn token. A completion longer than `max_completion` is cut and marked;
    a prompt longer than `max_prompt` is a DataError. A text that tells of its `sampling` is read as it
    stands, without what the template would add or change in it. A text `sampled` has no special tokens:
    where it names one ("<|im_end|>"), the model wrote that name letter by letter, and so it is read. In data
    the name of one that ends a turn is a DataError.
    """
    turn = find_turn(tokenizer)
    head, prompt_ids = _prompt(tokenizer, turn, prompt)
    if max_prompt is not None and len(prompt_ids) > max_prompt:
        raise DataError(
            f"{len(prompt_ids)} tokens, longer than max_prompt={max_prompt}",
            where=f"prompt {prompt.id}",
            mend="raise max_prompt or drop this prompt",
        )
    truncated = not response.ends_turn
    done = _as_sampled(tokenizer, turn, response)
    if done is None:
        parts, repaired = _read(tokenizer, turn, prompt, head, prompt_ids, response, sampled)
    else:
        parts, repaired = (prompt_ids, done), False
    completion = parts[1]
    if max_completion is not None and len(completion) > max_completion:
        completion, truncated = completion[:max_completion], True
    return Rendered(parts[0], completion, truncated, repaired)


def _as_sampled(
    tokenizer: PreTrainedTokenizerBase, turn: Turn, response: Response
) -> tuple[int, ...] | None:
    """The tokens a response was sampled as, where they are this tokenizer's and say its text; else None."""
    ids, how = response.tokens, response.sampling or {}
    if not ids or how.get("tokenizer") != read_by(tokenizer):
        return None
    ended = ids[-1] in turn.stops | turn.endings
    if response.finish and ended != response.ends_turn:
        return None  # it is to be read with another end
    text, _ = answer_text(tokenizer, ids[:-1] if ended else ids, how.get("stop") or ())
    return ids if text == response.text else None


def _read(
    tokenizer: PreTrainedTokenizerBase, turn: Turn, prompt: Prompt, head: str,
    prompt_ids: tuple[int, ...], response: Response, sampled: bool,
) -> tuple[Sequence[tuple[int, ...]], bool]:  # fmt: skip
    """(prompt and completion in tokens, whether tokenised apart) of a text."""
    truncated, where = not response.ends_turn, f"the response to prompt {prompt.id}"
    if response.tool_calls:
        text = _called(tokenizer, prompt, head, response)
        parts, repaired = _tokens_apart(tokenizer, [head, text], known=prompt_ids)
        return parts, repaired
    if response.sampling is not None or truncated:  # a model's own words
        body = _spoken(turn, response.text)
    else:
        answer = Message(role="assistant", content=response.text)
        whole = render_text(
            tokenizer, (*prompt.messages, answer), generation=False, tools=prompt.tools
        )
        body = _answer_text(turn, head, whole, response.text, where=f"prompt {prompt.id}")
    letters = _letters(tokenizer, turn, body, ended=not truncated) if sampled else None
    if letters:
        parts, repaired = [prompt_ids, letters], True
    else:
        text = body if truncated else body + turn.closing
        parts, repaired = _tokens_apart(tokenizer, [head, text], known=prompt_ids)
    completion = _completion(tokenizer, turn, parts[1], ended=not truncated, where=where)
    return (parts[0], completion), repaired


def _spoken(turn: Turn, text: str) -> str:
    """A sampled text with what its model wrote before it: blanks and special tokens, which no text shows, but
    no block of thinking that it lacks."""
    text = begun(text.strip() if turn.trims else text, turn.opened)
    return turn.before + text if turn.opening or not turn.before.strip() else text


def _called(
    tokenizer: PreTrainedTokenizerBase, prompt: Prompt, head: str, response: Response
) -> str:
    """What the template writes for an answer that calls tools, through the token that ends it."""
    answer = Message(role="assistant", content=response.text, tool_calls=response.tool_calls)
    messages = (*prompt.messages, answer)
    whole = render_text(tokenizer, messages, generation=False, tools=prompt.tools)
    check_all_shown(tokenizer, messages, whole, generation=False, tools=prompt.tools)
    if not whole.startswith(head):
        raise not_a_prefix(head, whole, where=f"prompt {prompt.id}")
    text = whole[len(head) :].rstrip()
    if not set(encode(tokenizer, text)[-1:]) & special_ids(tokenizer):
        raise TemplateError(
            f"no token ends the tool call {text[-40:]!r}",
            where=f"prompt {prompt.id}",
            mend="use a model whose template ends it",
        )
    return text


def render_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], tools: Tools = None
) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Tokens of a conversation and a mask that is True on what the assistant writes, every turn.

    The stop token of each turn is scored. A turn before any question is not scored. `Rewritten` where a turn
    reads otherwise once others follow, or where no token ends it and eos has to.
    """
    turn = find_turn(tokenizer)
    messages = tuple(messages)
    if not messages or messages[-1].role != "assistant":
        raise DataError("a conversation to learn from must end with the assistant's turn")
    if len(messages) == 1:
        raise TemplateError("nothing to answer: the conversation starts here", where="turn 1")
    whole = render_text(tokenizer, messages, generation=False, tools=tools)
    pieces: list[str] = []  # context, completion, context, completion ...
    done = 0
    for at, message in enumerate(messages):
        if message.role != "assistant" or at == 0:
            continue
        where = f"turn {at + 1} (assistant)"
        if message.tool_calls:
            raise Rewritten("a turn that calls tools is rendered as an exchange", where=where)
        head = render_text(tokenizer, messages[:at], generation=True, tools=tools)
        so_far = render_text(tokenizer, messages[: at + 1], generation=False, tools=tools)
        body = _answer_text(turn, head, so_far, message.content, where=where)
        end = len(head) + len(body + turn.closing)
        if not whole.startswith(head + body + turn.closing):
            raise Rewritten(EARLIER, where=where, mend="train on exchanges: one per assistant turn")
        pieces += [whole[done : len(head)], whole[len(head) : end]]
        done = end
    check_all_shown(tokenizer, messages, whole, generation=False, tools=tools)
    if not turn.has_stop and len(pieces) > 2:
        raise Rewritten("no token ends this turn where another follows", where="turn 2 (assistant)")
    parts, _ = _tokens_apart(tokenizer, pieces)
    ids: list[int] = []
    mask: list[bool] = []
    for i in range(0, len(parts), 2):
        where = f"assistant turn {i // 2 + 1}"
        completion = _completion(tokenizer, turn, parts[i + 1], ended=True, where=where)
        ids += [*parts[i], *completion]
        mask += [False] * len(parts[i]) + [True] * len(completion)
    return tuple(ids), tuple(mask)


def answer_text(
    tokenizer: PreTrainedTokenizerBase, completion: Sequence[int], stop: Sequence[str] = ()
) -> tuple[str, bool]:
    """(the answer in sampled tokens, whether a stop string ended it).

    Decoded without special tokens, cut before the first stop string, and without what the template
    writes or trims around an answer. Where the template opens an answer with special tokens, the answer is
    what stands behind the last of these openings: what a model says before (gpt-oss's analysis) is in the
    tokens only. One that only begins to open, in another way, shows its special tokens.
    """
    turn = find_turn(tokenizer)
    ids, shows = _behind_opening(turn.opening, tuple(completion))
    text = str(
        tokenizer.decode(
            list(ids), skip_special_tokens=not shows, clean_up_tokenization_spaces=False
        )
    )
    text = text if turn.opening else text.removeprefix(turn.before)
    cuts = [at for s in stop if (at := text.find(s)) >= 0]
    text = text[: min(cuts)] if cuts else text.removesuffix(_words(tokenizer, turn.unspoken))
    return (text.strip() if turn.trims else text), bool(cuts)


def _behind_opening(opening: tuple[int, ...], ids: tuple[int, ...]) -> tuple[tuple[int, ...], bool]:
    """(the tokens behind the last opening, False), or (all, whether they open in another way)."""
    n = len(opening)
    if not n or opening[: len(ids)] == ids:
        return (() if n else ids), False
    at = next((i for i in range(len(ids) - n, -1, -1) if ids[i : i + n] == opening), None)
    return (ids, ids[:1] == opening[:1]) if at is None else (ids[at + n :], False)


def _words(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """A text of the template as it reads once special tokens are skipped."""
    if not text.strip():
        return text
    return str(tokenizer.decode(list(encode(tokenizer, text)), skip_special_tokens=True))


def _prompt(
    tokenizer: PreTrainedTokenizerBase, turn: Turn, prompt: Prompt
) -> tuple[str, tuple[int, ...]]:
    """Text and tokens of a prompt; the K responses to it share one rendering."""
    if (known := turn.prompts.get(prompt.id)) is not None:
        return known
    try:
        text = render_text(tokenizer, prompt.messages, generation=True, tools=prompt.tools)
        check_all_shown(tokenizer, prompt.messages, text, generation=True, tools=prompt.tools)
    except TemplateError as error:
        error.prompt = prompt.id
        raise
    if len(turn.prompts) >= CACHED_PROMPTS:
        turn.prompts.clear()
    turn.prompts[prompt.id] = rendered = (text, encode(tokenizer, text))
    return rendered


def _answer_text(turn: Turn, head: str, whole: str, answer: str, *, where: str) -> str:
    """The part of `whole` between the prompt and `turn.after`, which must be the answer."""
    if turn.problem:
        raise turn.problem
    stem = answered(head, whole, turn.opened)
    rest = whole[len(stem or head) :]
    if stem is None:  # earlier turns read otherwise once answered (Mistral's system turn)
        rest = turn.before + (answer.strip() if turn.trims else answer) + turn.after
        if not whole.endswith(rest):
            raise not_a_prefix(head, whole, where=where)
    body = rest.removesuffix(turn.after)

    def faithful(written: str) -> bool:
        return written in answer and written.strip() == begun(answer, turn.opened).strip()

    # thinking templates write an empty block before an answer that brings none: either is faithful
    faithful_body = faithful(body.removeprefix(turn.before)) or faithful(body)
    thought = rest.endswith(turn.after) and thinks(answer, body, turn.opened)
    if stem not in (None, head) and not thought:
        raise TemplateError(
            f"the prompt opens {turn.opened.strip()}, and the answer {answer[:40]!r} does not close it",
            where=where,
            mend="write the thinking before it (or an empty block), or take the opening out of the template",
        )
    if thought:
        return begun(answer.strip() if turn.trims else answer, turn.opened)
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
    end: tuple[int, ...] = (turn.ending,) if ended and turn.has_stop else ()
    text = answer + turn.unspoken if ended else answer
    if ended and set(encode(tokenizer, turn.unspoken)) & special_ids(tokenizer):
        text, end = answer, encode(tokenizer, turn.closing)
    letters = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    if tuple(letters) == encode(tokenizer, text):
        return None
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
