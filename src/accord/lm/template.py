"""What a chat template writes around an assistant's answer, found by rendering.

Two answers are rendered and what surrounds both is taken: `before` (between the generation prompt
and the answer), `after` (up to the end of the turn) and the stop token in `after`. Found once per
tokenizer and kept as long as its template stays the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import jinja2
from transformers import PreTrainedTokenizerBase

from accord.core.errors import TemplateError
from accord.core.types import Message

__all__ = [
    "Turn",
    "decode",
    "default_template",
    "encode",
    "find_turn",
    "not_a_prefix",
    "render_text",
    "stop_ids",
]

# For tokenizers without a template. The answer's leading space belongs to the completion, because
# vocabularies hold " word", and after "Assistant: " a model has to go on without its usual space.
DEFAULT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token + '\n\n' }}"
    "{% else %}{{ raise_exception('no such role in the default template') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)

PROBES = ("Zq1", "Yw2")  # they share neither a first nor a last character
PADDED_PROBE = " \nZq1\n "


@dataclass
class Turn:
    """What a template writes around an assistant's answer, and how that ends in tokens."""

    template: str
    before: str  # between the generation prompt and the answer
    after: str  # from the answer to the end of the turn
    closing: str  # the part of `after` the model writes: through the stop token, "" without one
    unspoken: str  # `closing` without the stop token
    ending: int  # the stop token of `after`, or eos where the template has none
    has_stop: bool  # whether the template writes `ending`
    trims: bool  # whether white space around an answer is dropped
    stops: frozenset[int]
    problem: TemplateError | None = None  # answers can't be rendered, prompts can
    prompts: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)


_TURNS: WeakKeyDictionary[Any, Turn] = WeakKeyDictionary()


def find_turn(tokenizer: PreTrainedTokenizerBase) -> Turn:
    """The tokenizer's turn ending, found once; found again when its template is changed."""
    turn = _TURNS.get(tokenizer)
    if turn is None or turn.template != str(tokenizer.chat_template):
        if not tokenizer.chat_template:
            raise TemplateError(
                "the tokenizer has no chat template", mend="load it with accord.load"
            )
        try:
            turn = _new_turn(tokenizer)
        except TemplateError as problem:  # such a model can still be sampled from
            template, stops = str(tokenizer.chat_template), _eos(tokenizer)
            if not stops:
                raise
            turn = Turn(template, "", "", "", "", min(stops), False, False, stops, problem)
        _TURNS[tokenizer] = turn
    return turn


def _eos(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    return frozenset({int(tokenizer.eos_token_id)} if tokenizer.eos_token_id is not None else ())


def _new_turn(tokenizer: PreTrainedTokenizerBase) -> Turn:
    user = Message(role="user", content="Hi")
    head = render_text(tokenizer, (user,), generation=True)

    def rest(answer: str) -> str:
        whole = render_text(
            tokenizer, (user, Message(role="assistant", content=answer)), generation=False
        )
        if not whole.startswith(head):
            raise not_a_prefix(head, whole, where="chat template")
        return whole[len(head) :]

    first, second = rest(PROBES[0]), rest(PROBES[1])
    before, found, after = first.partition(PROBES[0])
    if not found or before + PROBES[1] + after != second:
        raise TemplateError("the template does not write the answer", where="chat template")
    trims = before + PROBES[0] + after == rest(PADDED_PROBE)
    if before.strip() and head == render_text(tokenizer, (user,), generation=False):
        raise TemplateError(
            f"add_generation_prompt has no effect, so {before!r} would count as the answer",
            where="chat template",
            mend="make the template write it when add_generation_prompt is set",
        )
    written, ending = _ending(tokenizer, after)
    unspoken = after.partition(written)[0] if written else ""
    return Turn(
        template=str(tokenizer.chat_template),
        before=before,
        after=after,
        closing=unspoken + written,
        unspoken=unspoken,
        ending=ending,
        has_stop=bool(written),
        trims=trims,
        stops=_eos(tokenizer) | {ending},
    )


def _ending(tokenizer: PreTrainedTokenizerBase, after: str) -> tuple[str, int]:
    """The stop token in `after` as text and id; ("", eos) when there is none."""
    special = {int(i) for i in tokenizer.all_special_ids}
    special |= {int(i) for i, t in tokenizer.added_tokens_decoder.items() if t.special}
    for token in encode(tokenizer, after):
        if token in special:
            return str(tokenizer.convert_ids_to_tokens(token)), token
    if tokenizer.eos_token_id is None:
        raise TemplateError(
            "no token ends a turn: none in the template, no eos", where="chat template"
        )
    return "", int(tokenizer.eos_token_id)


def default_template(tokenizer: PreTrainedTokenizerBase) -> str:
    """The plain template for a tokenizer without one, with bos where the tokenizer adds it."""
    ids = tokenizer.encode("a")
    adds_bos = bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id
    return ("{{ bos_token }}" if adds_bos else "") + DEFAULT_TEMPLATE


def stop_ids(tokenizer: PreTrainedTokenizerBase, *configs: Any) -> tuple[int, ...]:
    """Every token that ends a turn: the template's, the tokenizer's eos, those of the configs."""
    found: list[Any] = sorted(find_turn(tokenizer).stops)
    for config in configs:
        eos = getattr(config, "eos_token_id", None)
        found += eos if isinstance(eos, (list, tuple)) else [eos]
    return tuple(dict.fromkeys(int(i) for i in found if i is not None))


def not_a_prefix(head: str, whole: str, *, where: str) -> TemplateError:
    """The error for a prompt that reads otherwise once an answer follows it."""
    at = next((i for i, (a, b) in enumerate(zip(head, whole, strict=False)) if a != b), len(whole))
    return TemplateError(
        f"the prompt changes once the answer is there: {head[at:][:40]!r} becomes "
        f"{whole[at:][:40]!r} at character {at}",
        where=where,
        mend="the template rewrites earlier turns; use one that only appends",
    )


def render_text(
    tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], *, generation: bool
) -> str:
    """The template's text for messages; a refused conversation names the first refused turn."""
    plain = [{"role": m.role, "content": m.content} for m in messages]
    try:
        return str(
            tokenizer.apply_chat_template(plain, tokenize=False, add_generation_prompt=generation)
        )
    except (jinja2.TemplateError, ValueError, TypeError) as error:
        raise TemplateError(
            f"the chat template refuses: {error}",
            where=_refused(tokenizer, plain),
            mend="leave that turn out, or use a model whose template has the role",
        ) from error


def _refused(tokenizer: PreTrainedTokenizerBase, plain: list[dict[str, str]]) -> str:
    """The first turn with which the conversation so far can't be rendered."""
    for n in range(1, len(plain) + 1):
        try:
            tokenizer.apply_chat_template(plain[:n], tokenize=False)
        except (jinja2.TemplateError, ValueError, TypeError):
            return f"turn {n} ({plain[n - 1]['role']})"
    return "the whole conversation"


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[int, ...]:
    """Tokens of rendered text. The template writes bos where it wants it: none is added here."""
    return tuple(tokenizer.encode(text, add_special_tokens=False))


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )
